"""Candidates with their scores and the reasons they fell: as a table, as a map, and what would let one pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from steerlab.directions import Direction
from steerlab.errors import DirectionError
from steerlab.frames import heatmap, table
from steerlab.prompts import Position

if TYPE_CHECKING:
    import pandas as pd

MIN_INDUCE = 0.0


@dataclass(frozen=True)
class Candidate:
    """One direction and its three scores over the selection prompts, with the reason it fell, "" for none.

    bypass: mean refusal score on harmful prompts with the direction ablated everywhere; lower is better. induce: the
    same on harmless prompts with it added at its layer. kl: mean KL to the baseline on harmless prompts, ablated.
    unscored: which of them were not measured, and why; "" for none.
    """

    position: Position
    layer: int
    bypass: float
    induce: float
    kl: float
    rejected: str
    unscored: str = ""


class AllRejectedError(DirectionError):
    """No candidate passed the filter: `candidates` has all of them, with their scores and the reasons they fell."""

    def __init__(self, what: str, fix: str, candidates: tuple[Candidate, ...]) -> None:
        super().__init__(what, fix)
        self.candidates = candidates


@dataclass(frozen=True)
class Selection:
    """Every candidate with its scores, and the best of those that passed. prompts: how many harmful and harmless ones
    they were scored on.
    """

    candidates: tuple[Candidate, ...]
    refusal_tokens: tuple[int, ...]
    best: Candidate
    direction: Direction
    prompts: tuple[int, int]

    def to_frame(self) -> pd.DataFrame:
        """A row per candidate: position, layer, the three scores, the reason it fell and why scores are missing, ""
        for none.
        """
        return table([asdict(candidate) for candidate in self.candidates])

    def plot(self, ax: Any = None) -> Any:
        """The map of positions x layers: bypass score as colour, the reason in every rejected cell, the choice framed.

        K: KL too large, I: induce too low, L: among the last layers, -: not a number. Grey: the bypass score was not
        needed; a search with full_map has it everywhere. Returns matplotlib's axes.
        """
        positions = list(dict.fromkeys(c.position for c in self.candidates))
        layers = sorted({c.layer for c in self.candidates})
        scores = [[math.nan] * len(layers) for _ in positions]
        letters = []
        for c in self.candidates:
            x, y = layers.index(c.layer), positions.index(c.position)
            scores[y][x] = c.bypass
            if c.rejected:
                letters.append((x, y, {"a": "-", "K": "K", "i": "I", "l": "L"}[c.rejected[0]]))
        ax = heatmap(scores, columns=layers, rows=positions, label="bypass: refusal score, ablated", ax=ax)
        from matplotlib.patches import Rectangle

        ax.set_facecolor("0.85")
        ax.set(xlabel="layer (input of the block)", ylabel="position")
        ring = {"boxstyle": "circle", "fc": "w", "ec": "none"}
        for x, y, letter in letters:
            ax.text(x, y, letter, ha="center", va="center", bbox=ring)
        best = layers.index(self.best.layer) - 0.5, positions.index(self.best.position) - 0.5
        for colour, width in (("k", 3), ("w", 1)):
            ax.add_patch(Rectangle(best, 1, 1, fill=False, ec=colour, lw=width))
        return ax


def relaxations(candidates: Sequence[Candidate], min_induce: float = MIN_INDUCE) -> list[dict[str, float]]:
    """Thresholds, each enough by itself, with which the nearest of rejected candidates would pass: `max_kl`,
    `min_induce`, or where nothing less helps both together. Empty where no threshold would help.
    """
    by_kl = [c for c in candidates if c.rejected.startswith("KL")]
    by_kl_alone = [c.kl for c in by_kl if c.induce >= min_induce]
    by_induce = [c.induce for c in candidates if c.rejected.startswith("induce")]
    ways = [{"max_kl": _at_least(min(by_kl_alone))}] if by_kl_alone else []
    ways += [{"min_induce": _at_most(max(by_induce))}] if by_induce else []
    if not ways and by_kl:
        nearest = min(by_kl, key=lambda c: c.kl)
        ways = [{"max_kl": _at_least(nearest.kl), "min_induce": _at_most(nearest.induce)}]
    return ways


def _at_least(kl: float) -> float:
    return math.ceil(1000 * kl) / 1000


def _at_most(induce: float) -> float:
    return math.floor(100 * induce) / 100
