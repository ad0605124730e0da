"""The choice: candidates are scored from the cheapest test up, and the best of those that pass is taken."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from steerlab import metrics
from steerlab.backends.base import Backend, at_once
from steerlab.estimators import DirectionMap
from steerlab.interventions import Ablate, Add
from steerlab.progress import counted
from steerlab.prompts import Position, Prompt
from steerlab.recipes import Recipe
from steerlab.rows import Row
from steerlab.selection.candidates import MIN_INDUCE, AllRejectedError, Candidate, Selection, relaxations
from steerlab.selection.sides import Baseline, baseline

LAST_LAYERS, MAX_KL = 0.8, 0.1
TESTS = ("induce", "kl", "bypass")  # from the cheapest up: induce need be run only from its layer up
ROWS = 256  # that a backend is asked for at once: their logits are 150 MB for 150,000 tokens

Cell = tuple[Position, int]  # a candidate: its position and layer


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
    full_map: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """The paper's choice: of the candidates that pass the filter, the one with the lowest bypass score.

    A candidate falls if a score is NaN, its layer is in the last fifth, KL > max_kl, or induce < min_induce. drop:
    whether harmful prompts that the model does not refuse and harmless ones that it does are left out first.
    refusal_tokens: by default derived from the baseline's own answers to these prompts.

    The tests are taken from the cheapest up (layer, induce, KL, bypass), and a candidate is scored no further than to
    the first that it fails: the choice is the same, at about a third of the work. full_map: score every candidate by
    all three, and name the reason in the paper's order, where KL comes before induce.
    """
    base = baseline(backend, harmful, harmless, refusal_tokens=refusal_tokens)
    return choose(
        backend,
        directions,
        base.contrasting() if drop else base,
        max_kl=max_kl,
        min_induce=min_induce,
        full_map=full_map,
        progress=progress,
    )


def choose(
    backend: Backend,
    directions: DirectionMap,
    base: Baseline,
    *,
    max_kl: float = MAX_KL,
    min_induce: float = MIN_INDUCE,
    full_map: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """`select` on all of the prompts of a baseline that is known already."""
    search = _Search(backend, directions, base, max_kl, min_induce, full_map, progress)
    for test in TESTS:
        search.run(test, [cell for cell in search.scores if full_map or not search.reason(cell)])
    if all(map(search.reason, search.scores)):
        # by which the error says what would pass
        search.run("kl", [cell for cell, scores in search.scores.items() if scores])
    candidates = search.candidates()
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
    counts = len(base.harmful.prompts), len(base.harmless.prompts)
    return Selection(candidates, base.refusal_tokens, best, found, counts)


class _Search:
    """The candidates of a map by position and layer, and those of their scores that are known."""

    def __init__(
        self,
        backend: Backend,
        directions: DirectionMap,
        base: Baseline,
        max_kl: float,
        min_induce: float,
        full_map: bool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._backend, self._directions, self._base = backend, directions, base
        self._max_kl, self._min_induce = max_kl, min_induce
        self._full_map, self._progress = full_map, progress
        self.scores: dict[Cell, dict[str, float]] = {
            (i, layer): {} for i in directions.positions for layer in range(directions.n_layers)
        }

    def run(self, test: str, cells: Sequence[Cell]) -> None:
        """Score some of the candidates by one of TESTS, where they have a direction and not that score already."""
        cells = [c for c in cells if self._directions.differs(*c) and test not in self.scores[c]]
        size = at_once(self._backend, ROWS)
        for start in range(0, len(cells), size):
            some = cells[start : start + size]
            for cell, mean in zip(some, self._means(test, some).tolist(), strict=True):
                self.scores[cell][test] = mean
        self._tell()

    def _means(self, test: str, cells: Sequence[Cell]) -> Tensor:
        """What `run` finds, `[cells]`, float64."""
        side = self._base.harmful if test == "bypass" else self._base.harmless
        act = Add if test == "induce" else Ablate
        recipes = [Recipe([act(self._directions.at(*cell))]) for cell in cells]
        n, size = len(side.prompts), max(1, at_once(self._backend, ROWS) // len(cells))
        sums = torch.zeros(len(cells), dtype=torch.float64)
        for first in range(0, n, size):
            # a prompt's rows together: below the layer that is added to, they are the same
            prompts = range(first, min(first + size, n))
            rows = [Row(side.prompts[i], recipe) for i in prompts for recipe in recipes]
            with counted(partial(self._rows, len(cells) * first, n), len(rows)):
                logits = self._backend.score(rows)
            for i, steered in zip(prompts, logits.split(len(cells)), strict=True):
                if test == "kl":
                    sums += metrics.kl(side.logits[i : i + 1], steered)
                else:
                    sums += metrics.refusal_score(steered, self._base.refusal_tokens)
            self._tell(len(cells) * prompts.stop / n)
        return sums / n

    def _rows(self, before: int, each: int, done: int, _: int) -> None:
        """Tell of the test that runs how many rows are done, of which a candidate has so many."""
        self._tell((before + done) / each)

    def _tell(self, under_way: float = 0.0) -> None:
        """Tell how many candidates are settled, a third of one for each test. under_way: candidates in the test that
        runs."""
        if self._progress:
            total = len(self.scores)
            tests = sum(map(self._settled, self.scores)) + under_way
            self._progress(min(total, int(tests / len(TESTS))), total)

    def _settled(self, cell: Cell) -> int:
        """How many tests a candidate has behind it, those among them that it need not take."""
        over = self.reason(cell) and (not self._full_map or not self._directions.differs(*cell))
        return len(TESTS) if over else len(self.scores[cell])

    def reason(self, cell: Cell) -> str:
        """Why a candidate falls by what is known of it, "" where nothing speaks against it."""
        scores, layer = self.scores[cell], cell[1]
        if not self._directions.differs(*cell):
            return "a score is not a number: the two sides do not differ here"
        for test, score in scores.items():
            if math.isnan(score):
                return f"a score is not a number: {test}"
        if layer >= int(LAST_LAYERS * self._directions.n_layers):
            return f"layer {layer} is among the last fifth"
        if (kl := scores.get("kl", -math.inf)) > self._max_kl:
            return f"KL {kl:.3f} > {self._max_kl:g}"
        if (induce := scores.get("induce", math.inf)) < self._min_induce:
            return f"induce {induce:.2f} < {self._min_induce:g}"
        return ""

    def candidates(self) -> tuple[Candidate, ...]:
        """All of them, with NaN for what is not known, and why."""
        found = []
        for (position, layer), scores in self.scores.items():
            reason = self.reason((position, layer))
            bypass, induce, kl = (scores.get(test, math.nan) for test in ("bypass", "induce", "kl"))
            missing = [test for test in TESTS if test not in scores]
            needless = missing and self._directions.differs(position, layer)
            unscored = f"{', '.join(missing)} not needed: {reason}" if needless else ""
            found.append(Candidate(position, layer, bypass, induce, kl, reason, unscored))
        return tuple(found)


def _counts(candidates: Sequence[Candidate], max_kl: float, min_induce: float) -> str:
    """How many fell by each threshold."""
    kinds = {
        "KL": f"by KL > {max_kl:g}",
        "induce": f"by induce < {min_induce:g}",
        "layer": "in the last fifth of the layers",
        "a score": "without a score, where the two sides do not differ or the logits are no numbers",
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
