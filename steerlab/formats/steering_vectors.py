"""The steering-vectors package: a live SteeringVector, or a safetensors file of its layers. Never a pickle of one.

A SteeringVector adds `layer_activations[l]` to what the module of `layer_type` in block l puts out. For "decoder_block"
that is resid_post. For "mlp" and "self_attn" it is mlp_out and attn_out only in models that do not normalise after the
sub-layer (Gemma 2, Gemma 3 and OLMo 2 do), which the object does not say. What norms put out is no residual stream.

The package has no file format. The one here has a tensor `layer_activations.<l>` for each layer and the `layer_type` in
its metadata; `<l>` and `layer.<l>` are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from steerlab.directions import Direction
from steerlab.errors import FileError, SiteError
from steerlab.formats.files import (
    Additions,
    QuestionError,
    by_layer,
    open_safetensors,
    outputs,
    plain,
    recipe_of,
)
from steerlab.sites import POINTS, Point, check_point

BLOCK = "decoder_block"
_NAME = re.compile(r"(?:layer_activations\.|layers?[._])?(\d{1,9})", re.ASCII)
_MODULES: dict[str, Point] = {"mlp": "mlp_out", "self_attn": "attn_out"}


def from_object(vector: Any, *, point: Point | None = None) -> dict[int, Direction]:
    """The directions of a live SteeringVector by layer, in order.

    point: where they act, for a layer_type that does not say it. Raises FileError as a question where the point is not
    known, SiteError for a layer_type outside the residual stream, DirectionError for NaN.
    """
    activations, layer_type = getattr(vector, "layer_activations", None), getattr(vector, "layer_type", None)
    if not isinstance(activations, Mapping):
        raise FileError(
            f"{type(vector).__name__} is no SteeringVector: it has no layer_activations",
            "Give the object that train_steering_vector returned; files are read with read(path).",
        )
    return _directions(activations, layer_type, point, "steering vector")


def read(path: str | Path, *, point: Point | None = None) -> dict[int, Direction]:
    """Read a safetensors file of layers; `point` and errors as in `from_object`, FileError also for a damaged file."""
    path = Path(path)
    with open_safetensors(path) as file:
        layer_type = (file.metadata() or {}).get("layer_type")
        activations: dict[int, Any] = {}
        for name in file.keys():  # noqa: SIM118  (not a dict)
            layer = layer_of(name)
            if layer is None:
                raise FileError(f"{path} has a tensor {name!r}, which does not name a layer")
            if layer in activations:
                raise FileError(f"{path} has two vectors for layer {layer}")
            activations[layer] = plain(file.get_tensor(name), path)
    return _directions(activations, layer_type, point, str(path), file=path.name)


def arguments(additions: Additions) -> dict[str, Any]:
    """What makes a SteeringVector of a recipe that adds, or of directions: `SteeringVector(**arguments(recipe))`.

    Coefficients are multiplied in, and additions at one layer are summed. Raises RecipeError or SiteError for what a
    SteeringVector of decoder blocks cannot say.
    """
    vectors = outputs(recipe_of(additions), "a SteeringVector")
    return {"layer_activations": vectors, "layer_type": BLOCK}


def write(path: str | Path, additions: Additions) -> Path:
    """Write what `arguments` gives as safetensors. Returns the path."""
    path, given = Path(path), arguments(additions)
    tensors = {f"layer_activations.{layer}": v for layer, v in given["layer_activations"].items()}
    save_file(tensors, path, {"format": "steering-vectors", "layer_type": given["layer_type"]})
    return path


def layer_of(name: str) -> int | None:
    """The layer that the name of a tensor says, None where it says none."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match[1])


def _directions(
    activations: Mapping[int, Any], layer_type: object, answer: Point | None, origin: str, **about: Any
) -> dict[int, Direction]:
    point = _point(layer_type, answer, origin)
    if not activations:
        raise FileError(f"{origin} has no layers", "Train it again.")
    for layer, vector in activations.items():
        if type(layer) is not int or layer < 0:
            raise SiteError(f"{origin} has a layer {layer!r}", "Name layers by their number, counted from 0.")
        if not isinstance(vector, Tensor):
            raise FileError(f"{origin} has {type(vector).__name__} at layer {layer}, not a tensor")
    return by_layer(
        activations, point, origin, {"format": "steering-vectors", "layer_type": layer_type, **about}
    )


def _point(layer_type: object, answer: Point | None, origin: str) -> Point:
    answer = None if answer is None else check_point(answer)
    if layer_type == BLOCK:
        if answer not in (None, "resid_post"):
            raise SiteError(
                f"{origin} says {BLOCK}, which is resid_post, and point={answer!r} was given",
                "Leave point= out to believe it.",
            )
        return "resid_post"
    if isinstance(layer_type, str) and layer_type not in _MODULES:
        raise SiteError(
            f"{origin} is of {layer_type}, which is not of the residual stream",
            f"Train it with layer_type={BLOCK!r}.",
        )
    if answer is None and isinstance(layer_type, str):
        raise QuestionError(
            f"{origin} is of {layer_type}, and does not say whether its model normalises after it, as Gemma 2 does",
            f"If it does not, answer with the point: point={_MODULES[layer_type]!r}.",
            asks="point",
            choices=[_MODULES[layer_type]],
        )
    if answer is None:
        raise QuestionError(
            f"{origin} does not say at which point its layers act",
            "Answer with the point: point='resid_post' for steering-vectors' decoder_block.",
            asks="point",
            choices=POINTS,
        )
    return answer
