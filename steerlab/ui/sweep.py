"""The tab Sweep: layers x coefficients of a direction, measured while the map fills; and a cell's recipe and texts.

What is measured is a `sweeps.Sweep` that `lab.scores` holds, so that code can go on with it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from steerlab.backends.base import at_once
from steerlab.directions import Direction
from steerlab.errors import DirectionError
from steerlab.estimators import randomised
from steerlab.generations import Generation, Sampling
from steerlab.interventions import Add
from steerlab.lab import Lab
from steerlab.metrics import Estimate
from steerlab.recipes import Recipe
from steerlab.rows import Row, seeds
from steerlab.sites import Point
from steerlab.sweeps import Cell, Sweep, grid, with_controls
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.panes import verdict_of
from steerlab.ui.prompt_sets import PromptSet, prompts_of, words_of
from steerlab.ui.protocol import Figure, Verdict, Wire
from steerlab.ui.translate import named

SEED = 1  # of the random directions
PARTS, PAUSE = (
    200,
    0.25,
)  # the map is renewed at most so often in all, and no sooner than after so many seconds
# rows at once, here and on a server, where that is a job: the map fills as it goes, and a cancelled sweep loses no more
BATCH, JOB = 64, 320
SHOWN = 6  # texts of a cell

MetricName = Literal["refusal_score", "kl", "refusal_rate", "repetition", "cross_entropy"]


class SweepQuestion(Wire):
    """How does the model change with the layer and the coefficient at which a direction is added?"""

    kind: Literal["sweep"] = "sweep"
    direction: str
    layers: Annotated[list[int], Field(min_length=1)]
    coefficients: Annotated[list[float], Field(min_length=1, max_length=41)]
    metrics: list[MetricName]
    prompts: PromptSet
    control: bool
    """Whether random directions of the same norm are measured beside."""
    max_new_tokens: Annotated[int, Field(ge=1)]
    temperature: float
    seed: int
    """Of answers that are sampled."""


class Stat(Wire):
    """A metric over the prompts of a cell so far."""

    value: Figure
    low: Figure = None
    """The 95% interval, which is known at the end."""
    high: Figure = None
    n: int


class SweepCell(Wire):
    """A place of the map with what was measured there."""

    layer: int
    coefficient: float
    control: bool
    stats: dict[str, Stat]


class SweepMap(Wire):
    """Cells with what is measured of them so far; a part has those of which more is known than the parts before say."""

    cells: list[SweepCell]
    direction: str
    """The fingerprint of the direction, by which it is known again."""


class SweepAnswer(SweepMap):
    """The whole map."""

    prompts: int
    reused: int
    """Rows that the sweep before had measured already."""
    rows: int


class Place(Wire):
    """A cell of a sweep that was shown."""

    name: str
    """Of the direction."""
    direction: str
    """Its fingerprint."""
    layer: int
    coefficient: float
    control: bool


class SetCell(Wire):
    """Set the panel to what a cell does."""

    kind: Literal["sweep-set"] = "sweep-set"
    place: Place


class Done(Wire):
    """It is done."""


class TextsQuestion(Wire):
    """What does the model write in a cell?"""

    kind: Literal["sweep-texts"] = "sweep-texts"
    place: Place
    prompts: PromptSet
    max_new_tokens: Annotated[int, Field(ge=1)]
    temperature: float
    seed: int


class CellText(Wire):
    """An answer in a cell."""

    prompt: str
    text: str
    verdict: Verdict | None
    """None where the text is not the model's answer."""
    fault: str
    """Why it is not, as in `Generation`."""


class TextsAnswer(Wire):
    """The first prompts' answers."""

    texts: list[CellText]
    of: int
    """How many prompts there are."""


def answer(lab: Lab, question: SweepQuestion, tell: Tell) -> SweepAnswer:
    """Measure the map; what the sweep before measured, and would be the same, is not measured again."""
    direction = direction_of(lab, question.direction)
    cells = _cells(lab, direction, question.layers, question.coefficients)
    tell.progress(0, 0, "preparing the sweep")
    sweep = Sweep(
        lab.backend,
        with_controls(cells, seed=SEED) if question.control else cells,
        prompts_of(question.prompts, "prompts"),
        metrics=question.metrics,
        sampling=Sampling(question.max_new_tokens, question.temperature),
        seed=question.seed,
        batch_rows=min(JOB, at_once(lab.backend, BATCH)),
    )
    told = [_so_far(sweep, cell) for cell in sweep.cells]
    if lab.scores:
        sweep.adopt(lab.scores)
    lab.scores, reused = sweep, sweep.done
    shown, at, known = 0, 0.0, fingerprint(direction)

    def progress(done: int, total: int) -> None:
        nonlocal shown, at, told
        now, measured = time.perf_counter(), sweep.done  # the others come with the rest of their batch
        if measured - shown >= total / PARTS and now - at >= PAUSE:
            shown, at = measured, now
            before, told = told, [_so_far(sweep, cell) for cell in sweep.cells]
            new = [cell for cell, old in zip(told, before, strict=True) if cell != old]
            tell.part(SweepMap(cells=new, direction=known))
        tell.progress(done, total, "measuring")

    progress(reused, sweep.total)
    sweep.resume(cancel=tell.cancel, progress=progress)
    return SweepAnswer(
        cells=[_measured(sweep, cell) for cell in sweep.cells],
        prompts=len(sweep.prompts),
        direction=known,
        reused=reused,
        rows=sweep.total,
    )


def merged(before: SweepMap, new: SweepMap) -> SweepMap:
    """Two parts as one."""
    cells = {(cell.layer, cell.coefficient, cell.control): cell for cell in (*before.cells, *new.cells)}
    return SweepMap(cells=list(cells.values()), direction=new.direction)


def set_cell(lab: Lab, question: SetCell, _tell: Tell) -> Done:
    """Make a cell's recipe the lab's."""
    lab.recipe = recipe_at(lab, question.place)
    return Done()


def texts(lab: Lab, question: TextsQuestion, tell: Tell) -> TextsAnswer:
    """Answer the first prompts as they are answered in a cell."""
    recipe = recipe_at(lab, question.place)
    given = prompts_of(question.prompts, "prompts")
    shown = given[:SHOWN]
    rows = [Row(prompt, recipe, of) for prompt, of in zip(shown, seeds(shown, question.seed), strict=True)]
    sampling = Sampling(question.max_new_tokens, question.temperature)
    answers = lab.run(rows, sampling, cancel=tell.cancel)
    return TextsAnswer(texts=list(map(_text, answers)), of=len(given))


HANDLERS: list[Handler[Any, Any]] = [
    Handler(
        SweepQuestion,
        SweepAnswer,
        answer,
        part=SweepMap,
        merge=merged,
        lane="long",
        kept=lambda _: "sweep",
    ),
    Handler(SetCell, Done, set_cell, lane=None),
    Handler(TextsQuestion, TextsAnswer, texts),
]


def direction_of(lab: Lab, name: str) -> Direction:
    """A direction by the name that the panel has for it. Raises DirectionError."""
    known = named(lab.recipe, lab.directions)
    if name not in known:
        raise DirectionError(
            f"there is no direction {name!r} in this lab any more", "Choose another one above."
        )
    return known[name]


def fingerprint(direction: Direction) -> str:
    """What tells a direction from another of the same name."""
    return Recipe([Add(direction, layers=0, sites=_point(direction))]).fingerprint


def recipe_at(lab: Lab, place: Place) -> Recipe:
    """What is done in a cell. Raises DirectionError where its direction is not what it was."""
    direction = direction_of(lab, place.name)
    if fingerprint(direction) != place.direction:
        raise DirectionError(
            f"{place.name!r} is another direction now than the one that was swept", "Run the sweep again."
        )
    (cell,) = _cells(lab, direction, [place.layer], [place.coefficient])
    return randomised(cell.recipe, seed=SEED) if place.control else cell.recipe


def _cells(lab: Lab, direction: Direction, layers: list[int], coefficients: list[float]) -> list[Cell]:
    return grid(
        direction,
        n_layers=lab.info.n_layers,
        layers=layers,
        coefficients=coefficients,
        point=_point(direction),
    )


def _point(direction: Direction) -> Point:
    """Where a direction is added; one from nowhere known goes to the inputs of the blocks."""
    return direction.site.point if direction.site else "resid_pre"


def _so_far(sweep: Sweep, cell: Cell) -> SweepCell:
    """A cell without its intervals, which take as long as measuring a small model."""

    def stat(values: Sequence[float]) -> Stat:
        return Stat(value=sum(values) / len(values) if values else math.nan, n=len(values))

    return _cell(cell, {name: stat(sweep.values(name, cell)) for name in sweep.metrics})


def _measured(sweep: Sweep, cell: Cell) -> SweepCell:
    return _cell(cell, {name: stat_of(sweep.estimate(name, cell)) for name in sweep.metrics})


def stat_of(estimate: Estimate) -> Stat:
    """An estimate on the wire."""
    return Stat(**estimate._asdict())


def _cell(cell: Cell, stats: dict[str, Stat]) -> SweepCell:
    place = cell.place
    return SweepCell(
        layer=place["layer"],
        coefficient=place["coefficient"],
        control=place.get("control", False),
        stats=stats,
    )


def _text(made: Generation) -> CellText:
    return CellText(prompt=words_of(made.prompt), text=made.text, verdict=verdict_of(made), fault=made.fault)
