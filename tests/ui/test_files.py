from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from wires import Wire

from steerlab import Ablate, Add, Direction, Recipe, Site
from steerlab.formats import gguf, load, refusal_direction, steering_vectors

V = Direction(range(1, 17), Site(3, "resid_pre"), name="mine", provenance={"position": -1})


def sent(*paths: Path) -> list[dict[str, str]]:
    return [{"name": p.name, "data": base64.b64encode(p.read_bytes()).decode()} for p in paths]


def rows(wire: Wire) -> list[str]:
    return [row["direction"] for row in wire.panel.state["steering"]]


def received(answer: dict[str, Any], folder: Path) -> list[Path]:
    folder.mkdir()
    for file in answer["files"]:
        (folder / file["name"]).write_bytes(base64.b64decode(file["data"]))
    return sorted(folder.iterdir())


def test_a_file_of_steerlab_becomes_a_direction_with_a_row(wire: Wire, tmp_path: Path) -> None:
    answer = wire.ask("load", files=sent(V.save(tmp_path / "v.safetensors")))
    assert answer["direction"] == "mine"
    assert rows(wire) == ["refusal", "mine"]
    loaded = wire.lab.directions["mine"]
    assert torch.equal(loaded.vector, V.vector)
    assert loaded.residual_norm, "measured, so that the slider has a scale"
    wire.ask("load", files=sent(tmp_path / "v.safetensors"))
    assert rows(wire) == ["refusal", "mine", "mine (2)"], "nothing is written over"


def test_a_site_that_a_file_does_not_say_is_asked_for_and_taken(wire: Wire, tmp_path: Path) -> None:
    refusal_direction.write(tmp_path, V)
    alone = sent(tmp_path / "direction.pt")
    question = wire.ask("load", files=alone)["question"]
    assert question["asks"] == "site"
    assert question["what"].startswith("direction.pt does not say where its vector belongs")
    assert rows(wire) == ["refusal"]
    assert wire.ask("load", files=alone, site=[4, "resid_post"])["direction"] == "direction"
    assert wire.lab.directions["direction"].site == Site(4, "resid_post")


def test_metadata_beside_a_file_answers_instead(wire: Wire, tmp_path: Path) -> None:
    refusal_direction.write(tmp_path, V)
    both = sent(tmp_path / "direction.pt", tmp_path / "direction_metadata.json")
    assert wire.ask("load", files=both)["direction"] == "direction"
    assert wire.lab.directions["direction"].site == V.site


def test_a_layer_of_many_and_a_point_are_asked_for(wire: Wire, tmp_path: Path) -> None:
    several = [Direction(V.vector, Site(layer, "resid_post")) for layer in (1, 2, 5)]
    file = sent(gguf.write(tmp_path / "v.gguf", several, model_hint="llama"))
    assert wire.ask("load", files=file)["question"] | {"what": ""} == {
        "asks": "layer",
        "what": "",
        "positions": [],
        "points": [],
        "layers": [1, 2, 5],
        "features": 0,
    }
    assert wire.ask("load", files=file, layer=2)["direction"] == "v 2"
    from safetensors.torch import save_file

    save_file({"layer.3": V.vector}, tmp_path / "s.safetensors")
    file = sent(tmp_path / "s.safetensors")
    question = wire.ask("load", files=file)["question"]
    assert (question["asks"], "mlp_out" in question["points"]) == ("point", True)
    wire.ask("load", files=file, point="mlp_out")
    assert wire.lab.directions["s 3"].site == Site(3, "mlp_out")


def test_a_feature_of_an_autoencoder_is_asked_for(wire: Wire, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"W_dec": torch.eye(16)[:5].contiguous()}, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"hook_name": "blocks.2.hook_resid_post"}))
    files = sent(*tmp_path.iterdir())
    question = wire.ask("load", files=files)["question"]
    assert (question["asks"], question["features"]) == ("feature", 5)
    wire.ask("load", files=files, feature=4)
    assert wire.lab.directions["feature 4"].vector[4] == 1


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("notes.txt", b"hello", "notes.txt is of no format that steerlab knows"),
        ("../../etc/v.pt", b"PK\x03\x04", "v.pt is damaged"),
        ("r.steer.json", b'{"format": "steerlab.recipe/1", "interventions": [', "no complete JSON text"),
    ],
)
def test_what_cannot_be_read_is_told_in_words_without_our_folder(
    wire: Wire, name: str, data: bytes, words: str
) -> None:
    error = wire.ask("load", files=[{"name": name, "data": base64.b64encode(data).decode()}])
    assert words in error["what"]
    assert "/tmp" not in error["what"] + error["hint"]
    assert rows(wire) == ["refusal"]


def test_a_direction_of_another_width_is_refused(wire: Wire, tmp_path: Path) -> None:
    other = Direction([1.0, 2.0, 3.0], Site(1, "resid_pre"), name="narrow")
    error = wire.ask("load", files=sent(other.save(tmp_path / "n.safetensors")))
    assert "d_model" in error["what"] or "width" in error["what"]
    assert "narrow" not in wire.lab.directions


def test_a_recipe_goes_out_and_comes_in_again_and_is_undone(wire: Wire, tmp_path: Path) -> None:
    recipe = Recipe([Ablate(wire.lab.directions["refusal"]), Add(V, 2.0)])
    wire.lab.recipe = recipe
    (file,) = received(wire.ask("export", form="recipe", revision=1), tmp_path / "out")
    assert file.name == "recipe.steer.json"
    assert Recipe.load(file) == recipe
    wire.lab.recipe = Recipe([])
    assert wire.ask("load", files=sent(file))["steps"] == 2
    assert wire.lab.recipe == recipe
    assert rows(wire) == ["refusal", "mine"], "the lab's own direction is known again"
    wire.say(kind="undo")
    assert wire.lab.recipe == Recipe([])


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_recipe_that_another_tool_wrote_anew_is_known(wire: Wire, tmp_path: Path, mark: str) -> None:
    recipe = Recipe([Add(V, 2.0)])
    text = json.dumps(json.loads(recipe.to_json()), sort_keys=True, indent=4)
    assert text.index("steerlab.recipe") > 200
    path = tmp_path / "r.json"
    path.write_text(mark + text, encoding="utf-8")
    assert wire.ask("load", files=sent(path))["steps"] == 1
    assert wire.lab.recipe == recipe == Recipe.load(path)


@pytest.mark.parametrize("name", ["方" * 100, "é" * 99 + " .", "x" * 300])
def test_a_long_name_is_cut_to_what_systems_take(wire: Wire, tmp_path: Path, name: str) -> None:
    long = Direction(V.vector, V.site, name=name)
    wire.lab.directions = {**wire.lab.directions, name: long}
    (file,) = received(wire.ask("export", form="safetensors", direction=name), tmp_path / "out")
    assert name.startswith(file.stem)
    assert len(file.stem) >= 66
    again = wire.ask("load", files=[{"name": f"{name}.txt", "data": sent(file)[0]["data"]}])
    assert again["direction"] == f"{name} (2)"


def test_a_recipe_that_comes_in_is_run(wire: Wire, tmp_path: Path) -> None:
    wire.say(kind="hello")
    wire.finished()
    Recipe([Add(V, 2.0)]).save(tmp_path / "new.steer.json")
    run = wire.panel._preview.run
    assert wire.ask("load", files=sent(tmp_path / "new.steer.json"))["steps"] == 1
    assert wire.panel._preview.run > run
    assert wire.finished()["status"] == "done"
    assert wire.text("steered") != wire.text("baseline")


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("safetensors", ["mine.safetensors"]),
        ("gguf", ["mine.gguf"]),
        ("pt", ["direction.pt", "direction_metadata.json"]),
    ],
)
def test_a_direction_goes_out_as_a_file_that_can_be_read(
    wire: Wire, tmp_path: Path, form: str, names: list[str]
) -> None:
    mine = Direction(V.vector, V.site, name="mine", provenance={"position": -1, "model_hint": "llama"})
    wire.lab.directions = {**wire.lab.directions, "mine": mine}
    files = received(wire.ask("export", form=form, direction="mine"), tmp_path / "out")
    assert [file.name for file in files] == names
    read = load(tmp_path / "out") if form == "pt" else load(files[0])
    assert torch.equal(read.vector, V.vector)
    same_stream = {"resid_pre": Site(3, "resid_pre"), "resid_post": Site(2, "resid_post")}
    assert read.site
    assert read.site == same_stream[read.site.point]


def test_what_a_format_cannot_say_is_told(wire: Wire) -> None:
    error = wire.ask("export", form="gguf", direction="refusal")
    assert "names the type of its model" in error["what"]
    assert "no direction 'x'" in wire.ask("export", form="pt", direction="x")["what"]


def test_a_direction_is_renamed_with_its_row_and_in_the_recipe(wire: Wire) -> None:
    wire.push(1.5)
    wire.lab.directions = {**wire.lab.directions, "mine": V}
    before = wire.lab.recipe
    assert wire.ask("rename", direction="refusal", name=" no ")["name"] == "no"
    assert list(wire.lab.directions) == ["no", "mine"]
    assert wire.lab.recipe == before
    assert wire.lab.recipe.interventions[0].direction is wire.lab.directions["no"]
    assert [(r["direction"], r["coefficient"]) for r in wire.panel.state["steering"]] == [
        ("no", 1.5),
        ("mine", 0.0),
    ]
    assert "already" in wire.ask("rename", direction="no", name="mine")["what"]
    assert "needs a name" in wire.ask("rename", direction="no", name=" ")["what"]
    wire.say(kind="undo")
    assert [(r["direction"], r["coefficient"]) for r in wire.panel.state["steering"]] == [
        ("no", 0.0),
        ("mine", 0.0),
    ]
    wire.say(kind="redo")
    assert wire.panel.state["steering"][0]["coefficient"] == 1.5
    assert wire.lab.recipe.interventions[0].direction.same(wire.lab.directions["no"])


def test_a_name_changed_in_python_keeps_the_row(wire: Wire) -> None:
    wire.push(1.5)
    wire.lab.directions = {"no": wire.lab.directions["refusal"]}
    assert [(r["direction"], r["coefficient"]) for r in wire.panel.state["steering"]] == [("no", 1.5)]


def test_a_row_that_was_taken_away_stays_away_and_comes_back_by_undo(wire: Wire) -> None:
    wire.lab.directions = {**wire.lab.directions, "mine": V}
    wire.run(steering=[wire.panel.state["steering"][1]])
    assert rows(wire) == ["mine"]
    wire.lab.recipe = Recipe([Add(V)])
    wire.lab.directions = {**wire.lab.directions, "third": Direction(torch.ones(16), V.site, name="third")}
    assert rows(wire) == ["mine", "third"]
    assert "refusal" in wire.lab.directions
    for _ in range(2):
        wire.say(kind="undo")
    assert rows(wire) == ["refusal", "mine", "third"]


def test_rows_are_in_the_recipe_s_order_both_ways(wire: Wire) -> None:
    wire.lab.directions = {**wire.lab.directions, "mine": V}
    one, other = ({**r, "coefficient": 1.0} for r in wire.panel.state["steering"])
    wire.run(steering=[other, one])
    assert [step.direction.name for step in wire.lab.recipe.interventions] == ["mine", "refusal"]
    wire.lab.recipe = Recipe(wire.lab.recipe.interventions[::-1])
    assert rows(wire) == ["refusal", "mine"]
    third = Direction(torch.ones(16), V.site, name="third")
    wire.lab.recipe = Recipe([Add(third), *wire.lab.recipe.interventions])
    assert rows(wire) == ["third", "refusal", "mine"]


def test_a_direction_may_have_two_rows(wire: Wire) -> None:
    (row,) = wire.panel.state["steering"]
    wire.run(steering=[{**row, "coefficient": 1.0}, {**row, "mode": "ablate", "coefficient": 0.5}])
    d = wire.lab.directions["refusal"]
    assert d.site
    assert wire.lab.recipe == Recipe([Add(d), Ablate(d, sites=[d.site], strength=0.5)])
    wire.lab.recipe = Recipe([Ablate(d, sites=[d.site], strength=0.7)])
    assert [(r["mode"], r["coefficient"], r["enabled"]) for r in wire.panel.state["steering"]] == [
        ("add", 1.0, False),
        ("ablate", 0.7, True),
    ]


def test_a_steering_vector_is_read_too(wire: Wire, tmp_path: Path) -> None:
    file = steering_vectors.write(tmp_path / "s.safetensors", Direction(V.vector, Site(2, "resid_post")))
    assert wire.ask("load", files=sent(file))["direction"] == "s 2"
