"""The versions that the checks run with."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent


def test_the_pinned_versions_run_on_the_oldest_python_that_is_promised() -> None:
    """Else pip tries every version of everything else, for hours, on a machine that has it."""
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = promised.removeprefix(">=") + ".0"
    pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "scripts" / "constraints.txt").read_text(), re.MULTILINE)
    here = {re.sub(r"[-_.]+", "-", one.name).lower(): one for one in metadata.distributions()}
    seen = 0
    for name, version in pins:
        one = here.get(re.sub(r"[-_.]+", "-", name).lower())
        if one and one.version.partition("+")[0] == version:
            seen += 1
            needs = one.metadata["Requires-Python"] or ""
            assert SpecifierSet(needs).contains(oldest), f"{name} {version} needs Python {needs}"
    assert seen > len(pins) / 2
