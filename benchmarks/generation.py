"""Steered generation of 64 tokens, one prompt or eight rows, against transformers' plain generate of the same
prompts, and beside every peer: an addition at one block, and the ablation of a direction everywhere.

The figure is a speed: plain generate's seconds divided by those of the package. No package is to be faster, which is
to be ahead in more rounds than coins would give (a sign test at 5%); plain hooks, which are none, stand beside. In
every round all of them get new prompts, so nothing comes from memory. Answers are compared with those of plain hooks.
repeng cannot ablate; steering-vectors ablates at outputs of blocks instead of their inputs, so its answers are others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from common import Check, Figure, Options, interleaved, main, missing
from steerers import STEERERS, Kind, Steerer
from subjects import Subject, prompts, subjects

ROUNDS = 9  # at least: that a package is faster is seen in the rounds, not in the medians alone
GOALS: dict[tuple[str, int, Kind], float] = {("50M", 1, "add"): 0.95, ("50M", 1, "ablate"): 0.88}


def measure(options: Options) -> Iterator[Figure]:
    """For each model: one prompt and eight rows, an addition and an ablation."""
    cases: list[tuple[int, Kind]] = [(1, "add"), (1, "ablate"), (8, "add"), (8, "ablate")]
    for subject in subjects(options, "embedded", "50M"):
        for n_rows, kind in cases[:2] if options.quick else cases:
            yield one(subject, n_rows, kind, options)


def one(subject: Subject, n_rows: int, kind: Kind, options: Options) -> Figure:
    """One case, with all the packages."""
    n = 4 if options.quick else 64 if n_rows == 1 or subject.name == "embedded" else 32
    direction = subject.direction()
    notes: list[str] = []
    made: dict[str, Steerer] = {}
    for name, make in STEERERS.items():
        with missing(name, notes):
            try:
                made[name] = make(subject, direction, kind, n)
            except NotImplementedError as error:
                notes.append(str(error))
    n_rounds = options.rounds if options.quick else max(ROUNDS, options.rounds)
    texts = {i: prompts(n_rows, 32, seed=200 + i) for i in range(-1, n_rounds)}
    runs = {name: partial(answer, steerer, texts) for name, steerer in made.items()}
    rounds = interleaved(runs, options, rounds=n_rounds)
    beside = {name: rounds.beside(name, "steerlab", "plain generate") for name in made}
    for name in ("plain generate", "steerlab"):
        beside.pop(name)
    hooks, wanted = beside.pop("raw hooks"), rounds.results["raw hooks"]
    checks = [
        same(name, rounds.results[name], wanted)
        for name in ("steerlab", *beside)
        if (name, kind) != ("steering-vectors", "ablate")
    ]
    what = "one addition" if kind == "add" else "full ablation"
    rows = "one prompt" if n_rows == 1 else f"{n_rows} rows"
    return Figure(
        f"steered generation, {rows} of {n} tokens, {what}",
        "plain generate",
        subject.name,
        rounds.ratio("plain generate", "steerlab"),
        "of its speed",
        GOALS.get((subject.name, n_rows, kind)),
        checks=tuple(checks),
        note="; ".join([f"raw hooks in the same run: {hooks}", *notes]),
        beside=beside,
        first=True,
    )


def answer(steerer: Steerer, texts: Mapping[int, Sequence[str]], i: int) -> list[list[int]]:
    """What a package makes of the prompts of a round."""
    return steerer(texts[i])


def same(name: str, results: Sequence[list[list[int]]], wanted: Sequence[list[list[int]]]) -> Check:
    """Whether the answers are those of plain hooks."""
    pairs = [
        pair for ours, theirs in zip(results, wanted, strict=True) for pair in zip(ours, theirs, strict=True)
    ]
    alike = sum(a == b for a, b in pairs)
    return Check(f"{name}: {alike} of {len(pairs)} answers are those of plain hooks", alike == len(pairs))


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
