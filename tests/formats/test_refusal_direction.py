"""direction.pt and direction_metadata.json, made as the paper's pipeline makes them: by torch.save of a view."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import harm
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steerlab import Direction, Site
from steerlab.errors import DirectionError, FileError, SiteError
from steerlab.formats import refusal_direction

D = 16


def candidates() -> torch.Tensor:
    """The means of every candidate, `[positions layers d_model]`, of which direction.pt is a view."""
    return torch.randn(5, 40, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def make(folder: Path, position: int = -2, layer: int = 12, metadata: str | None = None) -> Path:
    torch.save(candidates()[position, layer], folder / "direction.pt")
    (folder / "direction_metadata.json").write_text(
        metadata or json.dumps({"pos": position, "layer": layer}, indent=4), encoding="utf-8"
    )
    return folder


def test_the_folder_of_a_run_is_a_direction_of_resid_pre(tmp_path: Path) -> None:
    d = refusal_direction.read(make(tmp_path))
    assert d.site == Site(12, "resid_pre")
    assert d.provenance["position"] == -2
    assert d.numpy().tolist() == candidates()[-2, 12].float().tolist(), "unnormalised"
    assert refusal_direction.read(tmp_path / "direction.pt").site == d.site


def test_a_view_on_a_large_storage_is_cut_loose(tmp_path: Path) -> None:
    make(tmp_path)
    assert (tmp_path / "direction.pt").stat().st_size > 5 * 40 * D * 8, "torch saves the whole storage"
    assert refusal_direction.read(tmp_path).vector.untyped_storage().nbytes() == D * 4


def test_a_tensor_of_another_device_is_read_without_one(tmp_path: Path) -> None:
    """The pickle says cuda:0, and this machine need not have one."""
    path = tmp_path / "direction.pt"
    torch.save(torch.ones(D), path)
    with zipfile.ZipFile(path) as old:
        records = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in records.items():
            if name.endswith("data.pkl"):
                assert b"X\x03\x00\x00\x00cpu" in data
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            new.writestr(name, data)
    assert refusal_direction.read(path, site=Site(1, "resid_pre")).d_model == D


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=25, deadline=None)
@given(
    vector=st.lists(numbers, min_size=1, max_size=9).filter(any),
    layer=st.integers(0, 200),
    position=st.integers(-20, -1),
)
def test_a_round_trip_keeps_every_number(
    tmp_path_factory: pytest.TempPathFactory, vector: list[float], layer: int, position: int
) -> None:
    folder = tmp_path_factory.mktemp("run") / "new"
    d = Direction(vector, Site(layer, "resid_pre"), provenance={"position": position})  # type: ignore[arg-type]
    back = refusal_direction.read(refusal_direction.write(folder, d))
    assert back.numpy().tolist() == d.numpy().tolist()
    assert (back.site, back.provenance["position"]) == (d.site, position)


def test_the_pipeline_finds_what_it_wrote_itself(tmp_path: Path) -> None:
    """It loads both files so, and takes float64 and these two keys."""
    d = Direction(torch.arange(1.0, 4.0), Site(7, "resid_pre"))
    refusal_direction.write(tmp_path, d, position=-1)
    loaded = torch.load(tmp_path / "direction.pt")
    assert loaded.dtype == torch.float64
    assert loaded.tolist() == [1.0, 2.0, 3.0]
    assert json.loads((tmp_path / "direction_metadata.json").read_text()) == {"pos": -1, "layer": 7}


def test_without_metadata_the_site_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "refusal.pt"
    torch.save(candidates()[0, 3], path)
    with pytest.raises(FileError, match=r"does not say where .*site=Site\(12, \"resid_pre\"\)"):
        refusal_direction.read(path)
    assert refusal_direction.read(path, site=Site(3, "resid_post")).site == Site(3, "resid_post")
    make(tmp_path)
    with pytest.raises(FileError, match="does not say where"):
        refusal_direction.read(path)  # the metadata beside it are of another file


def test_an_answer_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    assert refusal_direction.read(tmp_path, site=Site(12, "resid_pre")).site == Site(12, "resid_pre")
    with pytest.raises(SiteError, match="input of block 12 = output of block 11"):
        refusal_direction.read(tmp_path, site=Site(12, "resid_post"))


@pytest.mark.parametrize(
    "metadata",
    [
        '{"pos": -1}',
        '{"pos": -1, "layer": 3.0}',
        '{"pos": "-1", "layer": 3}',
        '{"pos": -1, "layer": true}',
        '{"pos": -1, "layer": -3}',
        '{"layer": ' + "9" * 5000 + "}",
        "[" * 100_000,
        "[]",
        "{",
        "\x00",
        "null",
    ],
    ids=lambda text: text[:20],
)
def test_wrong_metadata_are_refused(tmp_path: Path, metadata: str) -> None:
    with pytest.raises(FileError, match=r"direction_metadata\.json"):
        refusal_direction.read(make(tmp_path, metadata=metadata))


@pytest.mark.parametrize(
    ("direction", "position", "error", "says"),
    [
        (Direction([1.0], Site(3, "resid_post")), -1, SiteError, r"resid_pre\[n \+ 1\]"),
        (Direction([1.0]), -1, SiteError, "is not one"),
        (Direction([1.0], Site(3, "resid_pre")), None, FileError, "position=-1"),
        (
            Direction([1.0], Site(3, "resid_pre"), provenance={"position": "response"}),
            None,
            FileError,
            "position=-1",
        ),
    ],
)
def test_what_the_files_cannot_say_is_not_written(
    tmp_path: Path, direction: Direction, position: int | None, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        refusal_direction.write(tmp_path / "new", direction, position=position)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (torch.tensor([1.0, float("nan")]), DirectionError, "NaN"),
        (torch.tensor([1e300, 1.0], dtype=torch.float64), DirectionError, "NaN or infinite"),
        (torch.zeros(3), DirectionError, "zero everywhere"),
        (candidates(), DirectionError, r"shape \[5, 40, 16\]"),
        (torch.ones(3, dtype=torch.complex64), DirectionError, "complex64"),
        ({"direction": torch.ones(3)}, FileError, "holds dict"),
        ([1.0, 2.0], FileError, "holds list"),
        (torch.ones(3).to_sparse(), FileError, "without plain numbers"),
        (torch.ones(3, device="meta"), FileError, "without plain numbers"),
        (torch.ones(1).expand(10**12), FileError, "claims 1000000000000 numbers"),
    ],
)
def test_what_is_no_vector_is_refused(
    tmp_path: Path, content: Any, error: type[Exception], says: str
) -> None:
    path = tmp_path / "x.pt"
    torch.save(content, path)
    with pytest.raises(error, match=says):
        refusal_direction.read(path, site=Site(1, "resid_pre"))


class Bomb:
    """Runs a command where its pickle is opened without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("bare", [False, True])
def test_code_in_a_file_does_not_run(tmp_path: Path, bare: bool) -> None:
    path, marker = tmp_path / "x.pt", tmp_path / "ran"
    if bare:
        path.write_bytes(pickle.dumps(Bomb(marker)))
    else:
        torch.save({"direction": torch.ones(3), "x": Bomb(marker)}, path)
    with pytest.raises(FileError, match="damaged or not a tensor saved by torch"):
        refusal_direction.read(path, site=Site(1, "resid_pre"))
    assert not marker.exists()


def test_a_compressed_archive_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(torch.zeros(200_000), path)
    with zipfile.ZipFile(path) as old:
        records = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in records.items():
            new.writestr(name, data)
    assert path.stat().st_size < 10_000
    with pytest.raises(FileError, match="compressed"):
        refusal_direction.read(path, site=Site(1, "resid_pre"))


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "older pickle"])
def test_damaged_files_are_refused(tmp_path: Path, archive: bool) -> None:
    def read(path: Path) -> Direction:
        return refusal_direction.read(path, site=Site(1, "resid_pre"))

    path = tmp_path / "x.pt"
    torch.save(torch.arange(1.0, 7.0), path, _use_new_zipfile_serialization=archive)
    assert read(path).numpy().tolist() == [1, 2, 3, 4, 5, 6]
    harm.check_cuts(path, read, step=5)
    harm.check_flips(path, read, step=5)
    for start in (b"", b"PK\x03\x04", b"\x80\x02", path.read_bytes()[:40]):
        harm.check_noise(path, read, start)
    harm.check_missing(tmp_path / "none.pt", read)


def test_an_array_of_numpy_is_no_file_of_torch(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.ones(3))
    with pytest.raises(FileError, match="damaged or not a tensor saved by torch"):
        refusal_direction.read(tmp_path / "x.npz", site=Site(1, "resid_pre"))
    with pytest.raises(FileError, match=r"there is no file .*direction\.pt"):
        refusal_direction.read(tmp_path)
