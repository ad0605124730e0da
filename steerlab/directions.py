"""Directions: a vector of the residual stream, where it was found, and how."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from steerlab.demo import WEIGHTS
from steerlab.errors import DirectionError, FileError
from steerlab.sites import Site

FORMAT = "steerlab.direction/1"


@dataclass(frozen=True, eq=False)
class Direction:
    """A vector `[d_model]` of the residual stream, kept unnormalised in float32, with its provenance.

    vector: tensor, NumPy array or sequence of numbers, all finite, not all zero.
    site: where it was found; activation addition acts there unless told otherwise.
    model: the name of the model it was found in; steerlab refuses it in another one.
    residual_norm: the mean norm of the residual stream at the site, which gives coefficients a scale.
    provenance: kept as JSON types; NumPy's and torch's numbers become Python's, other objects the text that they print.

    Directions have the algebra of vectors: `2 * v`, `-v`, `v / 2`, `a + b`, `a - b`.
    """

    vector: Tensor
    site: Site | None = None
    _: dataclasses.KW_ONLY
    name: str = "direction"
    model: str | None = None
    residual_norm: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vector = self.vector if isinstance(self.vector, Tensor) else torch.as_tensor(np.asarray(self.vector))
        if vector.ndim != 1 or not vector.numel() or vector.is_complex():
            raise DirectionError(
                f"a direction is one vector [d_model] of numbers, not {vector.dtype} of shape {list(vector.shape)}",
                "Pick one row of it.",
            )
        # cloned, because a view would keep (and save) the whole tensor that it was cut from
        vector = vector.detach().to("cpu", torch.float32).clone()
        bad = int((~vector.isfinite()).sum())
        if bad:
            raise DirectionError(
                f"the direction {self.name!r} has {bad} of {vector.numel()} numbers that are NaN or infinite",
                "Look where it was computed: an empty mean and an overflow in float16 are the usual causes.",
            )
        if not vector.any():
            raise DirectionError(
                f"the direction {self.name!r} is zero everywhere",
                "The two sides of the contrast are the same.",
            )
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "provenance", _plain(self.provenance))
        if self.residual_norm is not None:
            try:
                object.__setattr__(self, "residual_norm", float(self.residual_norm))
            except (TypeError, ValueError, RuntimeError) as error:
                raise DirectionError(
                    f"the residual norm of {self.name!r} is a number, not {self.residual_norm!r}"
                ) from error

    @property
    def d_model(self) -> int:
        """The width of the residual stream it belongs to."""
        return self.vector.numel()

    @property
    def norm(self) -> float:
        """The Euclidean norm |v|."""
        return float(self.vector.double().norm())

    @property
    def unit(self) -> Tensor:
        """The unit vector v / |v|, `[d_model]`."""
        wide = self.vector.double()  # in float32 the squares of very small or large numbers are 0 or infinite
        unit: Tensor = (wide / wide.norm()).float()
        return unit

    def cosine(self, other: Direction) -> float:
        """Cosine similarity with another direction of the same width, from -1 to 1."""
        return float(self.unit @ self._like(other).unit)

    def same(self, other: Direction) -> bool:
        """Whether it is the same vector of the same site and model, whatever the two are called."""
        where = (self.site, self.model) == (other.site, other.model)
        return self is other or (where and torch.equal(self.vector, other.vector))

    def numpy(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """A NumPy copy of the vector, float32 `[d_model]`."""
        return self.vector.numpy().copy()

    def coefficient(self, *, norms: float) -> float:
        """The coefficient with which adding this direction moves the stream by `norms` times its mean norm at the site.

        Raises DirectionError where that norm was not measured.
        """
        if self.residual_norm is None:
            raise DirectionError(
                f"the residual norm at the site of {self.name!r} is not known",
                "Directions found by steerlab know it; for others give residual_norm, or a raw coefficient.",
            )
        return norms * self.residual_norm / self.norm

    def transferred_to(self, model: str) -> Direction:
        """The same vector for another model of the same width, on purpose; the provenance says where it is from."""
        return dataclasses.replace(
            self, model=model, provenance={**self.provenance, "transferred_from": self.model}
        )

    def __mul__(self, factor: float) -> Direction:
        return dataclasses.replace(self, vector=self.vector * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Direction:
        return self * (1 / divisor)

    def __neg__(self) -> Direction:
        return self * -1

    def __add__(self, other: Direction) -> Direction:
        return self._combine(other, self.vector + self._like(other).vector, "+")

    def __sub__(self, other: Direction) -> Direction:
        return self._combine(other, self.vector - self._like(other).vector, "-")

    def _combine(self, other: Direction, vector: Tensor, sign: str) -> Direction:
        return Direction(
            vector,
            site=self.site if self.site == other.site else None,
            name=f"{self.name} {sign} {other.name}",
            model=self.model if self.model == other.model else None,
            residual_norm=self.residual_norm if self.site == other.site else None,
            provenance={"from": [dict(self.provenance), dict(other.provenance)], "operation": sign},
        )

    def _like(self, other: Direction) -> Direction:
        if self.d_model != other.d_model:
            raise DirectionError(
                f"{self.name!r} has d_model {self.d_model} and {other.name!r} has {other.d_model}",
                "Only directions of one residual stream can be combined.",
            )
        return other

    def to_dict(self) -> dict[str, Any]:
        """Everything but the vector, as JSON types; `from_dict` reads it back."""
        return {
            "name": self.name,
            "site": self.site and self.site.name,
            "model": self.model,
            "residual_norm": self.residual_norm,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, vector: Tensor, about: Mapping[str, Any]) -> Direction:
        """The inverse of `to_dict`, with the vector that it left out."""
        site = about.get("site")
        return cls(
            vector,
            site=None if site is None else Site.parse(site),
            name=str(about.get("name", "direction")),
            model=about.get("model"),
            residual_norm=about.get("residual_norm"),
            provenance=about.get("provenance") or {},
        )

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file: the tensor `vector` and the rest as JSON metadata. Returns the path."""
        path = Path(path)
        save_file({"vector": self.vector}, path, {"format": FORMAT, "direction": json.dumps(self.to_dict())})
        return path

    @classmethod
    def load(cls, path: str | Path) -> Direction:
        """Read what `save` wrote. Raises FileError for a missing, truncated or foreign file."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise FileError(
                        f"{path} is no steerlab direction: its format is {metadata.get('format')!r}",
                        "Files of other tools are read by steerlab.formats where it knows them.",
                    )
                return cls.from_dict(file.get_tensor("vector"), json.loads(metadata["direction"]))
        except FileNotFoundError as error:
            raise FileError(f"there is no file {path}") from error
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
            raise FileError(
                f"{path} is damaged or no safetensors file ({error})", "Write or copy it again."
            ) from error

    def __repr__(self) -> str:
        where = f" at {self.site}" if self.site else ""
        return f"Direction({self.name!r}{where}, d_model={self.d_model}, norm={self.norm:.2f})"


def _plain(value: Any) -> Any:
    """A value as JSON types."""
    if hasattr(value, "tolist"):  # NumPy's and torch's
        value = value.tolist()
    match value:
        case str() | bool() | int() | float() | None:
            return value
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
    return str(value)


def cosines(directions: Sequence[Direction]) -> Tensor:
    """Cosine similarity between directions, of one layer or of several, `[directions directions]`, float32.

    Raises DirectionError for none, or for different widths.
    """
    if not directions:
        raise DirectionError("no direction was given", "Give two or more to compare.")
    for direction in directions:
        directions[0]._like(direction)
    units = torch.stack([direction.unit for direction in directions])
    return units @ units.T


def bundled() -> dict[str, Direction]:
    """The directions that travel with the embedded model, by name."""
    return {"refusal": Direction.load(WEIGHTS / "refusal.safetensors")}
