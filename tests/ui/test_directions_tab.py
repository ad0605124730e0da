from __future__ import annotations

import math

import pytest
import torch
from wires import Wire

from steerlab import Direction, Lab, Site
from steerlab.demo import WEIGHTS
from steerlab.estimators import DirectionMap

V = Direction(range(1, 17), Site(3, "resid_pre"), name="mine", provenance={"method": "by hand", "n": [1, -2]})


def test_cosines_and_provenance_of_every_direction_the_recipe_s_too(wire: Wire) -> None:
    refusal = wire.lab.directions["refusal"]
    wire.lab.directions = {"refusal": refusal, "mine": V, "not": -refusal}
    answer = wire.ask("directions", revision=1, map="")
    assert answer["names"] == ["refusal", "mine", "not"]
    assert answer["cosines"][0][2] == pytest.approx(-1)
    assert answer["cosines"][1][0] == pytest.approx(V.cosine(refusal), abs=1e-4)
    facts = {fact["name"]: fact["value"] for fact in answer["facts"][1]}
    assert facts["method"] == "by hand"
    assert facts["n"] == "1; −2"
    assert facts["site"].startswith("resid_pre[3], the input of block 3")
    assert "stream’s norm" not in facts
    assert answer["map"] is None


def test_a_map_has_norms_beside_the_stream_s_and_cosines_between_layers(wire: Wire) -> None:
    vectors = torch.zeros(2, 3, 16, dtype=torch.float64)
    vectors[1, 1, 0], vectors[1, 2, :2] = 3.0, torch.tensor([1.0, 1.0])
    wire.lab.map = DirectionMap(vectors, torch.full((2, 3), 6.0), (-2, -1), "resid_pre", name="x")
    found = wire.ask("directions", revision=1, map="")["map"]
    assert found["positions"] == [-2, -1]
    assert found["norms"][0] == [None, None, None], "where the sides do not differ there is no direction"
    assert found["norms"][1][1:] == [3.0, pytest.approx(math.sqrt(2), abs=1e-4)]
    assert found["residual_norms"][1] == [6.0, 6.0, 6.0]
    values = wire.ask("map-cosines", map=found["id"], position=-1)["values"]
    assert values[0] == [None, None, None]
    assert values[1][2] == pytest.approx(math.sqrt(0.5), abs=1e-4)
    assert "not the lab's any more" in wire.ask("map-cosines", map="other", position=-1)["what"]


def test_a_direction_is_told_to_be_a_cell_of_the_map_only_where_it_is_that_vector(wire: Wire) -> None:
    vectors = torch.zeros(2, 4, 16, dtype=torch.float64)
    vectors[0, 3] = torch.tensor(range(1, 17))
    vectors[1, 3, 0] = 1.0
    assert wire.panel.info["map"] == ""
    wire.lab.map = DirectionMap(vectors, torch.full((2, 4), 6.0), (-2, -1), "resid_pre", name="x")
    wire.lab.directions = {"mine": V, "doubled": 2 * V}
    answer = wire.ask("directions", revision=1, map=wire.panel.info["map"])
    assert answer["map"]["id"] == wire.panel.info["map"]
    assert answer["own"] == [{"position": -2, "layer": 3}, None]


def test_expression_is_by_point_and_layer_and_beside_chance(wire: Wire) -> None:
    answer = wire.ask("expression", direction="refusal", fingerprint="", epoch=0, prompt="Hello there")
    assert answer["points"] == wire.panel.info["points"]
    assert [len(row) for row in answer["shares"]] == [10] * 5
    assert all(0 <= share <= 1 for row in answer["shares"] for share in row)
    assert answer["chance"] == pytest.approx(math.sqrt(2 / math.pi / 16))
    row = answer["points"].index("resid_pre")
    after = answer["points"].index("resid_post")
    assert answer["shares"][row][5] == answer["shares"][after][4], "one stream"


def test_what_cannot_be_told_is_told_in_words(wire: Wire) -> None:
    assert "no direction 'x'" in wire.ask("nearest", direction="x", fingerprint="", epoch=0)["what"]


@pytest.mark.skipif(
    not (WEIGHTS / "config.json").is_file(), reason="the embedded model is still to be trained"
)
def test_the_embedded_model_has_a_map_on_request_and_tokens_near_its_direction() -> None:
    wire = Wire(Lab())
    made = wire.ask("bundled-map")
    answer = wire.ask("directions", revision=1, map=made["id"])
    found = answer["map"]
    assert found["id"] == made["id"]
    assert found["name"] != "refusal", "it is not the direction of that name"
    assert answer["own"] == [None]
    assert len(found["norms"][-1]) == 10
    values = wire.ask("map-cosines", map=made["id"], position=found["positions"][-1])["values"]
    assert values[-1][-1] == pytest.approx(1)
    for by in ("unembedding", "embedding", "head"):
        near = wire.ask("nearest", direction="refusal", fingerprint="", epoch=0, by=by)
        assert len(near["along"]) == len(near["against"]) == 10
        assert near["along"][0]["value"] >= near["along"][9]["value"]
