from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from typing import Any

import pytest
import torch
from wires import Wire

from steerlab import Ablate, Add, Clamp, Direction, Gate, Lab, Recipe, Sampling, Site
from steerlab.ui.code import CodeQuestion, answer

OTHER = Direction(torch.ones(16), Site(2, "resid_pre"), name="other")


def recipes(v: Direction) -> list[Recipe]:
    return [
        Recipe([]),
        Recipe([Add(v, -1.5)]),
        Recipe([Add(v, 2.0, layers=[1, 2], sites=["attn_out", "mlp_out"], tokens="prompt", keep_norm=True)]),
        Recipe([Add(v, sites=[Site(1, "resid_pre"), Site(3, "mlp_out")], tokens=[-2, -1])]),
        Recipe([Ablate(v, layers=3, sites="mlp_out"), Clamp(v, 0.5)]),
        Recipe([Ablate(v, layers=range(2, 5), sites="resid_pre", strength=0.5, one_sided=True)]),
        Recipe([Ablate(v, gate=Gate(v, 0.5)), Add(OTHER)]),
    ]


@pytest.mark.parametrize("n", range(7))
def test_the_code_makes_the_recipe_again_and_generates_with_it(wire: Wire, n: int) -> None:
    recipe = recipes(wire.lab.directions["refusal"])[n]
    wire.lab.recipe, wire.lab.sampling = recipe, Sampling(9, 0.5)
    wire.say(kind="ask", id="1", what={"kind": "code", "revision": wire.panel.state["revision"]})
    (answer,) = wire.kinds("answer")
    forms = {form["name"]: form["source"] for form in answer["answer"]["forms"]}
    assert Recipe.from_json(forms["JSON"]) == recipe
    assert json.loads(forms["JSON"])
    names: dict[str, Any] = {"lab": wire.lab}
    with redirect_stdout(io.StringIO()) as printed:
        exec(forms["steerlab"], names)
    assert names["recipe"] == recipe
    assert printed.getvalue().strip() == str(
        wire.lab.generate(wire.lab.prompt, recipe, max_new_tokens=9, temperature=0.5)
    )


def test_a_model_that_no_code_can_load_says_so_in_the_code(wire: Wire) -> None:
    wire.say(kind="ask", id="1", what={"kind": "code", "revision": 0})
    forms = {form["name"]: form["source"] for form in wire.kinds("answer")[0]["answer"]["forms"]}
    assert forms["nnsight"].startswith(
        "# code that loads the model needs the model's weights in this process"
    )


def test_the_embedded_model_has_code_without_steerlab(demo_lab: Lab) -> None:
    before = demo_lab.snapshot("before")
    demo_lab.recipe = Recipe([Add(demo_lab.directions["refusal"])])
    forms = {
        form.name: form.source for form in answer(demo_lab, CodeQuestion(revision=0), lambda *_: None).forms
    }
    demo_lab.restore(before)
    assert "from nnsight import" in forms["nnsight"]
    assert "import steerlab" not in forms["nnsight"]


def test_code_is_answered_while_long_work_goes_on(slow: Wire) -> None:
    slow.say(kind="hello")
    slow.until(lambda: slow.kinds("tokens"))
    slow.say(kind="ask", id="1", what={"kind": "code", "revision": 0})
    assert slow.kinds("answer"), "at once, before the run has ended"
    assert not slow.kinds("end")
