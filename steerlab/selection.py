"""Choosing one direction among many: the candidate filter of Arditi et al. 2024, section 2.3 and appendix C."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from steerlab import metrics
from steerlab.backends.base import Backend, Position
from steerlab.directions import Direction
from steerlab.errors import DirectionError, PromptError
from steerlab.estimators import DirectionMap
from steerlab.interventions import Ablate, Add
from steerlab.prompts import Prompt
from steerlab.recipes import Recipe
from steerlab.rows import Row

if TYPE_CHECKING:
    import pandas as pd

LAST_LAYERS, MAX_KL, MIN_INDUCE = 0.8, 0.1, 0.0


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
    max_kl: float = MAX_KL,
    min_induce: float = MIN_INDUCE,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """The paper's choice: of the candidates that pass the filter, the one with the lowest bypass score.

    A candidate falls if a score is NaN, its layer is in the last fifth, KL > max_kl, or induce < min_induce. Harmful
    prompts that the model does not refuse and harmless ones that it does are left out first. refusal_tokens: by
    default derived from the baseline's own answers to these prompts.
    """
    base_harmful = backend.score([Row(p) for p in harmful])
    base_harmless = backend.score([Row(p) for p in harmless])
    tokens = list(refusal_tokens or metrics.refusal_tokens(base_harmful, base_harmless))
    refused = metrics.refusal_score(base_harmful, tokens) > 0
    answered = metrics.refusal_score(base_harmless, tokens) < 0
    if not refused.any() or not answered.any():
        raise PromptError(
            f"the model refuses {int(refused.sum())} of {len(harmful)} harmful prompts and answers "
            f"{int(answered.sum())} of {len(harmless)} harmless ones: nothing is left to choose by",
            "Give prompts that this model refuses, or refusal_tokens with which it begins its refusals.",
        )
    harmful = [p for p, keep in zip(harmful, refused, strict=True) if keep]
    harmless = [p for p, keep in zip(harmless, answered, strict=True) if keep]
    base_harmless = base_harmless[answered]

    cells = [(i, layer) for i in directions.positions for layer in range(directions.n_layers)]
    candidates = []
    for done, (position, layer) in enumerate(cells):
        scores = (math.nan, math.nan, math.nan)
        if directions.differs(position, layer):
            direction = directions.at(position, layer)
            ablate, add = Recipe([Ablate(direction)]), Recipe([Add(direction)])
            bypass = metrics.refusal_score(backend.score([Row(p, ablate) for p in harmful]), tokens)
            induce = metrics.refusal_score(backend.score([Row(p, add) for p in harmless]), tokens)
            kl = metrics.kl(base_harmless, backend.score([Row(p, ablate) for p in harmless]))
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
        raise DirectionError(
            f"all {len(candidates)} candidates were rejected: {_counts(candidates, max_kl, min_induce)}",
            _closest(candidates, min_induce),
        )
    best = min(passed, key=lambda c: c.bypass)
    return Selection(tuple(candidates), tuple(tokens), best, directions.at(best.position, best.layer))


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
    """Which threshold to relax, and to what: for candidates that fell by one alone, else for one that fell by both."""
    by_kl = [c for c in candidates if c.rejected.startswith("KL")]
    by_kl_alone = [c.kl for c in by_kl if c.induce >= min_induce]
    by_induce = [c.induce for c in candidates if c.rejected.startswith("induce")]
    hints = [f"with {_at_least_kl(min(by_kl_alone))}"] if by_kl_alone else []
    hints += [f"with {_at_most_induce(max(by_induce))}"] if by_induce else []
    if not hints and by_kl:
        nearest = min(by_kl, key=lambda c: c.kl)
        hints = [f"with {_at_least_kl(nearest.kl)} and {_at_most_induce(nearest.induce)}"]
    if not hints:
        return "No threshold would help: give other prompts."
    return f"The nearest would pass {' or '.join(hints)}."


def _at_least_kl(kl: float) -> str:
    return f"max_kl={math.ceil(1000 * kl) / 1000:g}"


def _at_most_induce(induce: float) -> str:
    return f"min_induce={math.floor(100 * induce) / 100:g}"
