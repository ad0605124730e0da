"""Sites: where in the residual stream a vector is read or an intervention acts.

A site is a layer and a point. The points, in the order in which a forward pass meets them (Arditi et al. 2024,
section 2; TransformerLens calls the same places `blocks.<layer>.hook_<point>`):

    resid_pre    the input of the block
    attn_out     what attention adds to the residual stream
    resid_mid    the stream between attention and the MLP (sequential blocks only)
    mlp_out      what the MLP adds to the residual stream
    resid_post   the output of the block, which is resid_pre of the next one
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from steerlab.errors import SiteError

Point = Literal["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"]
POINTS: tuple[Point, ...] = get_args(Point)

_TRANSFORMER_LENS = re.compile(r"blocks\.(\d+)\.hook_(\w+)")
_SHORT = re.compile(r"(\w+)\[(\d+)\]")


def check_point(point: str) -> Point:
    """Return `point` where it is one of POINTS, else raise SiteError."""
    for known in POINTS:
        if point == known:
            return known
    raise SiteError(f"there is no point {point!r}", f"The points of a block are {', '.join(POINTS)}.")


def whole(number: Any) -> int | None:
    """A whole number of Python, NumPy or torch as Python's own; None for anything else, a bool included."""
    try:
        index = operator.index(number)
    except TypeError:
        return None
    plain = number.item() if hasattr(number, "item") else number
    return None if isinstance(plain, bool) else index


def real(number: Any) -> float | None:
    """A finite number of Python, NumPy or torch as a float; None for anything else."""
    try:
        return float(number) if math.isfinite(number) else None
    except (TypeError, ValueError, OverflowError, RuntimeError):  # as torch has it for several numbers
        return None


def each(given: Any) -> list[Any]:
    """Numbers, where one or several may be given: as a list, checked by nobody yet."""
    alone = whole(given) is not None or not isinstance(given, Iterable)
    return [given] if alone else list(given)


@dataclass(frozen=True)
class Site:
    """One point of one block; layers count from 0. Sites sort in the order in which a forward pass meets them."""

    layer: int
    point: Point

    def __post_init__(self) -> None:
        layer = whole(self.layer)
        if layer is None or layer < 0:
            raise SiteError(f"a layer is a whole number from 0, not {self.layer!r}")
        object.__setattr__(self, "layer", layer)
        check_point(self.point)

    def __lt__(self, other: Site) -> bool:
        return self._depth < other._depth

    @property
    def _depth(self) -> tuple[int, int]:
        return self.layer, POINTS.index(self.point)

    @property
    def name(self) -> str:
        """TransformerLens's name, `blocks.12.hook_resid_pre`; `Site.parse` reads it back."""
        return f"blocks.{self.layer}.hook_{self.point}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read `blocks.12.hook_resid_pre` (TransformerLens) or `resid_pre[12]` (as printed)."""
        if match := _TRANSFORMER_LENS.fullmatch(text):
            return cls(int(match[1]), check_point(match[2]))
        if match := _SHORT.fullmatch(text):
            return cls(int(match[2]), check_point(match[1]))
        raise SiteError(
            f"{text!r} does not name a site",
            "Write blocks.12.hook_resid_pre or resid_pre[12], layers from 0.",
        )

    def describe(self) -> str:
        """The site in words that leave no doubt about the layer: "input of block 12 = output of block 11"."""
        here = self.layer
        match self.point:
            case "resid_pre":
                return f"input of block {here} = " + (
                    f"output of block {here - 1}" if here else "the embeddings"
                )
            case "resid_post":
                return f"output of block {here} = input of block {here + 1}, if there is one"
            case "resid_mid":
                return f"between attention and the MLP of block {here}"
            case "attn_out":
                return f"what attention adds in block {here}"
            case "mlp_out":
                return f"what the MLP adds in block {here}"

    def __str__(self) -> str:
        return f"{self.point}[{self.layer}]"
