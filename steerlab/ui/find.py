"""Finding a direction in the panel: prompts and a method in, a map of positions x layers out, and a cell of it to use.

The map is `lab.map`, and what the paper's selection said of its cells `lab.candidates`, so that code can go on with
them. An answer that is kept keeps its map, too, whatever was searched elsewhere after it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from pydantic import Field

from steerlab import estimators
from steerlab.directions import Direction
from steerlab.errors import DirectionError, PromptError
from steerlab.estimators import DirectionMap
from steerlab.estimators.about import origin
from steerlab.interventions import Add, Intervention
from steerlab.lab import Lab
from steerlab.prompts import ContrastSet, Position, Prompt
from steerlab.recipes import Recipe
from steerlab.search import search
from steerlab.selection import AllRejectedError, Candidate, Selection, relaxations
from steerlab.sites import Point
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.prompt_sets import PromptSet, prompts_of
from steerlab.ui.protocol import Figure, Trouble, Wire
from steerlab.ui.translate import fingerprint
from steerlab.ui.troubles import trouble

Method = Literal["selection", "means", "components", "caa", "probe", "pair"]


class FindQuestion(Wire):
    """Which direction tells two sides of prompts apart?"""

    kind: Literal["find"] = "find"
    name: Annotated[str, Field(max_length=80)]
    method: Method
    """selection: difference in means, and the paper's choice of a cell. means, components (of pairs), caa, probe, pair
    (of two prompts): the cell that is asked for."""
    positive: PromptSet
    """What shows the concept; for caa the answers that show it."""
    negative: PromptSet
    asked: PromptSet | None = None
    """For caa: what the answers answer, in the same order."""
    point: Point = "resid_pre"
    """Where the stream is read."""
    position: int | Literal["response"] = -1
    """Of the cell, and for caa where answers are read."""
    layer: Annotated[int, Field(ge=0)] = 0
    max_kl: float = 0.1
    """Thresholds of the selection."""
    min_induce: float = 0.0
    drop: bool = True
    """Whether the selection leaves out prompts that the model takes the other way."""


class MapCell(Wire):
    """A candidate."""

    position: int | Literal["response"]
    layer: int
    apart: Figure
    """How far the means of the two sides lie apart along it, in multiples of the stream's norm; None where they do
    not."""
    bypass: Figure = None
    """The selection's three scores; None where they were not measured."""
    induce: Figure = None
    kl: Figure = None
    rejected: str = ""
    """Why the selection left it out."""


class Found(Wire):
    """The cell that was taken."""

    position: int | Literal["response"]
    layer: int


class Thresholds(Wire):
    """Thresholds with which a candidate would pass."""

    max_kl: float
    min_induce: float


class FindAnswer(Wire):
    """The map, and what was found in it."""

    name: str
    map: str
    """Its fingerprint."""
    cells: list[MapCell]
    scored: bool
    """Whether the cells have the selection's scores."""
    best: Found | None
    """None where every candidate was rejected."""
    trouble: Trouble | None = None
    relax: list[Thresholds]
    """Then: thresholds that are enough."""
    prompts: tuple[int, int]
    """How many went into the directions, after the selection left some out."""
    chose: tuple[int, int] | None = None
    """How many others the selection chose by; None for no choice."""


class UseCandidate(Wire):
    """Steer with the candidate of a cell of a map."""

    kind: Literal["find-use"] = "find-use"
    name: str
    map: str
    """The fingerprint of the one that is meant."""
    position: int | Literal["response"]
    layer: int
    keep: bool = False
    """Whether the name means it from now on."""


class Used(Wire):
    """What it is called."""

    direction: str


# by the place of the panel whose answer it is of
_kept: WeakKeyDictionary[Lab, dict[str, DirectionMap]] = WeakKeyDictionary()


class _Outcome(NamedTuple):
    """A map, the differences of means at its cells, to compare the sides by, and how many prompts a side has."""

    map: DirectionMap
    means: DirectionMap
    prompts: tuple[int, int]


def answer(lab: Lab, question: FindQuestion, tell: Tell) -> FindAnswer:
    """Find a direction, put it into `lab.directions`, and tell of all the others that it might have been."""
    name = question.name.strip()
    if not name:
        raise PromptError("the direction has no name", "Give it one, by which the panel lists it.")
    if question.method == "selection":
        return _selected(lab, question, name, tell)
    tell.progress(0, 0, "reading the stream")
    made = _MAPS[question.method](lab, question, name)
    position = made.map.positions[-1] if question.position not in made.map.positions else question.position
    direction = made.map.at(position, question.layer)
    _keep(lab, question, made.map)
    lab.directions = {**lab.directions, name: direction}
    lab.candidates = None
    cells = [
        MapCell(position=p, layer=i, apart=_apart(made.map, made.means, p, i)) for p, i in _places(made.map)
    ]
    return FindAnswer(
        name=name,
        map=fingerprint(made.map),
        cells=cells,
        scored=False,
        best=Found(position=position, layer=question.layer),
        relax=[],
        prompts=made.prompts,
    )


def use(lab: Lab, question: UseCandidate, _tell: Tell) -> Used:
    """Put a candidate into the recipe, in the place of the others of its map, or add it at 1. Only the recipe holds it
    until somebody keeps it, so that looking at ten candidates leaves no ten directions behind."""
    maps = (*_kept.get(lab, {}).values(), *([lab.map] if lab.map else []))
    found = next((one for one in maps if fingerprint(one) == question.map), None)
    if found is None:
        raise DirectionError(
            f"this map of {question.name!r} is gone: another search came after it, or the kernel is a new one",
            "Run this search again.",
        )
    direction = found.at(question.position, question.layer)
    kept = lab.directions.get(question.name)
    if not question.keep and kept is not None and torch.equal(kept.vector, direction.vector):
        direction = kept
    elif not question.keep:
        where = f"{question.position}".replace("-", "−")
        direction = dataclasses.replace(direction, name=f"{question.name} {where}, {question.layer}")
    steps = [_swapped(step, found, direction) for step in lab.recipe.interventions]
    if all(new is old for new, old in zip(steps, lab.recipe.interventions, strict=True)):
        steps.append(Add(direction))
    lab.recipe = Recipe(steps)
    if question.keep:
        lab.directions = {**lab.directions, question.name: direction}
    return Used(direction=direction.name)


def _place(question: FindQuestion) -> str:
    return "find a pair" if question.method == "pair" else "find"


HANDLERS: list[Handler[Any, Any]] = [
    Handler(FindQuestion, FindAnswer, answer, lane="long", kept=_place),
    Handler(UseCandidate, Used, use, lane=None),
]


def _selected(lab: Lab, question: FindQuestion, name: str, tell: Tell) -> FindAnswer:
    """`Lab.find_direction`, told as it goes, and with its map where nothing passes."""
    positive, negative = _sides(question)
    best: Found | None = None
    chosen: Selection | None = None
    problem: AllRejectedError | None = None
    maps: list[DirectionMap] = []
    try:
        found, chosen = search(
            lab.backend,
            positive,
            negative,
            name=name,
            drop=question.drop,
            max_kl=question.max_kl,
            min_induce=question.min_induce,
            full_map=True,  # a person looks at every candidate
            on_map=maps.append,
            tell=tell.progress,
        )
    except AllRejectedError as error:
        problem, candidates, [found] = error, error.candidates, maps
    else:
        candidates, best = chosen.candidates, Found(position=chosen.best.position, layer=chosen.best.layer)
    lab.candidates = chosen
    _keep(lab, question, found)
    if chosen:
        lab.directions = {**lab.directions, name: chosen.direction}
    ways = relaxations(candidates, question.min_induce) if problem else []
    return FindAnswer(
        name=name,
        map=fingerprint(found),
        cells=[_candidate(found, c) for c in candidates],
        scored=True,
        best=best,
        trouble=trouble(problem) if problem else None,
        relax=[
            Thresholds(**{"max_kl": question.max_kl, "min_induce": question.min_induce, **way})
            for way in ways
        ],
        prompts=(found.provenance["positive prompts"], found.provenance["negative prompts"]),
        chose=chosen.prompts if chosen else None,
    )


def _keep(lab: Lab, question: FindQuestion, found: DirectionMap) -> None:
    lab.map = found
    _kept.setdefault(lab, {})[_place(question)] = found


def _sides(question: FindQuestion) -> tuple[list[Prompt], list[Prompt]]:
    return (
        prompts_of(question.positive, "prompts that show the concept"),
        prompts_of(question.negative, "prompts that lack it"),
    )


# ------------------------------------------------------------------------------------------------------- the methods


def _means(lab: Lab, question: FindQuestion, name: str) -> _Outcome:
    contrast = ContrastSet(*_sides(question), name)
    found = estimators.difference_in_means(lab.backend, contrast, point=question.point)
    return _Outcome(found, found, _sizes(contrast))


def _components(lab: Lab, question: FindQuestion, name: str) -> _Outcome:
    contrast = ContrastSet(*_sides(question), name)
    found = estimators.principal_component(lab.backend, contrast, point=question.point)
    means = estimators.difference_in_means(lab.backend, contrast, point=question.point, positions=[-1])
    return _Outcome(found, means, _sizes(contrast))


def _caa(lab: Lab, question: FindQuestion, name: str) -> _Outcome:
    asked = prompts_of(question.asked, "questions") if question.asked else []
    shows, lacks = (
        [_text(one) for one in prompts_of(side, what)]
        for side, what in (
            (question.positive, "answers that show the concept"),
            (question.negative, "answers that lack it"),
        )
    )
    _paired(len(asked), len(shows), "questions and answers that show the concept")
    _paired(len(asked), len(lacks), "questions and answers that lack it")
    triples = list(zip(asked, shows, lacks, strict=True))
    found = estimators.caa(lab.backend, triples, point=question.point, position=question.position, name=name)
    return _Outcome(found, found, (len(shows), len(lacks)))


def _probe(lab: Lab, question: FindQuestion, name: str) -> _Outcome:
    contrast = ContrastSet(*_sides(question), name)
    found = estimators.logistic_probe(lab.backend, contrast, point=question.point)
    means = estimators.difference_in_means(lab.backend, contrast, point=question.point)
    return _Outcome(found, means, _sizes(contrast))


def _pair(lab: Lab, question: FindQuestion, name: str) -> _Outcome:
    positive, negative = _sides(question)
    if len(positive) != 1 or len(negative) != 1:
        raise PromptError(
            f"a pair is two prompts, not {len(positive)} and {len(negative)}",
            "Give one a side, or take the difference in means.",
        )
    contrast = ContrastSet(positive, negative, name)
    found = estimators.difference_in_means(
        lab.backend, contrast, point=question.point, positions=[-1], chat=False
    )
    about = {"method": "prompt pair", "shows": str(positive[0]), "lacks": str(negative[0]), "chat": False}
    about |= origin(lab.backend)
    found = dataclasses.replace(found, provenance=about)
    return _Outcome(found, found, (1, 1))


_MAPS: dict[str, Callable[[Lab, FindQuestion, str], _Outcome]] = {
    "means": _means,
    "components": _components,
    "caa": _caa,
    "probe": _probe,
    "pair": _pair,
}


def _sizes(contrast: ContrastSet) -> tuple[int, int]:
    return len(contrast.positive), len(contrast.negative)


def _paired(n: int, m: int, what: str) -> None:
    if n != m:
        raise PromptError(
            f"the {what} do not pair: there are {n} and {m}", "Give as many of each, in the same order."
        )


def _text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    raise PromptError("an answer is a conversation, not a text", "Give answers as plain texts.")


# ----------------------------------------------------------------------------------------------------------- the map


def _places(found: DirectionMap) -> list[tuple[Position, int]]:
    return [(position, layer) for position in found.positions for layer in range(found.n_layers)]


def _apart(found: DirectionMap, means: DirectionMap, position: Position, layer: int) -> float:
    """How far the means of the two sides lie apart along a direction, in units of the stream; NaN for none."""
    if not found.differs(position, layer):
        return math.nan
    i = found.positions.index(position)
    vector = found.vectors[i, layer]
    return float(vector @ means.vectors[i, layer] / vector.norm() / found.residual_norms[i, layer])


def _candidate(found: DirectionMap, candidate: Candidate) -> MapCell:
    return MapCell(
        position=candidate.position,
        layer=candidate.layer,
        apart=_apart(found, found, candidate.position, candidate.layer),
        bypass=candidate.bypass,
        induce=candidate.induce,
        kl=candidate.kl,
        rejected=candidate.rejected,
    )


def _swapped(step: Intervention, found: DirectionMap, direction: Direction) -> Intervention:
    """A step along another candidate of the same map, at its own site where the old one acted at its own."""
    if len(step.directions) != 1 or found.cell_of(step.direction) is None:
        return step
    old = step.direction
    if isinstance(step, Add) and step.sites == (old.site,):
        return Add(direction, step.coefficient, tokens=step.tokens, keep_norm=step.keep_norm)
    return step.along((direction,))
