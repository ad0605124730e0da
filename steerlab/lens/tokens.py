"""What is behind each token of a text: how likely it was, what else might have come, and its projections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steerlab.backends import looks
from steerlab.backends.base import Backend
from steerlab.backends.cells import Cells, Look
from steerlab.directions import Direction
from steerlab.frames import table
from steerlab.generations import Generation
from steerlab.interventions import GivenLayers
from steerlab.lens.logits import Top, texts_of
from steerlab.lens.reading import how_many, layers_of, unit_vectors, whole
from steerlab.prompts import Prompt
from steerlab.recipes import BASELINE, Recipe
from steerlab.sites import Point, Site

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TokenSide:
    """A text's tokens under one recipe. The first token has nothing before it, and NaN for its likelihood.

    logprobs: [tokens], the log-probability of each token after those before it, in nats. others: the k likeliest tokens
    that were not the one that stands there, their ids and probabilities [tokens k]; the first token's are of
    probability NaN. projections: [directions tokens layers], `x . u` of the stream that the token left. norms: [tokens
    layers], `|x|` there.
    """

    logprobs: Tensor
    others: Top
    projections: Tensor
    norms: Tensor

    @property
    def probabilities(self) -> Tensor:
        """The probability of each token, `[tokens]`."""
        return self.logprobs.exp()

    @property
    def shares(self) -> Tensor:
        """The projections in units of the residual norm, `x . u / |x|`, `[directions tokens layers]`, from -1 to 1."""
        return self.projections / self.norms.clamp_min(1e-30)


@dataclass(frozen=True, eq=False)
class TokenDetails:
    """Every token of a prompt and its answer, under the baseline and steered, as one and the same text.

    token_ids, tokens: of the prompt, template included, and then the answer, its end-of-sequence token included.
    n_prompt: how many of them are the prompt's. names, layers, point: of the projections. recipe: of the steered side.
    """

    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    n_prompt: int
    names: tuple[str, ...]
    layers: tuple[int, ...]
    point: Point
    recipe: Recipe
    baseline: TokenSide
    steered: TokenSide

    @property
    def change(self) -> Tensor:
        """By how much steering raised the log-probability of each token, in nats, `[tokens]`."""
        return self.steered.logprobs - self.baseline.logprobs

    def to_frame(self) -> pd.DataFrame:
        """A row per token: position (0 is the first generated one, -1 the last of the prompt), token, part,
        probability_baseline, probability_steered, change. Needs pandas."""
        index = range(-self.n_prompt, len(self.tokens) - self.n_prompt)
        return table(
            {
                "position": list(index),
                "token": list(self.tokens),
                "part": ["generated" if i >= 0 else "prompt" for i in index],
                "probability_baseline": self.baseline.probabilities.numpy(),
                "probability_steered": self.steered.probabilities.numpy(),
                "change": self.change.numpy(),
            }
        )


@torch.no_grad()
def token_details(
    backend: Backend,
    text: Prompt | Generation,
    directions: Direction | Sequence[Direction] = (),
    recipe: Recipe | None = None,
    *,
    k: int = 5,
    point: Point = "resid_pre",
    layers: GivenLayers | None = None,
    chat: bool = True,
) -> TokenDetails:
    """Read a generation with its prompt, or a prompt alone, under the baseline and under a recipe, in one batch of two.

    recipe: by default the generation's own; its token scopes hold, generated tokens being generated ones. k: how many
    other tokens are kept. point, layers: where projections are read, by default resid_pre of every layer. chat: as the
    generation was made. Raises DirectionError for a direction of another width.
    """
    k = how_many(k, least=0)
    names, units = unit_vectors(backend, directions)
    which = layers_of(backend, layers)
    row, prompt, new = whole(backend, text, recipe, chat)
    rows = [replace(row, recipe=BASELINE), *([row] if len(row.recipe) else [])]
    ids = [*prompt, *new]
    sites, last = [Site(layer, point) for layer in which], Site(backend.info.n_layers - 1, "resid_post")
    cells = [Cells(row, sites, range(-len(ids), 0), new) for row in rows]
    came = torch.tensor([*ids[1:], 0])  # what follows the last token is not known
    read = backend.look(
        [Look(looks.projected, [one], (units,)) for one in cells]
        + [Look(looks.followed, [replace(one, sites=[last])], (came, k)) for one in cells]
    )
    sides = [_side(backend, *pair) for pair in zip(read[: len(rows)], read[len(rows) :], strict=True)]
    return TokenDetails(
        tuple(ids),
        tuple(backend.tokenizer.decode([i]) for i in ids),
        len(prompt),
        names,
        which,
        point,
        row.recipe,
        sides[0],
        sides[-1],
    )


def _side(backend: Backend, along: Sequence[Tensor], told: Sequence[Tensor]) -> TokenSide:
    """What `looks.projected` and `looks.followed` gave; the last token's own is not of this text."""
    # the first token follows nothing
    first = [torch.nan, torch.nan, 0]
    logprobs, chances, others = (
        torch.cat([torch.full_like(one[0, :1], nothing), one[0, :-1]])
        for one, nothing in zip(told, first, strict=True)
    )
    projections, norms = along
    return TokenSide(
        logprobs,
        Top(others, chances, texts_of(backend.tokenizer, others)),
        projections.permute(2, 1, 0),
        norms.T,
    )
