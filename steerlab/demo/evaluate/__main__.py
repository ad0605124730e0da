"""`python -m steerlab.demo.evaluate [FOLDER] [-n N] [--typed FILE]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from steerlab.demo import WEIGHTS
from steerlab.demo.evaluate import evaluate


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table in Markdown. Exit code 1 where an aim was missed."""
    parser = argparse.ArgumentParser(description="Measure the embedded model on held-out prompts.")
    parser.add_argument("folder", nargs="?", type=Path, default=WEIGHTS, help="a trained folder")
    parser.add_argument("-n", type=int, default=150, help="prompts a side")
    parser.add_argument("--typed", type=Path, help="a file of prompts from elsewhere, one a line")
    arguments = parser.parse_args(argv)
    typed = arguments.typed.read_text().splitlines() if arguments.typed else []
    figures = evaluate(arguments.folder, arguments.n, typed)
    print("| | measured | aim | reached |\n|---|---|---|---|")
    for figure in figures:
        reached = "" if not figure.aim else "yes" if figure.met else "no"
        print(f"| {figure.name} | {figure.value} | {figure.aim} | {reached} |")
    return int(not all(figure.met for figure in figures))


if __name__ == "__main__":
    raise SystemExit(main())
