"""Between recipes and the rows of the panel, both ways. Neither way touches what the other side did not change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from steerlab import metrics
from steerlab.directions import Direction
from steerlab.errors import DirectionError
from steerlab.estimators import DirectionMap
from steerlab.interventions import PAPER_POINTS, Ablate, Add, Clamp, Intervention
from steerlab.lab import Lab
from steerlab.recipes import Recipe, describe
from steerlab.sites import POINTS, Point, Site
from steerlab.snapshots import Snapshot
from steerlab.ui.protocol import (
    Cell,
    DirectionInfo,
    Info,
    Mode,
    PanelState,
    SnapshotInfo,
    SteeringState,
    Tokened,
)

Directions = Mapping[str, Direction]
Step = Add | Ablate | Clamp


def model_info(lab: Lab) -> Info:
    """A lab's model as the panel tells of it."""
    about = asdict(lab.info)
    sites = [
        [Site(layer, point).describe() for layer in range(lab.info.n_layers)] for point in lab.info.points
    ]
    found = fingerprint(lab.map) if lab.map else ""
    return Info(**about, sites=sites, refusals=list(metrics.REFUSALS), ahead=lab.ahead, map=found)


def direction_info(name: str, direction: Direction) -> DirectionInfo:
    """A direction as the panel lists it."""
    site = direction.site
    return DirectionInfo(
        name=name,
        layer=site.layer if site else None,
        point=site.point if site else None,
        norm=direction.norm,
        residual_norm=direction.residual_norm,
        fingerprint=fingerprint(direction),
        description=str(direction.provenance.get("description", "")),
    )


def fingerprint(found: Direction | DirectionMap) -> str:
    """What tells a direction, or a map, from another of the same name."""
    values = found.numpy() if isinstance(found, Direction) else found.vectors.numpy()
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


def snapshot_info(name: str, snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as the panel lists it: a SnapshotInfo."""
    sampling = snapshot.sampling
    depends = (snapshot.prompt, snapshot.recipe.fingerprint, sampling, snapshot.seed)
    return SnapshotInfo(
        name=name,
        prompt=snapshot.prompt,
        steps=[describe(step) for step in snapshot.recipe.interventions],
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        seed=snapshot.seed,
        fingerprint=hashlib.sha256(repr(depends).encode()).hexdigest()[:16],
    ).model_dump(mode="json")


def fresh_row(name: str, direction: Direction) -> SteeringState:
    """A direction that nobody used yet: addition at its own site, at zero, so that a move of the slider is enough."""
    site = direction.site
    return SteeringState(direction=name, cells=[(site.layer, site.point)] if site else [])


def named(recipe: Recipe, directions: Directions) -> dict[str, Direction]:
    """`directions` with those of the recipe that are not among them, each under a name of its own."""
    table = dict(directions)
    for step in _shown(recipe):
        if name_of(step.direction, table) is None:
            name, n = step.direction.name, 2
            while name in table:
                name, n = f"{step.direction.name} ({n})", n + 1
            table[name] = step.direction
    return table


def name_of(direction: Direction, directions: Directions) -> str | None:
    """What a direction is called: the name of the very object, else of one that is the same; None for no name."""
    found = next((name for name, known in directions.items() if known is direction), None)
    return found or next((name for name, known in directions.items() if known.same(direction)), None)


def renames(before: Directions, now: Directions) -> dict[str, str]:
    """Names of `before` that are gone, with the new names that the same directions have now."""
    fresh = {name: direction for name, direction in now.items() if name not in before}
    found = {name: name_of(direction, fresh) for name, direction in before.items() if name not in now}
    return {old: new for old, new in found.items() if new is not None}


def steering_of(
    recipe: Recipe, directions: Directions, n_layers: int, before: Sequence[SteeringState] = ()
) -> list[SteeringState]:
    """The panel's rows for a recipe. Rows of `before` that it does not use stay, but do nothing: no setting is lost.
    Those that it uses keep their places, and stand in them in the recipe's order.

    directions: every direction of the recipe under its name (see `named`). Raises SiteError for a layer out of range.
    """
    used = [_row(step, name_of(step.direction, directions) or "", n_layers) for step in _shown(recipe)]
    rest, rows, places = list(used), list(before), []
    # of two rows of a direction, the one of the same mode is meant
    for alike in ("direction", "mode"), ("direction",):
        for i, row in enumerate(before):
            match = next((u for u in rest if all(getattr(u, a) == getattr(row, a) for a in alike)), None)
            if match is not None and i not in places:
                rest.remove(match)
                places.append(i)
    for i, row in enumerate(before):
        if i not in places and _acts(row):
            rows[i] = row.model_copy(update={"enabled": False})
    places = [*sorted(places), *range(len(rows), len(rows) + len(rest))]
    rows += rest
    for place, row in zip(places, used, strict=True):
        rows[place] = row
    return rows


def recipe_of(
    steering: Sequence[SteeringState], directions: Directions, n_layers: int, before: Recipe | None = None
) -> Recipe:
    """The recipe of the panel's rows. A row that does nothing (unticked, at zero, at no site or token) is
    left out.

    An intervention of `before` that says the same as a row is taken as it is, in the words in which a person wrote it.
    """
    steps: list[Intervention] = []
    known = [(_row(s, "", n_layers), s) for s in _shown(before)] if before else []
    for row in steering:
        if row.direction not in directions:
            raise DirectionError(
                f"there is no direction {row.direction!r} in this lab",
                f"It has {', '.join(map(repr, directions)) or 'none'}: run the cell again to renew the panel.",
            )
        if not _acts(row):
            continue
        direction = directions[row.direction]
        bare = row.model_copy(
            update={"direction": "", "cells": _sorted(row.cells), "tokens": _ordered(row.tokens)}
        )
        same = (step for old, step in known if old == bare and step.direction.same(direction))
        steps.append(next(same, None) or _step(row, direction, n_layers))
    for i, step in enumerate(before.interventions if before else ()):
        if not isinstance(step, Step) or not _is_shown(step):
            steps.insert(i, step)
    return Recipe(steps)


def beyond(recipe: Recipe) -> list[str]:
    """The steps that the panel has no row for, in words."""
    shown = _shown(recipe)
    return [describe(step) for step in recipe.interventions if not any(step is s for s in shown)]


def _shown(recipe: Recipe) -> list[Step]:
    return [s for s in recipe.interventions if isinstance(s, Step) and _is_shown(s)]


def _is_shown(step: Step) -> bool:
    """Whether the panel has a row for it; what it has none for stays in the recipe as it is."""
    special = (isinstance(step, Add) and step.keep_norm) or (isinstance(step, Ablate) and step.one_sided)
    return not special and step.gate is None and len(step.directions) == 1


def _acts(row: SteeringState) -> bool:
    # to clamp at 0 is to ablate; to add nothing, or to ablate at no strength, is to do nothing
    somewhere = bool(row.cells) and bool(row.tokens)
    return row.enabled and somewhere and (row.coefficient != 0 or row.mode == "clamp")


def _row(step: Step, name: str, n_layers: int) -> SteeringState:
    mode: Mode
    match step:
        case Add():
            mode, number = "add", step.coefficient
        case Ablate():
            mode, number = "ablate", step.strength
        case Clamp():
            mode, number = "clamp", step.value
    return SteeringState(
        direction=name,
        mode=mode,
        coefficient=number,
        cells=[(site.layer, site.point) for site in step.resolve(n_layers)],
        tokens=step.tokens if isinstance(step.tokens, str) else list(step.tokens),
    )


def _step(row: SteeringState, direction: Direction, n_layers: int) -> Step:
    """The intervention, written as shortly as a person would: the defaults, whole points, and single sites last."""
    cells = set(row.cells)
    layers = {layer for layer, _ in cells}
    points: list[Point] = [p for p in POINTS if any(point == p for _, point in cells)]
    whole = layers == set(range(n_layers)) and len(cells) == len(layers) * len(points)
    sites = [Site(layer, point) for layer, point in _sorted(row.cells)]
    if row.mode != "ablate":
        make = Add if row.mode == "add" else Clamp
        if sites == [direction.site]:
            return make(direction, row.coefficient, tokens=row.tokens)
        if whole:
            return make(direction, row.coefficient, layers="all", sites=points, tokens=row.tokens)
        return make(direction, row.coefficient, sites=sites, tokens=row.tokens)
    if whole and tuple(points) == PAPER_POINTS:
        return Ablate(direction, strength=row.coefficient, tokens=row.tokens)
    return Ablate(direction, sites=points if whole else sites, strength=row.coefficient, tokens=row.tokens)


def _ordered(tokens: Tokened) -> Tokened:
    return tokens if isinstance(tokens, str) else sorted(set(tokens))


def _sorted(cells: Sequence[Cell]) -> list[Cell]:
    return sorted(set(cells), key=lambda cell: (cell[0], POINTS.index(cell[1])))


def called(state: PanelState, names: Mapping[str, str]) -> PanelState:
    """A state with directions by other names."""
    rows = [
        row.model_copy(update={"direction": names.get(row.direction, row.direction)})
        for row in state.steering
    ]
    unlisted = [names.get(name, name) for name in state.unlisted]
    return state.model_copy(update={"steering": rows, "unlisted": unlisted})
