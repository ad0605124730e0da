from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steerlab import Add, Direction, Gate, Recipe, Site
from steerlab.errors import DirectionError, FileError

SITE = Site(3, "resid_pre")


def make(*numbers: float, **about: object) -> Direction:
    return Direction(list(numbers), SITE, **about)  # type: ignore[arg-type]


def test_arrays_of_any_kind_go_in() -> None:
    for vector in ([3, 4], np.array([3.0, 4.0]), torch.tensor([3.0, 4.0], dtype=torch.float64), (3.0, 4.0)):
        d = Direction(vector, SITE)  # type: ignore[arg-type]
        assert d.vector.dtype == torch.float32
        assert (d.norm, d.d_model) == (5.0, 2)
        assert torch.allclose(d.unit, torch.tensor([0.6, 0.8]))
        assert d.numpy().tolist() == [3.0, 4.0]


@pytest.mark.parametrize("size", [1e-38, 1e-25, 1e25, 1e37])
def test_any_size_has_a_norm_and_a_unit_vector(size: float) -> None:
    d = Direction([size] * 4, SITE)  # type: ignore[arg-type]
    assert d.norm == pytest.approx(2 * size)
    assert d.unit.dtype == torch.float32
    assert d.unit.tolist() == [0.5] * 4
    assert d.cosine(Direction([-1.0] * 4)) == -1  # type: ignore[arg-type]


def test_a_view_does_not_keep_its_storage() -> None:
    big = torch.randn(1000, 8)
    assert Direction(big[3]).vector.untyped_storage().nbytes() == 8 * 4


def test_algebra_is_that_of_vectors() -> None:
    a, b = make(3, 4, name="a", model="m"), make(0, 1, name="b", model="m")
    assert (2 * a - b / 2).numpy().tolist() == [6.0, 7.5]
    assert (-a).numpy().tolist() == [-3.0, -4.0]
    assert (a + b).site == SITE
    assert (a + b).model == "m"
    assert (a + Direction([1.0, 1.0])).site is None, "two sites are no site"
    assert a.cosine(b) == pytest.approx(0.8)
    with pytest.raises(DirectionError, match="d_model 2 and 'direction' has 3"):
        a + make(1, 2, 3)


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        ([1.0, float("nan"), 2.0], "1 of 3 numbers that are NaN"),
        ([float("inf"), float("nan")], "2 of 2"),
        ([0.0, 0.0], "zero everywhere"),
        ([[1.0, 2.0]], r"of shape \[1, 2\]"),
        ([], r"of shape \[0\]"),
        (3.0, r"of shape \[\]"),
    ],
)
def test_what_is_no_direction_is_refused(vector: object, says: str) -> None:
    with pytest.raises(DirectionError, match=says):
        Direction(vector)  # type: ignore[arg-type]


def test_files_keep_everything(tmp_path: Path) -> None:
    d = make(1, -2, 3.5, name="mood", model="tiny", residual_norm=7.5, provenance={"method": "PCA", "n": 12})
    back = Direction.load(d.save(tmp_path / "mood.safetensors"))
    assert torch.equal(back.vector, d.vector)
    assert back.to_dict() == d.to_dict()
    assert back.site == SITE


@pytest.mark.parametrize("number", [np.float32, np.int64, torch.tensor])
def test_numbers_of_other_libraries_become_pythons(number: Callable[[int], Any], tmp_path: Path) -> None:
    about = {"n": number(3), "of": (number(4), None), "where": {1: Path("a")}}
    v = Direction([1.0, 2.0], Site(1, "resid_pre"), residual_norm=number(2), provenance=about)
    assert v.provenance == {"n": 3, "of": [4, None], "where": {"1": "a"}}
    assert type(v.residual_norm) is float
    assert Direction.load(v.save(tmp_path / "v.safetensors")).provenance == v.provenance
    recipe = Recipe([Add(v, gate=Gate(v, number(1)))])
    assert recipe == Recipe([Add(v, gate=Gate(v, 1.0))])
    assert "sl.Gate(direction, 1.0)" in recipe.to_code()
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_a_residual_norm_that_is_no_number_is_refused() -> None:
    with pytest.raises(DirectionError, match=r"the residual norm of 'v' is a number, not \[1, 2\]"):
        Direction([1.0], name="v", residual_norm=[1, 2])  # type: ignore[arg-type]


def test_damaged_and_foreign_files_say_so(tmp_path: Path) -> None:
    path = make(1, 2).save(tmp_path / "d.safetensors")
    whole = path.read_bytes()
    for cut in (0, 5, len(whole) - 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(FileError, match="damaged or no safetensors"):
            Direction.load(path)
    from safetensors.torch import save_file

    save_file({"W_dec": torch.ones(2)}, path)
    with pytest.raises(FileError, match="no steerlab direction"):
        Direction.load(path)
    with pytest.raises(FileError, match="there is no file"):
        Direction.load(tmp_path / "missing.safetensors")


def test_transfer_is_on_purpose_and_remembered() -> None:
    moved = make(1, 2, model="chat").transferred_to("base")
    assert moved.model == "base"
    assert moved.provenance["transferred_from"] == "chat"
