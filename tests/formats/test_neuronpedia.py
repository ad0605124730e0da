from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import harm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steerlab import Direction, Site
from steerlab.errors import DirectionError, FileError, SiteError
from steerlab.formats import load, neuronpedia

VECTOR = {"modelId": "gpt2-small", "layerNumber": 6, "hookType": "hook_resid_pre", "vector": [0.5, -2, 3e-3]}


def make(path: Path, **changes: Any) -> Path:
    data = {k: v for k, v in {**VECTOR, **changes}.items() if v is not None}
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_a_vector_says_its_site(tmp_path: Path) -> None:
    d = neuronpedia.read(make(tmp_path / "v.json", vectorLabel="calm"))
    assert (d.site, d.name, d.model) == (Site(6, "resid_pre"), "calm", None)
    assert d.numpy().tolist() == pytest.approx([0.5, -2, 3e-3])
    assert d.provenance["modelId"] == "gpt2-small"


def test_a_feature_says_its_site_by_the_name_of_its_hook(tmp_path: Path) -> None:
    path = make(
        tmp_path / "f.json",
        layer="20-gemmascope-res-16k",
        index="8",
        hookName="blocks.20.hook_resid_post",
        layerNumber=None,
        hookType=None,
    )
    assert neuronpedia.read(path).site == Site(20, "resid_post")


@pytest.mark.parametrize(
    "missing",
    [{"hookType": None}, {"layerNumber": None}, {"layerNumber": "6"}, {"layerNumber": True}, {"hookType": 3}],
)
def test_without_a_hook_the_site_is_asked_for(tmp_path: Path, missing: dict[str, Any]) -> None:
    path = make(tmp_path / "v.json", **missing)
    with pytest.raises(FileError, match=r"hookType and layerNumber.*site=Site\(12, \"resid_pre\"\)"):
        neuronpedia.read(path)
    assert neuronpedia.read(path, site=Site(2, "mlp_out")).site == Site(2, "mlp_out")


@pytest.mark.parametrize(
    "hook", [{"hookType": "hook_mlp_in"}, {"layerNumber": None, "hookName": "blocks.6.attn.hook_z"}]
)
def test_a_hook_outside_the_residual_stream_is_refused(tmp_path: Path, hook: dict[str, Any]) -> None:
    with pytest.raises(SiteError, match="not of the residual stream"):
        neuronpedia.read(make(tmp_path / "v.json", **hook))


@pytest.mark.parametrize("vector", [["1"], [None], [[1.0]], [True], [10**400], "1", {}, None], ids=str)
def test_what_is_no_list_of_numbers_is_refused(tmp_path: Path, vector: Any) -> None:
    with pytest.raises(FileError):
        neuronpedia.read(make(tmp_path / "v.json", vector=vector))


@pytest.mark.parametrize("vector", [[1.0, float("nan")], [float("inf")], [0.0], [], [1e300]], ids=str)
def test_what_is_no_direction_is_refused(tmp_path: Path, vector: list[float]) -> None:
    with pytest.raises(DirectionError):
        neuronpedia.read(make(tmp_path / "v.json", vector=vector))


def test_an_empty_vector_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(DirectionError, match="v.json has an empty vector: Neuronpedia does not keep"):
        neuronpedia.read(make(tmp_path / "v.json", vector=[]))


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_text(json.dumps(VECTOR), encoding="utf-8-sig")
    assert neuronpedia.read(path).site == load(path).site == Site(6, "resid_pre")


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=25, deadline=None)
@given(
    vector=st.lists(numbers, min_size=1, max_size=9).filter(any),
    layer=st.integers(0, 200),
    point=st.sampled_from(["resid_pre", "resid_post"]),
    name=st.text(min_size=1),
)
def test_a_round_trip_keeps_every_number(
    tmp_path_factory: pytest.TempPathFactory, vector: list[float], layer: int, point: Any, name: str
) -> None:
    d = Direction(vector, Site(layer, point), name=name)  # type: ignore[arg-type]
    path = neuronpedia.write(tmp_path_factory.mktemp("np") / "v.json", d, model_id="gemma-2b")
    back = neuronpedia.read(path)
    assert back.numpy().tolist() == d.numpy().tolist()
    assert (back.site, back.name) == (d.site, d.name)
    assert neuronpedia.write(path.with_name("again.json"), back).read_bytes() == path.read_bytes()


def test_what_neuronpedia_does_not_take_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    for direction in (Direction([1.0], Site(3, "mlp_out")), Direction([1.0])):
        with pytest.raises(SiteError, match="resid_pre and resid_post"):
            neuronpedia.write(path, direction, model_id="gpt2-small")
    with pytest.raises(FileError, match='model_id="gpt2-small"'):
        neuronpedia.write(path, Direction([1.0], Site(3, "resid_pre")))
    assert not path.exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "v.json")
    harm.check_cuts(path, neuronpedia.read)
    harm.check_flips(path, neuronpedia.read)
    harm.check_noise(path, neuronpedia.read, b'{"vector": ')
    harm.check_missing(tmp_path / "none.json", neuronpedia.read)
    path.write_text('{"vector": ' + "[" * 100_000)
    with pytest.raises(FileError):
        neuronpedia.read(path)
