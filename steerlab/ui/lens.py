"""The tab Lens: what each layer would say next at every token of a pane's text, under the baseline and steered."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from steerlab.lab import Lab
from steerlab.lens import LensDifference, Top, logit_lens
from steerlab.progress import counted
from steerlab.recipes import BASELINE
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.protocol import Figure, PaneId, Wire
from steerlab.ui.tokens import rounded, shown

LIKELIEST = 5
WINDOW = 48  # tokens of a text that are shown at a time


class LensQuestion(Wire):
    """What would each layer say next, from a token of a pane's text on?"""

    kind: Literal["lens"] = "lens"
    run: int
    """The run that the panes show, which has ended."""
    pane: PaneId
    start: Annotated[int, Field(ge=0)]
    """The first token, counted from the beginning of the prompt."""


class LensCells(Wire):
    """The first tokens of every cell of layers x tokens, in order, and their numbers."""

    words: list[list[list[int]]]
    """Which of the answer's `words`: by layer, token, rank."""
    values: list[list[list[float]]]


class LensAnswer(Wire):
    """The lens over a part of a text. Layers count from 0, tokens from `start`."""

    run: int
    pane: PaneId
    start: int
    total: int
    """How many tokens the text has in all; a token that ended it was never read and has no cell."""
    n_prompt: int
    tokens: list[str]
    words: list[str]
    """Every token that stands in a cell, once."""
    baseline: LensCells
    """The likeliest tokens and their probabilities."""
    steered: LensCells | None
    """None where nothing is steered."""
    gained: LensCells | None
    """The tokens whose probability steering raised most, and by how much."""
    kl: list[list[Figure]]
    """KL(baseline || steered) in nats: by layer, token."""


def answer(lab: Lab, question: LensQuestion, tell: Tell) -> LensAnswer:
    """Read a window of a pane's text through the lens of every layer, twice."""
    text, recipe = shown(lab, question.pane)
    n_prompt = len(lab.tokens_of(text.prompt))
    total = n_prompt + len(text.token_ids) - (text.finish == "stop")
    start = min(question.start, max(0, total - 1))
    stop = min(start + WINDOW, total)
    upto = max(0, stop - n_prompt)
    # what comes after does not change what came before, and need not be read
    text = replace(text, token_ids=text.token_ids[:upto], pieces=text.pieces[:upto], finish="length")
    baseline = logit_lens(lab.backend, text, BASELINE)
    steered = logit_lens(lab.backend, text, recipe) if len(recipe) else baseline
    n_layers = len(baseline.layers)

    def progress(done: int, total: int) -> None:
        tell.progress(done // n_layers, total // n_layers, "reading the layers")

    with counted(progress, n_layers * (stop - start)):
        found = LensDifference(steered, baseline).overview(LIKELIEST, tokens=slice(start, stop))
    words: dict[str, int] = {}
    baselines = _cells(found.baseline, words)
    steereds = _cells(found.steered, words) if len(recipe) else None
    gained = _cells(found.gained, words) if len(recipe) else None
    return LensAnswer(
        run=question.run,
        pane=question.pane,
        start=start,
        total=total,
        n_prompt=n_prompt,
        tokens=list(baseline.tokens[start:stop]),
        words=list(words),
        baseline=baselines,
        steered=steereds,
        gained=gained,
        kl=found.kl.tolist(),
    )


HANDLERS = [Handler(LensQuestion, LensAnswer, answer)]


def _cells(top: Top, words: dict[str, int]) -> LensCells:
    """One side of the overview; `words` gets the number of each text."""
    return LensCells(
        words=[
            [[words.setdefault(text, len(words)) for text in cell] for cell in layer] for layer in top.texts
        ],
        values=rounded(top.values, 4),
    )
