"""Cells: the recipes of a table, each with its place in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from steerlab.directions import Direction
from steerlab.errors import RecipeError, SiteError
from steerlab.estimators import randomised
from steerlab.interventions import Add, GivenLayers, finite
from steerlab.recipes import BASELINE, Recipe, checked_recipes, describe
from steerlab.sites import Point, each, whole

# From a layer and a coefficient to what is done there.
Make = Callable[[int, float], Recipe]


class Cell(NamedTuple):
    """A recipe, and where it stands in the table by column: {"layer": 3, "coefficient": 1.0}."""

    place: dict[str, Any]
    recipe: Recipe


def named(recipes: Sequence[Recipe] | Mapping[str, Recipe]) -> list[Cell]:
    """A cell per recipe, under the names given or in words; recipes that read alike are told apart by where their
    directions were found, or else by their fingerprints. Raises RecipeError as `recipes.checked_recipes` does.
    """
    of = checked_recipes(recipes.values() if isinstance(recipes, Mapping) else recipes)
    names = list(recipes) if isinstance(recipes, Mapping) else _told_apart(of)
    return [Cell({"recipe": name}, recipe) for name, recipe in zip(names, of, strict=True)]


def grid(
    what: Direction | Make,
    *,
    n_layers: int,
    layers: GivenLayers = "all",
    coefficients: float | Iterable[float],
    point: Point | None = None,
) -> list[Cell]:
    """A cell per layer and coefficient, in that order; a recipe that leaves the stream as it is becomes the baseline.

    what: a direction, added at `point` of one layer, by default the point where it was found; or a function that gives
    the recipe for a layer and a coefficient. Raises SiteError for layers that the model does not have, and RecipeError
    for no cell, for a direction without a site where `point` is not given, and for what makes no recipe.
    """
    if isinstance(layers, str) and layers != "all":
        raise SiteError(f"layers={layers!r} is not known", "Give 'all', one layer, or several: range(4, 9).")
    given = list(range(n_layers)) if isinstance(layers, str) else each(layers)
    if odd := [layer for layer in given if whole(layer) is None]:
        raise SiteError(f"layers are whole numbers from 0, not {odd}")
    chosen, strengths = (
        sorted({int(layer) for layer in given}),
        list(dict.fromkeys(finite(c, "a coefficient") for c in each(coefficients))),
    )
    if not chosen or not strengths:
        raise RecipeError(
            f"a sweep over {len(chosen)} layers and {len(strengths)} coefficients has no cell",
            "Give one of each or more.",
        )
    beyond = [layer for layer in chosen if not 0 <= layer < n_layers]
    if beyond:
        raise SiteError(
            f"layers {beyond} are out of range: the model has {n_layers} layers",
            f"Layers count from 0, so the last one is {n_layers - 1}.",
        )
    if not isinstance(what, Direction) and (point is not None or not callable(what)):
        raise RecipeError(
            f"a sweep needs a Direction, or a function of layer and coefficient without point=, not {what!r}",
            "Give lab.sweep(direction), or lab.sweep(lambda layer, c: sl.Recipe([...])).",
        )
    if isinstance(what, Direction) and what.site is None and point is None:
        raise RecipeError(
            f"{what!r} does not say where it was found",
            "Say at which point of each layer it is added: point='resid_pre'.",
        )
    cells = []
    for layer in chosen:
        for c in strengths:
            recipe = (
                Recipe([Add(what, c, layers=layer, sites=point)])
                if isinstance(what, Direction)
                else what(layer, c)
            )
            if not isinstance(recipe, Recipe):
                raise RecipeError(
                    f"the function gave {type(recipe).__name__} for layer {layer} and coefficient {c:g}",
                    "It has to return a Recipe.",
                )
            idle = all(step.lower().strength == 0 for step in recipe.interventions)
            cells.append(Cell({"layer": layer, "coefficient": c}, BASELINE if idle else recipe))
    return cells


def with_controls(cells: Sequence[Cell], *, seed: int = 0) -> list[Cell]:
    """The cells, and after each the same with random directions of the same norms; the column `control` tells them
    apart.
    """
    found = []
    for place, recipe in cells:
        found.append(Cell({**place, "control": False}, recipe))
        found.append(Cell({**place, "control": True}, randomised(recipe, seed=seed)))
    return found


def _told_apart(recipes: Sequence[Recipe]) -> list[str]:
    names = [_words(recipe) for recipe in recipes]
    for more in (_found_at, lambda recipe: f" #{recipe.fingerprint[:6]}"):
        meant: dict[str, set[str]] = {}
        for name, recipe in zip(names, recipes, strict=True):
            meant.setdefault(name, set()).add(recipe.fingerprint)
        names = [n + more(r) if len(meant[n]) > 1 else n for n, r in zip(names, recipes, strict=True)]
    return names


def _found_at(recipe: Recipe) -> str:
    sites = dict.fromkeys(d.site for step in recipe.interventions for d in step.directions if d.site)
    return f", found at {', '.join(map(str, sites))}" if sites else ""


def _words(recipe: Recipe) -> str:
    return "; ".join(map(describe, recipe.interventions)) or "baseline"
