"""DirectionMap: a direction for every position and layer, before one is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steerlab.backends.base import Backend, Position, Positions
from steerlab.directions import Direction
from steerlab.errors import DirectionError, SiteError
from steerlab.prompts import post_instruction_tokens
from steerlab.sites import Point, Site


@dataclass(frozen=True, eq=False)
class DirectionMap:
    """A direction for every position and layer: what an estimator found, before one is chosen.

    vectors: [positions layers d_model], float64; zero where the two sides do not differ. residual_norms: [positions
    layers], the mean norm of the residual stream over both sides. details: what more is known of a cell, by position
    and layer; it joins the provenance of its direction.
    """

    vectors: Tensor
    residual_norms: Tensor
    positions: tuple[Position, ...]
    point: Point
    name: str = "direction"
    model: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    details: Mapping[tuple[Position, int], Mapping[str, Any]] = field(default_factory=dict)

    @property
    def n_layers(self) -> int:
        """How many layers the map covers, from layer 0."""
        return self.vectors.shape[1]

    def at(self, position: Position, layer: int) -> Direction:
        """The candidate of one position and layer. Raises SiteError or DirectionError outside the map."""
        if position not in self.positions:
            raise DirectionError(f"position {position} is not in the map", f"It has {list(self.positions)}.")
        if not 0 <= layer < self.n_layers:
            raise SiteError(
                f"layer {layer} is out of range: the map has {self.n_layers} layers", "They count from 0."
            )
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
            provenance={**self.provenance, "position": position, **self.details.get((position, layer), {})},
        )

    def differs(self, position: Position, layer: int) -> bool:
        """Whether the two sides differ there by more than rounding."""
        i = self.positions.index(position)
        return bool(self.vectors[i, layer].norm() > 1e-6 * self.residual_norms[i, layer])

    @property
    def norms(self) -> Tensor:
        """The norm |v| of every direction, `[positions layers]`, float64; by `residual_norms` it is in units of the
        stream there."""
        norms: Tensor = self.vectors.norm(dim=-1)
        return norms

    def cosines(self, position: Position) -> Tensor:
        """Cosine similarity between the layers' directions at a position, `[layers layers]`."""
        units = torch.nn.functional.normalize(self.vectors[self.positions.index(position)], dim=-1)
        return units @ units.mT


def default_positions(backend: Backend, chat: bool) -> Positions:
    """Every post-instruction token of the chat template, or the last token of plain text."""
    return range(-len(post_instruction_tokens(backend.tokenizer)) if chat else -1, 0)


def as_tuple(positions: Positions) -> tuple[Position, ...]:
    """The positions of a map."""
    return ("response",) if positions == "response" else tuple(positions)
