"""What is behind the tokens of a pane: how likely each was, what else might have come, its projections."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from steerlab.directions import Direction
from steerlab.errors import PromptError
from steerlab.generations import Generation
from steerlab.lab import Lab
from steerlab.lens import TokenSide, token_details
from steerlab.recipes import Recipe
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.protocol import Figure, PaneId, Wire
from steerlab.ui.translate import named

OTHERS = 5
LONGEST = 512  # tokens of an answer: what is said of each is a kilobyte and more


class TokensQuestion(Wire):
    """What is behind the tokens of a pane's text?"""

    kind: Literal["tokens"] = "tokens"
    run: int
    """The run that the panes show, which has ended."""
    pane: PaneId


class AlongDirection(Wire):
    """A direction that tokens are projected on."""

    name: str
    layer: int
    """The layer, of those that are read, nearest to where it was found; the middle one where that is not known."""


class TokensRead(Wire):
    """The tokens under one recipe."""

    logprobs: list[Figure]
    """The log-probability of each token after those before it, in nats; None for the first, which nothing is before."""
    others: list[list[tuple[str, float]]]
    """The likeliest tokens that did not come instead of each, with their probabilities; likeliest first."""
    cosines: list[list[list[float]]]
    """Of the stream with each direction, `x . u / |x|`: by direction, token, layer."""
    projections: list[list[Figure]]
    """`x . u` at the direction's own layer: by direction, token."""


class TokensAnswer(Wire):
    """The tokens of the prompt and of the pane's text, as one and the same text under both recipes."""

    run: int
    pane: PaneId
    n_prompt: int
    tokens: list[str]
    """Each on its own, special ones too; of a long text the first tokens."""
    directions: list[AlongDirection]
    baseline: TokensRead
    steered: TokensRead | None
    """Under the pane's own recipe, for the baseline's text under the steered one's; None where nothing is steered."""


def answer(lab: Lab, question: TokensQuestion, tell: Tell) -> TokensAnswer:
    """Read the text of a pane under the baseline and under its recipe, in one batch."""
    text, recipe = shown(lab, question.pane)
    directions = named(lab.recipe, lab.directions)
    ids, pieces = text.token_ids[:LONGEST], text.pieces[:LONGEST]
    tell.progress(0, 0, "reading what is behind each token")
    found = token_details(
        lab.backend,
        replace(text, token_ids=ids, pieces=pieces),
        list(directions.values()),
        recipe,
        k=OTHERS,
    )
    own = [_own_layer(direction, lab.info.n_layers) for direction in directions.values()]
    return TokensAnswer(
        run=question.run,
        pane=question.pane,
        n_prompt=found.n_prompt,
        tokens=list(found.tokens),
        directions=[
            AlongDirection(name=name, layer=layer) for name, layer in zip(directions, own, strict=True)
        ],
        baseline=_read(found.baseline, own),
        steered=_read(found.steered, own) if len(recipe) else None,
    )


HANDLERS = [Handler(TokensQuestion, TokensAnswer, answer)]


def shown(lab: Lab, pane: PaneId) -> tuple[Generation, Recipe]:
    """A pane's text, and the recipe that it is read under beside the baseline.

    Raises PromptError where there is no text.
    """
    text = lab.generations.get(pane)
    if text is None:
        raise PromptError(f"there is no text {pane!r} to look into", "Run the prompt first.")
    steered = lab.generations.get("steered", text)
    return text, text.recipe if len(text.recipe) else steered.recipe


def rounded(values: Tensor, digits: int) -> list[list[list[float]]]:
    """Numbers as they are sent, a few digits each."""
    nested: list[list[list[float]]] = values.double().round(decimals=digits).tolist()
    return nested


def _own_layer(direction: Direction, n_layers: int) -> int:
    """Where the stream that enters a block is read: what leaves a block enters the next."""
    if direction.site is None:
        return n_layers // 2
    return min(direction.site.layer + (direction.site.point == "resid_post"), n_layers - 1)


def _read(side: TokenSide, own: list[int]) -> TokensRead:
    chances = side.others.values.nan_to_num(0.0).tolist()
    return TokensRead(
        logprobs=side.logprobs.tolist(),
        # nothing might have stood in the first token's place
        others=[
            [(text, round(p, 5)) for text, p in zip(texts, ps, strict=True)] if i else []
            for i, (texts, ps) in enumerate(zip(side.others.texts, chances, strict=True))
        ],
        cosines=rounded(side.shares, 3),
        projections=[side.projections[i, :, layer].tolist() for i, layer in enumerate(own)],
    )
