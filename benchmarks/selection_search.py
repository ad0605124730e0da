"""The paper's choice of a direction on the embedded model, 32 + 32 prompts, against the published algorithm over
plain hooks: for every position and layer three batches, harmful prompts ablated, harmless prompts ablated, harmless
prompts added to.

Measured are the search that stops at a candidate's first failed test, and the whole map of three scores for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from common import Check, Figure, Options, interleaved, main
from oracle import ablated, added
from subjects import Subject, subject
from torch import Tensor

import steerlab as sl
from steerlab import metrics
from steerlab.estimators import DirectionMap
from steerlab.prompts import Position, Prompt
from steerlab.selection import LAST_LAYERS, MAX_KL, Selection, select

Cell = tuple[Position, int]


class Found(NamedTuple):
    """bypass, induce and KL of every candidate by position and layer, and the choice."""

    scores: dict[Cell, tuple[float, float, float]]
    best: Cell


def measure(options: Options) -> Iterator[Figure]:
    """Two figures."""
    embedded = subject("embedded", options.device)
    lab = embedded.lab()
    n, n_means = (4, 16) if options.quick else (32, 128)
    harmful, harmless = sl.prompts.harmful(n_means + n), sl.prompts.harmless(n_means + n)
    positions = (-1,) if options.quick else None
    directions = lab.difference_in_means(harmful[:n_means], harmless[:n_means], positions=positions)
    sides = harmful[n_means:], harmless[n_means:]
    with torch.no_grad():
        tokens = metrics.refusal_tokens(*(last(embedded, side) for side in sides))

    def search(_: int, *, full_map: bool) -> Selection:
        return select(lab.backend, directions, *sides, refusal_tokens=tokens, drop=False, full_map=full_map)

    runs: dict[str, Callable[[int], Any]] = {
        "loop": lambda _: published(embedded, directions, *sides, tokens),
        "search": partial(search, full_map=False),
        "map": partial(search, full_map=True),
    }
    rounds = interleaved(runs, options)
    wanted: Found = rounds.results["loop"][0]
    whole: Selection = rounds.results["map"][0]
    ours = {(c.position, c.layer): (c.bypass, c.induce, c.kl) for c in whole.candidates}
    apart = max(
        abs(a - b) for cell, scores in wanted.scores.items() for a, b in zip(ours[cell], scores, strict=True)
    )
    same = {cell for cell, scores in ours.items() if not math.isnan(sum(scores))} == set(wanted.scores)
    kept = [c for c in rounds.results["search"][0].candidates if not c.rejected]
    work = f"selection of 1 of {len(whole.candidates)} candidates, {n} + {n} prompts"
    yield from [
        Figure(
            f"{work}, {words}",
            "the published algorithm with hooks",
            embedded.name,
            rounds.ratio("loop", name),
            "times less",
            None if options.quick else goal,
            checks=(chosen(rounds.results[name], wanted), *more),
            note=f"{len(kept)} candidates pass; the loop took {rounds.median('loop'):.1f} s",
        )
        for name, words, goal, more in (
            ("search", "stopping at the first failed test", 3.0, ()),
            (
                "map",
                "all three scores of each",
                1.0,
                (Check(f"scores are equal to {apart:.0e}", same and apart < 1e-4),),
            ),
        )
    ]


def chosen(results: list[Selection], wanted: Found) -> Check:
    """Whether the choice is the loop's."""
    best = {(found.best.position, found.best.layer) for found in results}
    words = "the choice is that of the loop, position {} of layer {}".format(*wanted.best)
    return Check(words, best == {wanted.best})


@torch.no_grad()
def published(
    model: Subject,
    directions: DirectionMap,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    tokens: list[int],
) -> Found:
    """The search as the paper describes it, all prompts of a side in one batch."""
    base = last(model, harmless)
    last(model, harmful)  # the baseline by which prompts would be dropped
    scores: dict[Cell, tuple[float, float, float]] = {}
    for position in directions.positions:
        for layer in range(directions.n_layers):
            if not directions.differs(position, layer):
                continue
            r = directions.vectors[directions.positions.index(position), layer]
            with ablated(model.plain, r):
                bypass = refusal(last(model, harmful), tokens)
                damage = divergence(base, last(model, harmless))
            with added(model.plain, r, layer):
                induce = refusal(last(model, harmless), tokens)
            scores[position, layer] = (bypass, induce, damage)
    passed = {
        cell: bypass
        for cell, (bypass, induce, damage) in scores.items()
        if cell[1] < int(LAST_LAYERS * directions.n_layers) and damage <= MAX_KL and induce >= 0
    }
    return Found(scores, min(passed, key=lambda cell: passed[cell]))


def last(model: Subject, prompts: Sequence[Prompt]) -> Tensor:
    """Logits of the last position, `[prompts vocab]`, float64."""
    inputs = model.batch([str(prompt) for prompt in prompts])
    mask = inputs["attention_mask"]
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    out: Tensor = model.plain(**inputs, position_ids=positions, use_cache=False, logits_to_keep=1).logits
    return out[:, -1].double()


def refusal(logits: Tensor, tokens: list[int]) -> float:
    p = logits.softmax(-1)[:, tokens].sum(-1)
    return float((torch.log(p + 1e-8) - torch.log(1 - p + 1e-8)).mean())


def divergence(base: Tensor, steered: Tensor) -> float:
    p, q = base.softmax(-1), steered.softmax(-1)
    return float((p * (torch.log(p + 1e-6) - torch.log(q + 1e-6))).sum(-1).mean())


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
