"""Surgical ablation: how few layers suffice, and what each subset costs (Arditi et al. 2024 ablate at every layer).

Subsets of layers are measured by the share of harmful prompts that are still about to be refused (refusal score above
0) and by the KL divergence that ablation causes on harmless prompts. What no other subset beats in both is the
frontier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from steerlab import metrics
from steerlab.backends.base import Backend
from steerlab.directions import Direction
from steerlab.errors import DirectionError, PromptError
from steerlab.interventions import PAPER_POINTS, Ablate
from steerlab.metrics import Estimate
from steerlab.prompts import Prompt
from steerlab.recipes import Recipe
from steerlab.rows import Row
from steerlab.sites import Point

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["windows", "greedy"]


@dataclass(frozen=True)
class Subset:
    """Ablation at some layers: refusal is the share of harmful prompts still refused, score their mean refusal score,
    kl the mean KL to the baseline on harmless prompts. on_frontier: no other subset has less of both.
    """

    layers: tuple[int, ...]
    refusal: Estimate
    score: Estimate
    kl: Estimate
    on_frontier: bool = False


@dataclass(frozen=True)
class Frontier:
    """Every subset that was measured, the full set among them, and the baseline's share of refusals."""

    subsets: tuple[Subset, ...]
    full: Subset
    baseline: Estimate
    direction: Direction
    points: tuple[Point, ...]

    @property
    def frontier(self) -> tuple[Subset, ...]:
        """The subsets that no other one beats, from the least damage to the most."""
        return tuple(sorted((s for s in self.subsets if s.on_frontier), key=lambda s: s.kl.value))

    def smallest(self, rate: float) -> Subset:
        """The fewest layers that keep refusal at `rate` or under; of equally many, the least KL. Raises
        DirectionError.
        """
        enough = [s for s in self.subsets if s.refusal.value <= rate]
        if not enough:
            best = min(self.subsets, key=lambda s: s.refusal.value)
            raise DirectionError(
                f"no subset brings refusal to {rate:.0%} or under: the best reaches {best.refusal.value:.0%}",
                "Allow more, or ablate another direction.",
            )
        return min(enough, key=lambda s: (len(s.layers), s.kl.value))

    def recipe(self, subset: Subset) -> Recipe:
        """The ablation at a subset's layers."""
        return _recipe(self.direction, subset.layers, self.points)

    def to_frame(self) -> pd.DataFrame:
        """A row per subset, with intervals."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "layers": s.layers,
                    "n_layers": len(s.layers),
                    **{
                        f"{name}{end}": getattr(getattr(s, name), part)
                        for name in ("refusal", "score", "kl")
                        for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
                    },
                    "on_frontier": s.on_frontier,
                }
                for s in self.subsets
            ]
        )

    def plot(self, ax: Any = None) -> Any:
        """Refusal against KL, the frontier as a line; returns matplotlib's axes."""
        import matplotlib.pyplot as plt

        ax = ax or plt.subplots()[1]
        for style, label, subsets in (
            ("o", "subsets of layers", [s for s in self.subsets if not s.on_frontier]),
            ("o-", "frontier", self.frontier),
            ("kD", "every layer", [self.full]),
        ):
            ax.plot([s.kl.value for s in subsets], [s.refusal.value for s in subsets], style, label=label)
        ax.axhline(self.baseline.value, ls=":", c="0.5", label="baseline")
        ax.set(xlabel="KL on harmless prompts (nats)", ylabel="share of harmful prompts refused")
        ax.legend()
        return ax


def surgical(
    backend: Backend,
    direction: Direction,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    *,
    method: Method = "greedy",
    points: Sequence[Point] = PAPER_POINTS,
    refusal_tokens: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Frontier:
    """Measure subsets of layers: every contiguous window, or greedily, by adding the layer that lowers refusal most.

    refusal_tokens: by default derived from the baseline's answers to these prompts (`metrics.refusal_tokens`). Both
    methods measure L (L + 1) / 2 subsets; the full set is among them.
    """
    if not harmful or not harmless:
        raise PromptError("a side of the prompts is empty", "Give harmful and harmless prompts.")
    base = backend.score([Row(p) for p in harmless])
    refused = backend.score([Row(p) for p in harmful])
    tokens = list(refusal_tokens or metrics.refusal_tokens(refused, base))
    measured: list[Subset] = []
    n = backend.info.n_layers
    total = n * (n + 1) // 2

    def measure(layers: tuple[int, ...]) -> Subset:
        recipe = _recipe(direction, layers, tuple(points))
        scores = metrics.refusal_score(backend.score([Row(p, recipe) for p in harmful]), tokens)
        kl = metrics.kl(base, backend.score([Row(p, recipe) for p in harmless]))
        measured.append(
            Subset(layers, metrics.rate((scores > 0).tolist()), metrics.average(scores), metrics.average(kl))
        )
        if progress:
            progress(len(measured), total)
        return measured[-1]

    for _ in _windows(n, measure) if method == "windows" else _greedily(n, measure):
        pass
    subsets = tuple(
        Subset(s.layers, s.refusal, s.score, s.kl, on_frontier=not any(_beats(o, s) for o in measured))
        for s in measured
    )
    full = next(s for s in subsets if len(s.layers) == n)
    baseline = metrics.rate((metrics.refusal_score(refused, tokens) > 0).tolist())
    return Frontier(subsets, full, baseline, direction, tuple(points))


def _windows(n: int, measure: Callable[[tuple[int, ...]], Subset]) -> Iterator[Subset]:
    for width in range(1, n + 1):
        for first in range(n - width + 1):
            yield measure(tuple(range(first, first + width)))


def _greedily(n: int, measure: Callable[[tuple[int, ...]], Subset]) -> Iterator[Subset]:
    chosen: tuple[int, ...] = ()
    while len(chosen) < n:
        tried = [measure(tuple(sorted((*chosen, layer)))) for layer in range(n) if layer not in chosen]
        chosen = min(tried, key=lambda s: s.score.value).layers
        yield from tried


def _beats(one: Subset, other: Subset) -> bool:
    better = one.refusal.value < other.refusal.value or one.kl.value < other.kl.value
    return better and one.refusal.value <= other.refusal.value and one.kl.value <= other.kl.value


def _recipe(direction: Direction, layers: tuple[int, ...], points: tuple[Point, ...]) -> Recipe:
    return Recipe([Ablate(direction, layers=layers, sites=points)])
