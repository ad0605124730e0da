from __future__ import annotations

import math

import pytest
from wires import Wire

from steerlab import Ablate, Add, Direction, Recipe, Row, Site, metrics
from steerlab.ui.scale import LOOPS, _beyond, _repetition

V = Direction(range(1, 17), Site(3, "resid_pre"), name="mine")


def kl(wire: Wire, without: Recipe, whole: Recipe) -> float:
    logits = wire.lab.backend.score([Row("Hello", without), Row("Hello", whole)])
    return float(metrics.kl(logits[:1], logits[1:])[0])


def test_a_row_costs_what_the_recipe_without_it_would_say_otherwise(wire: Wire) -> None:
    wire.lab.directions = {**wire.lab.directions, "mine": V}
    r = wire.lab.directions["refusal"]
    wire.lab.recipe = Recipe([Add(r, 1.5), Ablate(V)])
    rows = [*wire.panel.state["steering"], {**wire.panel.state["steering"][0], "enabled": False}]
    answer = wire.ask("costs", prompt="Hello", steering=rows, fingerprints=["", "", ""])
    assert answer["kl"][0] == pytest.approx(kl(wire, Recipe([Ablate(V)]), wire.lab.recipe), rel=1e-3)
    assert answer["kl"][1] == pytest.approx(kl(wire, Recipe([Add(r, 1.5)]), wire.lab.recipe), rel=1e-3)
    assert answer["kl"][2] is None, "it is off"
    assert answer["kl"][0] > 0


def test_the_zone_begins_where_the_kl_passes_the_budget(wire: Wire) -> None:
    numbers = [-4.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0]
    rows = wire.panel.state["steering"]
    answer = wire.ask("zone", prompt="Hello", steering=rows, row=0, fingerprints=[""], numbers=numbers)
    refusal = wire.lab.directions["refusal"]
    for number, found in zip(numbers, answer["kl"], strict=True):
        assert found == pytest.approx(kl(wire, Recipe([]), Recipe([Add(refusal, number)])), rel=1e-3)
    above = [n for n, found in zip(numbers, answer["kl"], strict=True) if n > 0 and found > answer["budget"]]
    _, high = answer["kl_from"]
    assert (high is None) == (not above)
    if above:
        assert 0 < high <= above[0]
    assert answer["repeats_from"] == [None, None], "the scripted texts say nothing twice"


def test_the_first_crossing_on_either_side_counts() -> None:
    numbers = [-2.0, -1.0, 1.0, 2.0, 3.0]
    assert _beyond(numbers, [0.3, 0.1, 0.05, 0.15, 0.0], 0.1) == (-1.0, 1.5)
    assert _beyond(numbers, [0.0, 0.0, 0.2, 0.0, 0.0], 0.1) == (None, 0.5)
    assert _beyond(numbers, [math.nan, math.nan, math.nan, math.nan, LOOPS + 0.3], LOOPS) == (None, 1.5)
    assert _beyond([], [], 0.1) == (None, None)


def test_a_loop_without_a_space_is_a_loop() -> None:
    assert _repetition([7] * 32) > 0.9
    assert _repetition([1, 2, 3] * 5) > LOOPS
    assert _repetition(range(32)) == 0
    assert math.isnan(_repetition([1, 2]))
