"""Recipes: what is done to the residual stream. Interventions are data; `rows` lowers them and `edits` does the
arithmetic.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from steerlab.directions import Direction
from steerlab.errors import DirectionError, FileError, RecipeError, SiteError
from steerlab.sites import Point, Site, check_point

FORMAT = "steerlab.recipe/1"
PAPER_POINTS: tuple[Point, ...] = ("resid_pre", "attn_out", "mlp_out")

# Which tokens an intervention acts on: every one, those of the prompt (template included), or those generated after it.
Scope = Literal["all", "prompt", "generated"]
SCOPES: tuple[Scope, ...] = ("all", "prompt", "generated")

Layers = Literal["all"] | tuple[int, ...]
Where = tuple[Point | Site, ...]


@dataclass(frozen=True)
class Intervention:
    """One change of the residual stream: a direction, the sites and the tokens at which it acts.

    layers: "all", one layer, or several. sites: points, each taken at every one of the layers, and Site objects, which
    stand for themselves.
    """

    kind: ClassVar[str]

    direction: Direction
    layers: Layers = field(kw_only=True)
    sites: Where = field(kw_only=True)
    tokens: Scope = field(kw_only=True)

    def resolve(self, n_layers: int) -> tuple[Site, ...]:
        """The sites in a model of `n_layers` layers, in forward order. Raises SiteError for a layer beyond."""
        layers = range(n_layers) if self.layers == "all" else self.layers
        sites = {s for s in self.sites if isinstance(s, Site)}
        sites |= {
            Site(layer, point) for point in self.sites if not isinstance(point, Site) for layer in layers
        }
        for site in sites:
            if site.layer >= n_layers:
                raise SiteError(
                    f"layer {site.layer} is out of range: the model has {n_layers} layers",
                    f"Layers count from 0, so the last one is {n_layers - 1}.",
                )
        return tuple(sorted(sites))

    def _where(self) -> dict[str, Any]:
        return {
            "layers": self.layers if self.layers == "all" else list(self.layers),
            "sites": [s.name if isinstance(s, Site) else s for s in self.sites],
            "tokens": self.tokens,
        }


@dataclass(frozen=True, init=False)
class Add(Intervention):
    """Activation addition `x + c v` (Turner et al. 2023). By default at the direction's own site, at every token.

    coefficient: multiplies the direction as it is, unnormalised: 1 is the paper's convention for a difference in means.
    """

    kind = "add"

    coefficient: float = 1.0

    def __init__(
        self,
        direction: Direction,
        coefficient: float = 1.0,
        layers: Literal["all"] | int | Iterable[int] | None = None,
        sites: str | Site | Iterable[str | Site] | None = None,
        tokens: str = "all",
    ) -> None:
        site = _checked(direction).site
        if site is None and sites is None:
            raise RecipeError(
                f"{direction!r} does not say where it was found",
                "Say where to add it: layers=12, sites='resid_pre'.",
            )
        if sites is None and site is not None:
            sites = [site] if layers is None else [site.point]
        if layers is None:
            layers = () if site is None else (site.layer,)
        coefficient = _finite(coefficient, "a coefficient")
        _fill(self, direction, layers, sites, tokens, coefficient=coefficient)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, the direction left out."""
        return {"kind": self.kind, "coefficient": self.coefficient, **self._where()}


@dataclass(frozen=True, init=False)
class Ablate(Intervention):
    """Directional ablation `x - s (x . u) u` (Arditi et al. 2024). By default the paper's set: every layer, three
    points.

    strength: 1 removes the component along the direction wholly, 0 leaves it.
    """

    kind = "ablate"

    strength: float = 1.0

    def __init__(
        self,
        direction: Direction,
        layers: Literal["all"] | int | Iterable[int] = "all",
        sites: str | Site | Iterable[str | Site] = PAPER_POINTS,
        strength: float = 1.0,
        tokens: str = "all",
    ) -> None:
        _fill(self, direction, layers, sites, tokens, strength=_finite(strength, "a strength"))

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, the direction left out."""
        return {"kind": self.kind, "strength": self.strength, **self._where()}


def _fill(
    intervention: Intervention,
    direction: Direction,
    layers: Literal["all"] | int | Iterable[int],
    sites: str | Site | Iterable[str | Site] | None,
    tokens: str,
    **rest: float,
) -> None:
    """Normalise what both constructors accept, and set the frozen fields."""
    if tokens not in SCOPES:
        raise RecipeError(f"tokens={tokens!r} is not known", f"Choose one of {', '.join(SCOPES)}.")
    if not isinstance(layers, str):
        layers = tuple(sorted({layers} if isinstance(layers, int) else set(layers)))
        for layer in layers:
            Site(layer, "resid_pre")  # says what is wrong with a layer that is none
    elif layers != "all":
        raise SiteError(
            f"layers={layers!r} is not known", "Give 'all', one layer, or several: layers=range(4, 9)."
        )
    given = [sites] if isinstance(sites, str | Site) else list(sites or ())
    where = tuple(s if isinstance(s, Site) else check_point(s) for s in dict.fromkeys(given))
    for name, value in {
        "direction": _checked(direction),
        "layers": layers,
        "sites": where,
        "tokens": tokens,
        **rest,
    }.items():
        object.__setattr__(intervention, name, value)


def _checked(direction: object) -> Direction:
    if not isinstance(direction, Direction):
        what = f"an intervention needs a Direction, not {type(direction).__name__}"
        raise DirectionError(what, "Wrap the vector: Direction(v).")
    return direction


def _finite(value: float, what: str) -> float:
    if not np.isfinite(value):
        raise RecipeError(f"{what} is a finite number, not {value!r}")
    return float(value)


KINDS: dict[str, type[Add] | type[Ablate]] = {"add": Add, "ablate": Ablate}


@dataclass(frozen=True, init=False, eq=False)
class Recipe:
    """Interventions, applied in this order wherever they meet. The empty recipe is BASELINE.

    Two recipes are equal where their fingerprints are.
    """

    interventions: tuple[Add | Ablate, ...]

    def __init__(self, interventions: Sequence[Add | Ablate] = ()) -> None:
        given = (interventions,) if isinstance(interventions, Intervention) else tuple(interventions)
        for one in given:
            if not isinstance(one, Intervention):
                raise RecipeError(f"a recipe is made of Add and Ablate, not of {type(one).__name__}")
        object.__setattr__(self, "interventions", given)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that stand for the vectors, sites, tokens, numbers and their order, but not for names."""
        digest = hashlib.sha256()
        for one in self.interventions:
            digest.update(json.dumps(one.to_dict(), sort_keys=True).encode())
            digest.update(one.direction.numpy().tobytes())
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
        directions: list[Direction] = []
        steps = []
        for one in self.interventions:
            if not any(one.direction is d for d in directions):
                directions.append(one.direction)
            index = next(i for i, d in enumerate(directions) if d is one.direction)
            steps.append({"direction": index, **one.to_dict()})
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

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse of `to_json`. Raises FileError for text that is truncated, altered, or no recipe."""
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
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except FileError as error:
            raise FileError(f"{path}: {error.what}", error.fix) from error
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{path} cannot be read as text ({error})") from error

    def __repr__(self) -> str:
        return (
            f"Recipe([{', '.join(map(_describe, self.interventions))}])" if self.interventions else "BASELINE"
        )


BASELINE = Recipe()


def _read(step: dict[str, Any], directions: list[Direction]) -> Add | Ablate:
    step = dict(step)
    kind, direction = KINDS[step.pop("kind")], directions[step.pop("direction")]
    sites = [Site.parse(s) if "." in s else s for s in step.pop("sites")]
    return kind(direction, sites=sites, **step)


def _describe(one: Add | Ablate) -> str:
    amount = f"{one.coefficient:+g}" if isinstance(one, Add) else f"strength {one.strength:g}"
    points = ", ".join(str(s) for s in one.sites)
    layers = "" if all(isinstance(s, Site) for s in one.sites) else f" of layers {one.layers}"
    return f"{one.kind} {one.direction.name!r} {amount} at {points}{layers}"
