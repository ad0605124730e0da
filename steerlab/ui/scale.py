"""What a row costs on the prompt at hand, and on which parts of its slider it leaves the sensible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from steerlab import metrics
from steerlab.generations import Sampling
from steerlab.lab import Lab
from steerlab.recipes import Recipe
from steerlab.rows import Row
from steerlab.selection import MAX_KL
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.protocol import Figure, SteeringState, Wire
from steerlab.ui.translate import named, recipe_of

LOOPS = 0.3  # of a text's trigrams of tokens stood before in it: it is going round
NEW_TOKENS = 32  # enough to see that
TEXTS = 9  # about so many numbers are written, of those that are scored

Interval = tuple[float, float]


class CostsQuestion(Wire):
    """What does each row cost on a prompt?"""

    kind: Literal["costs"] = "costs"
    prompt: str
    steering: list[SteeringState]
    fingerprints: list[str]
    """Of the rows' directions."""
    revision: int
    """Of the newest state that no panel made, which tells apart steps that have no row; 0 where there are none."""
    epoch: int
    """As in Info."""


class CostsAnswer(Wire):
    """By row: KL(all but this row || all) of the first token, in nats; None where the row does nothing."""

    kl: list[Figure]
    budget: float = MAX_KL
    """Over which it is too much, in nats."""


class ZoneQuestion(Wire):
    """Where on its slider does a row's number cost too much?"""

    kind: Literal["zone"] = "zone"
    prompt: str
    steering: list[SteeringState]
    """Every row. The number of the row in question is no part of the question: it is 0."""
    row: Annotated[int, Field(ge=0)]
    fingerprints: list[str]
    revision: int
    """As in CostsQuestion."""
    epoch: int
    temperature: float
    seed: int
    """Of texts that are sampled."""
    numbers: Annotated[list[float], Field(min_length=1, max_length=64)]
    """Where to look: ticks of the slider from end to end, 0 among them, in order."""


class ZoneAnswer(Wire):
    """What was found at the numbers, and the parts of the slider where it is too much, in order."""

    kl: list[Figure]
    repetition: list[Figure]
    """The share of trigrams of tokens that stood before; None where no text was written."""
    budget: float
    """In nats."""
    costly: list[Interval]
    """Where the KL is over the budget."""
    repeats: list[Interval]
    """Where the text repeats itself; nowhere if it does so without the row."""


def costs(lab: Lab, question: CostsQuestion, _tell: Tell) -> CostsAnswer:
    """One batch: the whole recipe, and it without each row in turn."""
    rows = question.steering
    whole = _recipe(lab, rows)
    less = [_recipe(lab, [*rows[:i], *rows[i + 1 :]]) for i in range(len(rows))]
    acting = [i for i, recipe in enumerate(less) if recipe != whole]
    if not acting:
        return CostsAnswer(kl=[None] * len(rows))
    logits = lab.backend.score([Row(question.prompt, r) for r in (whole, *(less[i] for i in acting))])
    found = metrics.kl(logits[1:], logits[:1].expand(len(acting), -1)).tolist()
    values = dict(zip(acting, found, strict=True))
    return CostsAnswer(kl=[values.get(i) for i in range(len(rows))])


def zone(lab: Lab, question: ZoneQuestion, tell: Tell) -> ZoneAnswer:
    """Scores at every number, and texts at some of them, each as rows of one batch."""
    rows, row, numbers = question.steering, question.row, question.numbers

    def at(number: float) -> Recipe:
        changed = rows[row].model_copy(update={"coefficient": number, "enabled": True})
        return _recipe(lab, [*rows[:row], changed, *rows[row + 1 :]])

    without = _recipe(lab, [*rows[:row], *rows[row + 1 :]])
    recipes = [without, *(at(number) for number in numbers)]
    logits = lab.backend.score([Row(question.prompt, recipe) for recipe in recipes])
    kl = metrics.kl(logits[:1].expand(len(numbers), -1), logits[1:]).tolist()
    step = math.ceil(len(numbers) / TEXTS)
    written = sorted(
        {*range(0, len(numbers), step), numbers.index(0) if 0 in numbers else 0, len(numbers) - 1}
    )
    own, *texts = lab.run(
        [
            Row(question.prompt, recipe, question.seed)
            for recipe in (without, *(recipes[1 + i] for i in written))
        ],
        Sampling(NEW_TOKENS, question.temperature),
        cancel=tell.cancel,
    )
    repetition: list[float] = [math.nan] * len(numbers)
    for i, text in zip(written, texts, strict=True):
        repetition[i] = math.nan if text.fault else _repetition(text.token_ids)
    return ZoneAnswer(
        kl=kl,
        repetition=[*repetition],
        budget=MAX_KL,
        costly=_over(numbers, [x if math.isfinite(x) else math.inf for x in kl], MAX_KL),  # no answer is left
        repeats=[] if _repetition(own.token_ids) > LOOPS else _over(numbers, repetition, LOOPS),
    )


def _recipe(lab: Lab, rows: Sequence[SteeringState]) -> Recipe:
    return recipe_of(rows, named(lab.recipe, lab.directions), lab.info.n_layers, lab.recipe)


def _repetition(tokens: Sequence[int]) -> float:
    """Of tokens, not of words: a loop may well be without a space. NaN for under three."""
    trigrams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else math.nan


def _over(numbers: Sequence[float], values: Sequence[float], limit: float) -> list[Interval]:
    """Where a curve is over a limit, from its first known number to its last; it is straight between two numbers."""
    known = [(n, v) for n, v in zip(numbers, values, strict=True) if not math.isnan(v)]
    if not known:
        return []
    edges = [known[0][0]] if known[0][1] > limit else []
    for (left, low), (right, high) in pairwise(known):
        if (low > limit) != (high > limit):
            # beyond the last number that is known it may be anywhere: it is all taken to be over
            sure = math.isfinite(high - low)
            share = (limit - low) / (high - low) if sure else float(math.isinf(low))
            edges.append(float(f"{left + share * (right - left):.4g}"))
    if len(edges) % 2:
        edges.append(known[-1][0])
    return list(zip(edges[::2], edges[1::2], strict=True))


HANDLERS: list[Handler[Any, Any]] = [
    Handler(CostsQuestion, CostsAnswer, costs),
    # nobody asked for it in words: it must not stand before what somebody did
    Handler(ZoneQuestion, ZoneAnswer, zone, lane="long"),
]
