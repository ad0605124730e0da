from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from steerlab import ContrastSet, Site, formats
from steerlab.backends.fake import FakeBackend
from steerlab.errors import DirectionError, FileError, SiteError
from steerlab.estimators import DirectionMap, caa, difference_in_means, logistic_probe

CONTRAST = ContrastSet(["Do it!", "Go on, now."], ["Is it?", "What is it?"], "will")


def saved(path: Path) -> DirectionMap:
    found = difference_in_means(FakeBackend(), CONTRAST)
    found.save(path)
    return found


def test_a_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    backend = FakeBackend()
    conversations = [("Is it far?", "Yes, very", "No"), ("Is it nice?", "Yes", "No, no")]
    for i, found in enumerate(
        (
            difference_in_means(backend, CONTRAST, point="mlp_out"),
            logistic_probe(backend, CONTRAST),
            caa(backend, conversations, position="response"),
        )
    ):
        back = DirectionMap.load(found.save(tmp_path / str(i)))
        for name in ("vectors", "residual_norms"):
            assert torch.equal(getattr(back, name), getattr(found, name))
        for name in ("positions", "point", "name", "model", "provenance", "details"):
            assert getattr(back, name) == getattr(found, name), name
        position, layer = found.positions[-1], 2
        one, other = found.at(position, layer), back.at(position, layer)
        assert one.same(other)
        assert one.to_dict() == other.to_dict()


def test_the_file_has_a_tensor_for_every_layer(tmp_path: Path) -> None:
    found = saved(tmp_path / "x")
    with safe_open(tmp_path / "x", framework="pt") as file:
        assert set(file.keys()) == {"layer.0", "layer.1", "layer.2", "layer.3", "residual_norms"}
        assert torch.equal(file.get_tensor("layer.2"), found.vectors[:, 2])
        about = json.loads(file.metadata()["directions"])
    assert about["provenance"]["method"] == "difference in means"
    assert about["provenance"].keys() >= {"steerlab", "chat template hash", "prompts hash"}


def test_the_front_door_asks_for_the_position_and_then_for_the_layer(tmp_path: Path) -> None:
    found = saved(tmp_path / "x")
    assert formats.recognise(tmp_path / "x") == "steerlab_map"
    with pytest.raises(FileError, match=r"each of the positions .*Answer with one: position=-1"):
        formats.load(tmp_path / "x", layer=2)
    with pytest.raises(FileError, match=r"each of the layers 1 to 3.*Answer with one: layer=1"):
        formats.load(tmp_path / "x", position=-1)
    with pytest.raises(FileError, match="has no position -99"):
        formats.load(tmp_path / "x", position=-99)
    assert formats.load(tmp_path / "x", position=-1, layer=2).same(found.at(-1, 2))
    layers = formats.load_layers(tmp_path / "x", position=-2)
    assert {i: d.same(found.at(-2, i)) for i, d in layers.items()} == {1: True, 2: True, 3: True}


def test_a_map_knows_its_own_directions(tmp_path: Path) -> None:
    found = saved(tmp_path / "x")
    position = found.positions[-1]
    assert found.cell_of(found.at(position, 2)) == (position, 2)
    assert found.cell_of(-found.at(position, 2)) is None
    assert found.cell_of(dataclasses.replace(found.at(position, 2), site=Site(9, "resid_pre"))) is None


def test_a_position_at_which_nothing_differs_is_refused_in_words(tmp_path: Path) -> None:
    same = DirectionMap(torch.zeros(1, 2, 3), torch.ones(1, 2), (-1,), "resid_pre")
    with pytest.raises(FileError, match="differ at position -1 of no layer"):
        formats.load(same.save(tmp_path / "x"))


def test_what_is_outside_a_map_is_refused_in_words() -> None:
    found = difference_in_means(FakeBackend(), CONTRAST)
    for ask in (found.at, found.differs, lambda position, _: found.cosines(position)):
        with pytest.raises(DirectionError, match=r"position -99 is not in the map\. It has \["):
            ask(-99, 2)
    for ask in (found.at, found.differs):
        for layer in (-1, 4):
            with pytest.raises(SiteError, match=f"layer {layer} is out of range: the map has 4 layers"):
                ask(-1, layer)


def test_what_is_no_map_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(FileError, match="there is no file"):
        DirectionMap.load(path)
    saved(path).at(-1, 2).save(path)
    with pytest.raises(FileError, match=r"its format is 'steerlab\.direction/1'\. One direction is read by"):
        DirectionMap.load(path)
    tensors = {"layer.0": torch.zeros(2, 3), "residual_norms": torch.zeros(2, 1)}
    about = {"name": "v", "model": None, "point": "resid_pre", "positions": [-1]}
    about |= {"provenance": {}, "details": []}
    for directions, says in ((json.dumps(about), "vectors"), ("{", "damaged"), ("[]", "damaged")):
        save_file(tensors, path, {"format": "steerlab.directions/1", "directions": directions})
        with pytest.raises(FileError, match=says):
            DirectionMap.load(path)
