"""What a direction says and where it is found: the tokens nearest to it, and how strongly each site expresses it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from steerlab.backends import looks
from steerlab.backends.base import Backend
from steerlab.backends.cells import Cells, Look
from steerlab.directions import Direction
from steerlab.errors import PromptError
from steerlab.generations import Generation
from steerlab.lens.reading import how_many, unit_vectors, whole
from steerlab.prompts import Prompt
from steerlab.recipes import Recipe
from steerlab.sites import Point, Site

# How tokens are compared with a direction.
By = Literal["unembedding", "embedding", "head"]


class Near(NamedTuple):
    """Tokens in order, the nearest first: ids, texts, and values, each of k."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class NearestTokens:
    """The tokens along a direction, and those the other way. `says` tells in words what the values are."""

    along: Near
    against: Near
    by: By

    @property
    def says(self) -> str:
        """What the values are, and whether the final norm has its part in them."""
        if self.by == "head":
            return "logits of the final norm and the head on the direction alone, less their mean"
        return f"cosine with the tokens’ rows of the {self.by} matrix, without the final norm"


@torch.no_grad()
def nearest_tokens(
    backend: Backend, direction: Direction, *, k: int = 10, by: By = "unembedding"
) -> NearestTokens:
    """The k tokens nearest to a direction, and the k nearest to its opposite.

    by: "unembedding" or "embedding", the cosine with the tokens' rows of that matrix, without the final norm and its
    weights; "head", the logits that the final norm and the head give the direction as if it were the whole stream, less
    their mean: what the lens shows. `against` has the values of the opposite direction. Raises DirectionError for a
    direction of another width, PromptError for another `by`, and ModelError where the model has no such matrix.
    """
    if by not in get_args(By):
        raise PromptError(f"by={by!r} is not known", f"Choose {', '.join(get_args(By))}.")
    k = how_many(k)
    _, (unit,) = unit_vectors(backend, direction)
    if by == "head":
        vocab = len(backend.tokenizer)
        scores = backend.decode(torch.stack([unit, -unit]) * direction.norm)[:, :vocab]
        values, ids = (scores - scores.mean(-1, keepdim=True)).topk(min(k, vocab))
    else:
        values, ids = backend.nearest(unit, by, k)
    along, against = (
        Near(tuple(i), tuple(backend.tokenizer.decode([t]) for t in i), tuple(v))
        for i, v in zip(ids.tolist(), values.tolist(), strict=True)
    )
    return NearestTokens(along, against, by)


@dataclass(frozen=True, eq=False)
class Expression:
    """How strongly directions are expressed at every site of a text.

    shares: [directions layers points], the mean over the tokens of `|x . u| / |x|`: from 0, at right angles, to 1,
    nothing else. chance: what a direction that means nothing would have, `sqrt(2 / (pi d_model))`. n_tokens: how many
    tokens the means are over.
    """

    shares: Tensor
    names: tuple[str, ...]
    points: tuple[Point, ...]
    chance: float
    n_tokens: int


def expression(
    backend: Backend,
    text: Prompt | Generation,
    directions: Direction | Sequence[Direction],
    recipe: Recipe | None = None,
    *,
    points: Sequence[Point] | None = None,
    chat: bool = True,
) -> Expression:
    """How strongly each site of a prompt, or of a generation with its prompt, expresses directions, in one pass.

    recipe: by default none for a prompt and a generation's own. points: by default all that the model has. Raises
    DirectionError for a direction of another width.
    """
    names, units = unit_vectors(backend, directions)
    which = tuple(backend.info.points if points is None else points)
    row, prompt, new = whole(backend, text, recipe, chat)
    n, n_layers = len(prompt) + len(new), backend.info.n_layers
    sites = [Site(layer, point) for layer in range(n_layers) for point in which]
    along, norms = backend.look([Look(looks.projected, [Cells(row, sites, range(-n, 0), new)], (units,))])[0]
    shares = along.abs() / norms[..., None].clamp_min(1e-30)  # [sites tokens directions]
    return Expression(
        shares.mean(1).T.unflatten(1, (n_layers, len(which))),
        names,
        which,
        math.sqrt(2 / (math.pi * backend.info.d_model)),
        n,
    )
