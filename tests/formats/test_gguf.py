"""GGUF control vectors; the files here are made by the gguf package, those of tests/peers by repeng."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import harm
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steerlab import Ablate, Add, Direction, Recipe, Site
from steerlab.errors import DirectionError, FileError, RecipeError, SiteError
from steerlab.formats import gguf
from steerlab.interventions import Clamp, Gate

peer = pytest.importorskip("gguf")
D = 12


def make(
    path: Path,
    tensors: dict[str, np.ndarray[Any, Any]],
    architecture: str = "controlvector",
    hint: str | None = "llama",
) -> Path:
    """A file as repeng writes it."""
    writer = peer.GGUFWriter(path, architecture)
    if hint is not None:
        writer.add_string(f"{architecture}.model_hint", hint)
    writer.add_uint32(f"{architecture}.layer_count", len(tensors))
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def vector(seed: int, dtype: type = np.float32) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=D).astype(dtype)


def direction(seed: int, layer: int, point: str = "resid_post") -> Direction:
    return Direction(torch.from_numpy(vector(seed)), Site(layer, point))  # type: ignore[arg-type]


def test_direction_n_is_the_output_of_block_n(tmp_path: Path) -> None:
    path = make(tmp_path / "mood.gguf", {f"direction.{n}": vector(n) for n in (3, 1, 2)})
    found = gguf.read(path)
    assert list(found) == [1, 2, 3], "in order, whatever the order in the file"
    for layer, d in found.items():
        assert d.site == Site(layer, "resid_post")
        assert d.numpy().tolist() == vector(layer).tolist()
        assert d.provenance["model_hint"] == "llama"
        assert d.model is None, "a type is no model"


def test_what_is_written_is_what_the_package_reads(tmp_path: Path) -> None:
    path = gguf.write(tmp_path / "v.gguf", [direction(2, 2), direction(1, 1)], model_hint="qwen2")
    reader = peer.GGUFReader(path)
    assert {t.name: t.data.tolist() for t in reader.tensors} == {
        "direction.1": vector(1).tolist(),
        "direction.2": vector(2).tolist(),
    }
    assert {t.tensor_type.name for t in reader.tensors} == {"F32"}
    assert all(len(t.shape) == 1 for t in reader.tensors)
    assert bytes(reader.get_field("general.architecture").parts[-1]) == b"controlvector"
    assert bytes(reader.get_field("controlvector.model_hint").parts[-1]) == b"qwen2"
    assert reader.get_field("controlvector.layer_count").parts[-1][0] == 2


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=30, deadline=None)
@given(
    layers=st.dictionaries(
        st.integers(1, 200), st.lists(numbers, min_size=5, max_size=5).filter(any), min_size=1, max_size=4
    )
)
def test_a_round_trip_keeps_every_number(
    tmp_path_factory: pytest.TempPathFactory, layers: dict[int, list[float]]
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "v.gguf"
    given = [Direction(v, Site(layer, "resid_post")) for layer, v in layers.items()]  # type: ignore[arg-type]
    found = gguf.read(gguf.write(path, given, model_hint="llama"))
    assert {layer: d.numpy().tolist() for layer, d in found.items()} == {
        layer: np.array(v, np.float32).tolist() for layer, v in layers.items()
    }
    again = gguf.write(path.with_name("again.gguf"), list(found.values()))  # the hint is remembered
    assert again.read_bytes() == path.read_bytes()


def test_a_recipe_is_written_as_what_it_adds(tmp_path: Path) -> None:
    """Coefficients are multiplied in, additions at one place are summed, input of block 3 = output of block 2."""
    a, b = direction(1, 2), direction(2, 3, "resid_pre")
    recipe = Recipe([Add(a, 2.0), Add(b, -0.5), Add(a, 3.0, layers=[4, 5])])
    found = gguf.read(gguf.write(tmp_path / "v.gguf", recipe, model_hint="llama"))
    assert list(found) == [2, 4, 5]
    assert torch.allclose(found[2].vector, 2 * a.vector - 0.5 * b.vector)
    assert torch.equal(found[5].vector, 3 * a.vector)


@pytest.mark.parametrize(
    ("recipe", "error", "says"),
    [
        (Recipe([Ablate(direction(1, 1))]), RecipeError, "can only add, and the recipe has 'ablate'"),
        (Recipe([Add(direction(1, 1), tokens="prompt")]), RecipeError, "the same vector at every token"),
        (Recipe([Add(direction(1, 1), tokens=[-1])]), RecipeError, "the same vector at every token"),
        (Recipe([Add(direction(1, 1), keep_norm=True)]), RecipeError, "keep_norm"),
        (Recipe([Add(direction(1, 1), gate=Gate(direction(2, 1)))]), RecipeError, "a gate"),
        (Recipe([Clamp(direction(1, 1), 2.0)]), RecipeError, "the recipe has 'clamp'"),
        (Recipe([Add(direction(1, 1), layers="all")]), RecipeError, "layers='all' does not say how many"),
        (Recipe([Add(direction(1, 1, "mlp_out"))]), SiteError, r"cannot say mlp_out\[1\]"),
        (direction(1, 0, "resid_pre"), SiteError, "embeddings"),
        (direction(1, 0), SiteError, "llama.cpp refuses"),
        (direction(1, 1, "resid_pre"), SiteError, "llama.cpp refuses"),
        (Recipe(), RecipeError, "adds nothing"),
        (Recipe([Add(direction(1, 1)), Add(direction(1, 1), -1.0)]), RecipeError, "adds nothing"),
        ([direction(1, 1), Direction([1.0], Site(2, "resid_post"))], DirectionError, "different widths"),
        (direction(1, 1), FileError, r"model_hint=model\.config\.model_type"),
    ],
)
def test_what_a_control_vector_cannot_say_is_not_written(
    tmp_path: Path, recipe: Any, error: type[Exception], says: str
) -> None:
    hint = None if error is FileError else "llama"
    with pytest.raises(error, match=says):
        gguf.write(tmp_path / "v.gguf", recipe, model_hint=hint)
    assert not (tmp_path / "v.gguf").exists()


@pytest.mark.parametrize(
    ("tensors", "about", "says"),
    [
        ({"direction.0": vector(1), "direction.1": vector(1)}, {}, "direction.0, which llama.cpp refuses"),
        ({"direction.-1": vector(1)}, {}, "direction.<layer>"),
        ({"direction.1.x": vector(1)}, {}, "direction.<layer>"),
        ({"blk.1.weight": vector(1)}, {}, "'blk.1.weight'"),
        ({"direction.1": vector(1), "direction.01": vector(2)}, {}, "two vectors for layer 1"),
        ({"direction.1": np.ones((2, D), np.float32)}, {}, "one vector of F32"),
        ({"direction.1": np.ones(D, np.int32)}, {}, "is I32"),
        ({"direction.1": vector(1)}, {"architecture": "llama"}, "'llama', not a control vector"),
        ({}, {}, "without a direction"),
    ],
)
def test_other_gguf_files_are_refused(
    tmp_path: Path, tensors: dict[str, Any], about: dict[str, str], says: str
) -> None:
    path = make(tmp_path / "x.gguf", tensors, **about)
    with pytest.raises(FileError, match=says):
        gguf.read(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(tmp_path: Path, bad: float) -> None:
    path = make(tmp_path / "x.gguf", {"direction.1": vector(1), "direction.2": np.full(D, bad, np.float32)})
    with pytest.raises(DirectionError, match="NaN or infinite"):
        gguf.read(path)
    path = make(tmp_path / "y.gguf", {"direction.1": np.full(D, 1e300)})
    with pytest.raises(DirectionError, match="NaN or infinite"):
        gguf.read(path)


def test_directions_of_two_models_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "x.gguf", {"direction.1": vector(1), "direction.2": np.ones(3, np.float32)})
    with pytest.raises(DirectionError, match=r"different widths, \[3, 12\]"):
        gguf.read(path)


def test_a_layer_of_zeros_adds_nothing(tmp_path: Path) -> None:
    zeros = np.zeros(D, np.float32)
    path = make(tmp_path / "x.gguf", {"direction.1": zeros, "direction.2": vector(2)})
    assert list(gguf.read(path)) == [2]
    with pytest.raises(DirectionError, match=r"every direction of .* is zero"):
        gguf.read(make(tmp_path / "y.gguf", {"direction.1": zeros}))


def test_half_and_double_precision_are_read(tmp_path: Path) -> None:
    path = make(
        tmp_path / "x.gguf", {"direction.1": vector(1, np.float16), "direction.2": vector(2, np.float64)}
    )
    found = gguf.read(path)
    assert found[1].numpy().tolist() == vector(1, np.float16).tolist()
    assert found[2].numpy().tolist() == vector(2, np.float64).astype(np.float32).tolist()


def test_the_hint_may_be_missing(tmp_path: Path) -> None:
    """llama.cpp does not read it."""
    path = make(tmp_path / "x.gguf", {"direction.1": vector(1)}, hint=None)
    assert gguf.read(path)[1].provenance["model_hint"] is None


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "x.gguf", {f"direction.{n}": vector(n) for n in (1, 2)})
    harm.check_cuts(path, gguf.read)
    harm.check_flips(path, gguf.read)
    harm.check_noise(path, gguf.read, b"")
    harm.check_noise(path, gguf.read, b"GGUF")
    harm.check_noise(path, gguf.read, struct.pack("<4sI", b"GGUF", 3))
    harm.check_missing(tmp_path / "none.gguf", gguf.read)
    with pytest.raises(FileError, match="is a folder"):
        gguf.read(tmp_path)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("counts", [(2**62, 0), (0, 2**62), (2**62, 2**62)])
def test_counts_that_the_file_cannot_hold_end_at_once(tmp_path: Path, counts: tuple[int, int]) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, *counts))
    with pytest.raises(FileError, match="ends too early"):
        gguf.read(path)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", range(13))
def test_an_array_that_claims_to_be_endless_ends_at_once(tmp_path: Path, kind: int) -> None:
    key = struct.pack("<Q1sIIQ", 1, b"a", 9, kind, 2**62)
    path = tmp_path / "x.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + key)
    with pytest.raises(FileError):
        gguf.read(path)


@pytest.mark.timeout(30)
def test_arrays_in_arrays_without_end_are_refused(tmp_path: Path) -> None:
    key = struct.pack("<Q1sI", 1, b"a", 9) + struct.pack("<IQ", 9, 1) * 5000
    path = tmp_path / "x.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + key)
    with pytest.raises(FileError):
        gguf.read(path)


def test_without_the_package_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "x.gguf", {"direction.1": vector(1)})
    for name in [n for n in sys.modules if n.partition(".")[0] == "gguf"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gguf", None)
    for act in (
        lambda: gguf.read(path),
        lambda: gguf.write(tmp_path / "y.gguf", direction(1, 1), model_hint="llama"),
    ):
        with pytest.raises(FileError, match=r"pip install 'steerlab\[formats\]'"):
            act()
