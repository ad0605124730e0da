"""The whole search of the paper: from two lists of prompts to one direction, with the map that it was chosen from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from steerlab.backends.base import Backend
from steerlab.errors import PromptError
from steerlab.estimators import DirectionMap, difference_in_means
from steerlab.progress import Progress, counted
from steerlab.prompts import ContrastSet, Prompt, several
from steerlab.selection import MAX_KL, MIN_INDUCE, Selection, baseline, choose

HELD = 32  # prompts a side, at most, that the selection keeps from the means

# Called as the search goes on: steps done, steps in all, and what it is doing.
Tell = Callable[[int, int, str], None]


class Searched(NamedTuple):
    """map: the difference in means at every position and layer. selection: what became of each, and the best."""

    map: DirectionMap
    selection: Selection


def search(
    backend: Backend,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    *,
    name: str = "refusal",
    refusal_tokens: Sequence[int] | None = None,
    drop: bool = True,
    max_kl: float = MAX_KL,
    min_induce: float = MIN_INDUCE,
    full_map: bool = False,
    on_map: Callable[[DirectionMap], None] = lambda _: None,
    tell: Tell = lambda _done, _total, _text: None,
) -> Searched:
    """Difference in means on most of the prompts, and the candidates filtered and ranked on the rest
    (`selection.select`; Arditi et al. 2024).

    A fifth of each side, at most 32, is kept for the selection. drop: whether harmful prompts that the model does not
    refuse and harmless ones that it does are left out of both. on_map: gets the map as soon as it is there, before any
    candidate is tried. Raises PromptError where the prompts are too few or are not refused and answered, and
    AllRejectedError where every candidate falls.
    """
    harmful, harmless = several(harmful, "harmful", least=0), several(harmless, "harmless", least=0)
    n, m = len(harmful), len(harmless)
    if min(n, m) < 2:
        raise PromptError(
            f"a direction cannot be found from {n} harmful and {m} harmless prompts",
            "Give two a side or more, for the means and for the selection; the paper takes 160.",
        )

    def phase(text: str) -> Progress:
        return lambda done, total: tell(done, total, text)

    with counted(phase("asking the model without steering"), n + m):
        base = baseline(backend, harmful, harmless, refusal_tokens=refusal_tokens)
    parts = base.split(min(HELD, max(1, n // 5)), min(HELD, max(1, m // 5)))
    means, held = (part.contrasting() if drop else part for part in parts)
    contrast = ContrastSet(means.harmful.prompts, means.harmless.prompts, name)
    with counted(phase("reading the stream"), len(contrast.positive) + len(contrast.negative)):
        found = difference_in_means(backend, contrast)
    found = dataclasses.replace(found, provenance={**found.provenance, "mean prompts": means.kept})
    on_map(found)
    chosen = choose(
        backend,
        found,
        held,
        max_kl=max_kl,
        min_induce=min_induce,
        full_map=full_map,
        progress=phase("trying every candidate"),
    )
    return Searched(found, chosen)
