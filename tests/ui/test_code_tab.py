from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import pytest
import torch
from wires import Wire

from steerlab import Ablate, Add, Clamp, Direction, Gate, Lab, Recipe, Sampling, Site
from steerlab.demo import WEIGHTS

OTHER = Direction(torch.ones(16), Site(2, "resid_pre"), name="other")
RECIPES = ["baseline", "add", "several", "gated"]


def recipe_of(name: str, v: Direction) -> Recipe:
    return {
        "baseline": Recipe([]),
        "add": Recipe([Add(v, -1.5)]),
        "several": Recipe([Ablate(v, layers=3, sites="mlp_out"), Clamp(v, 0.5, tokens="prompt")]),
        "gated": Recipe([Ablate(v, gate=Gate(v, 0.5)), Add(OTHER)]),
    }[name]


def forms(wire: Wire) -> dict[str, dict[str, Any]]:
    revision = wire.panel.state["revision"]
    wire.say(kind="ask", id=str(revision), what={"kind": "code", "revision": revision})
    answer = wire.kinds("answer")[-1]
    assert answer["id"] == str(revision)
    return {form["name"]: form for form in answer["answer"]["forms"]}


@pytest.mark.parametrize("name", RECIPES)
def test_the_code_makes_the_recipe_again_and_generates_with_it(wire: Wire, name: str) -> None:
    wire.lab.recipe = recipe_of(name, wire.lab.directions["refusal"])
    wire.lab.sampling = Sampling(9, 0.5)
    written = forms(wire)
    assert Recipe.from_json(written["JSON"]["source"]) == wire.lab.recipe
    names: dict[str, Any] = {"lab": wire.lab}
    with redirect_stdout(io.StringIO()) as printed:
        exec(written["steerlab"]["source"], names)
    assert names["recipe"] == wire.lab.recipe
    answer = wire.lab.generate(wire.lab.prompt, wire.lab.recipe, max_new_tokens=9, temperature=0.5)
    assert printed.getvalue().strip() == str(answer)


def test_a_form_that_cannot_be_written_says_why_and_the_others_stand(wire: Wire) -> None:
    written = forms(wire)
    assert written["nnsight"]["source"] == ""
    assert written["nnsight"]["missing"]["what"]
    assert written["steerlab"]["missing"] is None
    assert written["JSON"]["source"]


@pytest.mark.skipif(
    not (WEIGHTS / "config.json").is_file(), reason="the embedded model is still to be trained"
)
def test_the_embedded_model_s_recipe_is_written_in_pure_nnsight() -> None:
    wire = Wire(Lab())
    wire.lab.recipe = Recipe([Add(wire.lab.directions["refusal"])])
    source = forms(wire)["nnsight"]["source"]
    compile(source, "cell", "exec")
    assert "import steerlab" not in source


def test_code_is_answered_while_long_work_goes_on(slow: Wire) -> None:
    slow.say(kind="hello")
    slow.until(lambda: slow.kinds("tokens"))
    assert forms(slow), "at once, before the run has ended"
    assert not slow.kinds("end")
