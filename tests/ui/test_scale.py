from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import scripted
import torch
from wires import Wire

from steerlab import Ablate, Add, Clamp, Direction, Lab, Recipe, Row, Site, metrics
from steerlab.backends.fake import FakeBackend
from steerlab.generations import Generation, Sampling
from steerlab.ui.scale import LOOPS, _over, _repetition

V = Direction(range(1, 17), Site(3, "resid_pre"), name="mine")


def kl(wire: Wire, without: Recipe, whole: Recipe) -> float:
    logits = wire.lab.backend.score([Row("Hello", without), Row("Hello", whole)])
    return float(metrics.kl(logits[:1], logits[1:])[0])


def test_a_row_costs_what_the_recipe_without_it_would_say_otherwise(wire: Wire) -> None:
    wire.lab.directions = {**wire.lab.directions, "mine": V}
    r = wire.lab.directions["refusal"]
    wire.lab.recipe = Recipe([Add(r, 1.5), Ablate(V)])
    rows = [*wire.panel.state["steering"], {**wire.panel.state["steering"][0], "enabled": False}]
    answer = wire.ask("costs", prompt="Hello", steering=rows, fingerprints=["", "", ""], revision=0, epoch=0)
    assert answer["kl"][0] == pytest.approx(kl(wire, Recipe([Ablate(V)]), wire.lab.recipe), rel=1e-3)
    assert answer["kl"][1] == pytest.approx(kl(wire, Recipe([Add(r, 1.5)]), wire.lab.recipe), rel=1e-3)
    assert answer["kl"][2] is None, "it is off"
    assert answer["kl"][0] > 0


def zone(wire: Wire, numbers: list[float], mode: str = "add", **sampling: Any) -> dict[str, Any]:
    """What is found of the first row's slider, the row being alone."""
    rows = [{**wire.panel.state["steering"][0], "mode": mode}]
    more = {"fingerprints": [""], "revision": 0, "epoch": 0, "temperature": 0.0, "seed": 0, **sampling}
    return wire.ask("zone", prompt="Hello", steering=rows, row=0, numbers=numbers, **more)


@pytest.mark.parametrize("mode", ["add", "ablate", "clamp"])
def test_what_is_over_the_budget_is_told_and_0_is_judged_like_any_number(wire: Wire, mode: str) -> None:
    ones = Direction(torch.ones(16), Site(5, "resid_pre"), name="refusal")
    wire.lab.directions = {"refusal": ones}

    def does(x: float) -> Add | Ablate | Clamp:
        if mode == "ablate":
            return Ablate(ones, layers=5, sites=["resid_pre"], strength=x)
        return Add(ones, x) if mode == "add" else Clamp(ones, x)

    numbers = [0.0, 0.25, 0.5, 1.0] if mode == "ablate" else [-40.0, -4.0, -1.0, 0.0, 1.0, 4.0, 40.0]
    answer = zone(wire, numbers, mode)
    for number, found in zip(numbers, answer["kl"], strict=True):
        wanted = kl(wire, Recipe([]), Recipe([does(number)]))
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-6)
        inside = any(low <= number <= high for low, high in answer["costly"])
        assert inside == (found > answer["budget"]), number
    assert (answer["kl"][numbers.index(0)] > 0.1) == (mode == "clamp"), "to clamp at 0 is to ablate"
    assert answer["repeats"] == [], "the scripted texts say nothing twice"


def test_what_is_over_a_limit_is_told_in_parts() -> None:
    numbers = [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    assert _over(numbers, [0.3, 0.1, 0.0, 0.05, 0.15, 0.0], 0.1) == [(-2, -1), (1.5, 2.333)]
    assert _over(numbers, [0.0, 0.0, 0.2, 0.0, 0.0, 0.0], 0.1) == [(-0.5, 0.5)]
    assert _over(numbers, [4.0] * 6, 0.1) == [(-2, 3)]
    nan = math.nan
    assert _over(numbers, [nan, nan, 0.0, nan, nan, 2 * LOOPS], LOOPS) == [(1.5, 3)]
    assert _over([], [], 0.1) == []


def test_where_the_model_overflows_is_over_the_budget_too() -> None:
    numbers = [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert _over(numbers, [math.inf, 5.0, 0.0, 0.0, math.inf], 3.0) == [(-2, -0.6), (1, 2)]
    lab = Lab(FakeBackend())
    lab.prompt = "Hello"
    lab.directions = {"far": Direction(torch.ones(16), Site(1, "resid_pre"), name="far")}
    found = zone(Wire(lab), [-3e38, 0.0, 3e38])
    assert found["kl"] == [None, pytest.approx(0), None]
    assert found["costly"] == [[-3e38, 0], [0, 3e38]]
    assert found["repeats"] == []


class Looping(scripted.Scripted):
    """Says one token for ever where the push is over a limit."""

    limit = 1.0

    def _generation(self, row: Row, words: list[str], whole: int) -> Generation:
        made = super()._generation(row, words, whole)
        push = sum(step.coefficient for step in row.recipe.interventions if isinstance(step, Add))
        ids = (7,) * len(words) if push > self.limit else made.token_ids
        return replace(made, token_ids=ids)


@pytest.fixture
def looping(wire: Wire) -> Looping:
    wire.lab.backend = backend = Looping()
    return backend


def test_where_the_text_goes_round_is_told(wire: Wire, looping: Looping) -> None:
    answer = zone(wire, [-2.0, -1.0, 0.0, 1.0, 2.0])
    ((low, high),) = answer["repeats"]
    assert 1 < low < 2 == high
    assert [found > LOOPS for found in answer["repetition"]] == [False] * 4 + [True]


def test_a_text_that_goes_round_without_the_row_is_not_held_against_it(wire: Wire, looping: Looping) -> None:
    looping.limit = -1.5
    answer = zone(wire, [-2.0, -1.0, 0.0, 1.0, 2.0])
    assert [found > LOOPS for found in answer["repetition"]] == [False] + [True] * 4
    assert answer["repeats"] == []


class Noting(scripted.Scripted):
    """Notes how it is to sample."""

    sampling: Sampling

    def generate(self, rows: Sequence[Row], sampling: Sampling, **more: Any) -> list[Generation]:
        self.sampling = sampling
        return super().generate(rows, sampling, **more)


def test_texts_are_written_as_the_panel_samples_them_at_0_too(wire: Wire) -> None:
    wire.lab.backend = backend = Noting()
    numbers = [x / 10 for x in range(-10, 11)]
    answer = zone(wire, numbers, "clamp", temperature=0.5, seed=3)
    assert answer["repetition"][10] is not None
    assert backend.sampling.temperature == 0.5
    assert {row.seed for row in backend.asked} == {3}
    assert Recipe([]) in [row.recipe for row in backend.asked], (
        "without the row, which no number of a clamp is"
    )


def test_a_loop_without_a_space_is_a_loop() -> None:
    assert _repetition([7] * 32) > 0.9
    assert _repetition([1, 2, 3] * 5) > LOOPS
    assert _repetition(range(32)) == 0
    assert math.isnan(_repetition([1, 2]))
