"""Surgical ablation: how few layers suffice, and what each subset costs (Arditi et al. 2024 ablate at every layer).

Subsets of layers are measured by the share of harmful prompts that are still about to be refused (refusal score above
0) and by the KL divergence that ablation causes on harmless prompts. What no other subset beats in both is the
frontier. The best of many subsets is partly luck, so the search sees one part of the prompts only, and what it found is
measured again on the rest.

Rows whose logits are not finite, as in a model of 16 bits that is steered too far, count in no figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor

from steerlab import metrics
from steerlab.backends.base import Backend, at_once
from steerlab.directions import Direction
from steerlab.errors import DirectionError, PromptError
from steerlab.frames import axes, estimated, table
from steerlab.interventions import PAPER_POINTS, Ablate
from steerlab.metrics import Estimate
from steerlab.progress import counted
from steerlab.prompts import Prompt, several
from steerlab.recipes import BASELINE, Recipe
from steerlab.rows import Row
from steerlab.sites import Point

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["windows", "greedy"]
Layers = tuple[int, ...]

ROWS = 256  # that a backend is asked for at once: their logits are 150 MB for 150,000 tokens


@dataclass(frozen=True)
class Subset:
    """Ablation at some layers: refusal is the share of harmful prompts still refused, score their mean refusal score,
    kl the mean KL to the baseline on harmless prompts.

    Beside every layer, prompt by prompt: missed is the share of harmful prompts that are refused here and not there;
    saved is by how much the KL is lower here, on average. on_frontier: no other subset has less of both refusal and KL.
    unseen: the same on the prompts that the search did not see, for subsets that none of as few layers beats.

    n counts the prompts whose logits are finite, for missed and saved with every layer ablated, too.
    """

    layers: tuple[int, ...]
    refusal: Estimate
    score: Estimate
    kl: Estimate
    missed: Estimate
    saved: Estimate
    on_frontier: bool = False
    unseen: Subset | None = None

    @property
    def known(self) -> bool:
        """Whether any prompt of each side has finite logits."""
        return bool(self.refusal.n and self.kl.n)

    def keeps(self, within: float = 0.05) -> bool:
        """Whether the subset does what every layer does for less: with 95% confidence each, at most `within` of the
        harmful prompts are missed, and the KL is lower.
        """
        return self.missed.high <= within and self.saved.low > 0


@dataclass(frozen=True)
class Frontier:
    """Every subset that was measured, the full set among them, and the baseline's share of refusals. refusal_tokens:
    those that the scores are of.
    """

    subsets: tuple[Subset, ...]
    full: Subset
    baseline: Estimate
    direction: Direction
    points: tuple[Point, ...]
    refusal_tokens: tuple[int, ...]

    @property
    def frontier(self) -> tuple[Subset, ...]:
        """The subsets that no other one beats, from the least damage to the most."""
        return tuple(sorted((s for s in self.subsets if s.on_frontier), key=lambda s: s.kl.value))

    def confirmed(self, within: float = 0.05) -> tuple[Subset, ...]:
        """The subsets that do what every layer does, for less KL, on the prompts that the search did not see
        (`Subset.keeps`); those of the fewest layers first, then of the least KL there. Empty where none does.

        Each is judged by itself, at 95%. Nothing is corrected for how many were measured again (those with `unseen`):
        where many were, one may be here by luck.
        """
        kept = [s for s in self.subsets if s.unseen and s.unseen.keeps(within) and s != self.full]
        return tuple(sorted(kept, key=lambda s: (len(s.layers), s.unseen.kl.value if s.unseen else 0.0)))

    def smallest(self, rate: float) -> Subset:
        """The fewest layers that keep refusal at `rate` or under in the search; of equally many, the least KL. What
        it does on other prompts is its `unseen`. Raises DirectionError.
        """
        known = [s for s in self.subsets if s.known]
        if not known:
            raise DirectionError(
                "no subset has finite logits on a prompt of each side",
                "Load the model in float32 or bfloat16.",
            )
        enough = [s for s in known if s.refusal.value <= rate]
        if not enough:
            best = min(known, key=lambda s: s.refusal.value)
            raise DirectionError(
                f"no subset brings refusal to {rate:.0%} or under: the best reaches {best.refusal.value:.0%}",
                "Allow more, or ablate another direction.",
            )
        return min(enough, key=lambda s: (len(s.layers), s.kl.value, s.refusal.value))

    def recipe(self, subset: Subset) -> Recipe:
        """The ablation at a subset's layers."""
        return _recipe(self.direction, subset.layers, self.points)

    def to_frame(self) -> pd.DataFrame:
        """A row per subset, with intervals and n; "unseen_" is before the names of what was measured again."""
        return table(
            [
                {
                    "layers": s.layers,
                    "n_layers": len(s.layers),
                    **_columns(s, ""),
                    "on_frontier": s.on_frontier,
                    **(_columns(s.unseen, "unseen_") if s.unseen else {}),
                }
                for s in self.subsets
            ]
        )

    def plot(self, ax: Any = None) -> Any:
        """Refusal against KL in the search, the frontier as a line, and what was measured again as crosses; returns
        matplotlib's axes.
        """
        ax = axes(ax)
        for style, label, subsets in (
            ("o", "subsets of layers", [s for s in self.subsets if not s.on_frontier]),
            ("o-", "frontier", self.frontier),
            ("kD", "every layer", [self.full]),
            ("x", "on unseen prompts", [s.unseen for s in self.subsets if s.unseen and s != self.full]),
            ("kx", "every layer, unseen", [self.full.unseen] if self.full.unseen else []),
        ):
            if subsets:
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
    held_out: float = 0.5,
    refusal_tokens: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Frontier:
    """Measure subsets of layers: every contiguous window, or greedily, by adding the layer that lowers refusal most.

    held_out: the share of each side, its last prompts, that the search does not see. On them those subsets are measured
    again that none of as few layers beats in the search, the frontier among them; 0 leaves that out. points: where the
    layers are ablated, by default as in the paper. refusal_tokens: by default derived from the baseline's answers to
    these prompts (`metrics.refusal_tokens`). Both methods measure L (L + 1) / 2 subsets; the full set is among them.
    """
    if method not in get_args(Method):
        raise PromptError(f"method={method!r} is not known", f"Choose {' or '.join(get_args(Method))}.")
    harmful, harmless = several(harmful, "harmful", least=0), several(harmless, "harmless", least=0)
    if not 0 <= held_out < 1:
        raise PromptError(f"held_out is a share from 0 up to 1, not {held_out}", "0.5 keeps half of them.")
    kept = [len(side) - round(held_out * len(side)) for side in (harmful, harmless)]
    if not min(kept) or (held_out and min(len(harmful) - kept[0], len(harmless) - kept[1]) < 1):
        raise PromptError(
            f"{len(harmful)} harmful and {len(harmless)} harmless prompts leave a side of the prompts empty",
            "Give two a side or more, for the search and for what is held out from it; 100 make intervals small.",
        )
    n = backend.info.n_layers
    every, total = tuple(range(n)), n * (n + 1) // 2

    def recipe(layers: Layers) -> Recipe:
        return _recipe(direction, layers, tuple(points))

    seen = Bench(backend, harmful[: kept[0]], harmless[: kept[1]], recipe, every, refusal_tokens)
    measured: list[Subset] = []

    def measure(several: Sequence[Layers]) -> list[Subset]:
        began, each = len(measured), sum(kept)

        def tell(done: int, _: int) -> None:
            if progress:
                progress(began + done // each, total)

        with counted(tell, len(several) * each):
            for some in seen.measure(several):
                measured.extend(some)
                tell(each * (len(measured) - began), 0)
        return measured[began:]

    if method == "windows":
        measure([tuple(range(i, i + width)) for width in range(1, n + 1) for i in range(n - width + 1)])
    else:
        _greedily(n, measure)
    known = [s for s in measured if s.known]
    again = [s for s in known if not any(_beats(o, s) for o in known if len(o.layers) <= len(s.layers))]
    unseen: dict[Layers, Subset] = {}
    if held_out:
        rest = Bench(backend, harmful[kept[0] :], harmless[kept[1] :], recipe, every, seen.tokens)
        which = list(dict.fromkeys([every, *(s.layers for s in again)]))
        unseen = {s.layers: s for some in rest.measure(which) for s in some}
    subsets = tuple(
        replace(
            s,
            on_frontier=s.known and not any(_beats(other, s) for other in known),
            unseen=unseen.get(s.layers),
        )
        for s in measured
    )
    full = next(s for s in subsets if s.layers == every)
    return Frontier(subsets, full, seen.baseline, direction, tuple(points), tuple(seen.tokens))


class Bench:
    """Prompts on which subsets are measured, beside ablation at every layer. tokens: those that begin a refusal."""

    def __init__(
        self,
        backend: Backend,
        harmful: Sequence[Prompt],
        harmless: Sequence[Prompt],
        recipe: Callable[[Layers], Recipe],
        every: Layers,
        tokens: Sequence[int] | None,
    ) -> None:
        self._backend, self._recipe, self._harmful, self._harmless = backend, recipe, harmful, harmless
        given = metrics.checked_tokens(tokens, len(backend.tokenizer))
        refused, self._base, *full = self._logits(BASELINE, recipe(every))
        self.tokens = given or metrics.refusal_tokens(refused, self._base)
        self.baseline = _refused(metrics.refusal_score(refused, self.tokens))
        self._full = self._figures(*full)

    def measure(self, several: Sequence[Layers]) -> Iterator[list[Subset]]:
        """Figures of subsets, as many at a time as are asked of the backend at once: on a server that is a job."""
        size = max(1, at_once(self._backend, ROWS) // (len(self._harmful) + len(self._harmless)))
        for start in range(0, len(several), size):
            some = several[start : start + size]
            logits = self._logits(*map(self._recipe, some))
            yield [
                self._subset(layers, *self._figures(*pair))
                for layers, *pair in zip(some, logits[::2], logits[1::2], strict=True)
            ]

    def _subset(self, layers: Layers, scores: Tensor, kl: Tensor) -> Subset:
        full_scores, full_kl = self._full
        both = scores.isfinite() & full_scores.isfinite()
        return Subset(
            layers,
            refusal=_refused(scores),
            score=metrics.average(_finite(scores)),
            kl=metrics.average(_finite(kl)),
            missed=metrics.rate(((scores > 0) & (full_scores <= 0))[both].tolist()),
            saved=metrics.average(_finite(full_kl - kl)),
        )

    def _logits(self, *recipes: Recipe) -> tuple[Tensor, ...]:
        """For each recipe the logits of the harmful prompts and of the harmless ones."""
        sides = (self._harmful, self._harmless)
        rows = [Row(prompt, recipe) for recipe in recipes for side in sides for prompt in side]
        logits: tuple[Tensor, ...] = self._backend.score(rows).split([len(s) for _ in recipes for s in sides])
        return logits

    def _figures(self, refused: Tensor, steered: Tensor) -> tuple[Tensor, Tensor]:
        """Refusal scores of the harmful prompts and KL of the harmless ones."""
        return metrics.refusal_score(refused, self.tokens), metrics.kl(self._base, steered)


def _greedily(n: int, measure: Callable[[Sequence[Layers]], list[Subset]]) -> None:
    chosen: Layers = ()
    while len(chosen) < n:
        tried = measure([tuple(sorted((*chosen, layer))) for layer in range(n) if layer not in chosen])
        chosen = min(tried, key=lambda s: s.score.value if s.known else math.inf).layers


def _finite(values: Tensor) -> Tensor:
    return values[values.isfinite()]


def _refused(scores: Tensor) -> Estimate:
    """The share of refusal scores above 0."""
    return metrics.rate((_finite(scores) > 0).tolist())


def _beats(one: Subset, other: Subset) -> bool:
    better = one.refusal.value < other.refusal.value or one.kl.value < other.kl.value
    return better and one.refusal.value <= other.refusal.value and one.kl.value <= other.kl.value


def _columns(subset: Subset, prefix: str) -> dict[str, float]:
    """A subset's figures as columns of a table."""
    columns: dict[str, float] = {}
    for name in ("refusal", "score", "kl", "missed", "saved"):
        columns |= estimated(f"{prefix}{name}", getattr(subset, name))
    return columns


def _recipe(direction: Direction, layers: Layers, points: tuple[Point, ...]) -> Recipe:
    return Recipe([Ablate(direction, layers=layers, sites=points)])
