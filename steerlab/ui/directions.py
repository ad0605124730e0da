"""The tab Directions: what each direction is and says, how it stands to the others, and where a prompt expresses it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from steerlab import estimators, lens, prompts
from steerlab.directions import Direction, cosines
from steerlab.errors import DirectionError
from steerlab.estimators import DirectionMap
from steerlab.lab import Lab
from steerlab.lens.directions import By, Near
from steerlab.prompts import ContrastSet
from steerlab.sites import Point
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.files import known
from steerlab.ui.protocol import Figure, Wire
from steerlab.ui.translate import fingerprint, named

BUNDLED = 64  # prompts a side, for a map where none was made yet
LONGEST = 240  # characters of a fact


class DirectionsQuestion(Wire):
    """What is known of the lab's directions?"""

    kind: Literal["directions"] = "directions"
    revision: int
    map: str
    """As in Info."""


class Fact(Wire):
    """Something that a direction's provenance says."""

    name: str
    value: str


class MapInfo(Wire):
    """The map of a search: a direction for every position and layer."""

    id: str
    name: str
    point: Point
    positions: list[int | Literal["response"]]
    norms: list[list[Figure]]
    """|v|, by position and layer; None where the two sides do not differ."""
    residual_norms: list[list[Figure]]
    """The mean norm of the stream there."""


class OwnCell(Wire):
    """The cell of a map that a direction is."""

    position: int | Literal["response"]
    layer: int


class DirectionsAnswer(Wire):
    """All that takes no model."""

    names: list[str]
    facts: list[list[Fact]]
    """Of each."""
    cosines: list[list[Figure]]
    """Between them; empty where their widths differ."""
    map: MapInfo | None
    """The newest, `lab.map`."""
    own: list[OwnCell | None]
    """Of each direction the cell of the map that it is; None where it is none of them."""


class CosinesQuestion(Wire):
    """How alike are a map's directions of different layers?"""

    kind: Literal["map-cosines"] = "map-cosines"
    map: str
    position: int | Literal["response"]


class CosinesAnswer(Wire):
    """Cosines [layers layers]; None where the two sides do not differ."""

    values: list[list[Figure]]


class MapQuestion(Wire):
    """Make the map of the bundled prompts: difference in means at every layer."""

    kind: Literal["bundled-map"] = "bundled-map"


class MapAnswer(Wire):
    """It is there."""

    id: str


class NearestQuestion(Wire):
    """Which tokens are nearest to a direction?"""

    kind: Literal["nearest"] = "nearest"
    direction: str
    fingerprint: str
    epoch: int
    """As in Info."""
    by: By = "unembedding"


class NearToken(Wire):
    """A token and how near it is."""

    text: str
    value: Figure


class NearestAnswer(Wire):
    """Tokens along it and against it, the nearest first."""

    along: list[NearToken]
    against: list[NearToken]
    says: str
    """What the values are."""


class ExpressionQuestion(Wire):
    """How strongly does each site of a prompt express a direction?"""

    kind: Literal["expression"] = "expression"
    direction: str
    fingerprint: str
    epoch: int
    """As in Info."""
    prompt: str


class ExpressionAnswer(Wire):
    """Shares, the mean over the tokens of |x . u| / |x|."""

    points: list[Point]
    shares: list[list[Figure]]
    """By point and layer."""
    chance: float
    """What a direction that means nothing would have."""
    n_tokens: int


def answer(lab: Lab, _question: DirectionsQuestion, _tell: Tell) -> DirectionsAnswer:
    """Everything about the directions that is arithmetic."""
    table = named(lab.recipe, lab.directions)
    one_width = len({direction.d_model for direction in table.values()}) == 1
    return DirectionsAnswer(
        names=list(table),
        facts=[_facts(direction) for direction in table.values()],
        cosines=cosines(list(table.values())).tolist() if one_width else [],
        map=_map_info(lab.map) if lab.map else None,
        own=[_own(lab.map, direction) for direction in table.values()],
    )


def map_cosines(lab: Lab, question: CosinesQuestion, _tell: Tell) -> CosinesAnswer:
    """The map's own cosines, for the positions that it has."""
    found = lab.map
    if found is None or fingerprint(found) != question.map:
        raise DirectionError("this map is not the lab's any more", "Look at the newest one.")
    values = found.cosines(question.position).tolist()
    there = [found.differs(question.position, layer) for layer in range(found.n_layers)]
    return CosinesAnswer(
        values=[
            [value if there[i] and there[j] else None for j, value in enumerate(row)]
            for i, row in enumerate(values)
        ]
    )


def bundled_map(lab: Lab, _question: MapQuestion, tell: Tell) -> MapAnswer:
    """The paper's difference in means on bundled prompts, for `lab.map`."""
    tell.progress(0, 0, "reading the stream on the bundled prompts")
    contrast = ContrastSet(prompts.harmful(BUNDLED), prompts.harmless(BUNDLED), "bundled prompts")
    lab.map = estimators.difference_in_means(lab.backend, contrast)
    return MapAnswer(id=fingerprint(lab.map))


def nearest(lab: Lab, question: NearestQuestion, _tell: Tell) -> NearestAnswer:
    """Ten either way."""
    found = lens.nearest_tokens(lab.backend, known(lab, question.direction), by=question.by)
    return NearestAnswer(along=_near(found.along), against=_near(found.against), says=found.says)


def expression(lab: Lab, question: ExpressionQuestion, _tell: Tell) -> ExpressionAnswer:
    """One forward pass of the prompt, without any recipe."""
    found = lens.expression(lab.backend, question.prompt, known(lab, question.direction))
    return ExpressionAnswer(
        points=list(found.points),
        shares=found.shares[0].T.tolist(),
        chance=found.chance,
        n_tokens=found.n_tokens,
    )


def _near(near: Near) -> list[NearToken]:
    return [NearToken(text=text, value=value) for text, value in zip(near.texts, near.values, strict=True)]


def _facts(direction: Direction) -> list[Fact]:
    site = direction.site
    given: dict[str, Any] = {
        "site": f"{site}, the {site.describe()}" if site else "not known",
        "norm": f"{direction.norm:.4g}",
        "stream’s norm": direction.residual_norm and f"{direction.residual_norm:.4g}",
        "model": direction.model or "not known",
        **direction.provenance,
    }
    return [Fact(name=str(name), value=_words(value)) for name, value in given.items() if value is not None]


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        text = ", ".join(f"{name}: {_words(inner)}" for name, inner in value.items())
    elif isinstance(value, list | tuple):
        text = "; ".join(map(_words, value))
    else:
        text = f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)
        text = text.replace("-", "−") if isinstance(value, int | float) else text
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _own(found: DirectionMap | None, direction: Direction) -> OwnCell | None:
    cell = found.cell_of(direction) if found else None
    return OwnCell(position=cell[0], layer=cell[1]) if cell else None


def _map_info(found: DirectionMap) -> MapInfo:
    layers = range(found.n_layers)
    norms = found.norms.tolist()
    return MapInfo(
        id=fingerprint(found),
        name=found.name,
        point=found.point,
        positions=list(found.positions),
        norms=[
            [norms[i][layer] if found.differs(position, layer) else None for layer in layers]
            for i, position in enumerate(found.positions)
        ],
        residual_norms=found.residual_norms.tolist(),
    )


HANDLERS: list[Handler[Any, Any]] = [
    Handler(DirectionsQuestion, DirectionsAnswer, answer, lane=None),
    Handler(CosinesQuestion, CosinesAnswer, map_cosines, lane=None),
    Handler(MapQuestion, MapAnswer, bundled_map),
    Handler(NearestQuestion, NearestAnswer, nearest),
    Handler(ExpressionQuestion, ExpressionAnswer, expression),
]
