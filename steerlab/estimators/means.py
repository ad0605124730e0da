"""Estimators: from contrasting prompts to directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steerlab.backends.base import Backend, Position, Positions
from steerlab.directions import Direction
from steerlab.errors import DirectionError, PromptError, SiteError
from steerlab.prompts import ContrastSet, Prompt, post_instruction_tokens
from steerlab.rows import Row
from steerlab.sites import Point, Site


@dataclass(frozen=True, eq=False)
class DirectionMap:
    """A direction for every position and layer: what an estimator found, before one is chosen.

    vectors: [positions layers d_model], float64, unnormalised. residual_norms: [positions layers], the mean norm of the
    residual stream over both sides.
    """

    vectors: Tensor
    residual_norms: Tensor
    positions: tuple[Position, ...]
    point: Point
    name: str = "direction"
    model: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def n_layers(self) -> int:
        """How many layers the map covers, from layer 0."""
        return self.vectors.shape[1]

    def at(self, position: Position, layer: int) -> Direction:
        """The candidate of one position and layer. Raises SiteError or DirectionError outside the map."""
        if position not in self.positions:
            raise DirectionError(f"position {position} is not in the map", f"It has {list(self.positions)}.")
        if not 0 <= layer < self.n_layers:
            raise SiteError(f"layer {layer} is out of range: the map has layers 0 to {self.n_layers - 1}")
        if not self.differs(position, layer):
            raise DirectionError(
                f"the two sides do not differ at position {position} of layer {layer}",
                "The template's tokens have the same embeddings after any prompt: look in later layers.",
            )
        i = self.positions.index(position)
        return Direction(
            self.vectors[i, layer],
            Site(layer, self.point),
            name=self.name,
            model=self.model,
            residual_norm=float(self.residual_norms[i, layer]),
            provenance={**self.provenance, "position": position},
        )

    def differs(self, position: Position, layer: int) -> bool:
        """Whether the two sides differ there by more than rounding."""
        i = self.positions.index(position)
        return bool(self.vectors[i, layer].norm() > 1e-6 * self.residual_norms[i, layer])

    def cosines(self, position: Position) -> Tensor:
        """Cosine similarity between the layers' directions at a position, `[layers layers]`."""
        units = torch.nn.functional.normalize(self.vectors[self.positions.index(position)], dim=-1)
        return units @ units.mT


def difference_in_means(
    backend: Backend,
    contrast: ContrastSet,
    *,
    point: Point = "resid_pre",
    positions: Positions | None = None,
    chat: bool = True,
) -> DirectionMap:
    """Mean activation of the positive prompts minus that of the negative ones, at every position and layer.

    `r[i, l] = mean over positive of x[l] at i  -  mean over negative` (Arditi et al. 2024, eq. 1), in one pass over the
    prompts and accumulated in float64. positions: by default every post-instruction token of the chat template;
    "response" for conversations that end with an answer (`prompts.answered`), whose tokens are averaged.
    """
    if positions is None:
        positions = range(-len(post_instruction_tokens(backend.tokenizer)) if chat else -1, 0)
    sites = [Site(layer, point) for layer in range(backend.info.n_layers)]
    sides = [
        backend.capture([Row(prompt, chat=chat) for prompt in side], sites, positions)
        for side in (contrast.positive, contrast.negative)
    ]
    return DirectionMap(
        (sides[0].mean - sides[1].mean).transpose(0, 1),
        ((sides[0].norm + sides[1].norm) / 2).T,
        ("response",) if positions == "response" else tuple(positions),
        point,
        contrast.name,
        backend.info.name,
        {
            "method": "difference in means",
            "positive prompts": len(contrast.positive),
            "negative prompts": len(contrast.negative),
        },
    )


CHUNK = 32  # pairs whose activations are held at once
KEPT = 512  # rows of differences that are held at each site; beyond twice as many, only their principal components


def principal_component(
    backend: Backend,
    pairs: Sequence[tuple[Prompt, Prompt]],
    *,
    point: Point = "resid_post",
    positions: Positions = (-1,),
    chat: bool = True,
    name: str = "direction",
) -> DirectionMap:
    """First principal component of the differences of paired prompts (Zou et al. 2023, section 3.1; the way of repeng).

    pairs: (shows the concept, does not), two or more. The differences are centred; the component, a unit vector, points
    towards the first of each pair. Memory does not grow with the number of pairs.
    """
    if len(pairs) < 2 or any(len(pair) != 2 for pair in pairs):
        raise PromptError(
            f"{len(pairs)} pairs have no principal component",
            "Give two pairs (shows the concept, does not) or more: list(zip(positive, negative, strict=True)).",
        )
    sites = [Site(layer, point) for layer in range(backend.info.n_layers)]
    rows: Tensor | None = None
    sums, norms = [], []
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start : start + CHUNK]
        sides = [[Row(pair[i], chat=chat) for pair in chunk] for i in (0, 1)]
        shows, lacks = (backend.capture(side, sites, positions, values=True) for side in sides)
        assert shows.values is not None
        assert lacks.values is not None
        difference = (
            (shows.values - lacks.values).permute(1, 2, 0, 3).double()
        )  # [layers positions pairs d_model]
        rows = difference if rows is None else torch.cat([rows, difference], 2)
        sums.append(difference.sum(2))
        norms.append((shows.norm + lacks.norm) / 2 * len(chunk))
        if rows.shape[2] > 2 * KEPT:
            _, scale, ways = torch.linalg.svd(rows, full_matrices=False)
            rows = scale[..., :KEPT, None] * ways[..., :KEPT, :]
    assert rows is not None
    vectors = _leading(rows, torch.stack(sums).sum(0) / len(pairs), len(pairs))
    return DirectionMap(
        vectors.transpose(0, 1),
        (torch.stack(norms).sum(0) / len(pairs)).T,
        ("response",) if positions == "response" else tuple(positions),
        point,
        name,
        backend.info.name,
        {"method": "principal component of differences", "pairs": len(pairs)},
    )


def _leading(rows: Tensor, mean: Tensor, n: int) -> Tensor:
    """The first principal component of `n` centred rows [... r d], which may be compressed: their scatter is
    `rows^T rows - n mean mean^T`. Oriented along the mean."""
    _, scale, ways = torch.linalg.svd(rows, full_matrices=False)
    inner = (ways @ mean[..., None])[..., 0]
    scatter = torch.diag_embed(scale**2) - n * inner[..., :, None] * inner[..., None, :]
    leading = torch.linalg.eigh(scatter).eigenvectors[..., -1]
    vector = (leading[..., None, :] @ ways)[..., 0, :]
    towards = (vector * mean).sum(-1, keepdim=True).sign()
    oriented: Tensor = vector * torch.where(towards == 0, 1.0, towards)
    return oriented


def prompt_pair(
    backend: Backend,
    shows: Prompt,
    lacks: Prompt,
    *,
    site: Site,
    position: int = -1,
    chat: bool = False,
    name: str = "direction",
) -> Direction:
    """The difference of two prompts at a site (ActAdd, Turner et al. 2023): "Love" minus "Hate". Plain text."""
    found = difference_in_means(
        backend, ContrastSet([shows], [lacks], name), point=site.point, positions=[position], chat=chat
    ).at(position, site.layer)
    return dataclasses.replace(
        found, provenance={"method": "prompt pair", "shows": str(shows), "lacks": str(lacks)}
    )


def random_like(direction: Direction, *, seed: int = 0) -> Direction:
    """A random direction of the same norm and site: the control that every result is shown beside."""
    noise = torch.randn(direction.d_model, generator=torch.Generator().manual_seed(seed))
    return Direction(
        noise * (direction.norm / noise.norm()),
        direction.site,
        name=f"random like {direction.name}",
        model=direction.model,
        residual_norm=direction.residual_norm,
        provenance={"method": "random", "seed": seed, "norm of": direction.name},
    )
