"""The front door: recognises a file by what is in it, never by its name alone, and reads it with its own module."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

from steerlab.directions import FORMAT, Direction
from steerlab.errors import FileError
from steerlab.formats import gguf, neuronpedia, refusal_direction, saelens, steering_vectors
from steerlab.formats.files import QuestionError, open_safetensors, opening, read_json
from steerlab.maps import FORMAT as MAP
from steerlab.maps import DirectionMap
from steerlab.prompts import Position
from steerlab.sites import Point, Site

# What can be asked about each kind of file.
_ANSWERS: dict[str, tuple[str, ...]] = {
    "steerlab": (),
    "steerlab_map": ("layer", "position"),
    "refusal_direction": ("site",),
    "gguf": ("layer",),
    "saelens": ("feature", "site"),
    "neuronpedia": ("site",),
    "steering_vectors": ("layer", "point"),
}
_LAYERED = ("steerlab_map", "gguf", "steering_vectors")


def load(
    path: str | Path,
    *,
    site: Site | None = None,
    point: Point | None = None,
    layer: int | None = None,
    position: Position | None = None,
    feature: int | None = None,
) -> Direction:
    """Read one direction from a file or folder of any format that steerlab knows.

    site, point, layer, position, feature: answers, for a file that does not say where its vectors belong, or that has
    many of them. One that the file has no question for is refused. Raises FileError for a missing, damaged or unknown
    file, and as a question; what else the format's own `read` raises.
    """
    path, kind = Path(path), recognise(path)
    given = {"site": site, "point": point, "layer": layer, "position": position, "feature": feature}
    _check_answers(path, kind, given)
    if kind in _LAYERED:
        found = load_layers(path, point=point, position=position)
        layer = next(iter(found)) if layer is None and len(found) == 1 else layer
        if layer is None:
            raise QuestionError(
                f"{path} has a direction for each of the layers {_ranges(list(found))}",
                f"Answer with one: layer={next(iter(found))}; load_layers(path) gives them all.",
                asks="layer",
                choices=list(found),
            )
        if layer not in found:
            raise FileError(f"{path} has no layer {layer}", f"It has {_ranges(list(found))}.")
        return found[layer]
    match kind:
        case "refusal_direction":
            return refusal_direction.read(path, site=site)
        case "saelens":
            return saelens.read(path, feature, site=site)
        case "neuronpedia":
            return neuronpedia.read(path, site=site)
        case _:
            return Direction.load(path)


def load_layers(
    path: str | Path, *, point: Point | None = None, position: Position | None = None
) -> dict[int, Direction]:
    """Read the directions of every layer from a file that has many: a control vector, a steering vector, or what
    `DirectionMap.save` wrote.

    `Recipe([Add(d) for d in load_layers(path).values()])` does what a control vector or a steering vector means. Errors
    as in `load`.
    """
    path, kind = Path(path), recognise(path)
    _check_answers(path, kind, {"point": point, "position": position})
    match kind:
        case "steerlab_map":
            return _at(path, DirectionMap.load(path), position)
        case "gguf":
            return gguf.read(path)
        case "steering_vectors":
            return steering_vectors.read(path, point=point)
        case _:
            raise FileError(f"{path} holds one direction, not one for each layer", "Read it with load(path).")


def _at(path: Path, found: DirectionMap, position: Position | None) -> dict[int, Direction]:
    """A map's directions at one position, by layer; layers in which the two sides do not differ are left out."""
    if position is None and len(found.positions) > 1:
        raise QuestionError(
            f"{path} has directions for each of the positions {', '.join(map(str, found.positions))}",
            f"Answer with one: position={found.positions[-1]!r}; DirectionMap.load(path) gives them all.",
            asks="position",
            choices=found.positions,
        )
    where = found.positions[0] if position is None else position
    if where not in found.positions:
        raise FileError(
            f"{path} has no position {where!r}", f"It has {', '.join(map(str, found.positions))}."
        )
    layers = {i: found.at(where, i) for i in range(found.n_layers) if found.differs(where, i)}
    if not layers:
        raise FileError(f"in {path} the two sides differ at position {where} of no layer", "Choose another.")
    return layers


def recognise(path: str | Path) -> str:
    """The format of a file or folder: "steerlab", "steerlab_map" or the name of a module of this package.

    Raises FileError for a missing or unknown file.
    """
    path = Path(path)
    if path.is_dir():
        return _recognise_folder(path)
    with opening(path, "a file that can be read"), path.open("rb") as file:
        start = file.read(64)
        file_size = file.seek(0, 2)
    # first, because it can begin with any byte: the length of its JSON, in eight bytes
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= file_size:
        return _recognise_safetensors(path)
    if start.startswith(b"GGUF"):
        return "gguf"
    if start.startswith((b"PK\x03\x04", b"\x80")):  # torch's archive, or its older pickle
        return "refusal_direction"
    if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
        return _recognise_json(path)
    raise _unknown(path, "it is neither GGUF, safetensors, JSON nor a tensor saved by torch")


def _recognise_folder(path: Path) -> str:
    kinds = [
        kind
        for kind, name in (("refusal_direction", refusal_direction.VECTOR), ("saelens", saelens.WEIGHTS))
        if (path / name).exists()
    ]
    if not kinds:
        raise _unknown(path, f"the folder has no {refusal_direction.VECTOR} and no {saelens.WEIGHTS}")
    if len(kinds) > 1:
        raise FileError(
            f"{path} has both {refusal_direction.VECTOR} and {saelens.WEIGHTS}",
            "Name the file that you mean.",
        )
    return kinds[0]


def _recognise_safetensors(path: Path) -> str:
    with open_safetensors(path) as file:
        names, metadata = list(file.keys()), file.metadata() or {}
    for ours, kind in ((FORMAT, "steerlab"), (MAP, "steerlab_map")):
        if str(metadata.get("format")).partition("/")[0] == ours.partition("/")[0]:
            return kind
    if "W_dec" in names:
        return "saelens"
    if names and all(steering_vectors.layer_of(name) is not None for name in names):
        return "steering_vectors"
    raise _unknown(path, f"it has the tensors {sorted(names)[:9]}")


def _recognise_json(path: Path) -> str:
    data = read_json(path)
    if isinstance(data.get("vector"), list):
        return "neuronpedia"
    if str(data.get("format")).startswith("steerlab.recipe"):
        raise FileError(f"{path} is a recipe, not a direction", "Read it with Recipe.load(path).")
    raise _unknown(path, f"it has {sorted(data)[:9]}")


def _unknown(path: Path, why: str) -> FileError:
    return FileError(
        f"{path} is of no format that steerlab knows: {why}",
        'A vector of any origin becomes a direction with Direction(vector, Site(12, "resid_pre")).',
    )


def _check_answers(path: Path, kind: str, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is not None and name not in _ANSWERS[kind]:
            takes = " and ".join(f"{answer}=" for answer in _ANSWERS[kind]) or "no answers"
            raise FileError(
                f"{path} is of the format {kind}, which takes {takes}, not {name}=", f"Leave {name}= out."
            )


def _ranges(layers: list[int]) -> str:
    whole = layers == list(range(layers[0], layers[-1] + 1)) and len(layers) > 2
    return f"{layers[0]} to {layers[-1]}" if whole else ", ".join(map(str, layers))
