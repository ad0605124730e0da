"""The surgical frontier in the tab Sweep: what each subset of layers of an ablation does, and what it costs."""

from __future__ import annotations

from typing import Any, Literal

from steerlab.errors import DirectionError
from steerlab.interventions import PAPER_POINTS, Ablate
from steerlab.lab import Lab
from steerlab.recipes import Recipe
from steerlab.surgical import Method, Subset, surgical
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.prompt_sets import PromptSet, prompts_of
from steerlab.ui.protocol import Wire
from steerlab.ui.sweep import Done, Stat, direction_of, stat_of
from steerlab.ui.translate import fingerprint


class FrontierQuestion(Wire):
    """How few layers of ablation suffice, and what does each subset cost?"""

    kind: Literal["frontier"] = "frontier"
    direction: str
    method: Method
    harmful: PromptSet
    harmless: PromptSet


class SubsetPoint(Wire):
    """A subset of layers at which the direction is ablated."""

    layers: list[int]
    refusal: Stat
    """The share of harmful prompts that are still about to be refused."""
    kl: Stat
    """KL to the baseline on harmless prompts, in nats."""
    on_frontier: bool
    """Whether no other subset has less of both."""
    unseen_refusal: Stat | None
    """The same on prompts that the search did not see, where it was measured again on them."""
    unseen_kl: Stat | None
    keeps: bool
    """Whether it does there, with 95% confidence, what every layer does, for less KL."""


class FrontierAnswer(Wire):
    """Every subset that was measured."""

    fingerprint: str
    """Of the direction."""
    subsets: list[SubsetPoint]
    baseline: Stat
    """The share that is refused without ablation."""


class SetLayers(Wire):
    """Set the panel to the ablation of a direction at some layers; none is no ablation."""

    kind: Literal["frontier-set"] = "frontier-set"
    direction: str
    fingerprint: str
    """Of the one that was measured."""
    layers: list[int]


def answer(lab: Lab, question: FrontierQuestion, tell: Tell) -> FrontierAnswer:
    """Measure subsets of layers on one half of the prompts, and the best of them again on the other. Those that have no
    number are left out.
    """
    direction = direction_of(lab, question.direction)
    found = surgical(
        lab.backend,
        direction,
        prompts_of(question.harmful, "harmful prompts"),
        prompts_of(question.harmless, "harmless prompts"),
        method=question.method,
        progress=lambda done, total: tell.progress(done, total, "ablating subsets of layers"),
    )
    return FrontierAnswer(
        fingerprint=fingerprint(direction),
        subsets=[_point(s) for s in found.subsets if s.known],
        baseline=stat_of(found.baseline),
    )


def set_layers(lab: Lab, question: SetLayers, _tell: Tell) -> Done:
    """Make the ablation at these layers the lab's recipe. Raises DirectionError where the name means another direction
    than the one that was measured.
    """
    direction = direction_of(lab, question.direction)
    if fingerprint(direction) != question.fingerprint:
        raise DirectionError(
            f"{question.direction!r} is another direction now than the one that was measured",
            "Measure its frontier again.",
        )
    steps = [Ablate(direction, layers=question.layers, sites=PAPER_POINTS)] if question.layers else []
    lab.recipe = Recipe(steps)
    return Done()


HANDLERS: list[Handler[Any, Any]] = [
    Handler(FrontierQuestion, FrontierAnswer, answer, lane="long", kept=lambda _: "frontier"),
    Handler(SetLayers, Done, set_layers, lane=None),
]


def _point(subset: Subset) -> SubsetPoint:
    unseen = subset.unseen
    return SubsetPoint(
        layers=list(subset.layers),
        refusal=stat_of(subset.refusal),
        kl=stat_of(subset.kl),
        on_frontier=subset.on_frontier,
        unseen_refusal=stat_of(unseen.refusal) if unseen else None,
        unseen_kl=stat_of(unseen.kl) if unseen else None,
        keeps=unseen is not None and unseen.keeps(),
    )
