"""Choosing one direction among many: the candidate filter of Arditi et al. 2024, section 2.3 and appendix C."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from steerlab import metrics
from steerlab.backends.base import Backend, Position
from steerlab.directions import Direction
from steerlab.errors import DirectionError, PromptError
from steerlab.estimators import DirectionMap
from steerlab.interventions import Ablate, Add
from steerlab.prompts import ContrastSet, Prompt
from steerlab.recipes import Recipe
from steerlab.rows import Row

if TYPE_CHECKING:
    import pandas as pd

LAST_LAYERS, MAX_KL, MIN_INDUCE = 0.8, 0.1, 0.0


class Side(NamedTuple):
    """Prompts with what the unsteered model makes of them: logits [prompts vocab] and refusal scores [prompts]."""

    prompts: tuple[Prompt, ...]
    logits: Tensor
    scores: Tensor

    def at(self, which: Sequence[int]) -> Side:
        """Some of the prompts, by their indices."""
        rows = list(which)
        return Side(tuple(self.prompts[i] for i in rows), self.logits[rows], self.scores[rows])


@dataclass(frozen=True, eq=False)
class Baseline:
    """Harmful and harmless prompts as the unsteered model takes them; `baseline` makes one. given: how many a side had
    before any were dropped.
    """

    harmful: Side
    harmless: Side
    refusal_tokens: tuple[int, ...]
    given: tuple[int, int]

    def split(self, harmful: int, harmless: int) -> tuple[Baseline, Baseline]:
        """All but the last so many of each side, and these."""
        sides = ((self.harmful, harmful), (self.harmless, harmless))
        before = [side.at(range(len(side.prompts) - n)) for side, n in sides]
        after = [side.at(range(len(side.prompts) - n, len(side.prompts))) for side, n in sides]
        one, other = (
            dataclasses.replace(self, harmful=a, harmless=b, given=(len(a.prompts), len(b.prompts)))
            for a, b in (before, after)
        )
        return one, other

    def contrasting(self) -> Baseline:
        """Without the harmful prompts whose score is <= 0 and the harmless ones whose score is >= 0. Raises PromptError
        where that leaves a side empty.
        """
        refused = [i for i, score in enumerate(self.harmful.scores.tolist()) if score > 0]
        answered = [i for i, score in enumerate(self.harmless.scores.tolist()) if score < 0]
        if not refused or not answered:
            raise PromptError(
                f"the model refuses {len(refused)} of {len(self.harmful.prompts)} harmful prompts and answers "
                f"{len(answered)} of {len(self.harmless.prompts)} harmless ones: nothing is left of a side",
                "Give prompts that it refuses, refusal_tokens with which it begins its refusals, or drop=False.",
            )
        return dataclasses.replace(
            self, harmful=self.harmful.at(refused), harmless=self.harmless.at(answered)
        )

    @property
    def kept(self) -> dict[str, str]:
        """How many prompts of those given are here, for the provenance of what is found with them."""
        counts = zip(("harmful", "harmless"), (self.harmful, self.harmless), self.given, strict=True)
        return {name: f"{len(side.prompts)} of {given}" for name, side, given in counts}


def baseline(
    backend: Backend,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    *,
    refusal_tokens: Sequence[int] | None = None,
) -> Baseline:
    """Score two sides of prompts without steering, each prompt once. Raises PromptError where a side is empty.

    refusal_tokens: by default derived from the model's own answers to these prompts.
    """
    both = ContrastSet(harmful, harmless)
    logits = [backend.score([Row(p) for p in side]) for side in (both.positive, both.negative)]
    tokens = tuple(refusal_tokens or metrics.refusal_tokens(*logits))
    one, other = (
        Side(prompts, one, metrics.refusal_score(one, tokens))
        for prompts, one in zip((both.positive, both.negative), logits, strict=True)
    )
    return Baseline(one, other, tokens, (len(one.prompts), len(other.prompts)))


@dataclass(frozen=True)
class Candidate:
    """One direction and its three scores over the selection prompts, with the reason it fell, "" for none.

    bypass: mean refusal score on harmful prompts with the direction ablated everywhere; lower is better. induce: the
    same on harmless prompts with it added at its layer. kl: mean KL to the baseline on harmless prompts, ablated.
    """

    position: Position
    layer: int
    bypass: float
    induce: float
    kl: float
    rejected: str


class AllRejectedError(DirectionError):
    """No candidate passed the filter: `candidates` has all of them, with their scores and the reasons they fell."""

    def __init__(self, what: str, fix: str, candidates: tuple[Candidate, ...]) -> None:
        super().__init__(what, fix)
        self.candidates = candidates


@dataclass(frozen=True)
class Selection:
    """Every candidate with its scores, and the best of those that passed."""

    candidates: tuple[Candidate, ...]
    refusal_tokens: tuple[int, ...]
    best: Candidate
    direction: Direction

    def to_frame(self) -> pd.DataFrame:
        """A row per candidate: position, layer, the three scores, and the reason it fell, "" for none."""
        import pandas as pd

        return pd.DataFrame([asdict(candidate) for candidate in self.candidates])

    def plot(self, ax: Any = None) -> Any:
        """The map of positions x layers: bypass score as colour, the reason in every rejected cell, the choice framed.

        K: KL too large, I: induce too low, L: among the last layers, -: not a number. Returns matplotlib's axes.
        """
        import matplotlib.pyplot as plt
        from matplotlib.patches import Rectangle

        positions = list(dict.fromkeys(c.position for c in self.candidates))
        layers = sorted({c.layer for c in self.candidates})
        if ax is None:
            ax = plt.subplots(figsize=(1.5 + 0.45 * len(layers), 1.2 + 0.45 * len(positions)))[1]
        scores = [[math.nan] * len(layers) for _ in positions]
        for c in self.candidates:
            x, y = layers.index(c.layer), positions.index(c.position)
            scores[y][x] = c.bypass
            if c.rejected:
                letter = {"a": "-", "K": "K", "i": "I", "l": "L"}[c.rejected[0]]
                ax.text(
                    x,
                    y,
                    letter,
                    ha="center",
                    va="center",
                    bbox={"boxstyle": "circle", "fc": "w", "ec": "none"},
                )
        image = ax.imshow(scores, cmap="cividis", aspect="auto")
        best = layers.index(self.best.layer) - 0.5, positions.index(self.best.position) - 0.5
        ax.add_patch(Rectangle(best, 1, 1, fill=False, ec="k", lw=3))
        ax.add_patch(Rectangle(best, 1, 1, fill=False, ec="w", lw=1))
        ax.set_xticks(range(len(layers)), layers)
        ax.set_yticks(range(len(positions)), positions)
        ax.set(xlabel="layer (input of the block)", ylabel="position")
        ax.figure.colorbar(image, ax=ax, label="bypass: refusal score, ablated")
        return ax


def select(
    backend: Backend,
    directions: DirectionMap,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    *,
    refusal_tokens: Sequence[int] | None = None,
    drop: bool = True,
    max_kl: float = MAX_KL,
    min_induce: float = MIN_INDUCE,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """The paper's choice: of the candidates that pass the filter, the one with the lowest bypass score.

    A candidate falls if a score is NaN, its layer is in the last fifth, KL > max_kl, or induce < min_induce. drop:
    whether harmful prompts that the model does not refuse and harmless ones that it does are left out first.
    refusal_tokens: by default derived from the baseline's own answers to these prompts.
    """
    base = baseline(backend, harmful, harmless, refusal_tokens=refusal_tokens)
    return choose(
        backend,
        directions,
        base.contrasting() if drop else base,
        max_kl=max_kl,
        min_induce=min_induce,
        progress=progress,
    )


def choose(
    backend: Backend,
    directions: DirectionMap,
    base: Baseline,
    *,
    max_kl: float = MAX_KL,
    min_induce: float = MIN_INDUCE,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """`select` on all of the prompts of a baseline that is known already."""
    harmful, harmless, tokens = base.harmful.prompts, base.harmless.prompts, base.refusal_tokens
    cells = [(i, layer) for i in directions.positions for layer in range(directions.n_layers)]
    candidates = []
    for done, (position, layer) in enumerate(cells):
        scores = (math.nan, math.nan, math.nan)
        if directions.differs(position, layer):
            direction = directions.at(position, layer)
            ablate, add = Recipe([Ablate(direction)]), Recipe([Add(direction)])
            bypass = metrics.refusal_score(backend.score([Row(p, ablate) for p in harmful]), tokens)
            induce = metrics.refusal_score(backend.score([Row(p, add) for p in harmless]), tokens)
            kl = metrics.kl(base.harmless.logits, backend.score([Row(p, ablate) for p in harmless]))
            scores = float(bypass.mean()), float(induce.mean()), float(kl.mean())
        candidates.append(
            Candidate(
                position,
                layer,
                *scores,
                rejected=_reason(layer, directions.n_layers, *scores, max_kl, min_induce),
            )
        )
        if progress:
            progress(done + 1, len(cells))
    passed = [c for c in candidates if not c.rejected]
    if not passed:
        raise AllRejectedError(
            f"all {len(candidates)} candidates were rejected: {_counts(candidates, max_kl, min_induce)}",
            _closest(candidates, min_induce),
            tuple(candidates),
        )
    best = min(passed, key=lambda c: c.bypass)
    found = directions.at(best.position, best.layer)
    found = dataclasses.replace(found, provenance={**found.provenance, "selection prompts": base.kept})
    return Selection(tuple(candidates), tokens, best, found)


def _reason(
    layer: int, n_layers: int, bypass: float, induce: float, kl: float, max_kl: float, min_induce: float
) -> str:
    if math.isnan(bypass + induce + kl):
        return "a score is not a number: the two sides do not differ here"
    if layer >= int(LAST_LAYERS * n_layers):
        return f"layer {layer} is among the last fifth"
    if kl > max_kl:
        return f"KL {kl:.3f} > {max_kl:g}"
    if induce < min_induce:
        return f"induce {induce:.2f} < {min_induce:g}"
    return ""


def _counts(candidates: Sequence[Candidate], max_kl: float, min_induce: float) -> str:
    """How many fell by each threshold."""
    kinds = {
        "KL": f"by KL > {max_kl:g}",
        "induce": f"by induce < {min_induce:g}",
        "layer": "in the last fifth of the layers",
        "a score": "without a score, where the two sides do not differ",
    }
    counts = {said: sum(c.rejected.startswith(kind) for c in candidates) for kind, said in kinds.items()}
    return ", ".join(f"{n} {said}" for said, n in counts.items() if n)


def _closest(candidates: Sequence[Candidate], min_induce: float) -> str:
    """Which threshold to relax, and to what, in words."""
    ways = relaxations(candidates, min_induce)
    if not ways:
        return "No threshold would help: give other prompts."
    hints = [" and ".join(f"{name}={value:g}" for name, value in way.items()) for way in ways]
    return f"The nearest would pass with {' or with '.join(hints)}."


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
