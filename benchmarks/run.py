"""Runs benchmarks and writes their table into benchmarks/README.md.

    python benchmarks/run.py                    all of them
    python benchmarks/run.py sweep means        some; the others' lines stay as they were
    python benchmarks/run.py --quick            tiny sizes, to see that they work; writes nothing

The figures are kept in benchmarks/results.json, from which the table is made. Exits with 1 where something that has
to be equal is not, or where a benchmark ends in an error.
"""

from __future__ import annotations

import datetime
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import Check, Figure, Options, figure_of, number, options_of, parser, prepare, record, told

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results.json", HERE / "README.md"
NAMES = (
    "sweep",
    "score_grid",
    "means",
    "generation",
    "selection_search",
    "first_token",
    "slider",
    "slider_latency",
    "stream_stress",
)
IN_A_BROWSER = ("slider_latency", "stream_stress")
PACKAGES = "torch transformers nnsight numpy repeng steering-vectors transformer-lens pyvene".split()
INTRO = """\
# Benchmarks

What steerlab claims about speed, each claim a program that measures a ratio against a peer in one run. This page is
written by `python benchmarks/run.py`; a program alone is `python benchmarks/sweep.py --help`. The peers are installed
with

```bash
pip install -c scripts/constraints.txt -e '.[bench]' && pip install --no-deps -r benchmarks/requirements.txt
```

A figure is the median of the ratios of interleaved rounds, with the least and the largest. Measured are CPU seconds
of all threads on a CPU, with one thread unless a line says otherwise, so that waiting does not count as work, and
wall seconds on a GPU. "embedded" is the model that travels with steerlab (10 layers, 2 million parameters); "50M" is
a Llama of 12 layers with 50 million random weights, "1.5B" one of the shape of Qwen2.5-1.5B. A goal is met when the
figure reaches it and all that has to be equal is. A package counts as better where it was ahead in more rounds than
coins would give: a one-sided sign test at 5%.
"""


def main() -> int:
    """Run what is asked for."""
    command = parser(__doc__)
    command.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    arguments = command.parse_args()
    if unknown := [name for name in arguments.names if name not in NAMES]:
        command.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    options = options_of(arguments)
    prepare(options)
    saved: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    # without a name the browser stays out of a quick look
    names = arguments.names or [name for name in NAMES if not (options.quick and name in IN_A_BROWSER)]
    found: dict[str, list[dict[str, Any]]] = {}
    failed = []
    for name in names:
        print(f"\n━━ {name}")
        try:
            figures = told(importlib.import_module(name).measure(options))
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        failed += [name] if any(not check.holds for figure in figures for check in figure.checks) else []
        found[name] = [record(figure) for figure in figures]
        key = name if not options.device.startswith("cuda") else f"{name} on a GPU"
        saved[key] = {"machine": machine(options), "figures": found[name]}
        if not options.quick:
            RESULTS.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
            PAGE.write_text(page(saved), encoding="utf-8")
        gc.collect()
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return int(bool(failed))


def machine(options: Options) -> str:
    """Where and when, in words."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    device = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} CPUs"
    if options.device.startswith("cuda"):
        device = torch.cuda.get_device_name()
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    threads = "one thread" if options.threads == 1 else f"{options.threads} threads"
    python = platform.python_version()
    return f"{today}; {device}, {threads}; Python {python}, {', '.join(versions)}"


def page(saved: dict[str, Any]) -> str:
    """The whole page."""
    ordered = sorted(saved, key=lambda key: (NAMES.index(key.split()[0]), key))
    figures = [figure_of(one) for key in ordered for one in saved[key]["figures"]]
    lines = [
        "| work | model | against | figure | goal | met |",
        "|---|---|---|---|---|---|",
        *(line(figure) for figure in figures),
    ]
    machines: dict[str, list[str]] = {}
    for key in ordered:
        machines.setdefault(saved[key]["machine"], []).append(key)
    where = [f"- {', '.join(keys)}: {words}." for words, keys in machines.items()]
    details = [block(figure) for figure in figures if notes(figure)]
    return "\n".join(
        [
            INTRO,
            *lines,
            "\n## Where and when\n",
            *where,
            "\n## What stands behind the figures\n",
            *details,
            "",
        ]
    )


def line(figure: Figure) -> str:
    """A row of the table."""
    met = {True: "yes", False: "**no**", None: ""}[figure.met]
    value = f"{figure.value} {figure.unit}"
    return f"| {figure.work} | {figure.model} | {figure.against} | {value} | {figure.goal_words} | {met} |"


def notes(figure: Figure) -> Sequence[str]:
    """What else there is to say of a figure."""
    found = [words(check) for check in figure.checks]
    if figure.beside:
        found.append("beside: " + "; ".join(f"{name} {other}" for name, other in figure.beside.items()))
    if figure.floor is not None:
        found.append(f"the floor is about {number(figure.floor)}: {figure.floor_words}")
    return [*found, figure.note] if figure.note else found


def words(check: Check) -> str:
    """A check in a sentence."""
    return check.words if check.holds else f"**not equal:** {check.words}"


def block(figure: Figure) -> str:
    """The notes of a figure."""
    return f"- {figure.work}, {figure.model}, against {figure.against}: {'; '.join(notes(figure))}."


if __name__ == "__main__":
    sys.exit(main())
