"""`import steerlab` is light: it is paid by every command line and every notebook before anything is shown."""

from __future__ import annotations

import re
import subprocess
import sys

HEAVY = {
    "torch",
    "nnsight",
    "transformers",
    "numpy",
    "safetensors",
    "ipywidgets",
    "anywidget",
    "traitlets",
    "pydantic",
}
LIMIT_MS = 300.0


def import_times(statement: str) -> dict[str, float]:
    """Milliseconds of every module that `statement` loads, what it loads in turn included."""
    command = [sys.executable, "-X", "importtime", "-c", statement]
    report = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stderr
    lines = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \|\s+(\S+)$", report, flags=re.MULTILINE)
    assert lines, "this Python printed no import times"
    return {module: int(microseconds) / 1000 for microseconds, module in lines}


def test_import_steerlab_loads_nothing_heavy() -> None:
    times = import_times("import steerlab")
    assert "steerlab" in times
    assert {module.partition(".")[0] for module in times} & HEAVY == set()


def test_import_steerlab_takes_less_than_300_ms() -> None:
    best = min(import_times("import steerlab")["steerlab"] for _ in range(3))  # the least busy of three
    assert best < LIMIT_MS


def test_listing_the_names_loads_nothing_heavy() -> None:
    times = import_times("import steerlab; dir(steerlab); steerlab.__version__; steerlab.errors")
    assert {module.partition(".")[0] for module in times} & HEAVY == set()


def test_a_name_loads_only_its_own_floor() -> None:
    assert "torch" not in import_times("import steerlab; steerlab.Site")
    assert "nnsight" not in import_times("import steerlab; steerlab.Direction")


def test_the_command_line_answers_without_torch() -> None:
    times = import_times("import steerlab.cli; steerlab.cli._parser().format_help()")
    assert {module.partition(".")[0] for module in times} & HEAVY == set()
