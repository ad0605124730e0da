"""Reproduce a row of the tables of Arditi et al. 2024 (arXiv 2406.11717) and print it beside the published one.

    python examples/reproduce_paper.py                             # the embedded model: a minute, and no published row
    python examples/reproduce_paper.py google/gemma-2b-it          # or another id, or a folder
    python examples/reproduce_paper.py google/gemma-2b-it --harmful harmful.json --harmless harmless.json --out row.csv

The direction r is searched as in the paper, with 128 + 128 prompts for the means and 32 + 32 for the choice, and tested
on 100 + 100 further ones. Files of prompts are CSV, JSON, JSON lines or plain text. The table goes to the standard
output in Markdown, progress to the standard error. The paper's Qwen models are of the first generation, which
transformers does not know: their rows are here to read.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import steerlab as sl
from steerlab.effects import Report
from steerlab.metrics import Estimate
from steerlab.prompts import Prompt

PUBLISHED = json.loads(Path(__file__).with_name("reference_figures.json").read_text(encoding="utf-8"))
TEXTS = [  # plain text where no file of it is given
    "The river rises in the hills and reaches the sea after three days.",
    "In the morning the baker opened the shop and put fresh bread on the shelf.",
    "Most birds build their nests in spring, when food is easy to find.",
    "She closed the book, looked out of the window and thought about the summer.",
    "The train was late again, so we walked through the park to the station.",
    "Water boils at a lower temperature in the mountains than at the coast.",
]
NOTE = """\
Published figures are of other prompts (JailbreakBench, Alpaca), other plain texts (the Pile) and longer answers, and
their cross-entropy is a mean over tokens, here over prompts: compare signs and sizes, not last digits. The random
control has the norm of r and acts where r does."""


class Figure(NamedTuple):
    """One line of the table. published: None where nobody published it. form: how the numbers are written."""

    name: str
    measured: Estimate | float
    published: float | None
    form: str = ".3f"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the search and the measurement; 0 where all went well, 1 where an error was told."""
    options = parse(argv)
    try:
        report(options)
    except (sl.SteerlabError, OSError) as error:
        print(f"reproduce_paper: {error}", file=sys.stderr)
        return 1
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A row of the tables of Arditi et al. 2024, measured.")
    parser.add_argument("model", nargs="?", help="Hugging Face id or folder (default: the embedded model)")
    parser.add_argument("--harmful", metavar="FILE", help="prompts that the model refuses (default: bundled)")
    parser.add_argument("--harmless", metavar="FILE", help="prompts that it answers (default: bundled)")
    parser.add_argument("--column", help="where the files have several: the column of the prompts")
    parser.add_argument("--texts", metavar="FILE", help="plain texts for cross-entropy (default: six lines)")
    parser.add_argument("--n", type=int, default=100, help="prompts a side for the test (default: 100)")
    parser.add_argument("--search", type=int, default=160, help="and for the search (default: 128 + 32)")
    parser.add_argument("--max-kl", type=float, default=0.1, help="the paper's threshold (default: 0.1)")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="length of an answer (default: 64)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the figures to a CSV file too")
    options = parser.parse_args(argv)
    if options.n < 1 or options.search < 2:
        parser.error("--n is 1 or more, and --search 2 or more")
    return options


def report(options: argparse.Namespace) -> None:
    """Everything in order: prompts, model, direction, figures, tables."""
    harmful, test_harmful = read(options.harmful, sl.prompts.harmful, options)
    harmless, test_harmless = read(options.harmless, sl.prompts.harmless, options)
    texts = [str(text) for text in sl.prompts.read(options.texts)] if options.texts else TEXTS
    row = published(options.model)
    say(f"loading {options.model or 'the embedded model'}")
    lab = sl.Lab(options.model)
    print(f"# {lab.info.name}\n\n{lab!r}, {lab.info.dtype}.")
    print(f"Published row: {row['id'] if row else 'none for this model'}.")
    for side, file in ("harmful", options.harmful), ("harmless", options.harmless):
        print(f"Prompts, {side}: {file or 'bundled'}, {options.search} to search and {options.n} to test.")
    say("searching for the direction")
    direction = lab.find_direction(harmful, harmless, max_kl=options.max_kl)
    measure = partial(
        lab.measure,
        harmful=test_harmful,
        harmless=test_harmless,
        texts=texts,
        sampling=sl.Sampling(options.max_new_tokens),
    )
    figures = chosen(lab, row) + effects(measure, direction, row)
    print(f"\n{table(figures)}\n\n{NOTE}\n\n{fallen(lab)}")
    if options.out:
        write(options.out, lab.info.name, row, figures)


def read(file: str | None, bundled: Any, options: argparse.Namespace) -> tuple[list[Prompt], list[Prompt]]:
    """What one side is searched with and what it is tested on, without a prompt in common."""
    n = options.search
    if file is None:
        return bundled(n), bundled(options.n, split="heldout")
    prompts = list({str(prompt): prompt for prompt in sl.prompts.read(file, options.column)}.values())
    if len(prompts) < n + options.n:
        raise sl.SteerlabError(
            f"{file} has {len(prompts)} different prompts, and {n} + {options.n} are needed",
            "Ask for fewer with --search and --n.",
        )
    random.Random(0).shuffle(prompts)  # files are often sorted by topic
    return prompts[:n], prompts[n : n + options.n]


def published(model: str | None) -> dict[str, Any]:
    """The published row of a model, by the last part of its id; empty where there is none."""
    name = Path(model or "").name.lower()
    return next((row for row in PUBLISHED["models"] if row["id"].lower().endswith(f"/{name}")), {})


def chosen(lab: sl.Lab, row: dict[str, Any]) -> list[Figure]:
    """The chosen direction and its three scores."""
    best = lab.candidates.best
    return [
        Figure("position of r", best.position, row.get("position"), "d"),
        Figure("layer of r (the input of this block)", best.layer, row.get("layer"), "d"),
        Figure("bypass: refusal score on harmful prompts, r ablated", best.bypass, row.get("bypass")),
        Figure("induce: refusal score on harmless prompts, r added", best.induce, row.get("induce")),
        Figure("KL on harmless prompts, r ablated", best.kl, row.get("kl")),
    ]


def effects(
    measure: Callable[[sl.Recipe], Report], direction: sl.Direction, row: dict[str, Any]
) -> list[Figure]:
    """Refusal rates and cross-entropy on the test prompts: baseline, r, and the random control."""
    recipes = {
        "r ablated": sl.Recipe([sl.Ablate(direction)]),
        "r subtracted": sl.Recipe([sl.Add(direction, coefficient=-1.0)]),
        "r added": sl.Recipe([sl.Add(direction, coefficient=1.0)]),
    }
    measured = {}
    for name, recipe in recipes.items():
        say(f"measuring: {name}")
        found = measure(recipe)
        control = name.replace("r ", "random control ")
        measured |= {"baseline": found["baseline"], name: found["recipe"], control: found["random control"]}

    def lines(title: str, field: str, names: Sequence[str], key: str, form: str = ".3f") -> list[Figure]:
        known = dict(zip(names, row.get(key, []), strict=False))
        return [Figure(f"{title}, {n}", getattr(measured[n], field), known.get(n), form) for n in names]

    removed = ["baseline", "r ablated", "r subtracted", "random control ablated", "random control subtracted"]
    induced = ["baseline", "r added", "random control added"]
    return [
        *lines("harmful prompts refused", "refusal_rate", removed, "refused_harmful", ".1%"),
        *lines("harmless prompts refused", "false_refusals", induced, "refused_harmless", ".1%"),
        *lines("cross-entropy of own answers", "cross_entropy", removed, "ce_own"),
        *lines("cross-entropy of plain texts", "text_cross_entropy", removed, "ce_pile"),
    ]


def table(figures: Sequence[Figure]) -> str:
    """The figures in Markdown."""
    lines = [
        f"| {f.name} | {written(f.measured, f.form)} | {written(f.published, f.form)} |" for f in figures
    ]
    return "\n".join(["| figure | measured | published |", "|---|---|---|", *lines])


def written(number: Estimate | float | None, form: str) -> str:
    """A number for the table, an estimate with its 95% interval and n."""
    if number is None:
        return "no published figure"
    if isinstance(number, Estimate):
        return f"{number.value:{form}} [{number.low:{form}}, {number.high:{form}}], n = {number.n}"
    return f"{number:{form}}"


def fallen(lab: sl.Lab) -> str:
    """How many candidates passed or fell for each reason, and the lowest bypass score among those that passed."""
    scores: dict[str, list[float]] = {}
    for c in lab.candidates.candidates:
        reason = re.sub(r" -?[\d.]+(?= [<>i])", "", c.rejected)  # without the candidate's own number
        scores.setdefault(reason or "passed", []).append(c.bypass)
    lines = [
        f"| {reason} | {len(found)} | {f'{min(found):.3f}' if reason == 'passed' else 'not needed'} |"
        for reason, found in sorted(scores.items())
    ]
    return "\n".join(["| candidates of the search | how many | lowest bypass |", "|---|---|---|", *lines])


def write(path: Path, model: str, row: dict[str, Any], figures: Sequence[Figure]) -> None:
    """The figures as a CSV file, a line each."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "published row", "figure", "measured", "low", "high", "n", "published"])
        for name, measured, known, _ in figures:
            parts = measured if isinstance(measured, Estimate) else (measured, "", "", "")
            writer.writerow([model, row.get("id"), name, *parts, known])


def say(words: str) -> None:
    """A word on progress."""
    print(f"{words} …", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
