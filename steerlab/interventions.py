"""Interventions: what is done, where, and to which tokens. They are data: `rows` lowers them, `edits` does the
arithmetic.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, SupportsIndex

import torch
from torch import Tensor

from steerlab.directions import Direction
from steerlab.errors import DirectionError, RecipeError, SiteError
from steerlab.sites import Point, Site, check_point, each, real, whole

PAPER_POINTS: tuple[Point, ...] = ("resid_pre", "attn_out", "mlp_out")

Scope = Literal["all", "prompt", "generated"]
Tokens = Scope | tuple[int, ...]
SCOPES: tuple[Scope, ...] = ("all", "prompt", "generated")

Layers = Literal["all"] | tuple[int, ...]
Where = tuple[Point | Site, ...]
GivenLayers = Literal["all"] | SupportsIndex | Iterable[SupportsIndex]
GivenSites = str | Site | Iterable[str | Site]
GivenTokens = str | SupportsIndex | Iterable[SupportsIndex]


class Lowered(NamedTuple):
    """An intervention as arithmetic: the kind of an `edits.Operand`, with vectors [k d_model] and targets [k]."""

    kind: str
    vectors: Tensor
    strength: float
    target: Tensor | None = None


@dataclass(frozen=True)
class Gate:
    """Lets an intervention act only on tokens whose projection on a direction passes a threshold (Lee et al. 2024,
    CAST).

    The projection is that on the unit vector, of the stream at the same site, before the intervention.
    """

    direction: Direction
    threshold: float = 0.0

    def __post_init__(self) -> None:
        checked(self.direction)
        object.__setattr__(self, "threshold", finite(self.threshold, "a threshold"))


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """One change of the residual stream: directions, the sites and the tokens at which it acts.

    layers: "all", one layer, or several. sites: points, each taken at every one of the layers, and Site objects, which
    stand for themselves. tokens: "all"; "prompt", those that the model reads before it answers, template included;
    "generated", those that it writes; or positions of the prompt counted from its end, `[-3, -1]`, -1 being the last.
    gate: a Gate, which lets it act on those of them alone that pass; None for all.
    """

    kind: ClassVar[str]

    directions: tuple[Direction, ...]
    layers: Layers
    sites: Where
    tokens: Tokens = "all"
    gate: Gate | None = None

    @property
    def direction(self) -> Direction:
        """The direction, the first one where there are several."""
        return self.directions[0]

    @property
    def involved(self) -> tuple[Direction, ...]:
        """The directions, and that of the gate where there is one."""
        return (*self.directions, *([self.gate.direction] if self.gate else []))

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

    def along(self, directions: tuple[Direction, ...]) -> Intervention:
        """The same intervention with other directions."""
        other = copy.copy(self)
        object.__setattr__(other, "directions", directions)
        return other

    def lower(self) -> Lowered:
        """The arithmetic."""
        raise NotImplementedError

    def numbers(self) -> dict[str, Any]:
        """What a subclass adds to `to_dict`."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, the directions left out."""
        return {
            "kind": self.kind,
            **self.numbers(),
            "layers": self.layers if self.layers == "all" else list(self.layers),
            "sites": [s.name if isinstance(s, Site) else s for s in self.sites],
            "tokens": self.tokens if isinstance(self.tokens, str) else list(self.tokens),
        }


@dataclass(frozen=True, init=False)
class Add(Intervention):
    """Activation addition `x + c v` (Turner et al. 2023). By default at the direction's own site, at every token.

    coefficient: multiplies the direction as it is, unnormalised: 1 is the paper's convention for a difference in means;
    `direction.coefficient(norms=0.5)` gives it in units of the residual norm. keep_norm: the stream keeps its norm.
    tokens: "all", "prompt", "generated", or positions of the prompt from its end, `[-1]`; `prompts.find_tokens` finds
    words. gate: a Gate, past whose threshold a token has to be.
    """

    kind = "add"

    coefficient: float = 1.0
    keep_norm: bool = False

    def __init__(
        self,
        direction: Direction,
        coefficient: float = 1.0,
        layers: GivenLayers | None = None,
        sites: GivenSites | None = None,
        tokens: GivenTokens = "all",
        *,
        keep_norm: bool = False,
        gate: Gate | None = None,
    ) -> None:
        layers, sites = own_site(direction, layers, sites)
        fill(self, direction, layers, sites, tokens, gate)
        object.__setattr__(self, "coefficient", finite(coefficient, "a coefficient"))
        object.__setattr__(self, "keep_norm", bool(keep_norm))

    def lower(self) -> Lowered:
        """`add`, or `add_keep_norm`."""
        kind = "add_keep_norm" if self.keep_norm else "add"
        return Lowered(kind, self.direction.vector[None], self.coefficient)

    def numbers(self) -> dict[str, Any]:
        """The coefficient and whether the norm is kept."""
        return {"coefficient": self.coefficient, "keep_norm": self.keep_norm}


@dataclass(frozen=True, init=False)
class Ablate(Intervention):
    """Directional ablation `x - s (x . u) u` (Arditi et al. 2024). By default the paper's set: every layer, three
    points.

    direction: one, or several, whose whole subspace is ablated. strength: 1 removes the component wholly, 0 leaves it.
    one_sided: `x - s relu(x . u) u`, which leaves what points away from the direction; of one direction alone, because
    a subspace has no sides. tokens and gate: as of Add.
    """

    kind = "ablate"

    strength: float = 1.0
    one_sided: bool = False

    def __init__(
        self,
        direction: Direction | Sequence[Direction],
        layers: GivenLayers = "all",
        sites: GivenSites = PAPER_POINTS,
        strength: float = 1.0,
        tokens: GivenTokens = "all",
        *,
        one_sided: bool = False,
        gate: Gate | None = None,
    ) -> None:
        fill(self, direction, layers, sites, tokens, gate)
        if one_sided and len(self.directions) > 1:
            raise RecipeError(
                f"a one-sided ablation is of one direction, not of {len(self.directions)}: a subspace has no sides",
                "Give one Ablate for each.",
            )
        object.__setattr__(self, "strength", finite(strength, "a strength"))
        object.__setattr__(self, "one_sided", bool(one_sided))

    def lower(self) -> Lowered:
        """`project` on an orthonormal basis of the subspace, or `project_positive` on one unit vector."""
        kind = "project_positive" if self.one_sided else "project"
        return Lowered(kind, basis(self.directions), self.strength)

    def numbers(self) -> dict[str, Any]:
        """The strength and whether it is one-sided."""
        return {"strength": self.strength, "one_sided": self.one_sided}


@dataclass(frozen=True, init=False)
class Clamp(Intervention):
    """Set the component along a direction to a value, `x - (x . u) u + a u`; by default at the direction's own site.

    value: the projection on the unit vector that every token gets. The mean projection on harmless prompts
    (`estimators.mean_projection`) makes it affine concept editing (Marshall et al. 2024); 0 is ablation. tokens and
    gate: as of Add.
    """

    kind = "clamp"

    value: float = 0.0

    def __init__(
        self,
        direction: Direction,
        value: float,
        layers: GivenLayers | None = None,
        sites: GivenSites | None = None,
        tokens: GivenTokens = "all",
        *,
        gate: Gate | None = None,
    ) -> None:
        layers, sites = own_site(direction, layers, sites)
        fill(self, direction, layers, sites, tokens, gate)
        object.__setattr__(self, "value", finite(value, "a value"))

    def lower(self) -> Lowered:
        """`project` with a target."""
        return Lowered("project", self.direction.unit[None], 1.0, torch.tensor([self.value]))

    def numbers(self) -> dict[str, Any]:
        """The value."""
        return {"value": self.value}


KINDS: dict[str, type[Intervention]] = {"add": Add, "ablate": Ablate, "clamp": Clamp}


def basis(directions: Sequence[Direction]) -> Tensor:
    """An orthonormal basis of the directions' span, `[k d_model]`, k being its dimension."""
    if len(directions) == 1:
        return directions[0].unit[None]
    units = torch.stack([d.unit for d in directions]).double()
    _, values, rows = torch.linalg.svd(units, full_matrices=False)
    span: Tensor = rows[values > 1e-6 * values[0]].float()
    return span


def own_site(
    direction: Direction, layers: GivenLayers | None, sites: GivenSites | None
) -> tuple[GivenLayers, GivenSites]:
    """Where an intervention acts that was not told: at the site where its direction was found."""
    site = checked(direction).site
    if sites is not None and not isinstance(sites, str | Site):
        sites = list(sites)
    if site is None and (sites is None or layers is None) and not all_sites(sites):
        raise RecipeError(
            f"{direction!r} does not say where it was found",
            "Say where it acts: layers=12, sites='resid_pre'.",
        )
    if sites is None:
        assert site is not None
        sites = [site] if layers is None else [site.point]
    if layers is None:
        layers = () if site is None else (site.layer,)
    return layers, sites


def all_sites(sites: GivenSites | None) -> bool:
    """Whether the sites stand for themselves and need no layers."""
    return isinstance(sites, Site) or (
        sites is not None and not isinstance(sites, str) and all(isinstance(s, Site) for s in sites)
    )


def fill(
    intervention: Intervention,
    direction: Direction | Sequence[Direction],
    layers: GivenLayers,
    sites: GivenSites,
    tokens: GivenTokens,
    gate: Gate | None,
) -> None:
    """Normalise what the constructors accept, and set the frozen fields."""
    directions = (direction,) if isinstance(direction, Direction) else _several(direction)
    if len({d.d_model for d in directions}) > 1:
        raise DirectionError(
            f"directions of widths {sorted({d.d_model for d in directions})} span no common subspace",
            "They were found in different models.",
        )
    if not isinstance(layers, str):
        # a Site says what is wrong with a layer that is none
        layers = tuple(sorted({Site(layer, "resid_pre").layer for layer in each(layers)}))
    elif layers != "all":
        raise SiteError(
            f"layers={layers!r} is not known", "Give 'all', one layer, or several: layers=range(4, 9)."
        )
    given = [sites] if isinstance(sites, str | Site) else list(sites)
    where = tuple(s if isinstance(s, Site) else check_point(s) for s in dict.fromkeys(given))
    values = {
        "directions": directions,
        "layers": layers,
        "sites": where,
        "tokens": _tokens(tokens),
        "gate": gate,
    }
    for name, value in values.items():
        object.__setattr__(intervention, name, value)


def _several(directions: Any) -> tuple[Direction, ...]:
    if not isinstance(directions, Sequence) or isinstance(directions, str):
        checked(directions)
    found = tuple(checked(d) for d in directions)
    if not found:
        raise DirectionError("no direction was given", "Give one, or several for a subspace.")
    return found


def _tokens(tokens: GivenTokens) -> Tokens:
    if isinstance(tokens, str):
        for scope in SCOPES:
            if tokens == scope:
                return scope
        raise RecipeError(
            f"tokens={tokens!r} is not known", f"Choose {', '.join(SCOPES)}, or positions like [-3, -2]."
        )
    given = each(tokens)
    chosen = [token for one in given if (token := whole(one)) is not None and token < 0]
    if not chosen or len(chosen) < len(given):
        raise RecipeError(
            f"tokens={given} are no positions of a prompt",
            "Chosen tokens count from the prompt's end: -1 is its last token. prompts.find_tokens finds words.",
        )
    return tuple(sorted(set(chosen)))


def checked(direction: object) -> Direction:
    """Return what is a Direction, else raise DirectionError."""
    if not isinstance(direction, Direction):
        what = f"an intervention needs a Direction, not {type(direction).__name__}"
        raise DirectionError(what, "Wrap the vector: Direction(v).")
    return direction


def finite(value: float, what: str) -> float:
    """Return a finite number that has room in float32, as the arithmetic is done, else raise RecipeError."""
    number = real(value)
    if number is None or abs(number) > torch.finfo(torch.float32).max:
        raise RecipeError(f"{what} is a finite number of 32 bits, not {value!r}")
    return number
