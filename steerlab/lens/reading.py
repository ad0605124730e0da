"""The stream of one text, layer by layer, and how far its tokens lie along directions."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from steerlab.backends import looks
from steerlab.backends.base import Backend, OnServer, encode_row
from steerlab.backends.cells import Cells, Look
from steerlab.directions import Direction
from steerlab.errors import PromptError, SiteError
from steerlab.frames import table
from steerlab.generations import Generation
from steerlab.interventions import GivenLayers
from steerlab.prompts import Prompt
from steerlab.recipes import BASELINE, Recipe
from steerlab.rows import Row, check_fits
from steerlab.sites import Point, Site, each
from steerlab.sites import whole as whole_number

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("layer", "position", "token")


@dataclass(frozen=True, eq=False)
class Reading:
    """One text at one point of some layers, under a recipe. cells: its stream there, which is read once where the model
    is in this process, and anew for every question on a server.
    """

    backend: Backend = field(repr=False)
    cells: Cells = field(repr=False)
    layers: tuple[int, ...]
    point: Point
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    recipe: Recipe

    @functools.cached_property
    def resid(self) -> Tensor:
        """The stream, `[layers tokens d_model]`, float32. From a server all of it is fetched."""
        return self.cells.read(self.backend)

    def frame(self, /, **columns: Any) -> pd.DataFrame:
        """A row per cell, with columns from tensors `[layers tokens]`. Positions count from the end, -1 is the last."""
        n, t = len(self.layers), len(self.tokens)
        places = (
            np.repeat(self.layers, t),
            np.tile(np.arange(-t, 0), n),
            np.tile(np.array(self.tokens, dtype=object), n),
        )
        cells = dict(zip(COLUMNS, places, strict=True))
        flat = {k: v.flatten().numpy() if isinstance(v, Tensor) else v for k, v in columns.items()}
        return table(cells | flat)


@dataclass(frozen=True, eq=False)
class Projections(Reading):
    """How far every token lies along each of some directions. values: [layers tokens directions], float32."""

    values: Tensor
    names: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """A row per cell: layer, position, token, and a column per direction. Needs pandas."""
        return self.frame(**{name: self.values[..., i] for i, name in enumerate(self.names)})


def projections(
    backend: Backend,
    text: Prompt | Generation,
    directions: Direction | Sequence[Direction],
    recipe: Recipe | None = None,
    *,
    point: Point = "resid_pre",
    layers: GivenLayers | None = None,
    chat: bool = True,
) -> Projections:
    """The projection `x . u` of every token on the unit vector of each direction, at every layer, under a recipe."""
    names, units = unit_vectors(backend, directions)
    fields = read(backend, text, recipe, point, layers, chat)
    values, _ = backend.look([Look(looks.projected, [fields[1]], (units,))])[0]
    return Projections(*fields, values, names)


def unit_vectors(
    backend: Backend, directions: Direction | Sequence[Direction]
) -> tuple[tuple[str, ...], Tensor]:
    """Names that tell directions apart, and their unit vectors `[directions d_model]`. Raises where one does not fit
    the model.
    """
    several = [directions] if isinstance(directions, Direction) else list(directions)
    for direction in several:
        check_fits(direction, backend.info.d_model, backend.info.name)
    return _told_apart([d.name for d in several]), torch.stack(
        [torch.empty(backend.info.d_model), *(d.unit for d in several)]
    )[1:]


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names, numbered where one stands for several directions or for a column of `Reading.frame`."""
    alone = {name for name in names if names.count(name) == 1 and name not in COLUMNS}
    used, found = set(alone), []
    for i, name in enumerate(names):
        if name not in alone:
            name = next(one for n in itertools.count(i) if (one := f"{name} {n}") not in used)
            used.add(name)
        found.append(name)
    return tuple(found)


Fields = tuple[Backend, Cells, tuple[int, ...], Point, tuple[int, ...], tuple[str, ...], Recipe]


def read(
    backend: Backend,
    text: Prompt | Generation,
    recipe: Recipe | None,
    point: Point,
    layers: GivenLayers | None,
    chat: bool,
) -> Fields:
    """The fields of a Reading; where the model is in this process, from one forward pass. Raises the SteerlabError of a
    site or a recipe that does not fit.

    A generation is read over the tokens of its prompt and its own, the recipe acting on each as it did then. A token
    that ended the answer was never read, and is left out.
    """
    row, prompt, new = whole(backend, text, recipe, chat)
    if isinstance(text, Generation) and text.finish == "stop":
        new = new[:-1]
    which = layers_of(backend, layers)
    ids = [*prompt, *new]
    cells = Cells(row, [Site(layer, point) for layer in which], range(-len(ids), 0), new)
    if isinstance(backend, OnServer):
        backend.check(row.recipe)
        for site in cells.sites:
            backend.hook(site)
    else:
        cells = replace(cells, streams=cells.read(backend))
    tokens = tuple(backend.tokenizer.decode([i]) for i in ids)
    return backend, cells, which, point, tuple(ids), tokens, row.recipe


def whole(
    backend: Backend, text: Prompt | Generation, recipe: Recipe | None, chat: bool
) -> tuple[Row, list[int], tuple[int, ...]]:
    """A text as a row, the tokens of its prompt, and those generated; under a generation's own recipe by default."""
    new: tuple[int, ...] = ()
    if isinstance(text, Generation):
        row = Row(text.prompt, text.recipe if recipe is None else recipe, chat=chat)
        new = text.token_ids
    else:
        row = Row(text, recipe or BASELINE, chat=chat)
    return row, encode_row(backend.tokenizer, row, backend.info.context), new


def how_many(k: Any, *, least: int = 1) -> int:
    """How many tokens are asked for. Raises PromptError for what is no number of them."""
    number = whole_number(k)
    if number is None or number < least:
        raise PromptError(f"k is a whole number from {least}, not {k!r}", "It is how many tokens are told.")
    return number


def layers_of(backend: Backend, layers: GivenLayers | None) -> tuple[int, ...]:
    """The layers to read, one, several or all, by default all. Raises SiteError for what is no layer, or for none."""
    if layers is None or (isinstance(layers, str) and layers == "all"):
        return tuple(range(backend.info.n_layers))
    given = each(layers)
    which = tuple(number for layer in given if (number := whole_number(layer)) is not None)
    if len(which) < len(given):
        raise SiteError(
            f"layers={layers!r} is not known", "Give 'all', one layer, or several: layers=range(4, 9)."
        )
    if not which:
        raise SiteError("no layer is given to read", "Leave layers out for all of them.")
    return which
