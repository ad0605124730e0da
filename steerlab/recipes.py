"""Recipes: interventions in their order, as one thing that can be compared, saved and read again."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steerlab import as_python
from steerlab._version import __version__
from steerlab.directions import Direction
from steerlab.errors import FileError, RecipeError
from steerlab.interventions import KINDS, Ablate, Add, Clamp, Gate, Intervention, Layers
from steerlab.sites import Site

FORMAT = "steerlab.recipe/1"


@dataclass(frozen=True, init=False, eq=False)
class Recipe:
    """Interventions, applied in this order wherever they meet. The empty recipe is BASELINE.

    Two recipes are equal where their fingerprints are.
    """

    interventions: tuple[Intervention, ...]

    def __init__(self, interventions: Intervention | Sequence[Intervention] = ()) -> None:
        given = (interventions,) if isinstance(interventions, Intervention) else tuple(interventions)
        for one in given:
            if not isinstance(one, Intervention):
                raise RecipeError(
                    f"a recipe is made of interventions (Add, Ablate, Clamp), not of {type(one).__name__}"
                )
        object.__setattr__(self, "interventions", given)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that stand for the vectors, sites, tokens, numbers and their order, but not for names."""
        digest = hashlib.sha256()
        for one in self.interventions:
            about = {
                **one.to_dict(),
                "directions": len(one.directions),
                "threshold": one.gate and one.gate.threshold,
            }
            digest.update(json.dumps(about, sort_keys=True).encode())
            for direction in one.involved:
                digest.update(direction.numpy().tobytes())
        return digest.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __add__(self, other: Recipe) -> Recipe:
        return Recipe([*self.interventions, *other.interventions])

    def __len__(self) -> int:
        return len(self.interventions)

    def to_json(self, *, indent: int | None = 2) -> str:
        """The whole recipe as JSON, vectors included (base64 of little-endian float32), each direction once."""
        directions = as_python.vectors(self.interventions)
        number = {id(d): i for i, d in enumerate(directions)}
        steps: list[dict[str, Any]] = []
        for one in self.interventions:
            step = {"directions": [number[id(d)] for d in one.directions], **one.to_dict()}
            if one.gate:
                step["gate"] = {"direction": number[id(one.gate.direction)], "threshold": one.gate.threshold}
            steps.append(step)
        vectors = [base64.b64encode(d.numpy().astype("<f4").tobytes()).decode() for d in directions]
        return json.dumps(
            {
                "format": FORMAT,
                "fingerprint": self.fingerprint,
                "directions": [
                    {**d.to_dict(), "d_model": d.d_model, "vector": v}
                    for d, v in zip(directions, vectors, strict=True)
                ],
                "interventions": steps,
            },
            indent=indent,
        )

    def to_code(self) -> str:
        """Python that makes this recipe again with steerlab, as `recipe`: every number to be read and changed, vectors
        included bit for bit.

        A recipe does not know its model; a whole cell, with the model, the prompt and the sampling, and one that needs
        no steerlab, is `lab.to_code()`.
        """
        directions = as_python.vectors(self.interventions)
        known = as_python.names(directions, taken=("np", "sl", "base64", "vector", "recipe"))
        head = ["import base64", "", "import numpy as np", ""] if directions else []
        made = [f"{known[id(d)]} = {as_python.direction(d)}" for d in directions]
        body = ["", as_python.READ_VECTOR, "", *made] if directions else []
        return "\n".join(
            [
                f"# a steerlab recipe, fingerprint {self.fingerprint}, written by steerlab {__version__}",
                *head,
                "import steerlab as sl",
                *(body or [""]),
                f"recipe = {as_python.recipe(self.interventions, known)}",
                "",
            ]
        )

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse of `to_json`. Raises FileError for text that is truncated, altered, or no recipe, and for steps
        that are refused here.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise FileError(
                f"the recipe is no complete JSON text ({error})", "It may be truncated: save it again."
            ) from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise FileError(
                f"this is no recipe of the format {FORMAT}, but {found!r}",
                "A newer steerlab may have written it.",
            )
        try:
            directions = [
                Direction.from_dict(
                    torch.from_numpy(np.frombuffer(base64.b64decode(d["vector"]), "<f4").copy()), d
                )
                for d in data["directions"]
            ]
            recipe = cls([_read(step, directions) for step in data["interventions"]])
        except RecipeError as error:
            raise FileError(f"the recipe cannot be used: {error.what}", error.fix) from error
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise FileError(
                f"the recipe is damaged ({type(error).__name__}: {error})", "Save it again."
            ) from error
        if recipe.fingerprint != data.get("fingerprint"):
            raise FileError(
                "the recipe does not match its own fingerprint, so it was altered after it was saved",
                "Save it again; to edit a recipe, edit it in Python.",
            )
        return recipe

    def save(self, path: str | Path) -> Path:
        """Write the JSON to a file, by custom named `*.steer.json`. Returns the path."""
        path = Path(path)
        path.write_text(self.to_json() + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read what `save` wrote. Raises FileError for a missing, truncated or foreign file."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8-sig"))
        except FileError as error:
            raise FileError(f"{path}: {error.what}", error.fix) from error
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{path} cannot be read as text ({error})") from error

    def __repr__(self) -> str:
        return (
            f"Recipe([{', '.join(map(describe, self.interventions))}])" if self.interventions else "BASELINE"
        )


BASELINE = Recipe()


def checked_recipe(recipe: object) -> Recipe:
    """Return what is a Recipe, else raise RecipeError."""
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f"a recipe is needed here, not {type(recipe).__name__}",
            "Wrap what is done: Recipe([Add(direction)]); BASELINE does nothing.",
        )
    return recipe


def checked_recipes(recipes: Iterable[Recipe]) -> list[Recipe]:
    """The recipes of a list of them. Raises RecipeError for none, for what is no recipe, and for one in the place of a
    list.
    """
    if not isinstance(recipes, Iterable):
        raise RecipeError(
            f"recipes is one {type(recipes).__name__}",
            "Give a list of recipes, also of one, or names with recipes: [Recipe([Add(direction)])].",
        )
    found = list(map(checked_recipe, recipes))
    if not found:
        raise RecipeError("no recipe is given", "Give one or more; BASELINE is one.")
    return found


def conflicts(recipe: Recipe, n_layers: int) -> list[str]:
    """What a recipe does that its writer may not have meant, in words; nothing is resolved for them.

    A step that a later one at the same site undoes, and an addition that reaches the same stream twice, because the
    output of a block is the input of the next.
    """
    found = []
    for one, other in itertools.combinations(recipe.interventions, 2):
        same = set(one.resolve(n_layers)) & set(other.resolve(n_layers))
        meet = one.tokens == other.tokens or "all" in (one.tokens, other.tokens)
        parallel = any(abs(a.cosine(b)) > 0.999 for a in one.directions for b in other.directions)
        harmless = isinstance(other, Add) or (isinstance(one, Ablate) and isinstance(other, Ablate))
        if same and meet and parallel and not harmless:
            found.append(f"{describe(one)} is undone at {min(same)} by {describe(other)}, which comes later")
    for one in recipe.interventions:
        sites = set(one.resolve(n_layers))
        twice = sorted(
            s for s in sites if s.point == "resid_post" and Site(s.layer + 1, "resid_pre") in sites
        )
        if twice and isinstance(one, Add):
            found.append(f"{describe(one)} acts twice on one stream: {twice[0].describe()}")
    return found


def describe(one: Intervention) -> str:
    """An intervention in a line."""
    match one:
        case Add():
            amount = f"{one.coefficient:+g}" + (", norm kept" if one.keep_norm else "")
        case Ablate():
            amount = f"strength {one.strength:g}" + (", one-sided" if one.one_sided else "")
        case Clamp():
            amount = f"to {one.value:g}"
        case _:
            amount = ""
    points = ", ".join(str(s) for s in one.sites)
    layers = "" if all(isinstance(s, Site) for s in one.sites) else f" of {_layers(one.layers)}"
    names = " and ".join(repr(d.name) for d in one.directions)
    gate = f" where {one.gate.direction.name!r} > {one.gate.threshold:g}" if one.gate else ""
    tokens = "" if one.tokens == "all" else f", tokens {one.tokens}"
    return f"{one.kind} {names} {amount} at {points}{layers}{tokens}{gate}"


def _layers(layers: Layers) -> str:
    if layers == "all" or not layers:
        return f"{'all' if layers else 'no'} layers"
    return f"layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"


def _read(step: dict[str, Any], directions: list[Direction]) -> Intervention:
    step = dict(step)
    kind: Any = KINDS[step.pop("kind")]
    used = [directions[i] for i in step.pop("directions")]
    gate = step.pop("gate", None)
    sites = [Site.parse(s) if "." in s else s for s in step.pop("sites")]
    intervention: Intervention = kind(
        used if kind is Ablate else used[0],
        sites=sites,
        gate=gate and Gate(directions[gate["direction"]], gate["threshold"]),
        **step,
    )
    return intervention
