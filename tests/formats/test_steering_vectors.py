"""SteeringVector objects and the safetensors of their layers; tests/peers has objects that the package trained."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harm
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from steerlab import Ablate, Add, Direction, Recipe, Site
from steerlab.errors import DirectionError, FileError, RecipeError, SiteError
from steerlab.formats import steering_vectors


@dataclass
class Stand:
    """What a SteeringVector has."""

    layer_activations: dict[int, torch.Tensor] = field(
        default_factory=lambda: {3: torch.ones(4), 1: -torch.ones(4)}
    )
    layer_type: Any = "decoder_block"


def make(path: Path, names: tuple[str, ...] = ("0", "5"), **metadata: str) -> Path:
    save_file({n: torch.arange(1.0, 5.0) + i for i, n in enumerate(names)}, path, metadata)
    return path


def test_decoder_blocks_are_resid_post() -> None:
    found = steering_vectors.from_object(Stand())
    assert list(found) == [1, 3]
    assert [d.site for d in found.values()] == [Site(1, "resid_post"), Site(3, "resid_post")]
    assert found[1].numpy().tolist() == [-1.0] * 4


@pytest.mark.parametrize(("layer_type", "point"), [("mlp", "mlp_out"), ("self_attn", "attn_out")])
def test_a_sublayer_asks_whether_a_norm_follows(layer_type: str, point: Any) -> None:
    vector = Stand(layer_type=layer_type)
    with pytest.raises(FileError, match=f"normalises after it, as Gemma 2 does.*point='{point}'"):
        steering_vectors.from_object(vector)
    assert steering_vectors.from_object(vector, point=point)[3].site == Site(3, point)


@pytest.mark.parametrize("layer_type", ["input_layernorm", "post_attention_layernorm", "other"])
def test_inputs_of_norms_are_refused_whatever_the_answer(layer_type: str) -> None:
    for point in (None, "resid_pre"):
        with pytest.raises(SiteError, match=f"is of {layer_type}, which is not of the residual stream"):
            steering_vectors.from_object(Stand(layer_type=layer_type), point=point)  # type: ignore[arg-type]


def test_a_layer_of_zeros_adds_nothing() -> None:
    assert list(steering_vectors.from_object(Stand({1: torch.zeros(2), 2: torch.ones(2)}))) == [2]


def test_without_a_layer_type_the_point_is_asked_for(tmp_path: Path) -> None:
    path = make(tmp_path / "v.safetensors")
    with pytest.raises(FileError, match="point='resid_post'"):
        steering_vectors.read(path)
    with pytest.raises(FileError, match="point='resid_post'"):
        steering_vectors.from_object(Stand(layer_type=None))
    assert steering_vectors.read(path, point="resid_mid")[5].site == Site(5, "resid_mid")
    with pytest.raises(SiteError, match="no point 'resid'"):
        steering_vectors.read(path, point="resid")  # type: ignore[arg-type]
    with pytest.raises(SiteError, match="which is resid_post, and point='resid_pre'"):
        steering_vectors.from_object(Stand(), point="resid_pre")


@pytest.mark.parametrize("prefix", ["", "layer.", "layers.", "layer_", "layer_activations."])
def test_files_of_many_hands_name_layers_alike(tmp_path: Path, prefix: str) -> None:
    path = make(tmp_path / "v.safetensors", (f"{prefix}0", f"{prefix}12"), layer_type="decoder_block")
    assert list(steering_vectors.read(path)) == [0, 12]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("0", "weight"), "'weight', which does not name a layer"),
        (("-1",), "does not name a layer"),
        (("1", "layer.1"), "two vectors for layer 1"),
        ((), "has no layers"),
    ],
)
def test_other_tensors_are_refused(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    path = make(tmp_path / "v.safetensors", names, layer_type="decoder_block")
    with pytest.raises(FileError, match=says):
        steering_vectors.read(path)


@pytest.mark.parametrize(
    ("activations", "error", "says"),
    [
        ({}, FileError, "has no layers"),
        ({-1: torch.ones(2)}, SiteError, "layer -1"),
        ({"1": torch.ones(2)}, SiteError, "layer '1'"),
        ({1: torch.tensor([1.0, float("nan")])}, DirectionError, "NaN"),
        ({1: torch.zeros(2)}, DirectionError, "zero everywhere"),
        ({1: [1.0, 2.0]}, FileError, "has list at layer 1"),
        ({1: torch.ones(1, 2)}, DirectionError, r"shape \[1, 2\]"),
        ({1: torch.ones(2), 2: torch.ones(3)}, DirectionError, "different widths"),
    ],
)
def test_what_is_no_steering_vector_is_refused(activations: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        steering_vectors.from_object(Stand(activations))
    with pytest.raises(FileError, match="dict is no SteeringVector"):
        steering_vectors.from_object(activations)


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=25, deadline=None)
@given(
    layers=st.dictionaries(
        st.integers(0, 200), st.lists(numbers, min_size=3, max_size=3).filter(any), min_size=1, max_size=4
    )
)
def test_a_round_trip_keeps_every_number(
    tmp_path_factory: pytest.TempPathFactory, layers: dict[int, list[float]]
) -> None:
    given = [Direction(v, Site(layer, "resid_post")) for layer, v in layers.items()]  # type: ignore[arg-type]
    path = steering_vectors.write(tmp_path_factory.mktemp("sv") / "v.safetensors", given)
    wanted = {d.site and d.site.layer: d.numpy().tolist() for d in given}
    assert {layer: d.numpy().tolist() for layer, d in steering_vectors.read(path).items()} == wanted
    live = Stand(**steering_vectors.arguments(given))
    assert {n: d.numpy().tolist() for n, d in steering_vectors.from_object(live).items()} == wanted


def test_a_recipe_is_written_as_what_it_adds(tmp_path: Path) -> None:
    v = Direction([1.0, 2.0], Site(3, "resid_pre"))
    path = steering_vectors.write(tmp_path / "v.safetensors", Recipe([Add(v, -2.0), Add(v, layers=[0 + 1])]))
    found = steering_vectors.read(path)
    assert {n: d.numpy().tolist() for n, d in found.items()} == {0: [1.0, 2.0], 2: [-2.0, -4.0]}
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["layer_type"] == "decoder_block"
    with pytest.raises(RecipeError, match="can only add"):
        steering_vectors.write(path, Recipe([Ablate(v)]))


class Bomb:
    """Runs a command where its pickle is opened."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path, marker = tmp_path / "v.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(FileError, match="of a pickle, save its tensors as safetensors first"):
        steering_vectors.read(path)
    assert not marker.exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "v.safetensors", layer_type="decoder_block")
    harm.check_cuts(path, steering_vectors.read)
    harm.check_flips(path, steering_vectors.read)
    harm.check_noise(path, steering_vectors.read, b"")
    harm.check_missing(tmp_path / "none.safetensors", steering_vectors.read)
    with pytest.raises(FileError, match="is a folder"):
        steering_vectors.read(tmp_path)
