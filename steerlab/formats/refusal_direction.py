"""The files of Arditi et al.'s pipeline: `direction.pt`, and beside it `direction_metadata.json` {"pos", "layer"}.

The tensor is `[d_model]`, float64, a difference of means at resid_pre of the layer, unnormalised. It is often a view
of all candidates' means, and of another device: only its own numbers are taken, on the CPU. The file is a pickle, and
is opened in the mode of torch that makes tensors and runs nothing.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import torch

from steerlab.directions import Direction
from steerlab.errors import FileError, SiteError
from steerlab.formats.files import agreed, opening, plain, read_json
from steerlab.sites import Site

VECTOR, METADATA = "direction.pt", "direction_metadata.json"


def read(path: str | Path, *, site: Site | None = None) -> Direction:
    """Read the folder of a run, or one `.pt` file.

    site: where the direction belongs, for a file without metadata beside it (for `NAME.pt` that is
    `NAME_metadata.json`). Raises FileError for a missing, truncated or foreign file, and as a question where the site
    is not known; DirectionError for NaN.
    """
    path = Path(path)
    file = path / VECTOR if path.is_dir() else path
    with opening(file, "a tensor saved by torch"):
        _refuse_compression(file)
        tensor = plain(torch.load(file, weights_only=True, map_location="cpu"), file)
    about = file.with_name(f"{file.stem}_metadata.json")
    layer, position = _metadata(about) if about.exists() else (None, None)
    said = None if layer is None else Site(layer, "resid_pre")
    where = agreed(file, said, site, f"where its vector belongs, and there is no {about.name} beside it")
    return Direction(
        tensor,
        where,
        name=path.name if path.is_dir() else file.stem,
        provenance={
            "format": "refusal_direction",
            "file": file.name,
            **({} if position is None else {"position": position, "method": "difference in means"}),
        },
    )


def write(folder: str | Path, direction: Direction, *, position: int | None = None) -> Path:
    """Write `direction.pt` and its metadata into a folder, which is made where it is missing. Returns the folder.

    position: that of the token at which the direction was found, counted from the end; directions that steerlab found
    know it. Raises SiteError for a direction that is not of resid_pre, FileError as a question for no position.
    """
    folder, site = Path(folder), direction.site
    if site is None or site.point != "resid_pre":
        raise SiteError(
            f"refusal_direction holds directions of resid_pre, and {direction!r} is not one",
            "resid_post[n] is resid_pre[n + 1]: give it that site with dataclasses.replace(direction, site=…).",
        )
    if position is None:
        position = direction.provenance.get("position")
    if not isinstance(position, int):
        raise FileError(
            f"{METADATA} names the token at which a direction was found, and this one does not say it",
            "Answer with the position: write(folder, direction, position=-1).",
        )
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(direction.vector.double(), folder / VECTOR)
    metadata = json.dumps({"pos": position, "layer": site.layer}, indent=4)
    (folder / METADATA).write_text(metadata, encoding="utf-8")
    return folder


def _refuse_compression(file: Path) -> None:
    """torch never compresses, and a small archive that is compressed can unpack to any size."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise FileError(f"{file} is a compressed archive, not a tensor saved by torch")


def _metadata(path: Path) -> tuple[int, int]:
    about = read_json(path)
    layer, position = about.get("layer"), about.get("pos")
    # bool is an int to Python
    if type(layer) is not int or type(position) is not int or layer < 0:
        raise FileError(
            f"{path} has pos={position!r} and layer={layer!r}, and both should be whole numbers",
            "Correct it, or remove it and give the site: site=Site(12, 'resid_pre').",
        )
    return layer, position
