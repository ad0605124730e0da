"""What a row costs on the prompt at hand, and from which number on its slider leaves the sensible."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
TEXTS = 8  # coefficients that are written, of those that are scored


class CostsQuestion(Wire):
    """What does each row cost on a prompt?"""

    kind: Literal["costs"] = "costs"
    prompt: str
    steering: list[SteeringState]
    fingerprints: list[str]
    """Of the rows' directions."""


class CostsAnswer(Wire):
    """By row: KL(all but this row || all) of the first token, in nats; None where the row does nothing."""

    kl: list[Figure]


class ZoneQuestion(Wire):
    """From where on does a row's number cost too much?"""

    kind: Literal["zone"] = "zone"
    prompt: str
    steering: list[SteeringState]
    """Every row. The number of the row in question is no part of the question: it is 0."""
    row: Annotated[int, Field(ge=0)]
    fingerprints: list[str]
    numbers: Annotated[list[float], Field(min_length=1, max_length=64)]
    """Where to look: ticks of the slider, in order."""


class ZoneAnswer(Wire):
    """What was found at the numbers, and from where on it is too much, below and above 0; None for nowhere."""

    kl: list[Figure]
    repetition: list[Figure]
    """The share of trigrams of tokens that stood before; None where no text was written."""
    budget: float
    """In nats."""
    kl_from: tuple[float | None, float | None]
    repeats_from: tuple[float | None, float | None]


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
    written = sorted({*range(0, len(numbers), step), 0, len(numbers) - 1})
    texts = lab.run(
        [Row(question.prompt, recipes[1 + i]) for i in written], Sampling(NEW_TOKENS), cancel=tell.cancel
    )
    repetition: list[float] = [math.nan] * len(numbers)
    for i, text in zip(written, texts, strict=True):
        repetition[i] = _repetition(text.token_ids)
    return ZoneAnswer(
        kl=kl,
        repetition=[*repetition],
        budget=MAX_KL,
        kl_from=_beyond(numbers, kl, MAX_KL),
        repeats_from=_beyond(numbers, repetition, LOOPS),
    )


def _recipe(lab: Lab, rows: Sequence[SteeringState]) -> Recipe:
    return recipe_of(rows, named(lab.recipe, lab.directions), lab.info.n_layers, lab.recipe)


def _repetition(tokens: Sequence[int]) -> float:
    """Of tokens, not of words: a loop may well be without a space. NaN for under three."""
    trigrams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else math.nan


def _beyond(
    numbers: Sequence[float], values: Sequence[float], limit: float
) -> tuple[float | None, float | None]:
    """Where a curve first passes a limit on the way from 0 down, and up; on a straight line between two numbers."""
    known = [(n, v) for n, v in zip(numbers, values, strict=True) if not math.isnan(v) and n != 0]

    def first(side: list[tuple[float, float]]) -> float | None:
        before = (0.0, 0.0)
        for number, value in sorted(side, key=lambda pair: abs(pair[0])):
            if value > limit:
                share = max(0.0, min(1.0, (limit - before[1]) / (value - before[1])))
                return float(f"{before[0] + share * (number - before[0]):.4g}")
            before = (number, value)
        return None

    return first([p for p in known if p[0] < 0]), first([p for p in known if p[0] > 0])


HANDLERS: list[Handler[Any, Any]] = [
    Handler(CostsQuestion, CostsAnswer, costs),
    # nobody asked for it in words: it must not stand before what somebody did
    Handler(ZoneQuestion, ZoneAnswer, zone, lane="long"),
]
