"""DirectionMap: a direction for every position and layer, before one is chosen; and its file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from steerlab.directions import Direction
from steerlab.errors import DirectionError, FileError, SiteError
from steerlab.prompts import Position
from steerlab.sites import Point, Site, check_point

FORMAT = "steerlab.directions/1"
_LAYER = re.compile(r"layer\.(\d{1,9})", re.ASCII)


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
        if not self.differs(position, layer):
            raise DirectionError(
                f"the two sides do not differ at position {position} of layer {layer}",
                "The template's tokens have the same embeddings after any prompt: look in later layers.",
            )
        i = self._row(position)
        return Direction(
            self.vectors[i, layer],
            Site(layer, self.point),
            name=self.name,
            model=self.model,
            residual_norm=float(self.residual_norms[i, layer]),
            provenance={**self.provenance, "position": position, **self.details.get((position, layer), {})},
        )

    def differs(self, position: Position, layer: int) -> bool:
        """Whether the two sides differ there by more than rounding. Raises SiteError or DirectionError outside the
        map.
        """
        i = self._row(position)
        if not 0 <= layer < self.n_layers:
            raise SiteError(
                f"layer {layer} is out of range: the map has {self.n_layers} layers", "They count from 0."
            )
        return bool(self.vectors[i, layer].norm() > 1e-6 * self.residual_norms[i, layer])

    def cell_of(self, direction: Direction) -> tuple[Position, int] | None:
        """The position and layer of the candidate that is this very vector at this very site; None for no such cell."""
        site = direction.site
        if site is None or site.point != self.point or site.layer >= self.n_layers:
            return None
        here = (p for p in self.positions if self.differs(p, site.layer))
        same = (p for p in here if torch.equal(self.at(p, site.layer).vector, direction.vector))
        return next(((position, site.layer) for position in same), None)

    @property
    def norms(self) -> Tensor:
        """The norm |v| of every direction, `[positions layers]`, float64; by `residual_norms` it is in units of the
        stream there."""
        norms: Tensor = self.vectors.norm(dim=-1)
        return norms

    def cosines(self, position: Position) -> Tensor:
        """Cosine similarity between the layers' directions at a position, `[layers layers]`. Raises DirectionError for
        a position outside the map.
        """
        units = torch.nn.functional.normalize(self.vectors[self._row(position)], dim=-1)
        return units @ units.mT

    def _row(self, position: Position) -> int:
        if position not in self.positions:
            raise DirectionError(f"position {position} is not in the map", f"It has {list(self.positions)}.")
        return self.positions.index(position)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file: tensors `layer.<l>`, each [positions d_model], the norms of the residual stream
        as `residual_norms`, and the rest as JSON metadata. Returns the path.
        """
        path = Path(path)
        about = {
            "name": self.name,
            "model": self.model,
            "point": self.point,
            "positions": self.positions,
            "provenance": self.provenance,
            "details": [[*cell, said] for cell, said in self.details.items()],
        }
        tensors = {f"layer.{i}": layer.contiguous() for i, layer in enumerate(self.vectors.unbind(1))}
        save_file(
            {**tensors, "residual_norms": self.residual_norms.contiguous()},
            path,
            {"format": FORMAT, "directions": json.dumps(about)},
        )
        return path

    @classmethod
    def load(cls, path: str | Path) -> DirectionMap:
        """Read what `save` wrote. Raises FileError for a missing, truncated or foreign file."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise FileError(
                        f"{path} is no steerlab map of directions: its format is {metadata.get('format')!r}",
                        "One direction is read by Direction.load, files of other tools by steerlab.formats.",
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            about, norms = json.loads(metadata["directions"]), tensors["residual_norms"]
            layers = [tensors[f"layer.{i}"] for i in range(sum(map(bool, map(_LAYER.fullmatch, tensors))))]
            vectors = torch.stack(layers, 1)
            if (*vectors.shape[:2],) != norms.shape or len(vectors) != len(about["positions"]):
                raise FileError(f"{path} has vectors {list(vectors.shape)} and norms {list(norms.shape)}")
            return cls(
                vectors,
                norms,
                tuple(about["positions"]),
                check_point(about["point"]),
                about["name"],
                about["model"],
                about["provenance"],
                {(position, layer): said for position, layer, said in about["details"]},
            )
        except FileNotFoundError as error:
            raise FileError(f"there is no file {path}") from error
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, FileError | SiteError):
                raise
            raise FileError(
                f"{path} is damaged or no safetensors file ({error})", "Write or copy it again."
            ) from error
