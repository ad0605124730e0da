"""GGUF control vectors, as repeng and llama.cpp read and write them.

`general.architecture` is "controlvector"; the tensor `direction.<N>`, 1-D, is added to the *output* of block N, blocks
counted from 0 (repeng's ControlModel; build_cvec in llama.cpp), at every token. llama.cpp refuses N = 0, and so does
this module. The format can say nothing but "add". `controlvector.layer_count` is the number of tensors; no reader needs
it. Needs the gguf package.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steerlab.directions import Direction
from steerlab.errors import FileError, SiteError
from steerlab.formats.files import Additions, by_layer, opening, outputs, recipe_of

ARCHITECTURE = "controlvector"
_NAME = re.compile(r"direction\.(\d{1,9})", re.ASCII)


def read(path: str | Path) -> dict[int, Direction]:
    """The directions of a control vector by layer, each at resid_post of its layer, in order.

    A layer whose vector is zero everywhere adds nothing and is left out. Raises FileError for a missing, truncated or
    foreign file, DirectionError where a number is NaN, all are zero or the widths differ.
    """
    path = Path(path)
    with opening(path, "a GGUF file"):
        if path.is_dir():
            raise FileError(f"{path} is a folder, not a GGUF file", "Name the file in it.")
        reader = _bounded(_package())(path)
    architecture = _text(reader, "general.architecture")
    if architecture != ARCHITECTURE:
        raise FileError(
            f"{path} is a GGUF file of architecture {architecture!r}, not a control vector",
            "Whole models are GGUF files too: give the one that repeng or llama.cpp's cvector-generator wrote.",
        )
    vectors: dict[int, Tensor] = {}
    for tensor in reader.tensors:
        layer = _layer(path, tensor.name)
        if layer in vectors:
            raise FileError(f"{path} has two vectors for layer {layer}")
        vectors[layer] = _vector(path, tensor)
    if not vectors:
        raise FileError(f"{path} is a control vector without a direction in it", "Write it again.")
    hint = _text(reader, f"{ARCHITECTURE}.model_hint")
    about = {"format": "GGUF control vector", "file": path.name, "model_hint": hint}
    return by_layer(vectors, "resid_post", str(path), about)


def write(path: str | Path, additions: Additions, *, model_hint: str | None = None) -> Path:
    """Write what a recipe adds, or directions at their own sites, as a control vector. Returns the path.

    Coefficients are multiplied in, and additions at one layer are summed. model_hint: the model's
    `config.model_type`, "llama" say; directions that were read from a control vector know it. Raises RecipeError for
    what the format cannot say, SiteError for a site that it does not have.
    """
    path, recipe = Path(path), recipe_of(additions)
    vectors = outputs(recipe, "a control vector")
    if 0 in vectors:
        raise SiteError(
            "a control vector cannot shift the output of block 0: llama.cpp refuses such a file",
            "Add at layer 1 or later.",
        )
    hints = {one.direction.provenance.get("model_hint") for one in recipe.interventions}
    hint = model_hint or (hints.pop() if len(hints) == 1 else None)
    if not isinstance(hint, str):
        raise FileError(
            "a control vector names the type of its model, and the directions do not say it",
            "Answer with the type: write(path, recipe, model_hint=model.config.model_type).",
        )
    writer = _package().GGUFWriter(path, ARCHITECTURE)
    writer.add_string(f"{ARCHITECTURE}.model_hint", hint)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors))
    for layer, vector in vectors.items():
        writer.add_tensor(f"direction.{layer}", vector.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _package() -> Any:
    try:
        return import_module("gguf")
    except ImportError as error:
        raise FileError(
            "GGUF files need the gguf package, which is not installed",
            "Install it: pip install 'steerlab[formats]'.",
        ) from error


def _bounded(gguf: Any) -> Any:
    """gguf's reader, but reading past the end of the file fails.

    As it is, it gets empty arrays there, and a count of 2**62 in a file of 50 bytes keeps it busy for ever.
    """

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        def _get(self, offset: int, dtype: Any, count: int = 1, *args: Any, **kwargs: Any) -> Any:
            if int(offset) + int(count) * np.dtype(dtype).itemsize > len(self.data):
                raise ValueError("it ends too early")
            return super()._get(offset, dtype, count, *args, **kwargs)

    return Reader


def _text(reader: Any, key: str) -> str | None:
    field = reader.get_field(key)
    return None if field is None else bytes(field.parts[-1]).decode("utf-8", "replace")


def _layer(path: Path, name: str) -> int:
    match = _NAME.fullmatch(name)
    if not match:
        raise FileError(
            f"{path} has a tensor {name!r}, and those of a control vector are direction.<layer>",
            "Write it again.",
        )
    if int(match[1]) == 0:
        raise FileError(
            f"{path} has a direction.0, which llama.cpp refuses: programs differ in whether that is the embeddings or "
            "the output of block 0",
            "Write the file without layer 0.",
        )
    return int(match[1])


def _vector(path: Path, tensor: Any) -> Tensor:
    if tensor.data.ndim != 1 or not np.issubdtype(tensor.data.dtype, np.floating):
        raise FileError(
            f"{path}: {tensor.name} is {tensor.tensor_type.name} of shape {tensor.shape.tolist()}, and a direction is "
            "one vector of F32",
            "Write it again, not quantised.",
        )
    with np.errstate(over="ignore", invalid="ignore"):  # Direction refuses what becomes infinite or NaN
        return torch.from_numpy(np.array(tensor.data, np.float32))
