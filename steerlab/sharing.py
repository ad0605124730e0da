"""Sharing: a lab's model, prompt, recipe, sampling and seed as a short text that opens somewhere else.

The text is `steerlab1-` and base64url of: 8 bytes of a SHA-256, then deflated data, which are the length of a JSON text
(4 bytes, little-endian), the JSON text, and the vectors that it does not name. A direction that travels with the
embedded model is named; any other is written in float16 where that is exact, else in float32, so that the recipe has
the same fingerprint and greedy decoding gives the same text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from steerlab._version import __version__
from steerlab.directions import Direction, bundled
from steerlab.errors import FileError, ModelError
from steerlab.lab import Lab
from steerlab.rows import Row, same_model
from steerlab.snapshots import Snapshot

PREFIX, VERSION = "steerlab", 1
LARGEST = 2**28  # bytes that a text may unfold to: a few characters could ask for gigabytes
PROBE = "Hello"
LOGITS = 6  # how many are kept, by which models of one name are told apart


def share(lab: Lab) -> str:
    """The lab's model by name, and its prompt, recipe, sampling and seed, as a text without spaces.

    `open_shared` opens it on another machine. It is some 500 characters with the embedded model's own directions, and
    about 5 characters more for each number of another vector. A model is not part of it, only its name: one from a
    folder is opened with a lab that has it already.
    """
    snapshot, info = Snapshot("shared", lab.prompt, lab.recipe, lab.sampling, lab.seed), lab.info
    recipe = json.loads(snapshot.recipe.to_json(indent=None))
    recipe["directions"], data = _written(recipe["directions"])
    about = {
        "steerlab": __version__,
        "model": {
            "name": info.name,
            "hub": _of_hub(lab),
            "n_layers": info.n_layers,
            "d_model": info.d_model,
            "dtype": info.dtype,
        },
        "logits": _logits(lab),
        "snapshot": snapshot.settings(),
        "recipe": recipe,
    }
    text = json.dumps(about, separators=(",", ":")).encode()
    body = zlib.compress(len(text).to_bytes(4, "little") + text + data, 9)
    packed = base64.urlsafe_b64encode(_checksum(body) + body).decode().rstrip("=")
    return f"{PREFIX}{VERSION}-{packed}"


def open_shared(text: str, lab: Lab | None = None) -> Lab:
    """Open what `share` wrote: a lab that shows the same prompt and recipe, with the same sampling and seed.

    lab: one of the same model; by default a new one, for which a model of the Hugging Face hub is loaded by its name.
    Warns where the model here says something else than there (another revision or number format), because then the
    answers may differ. Raises FileError for a text that is no such text, was cut or altered, or is of a newer steerlab,
    and ModelError where the model is another one or cannot be loaded.
    """
    opened, differs = open_beside(text, lab)
    if differs:
        warnings.warn(differs, stacklevel=2)
    return opened


def open_beside(text: str, lab: Lab | None = None) -> tuple[Lab, str]:
    """As `open_shared`, but what it would warn of comes with the lab; empty for nothing."""
    about, data = _unpacked(text)
    try:
        model, settings, recipe = about["model"], about["snapshot"], about["recipe"]
        recipe["directions"] = _read(recipe["directions"], data)
        snapshot = Snapshot.from_dict({**settings, "recipe": recipe})
        name, shape = str(model["name"]), (int(model["n_layers"]), int(model["d_model"]))
        hub = None if model.get("hub") is None else bool(model["hub"])
        wanted, dtype = [float(x) for x in about["logits"]], str(model["dtype"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    if lab is None:
        lab = _new_lab(name, hub)
    here = lab.info
    if not same_model(here.name, name) or (here.n_layers, here.d_model) != shape:
        raise ModelError(
            f"this was shared from {name} ({shape[0]} layers of width {shape[1]}), and the lab has {here.name} "
            f"({here.n_layers} of {here.d_model})",
            f"Open it with a lab of {name}.",
        )
    lab.restore(snapshot)
    found = _logits(lab)
    if len(found) == len(wanted) and all(map(_near, found, wanted)):
        return lab, ""
    return lab, (
        f"the {name} here does not say what the {name} there said ({here.dtype} here, {dtype} there): the answers "
        "may differ. It may be another revision of the model, or another number format"
    )


def _of_hub(lab: Lab) -> bool:
    """Whether the lab's model is known by its name on the Hugging Face hub."""
    source, name = getattr(lab.backend, "source", ""), lab.info.name
    return source == name and not Path(name).is_dir()


def _new_lab(name: str, hub: bool | None) -> Lab:
    """A lab of a shared model. hub: whether its name is one of the hub; None where the text does not say."""
    if name == "tiny-chat":
        return Lab()
    why: ModelError | None = None
    if hub is not False:
        try:
            return Lab(name)
        except ModelError as error:
            if hub or name.count("/") == 1:
                raise
            why = error
    raise ModelError(
        f"this was shared from a model called {name}, which is not at hand by that name",
        "Open it with a lab of that model: open_shared(text, Lab(folder)).",
    ) from why


def _unpacked(text: str) -> tuple[dict[str, Any], bytes]:
    """The JSON of a shared text, and the vectors behind it."""
    packed = re.sub(r"[\s`'\"]+", "", text)  # as it comes out of a mail or a chat
    match = re.fullmatch(rf"{PREFIX}(\d+)-([\w-]+)=*", packed, flags=re.ASCII)
    if not match:
        start = packed[:20] + ("…" if len(packed) > 20 else "")
        raise FileError(
            f"this is no shared text of steerlab: it begins with {start!r}",
            f"It begins with {PREFIX}{VERSION}-; copy the whole of it.",
        )
    if int(match[1]) != VERSION:
        raise FileError(
            f"this text is of the format {match[1]}, and this steerlab reads {VERSION}", "Update steerlab."
        )
    try:
        whole = base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
        if base64.urlsafe_b64encode(whole).decode().rstrip("=") != match[2]:
            raise ValueError("its last character")
    except (binascii.Error, ValueError) as error:
        raise _damaged(str(error)) from error
    check, body = whole[:8], whole[8:]
    if _checksum(body) != check:
        raise _damaged("its checksum is wrong")
    unfold = zlib.decompressobj()
    try:
        raw = unfold.decompress(body, LARGEST)
        if not unfold.eof:
            raise ValueError("it unfolds to more than it may, or to a part")
        n = int.from_bytes(raw[:4], "little")
        about = json.loads(raw[4 : 4 + n])
    except (zlib.error, ValueError) as error:
        raise _damaged(str(error)) from error
    if not isinstance(about, dict):
        raise _damaged("it holds no object")
    return about, raw[4 + n :]


def _damaged(why: str) -> FileError:
    return FileError(
        f"the shared text is damaged ({why})", "Copy the whole text again, from the first character."
    )


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:8]


# ------------------------------------------------------------------------------------------------------------- vectors


def _written(directions: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bytes]:
    """Directions as JSON without their numbers, and the numbers that are not known elsewhere."""
    known = {name: _as_dict(direction) for name, direction in bundled().items()}
    out: list[dict[str, Any]] = []
    data = b""
    for one in directions:
        name = next((name for name, other in known.items() if other == one), None)
        if name is not None:
            out.append({"bundled": name, "sha256": _digest(one["vector"])})
            continue
        vector = np.frombuffer(base64.b64decode(one["vector"]), "<f4")
        with np.errstate(over="ignore"):
            half = vector.astype("<f2")
        kind = "<f2" if (half.astype("<f4") == vector).all() else "<f4"
        numbers = half if kind == "<f2" else vector
        # all first bytes, then all second ones: signs and exponents side by side deflate
        data += numbers.view(np.uint8).reshape(len(numbers), -1).T.tobytes()
        out.append({**one, "vector": kind})
    return out, data


def _read(directions: list[dict[str, Any]], data: bytes) -> list[dict[str, Any]]:
    """The inverse of `_written`: directions as `Recipe.to_json` has them."""
    known = {name: _as_dict(direction) for name, direction in bundled().items()}
    out: list[dict[str, Any]] = []
    for one in directions:
        if "bundled" in one:
            found: Mapping[str, Any] | None = known.get(one["bundled"])
            if found is None or _digest(found["vector"]) != one["sha256"]:
                raise FileError(
                    f"the direction {one['bundled']!r} of the embedded model is another one in this steerlab",
                    f"Open the text with the steerlab that it was shared from; here it is {__version__}.",
                )
            out.append(dict(found))
            continue
        width = {"<f2": 2, "<f4": 4}[one["vector"]]
        part, data = data[: width * one["d_model"]], data[width * one["d_model"] :]
        planes = np.frombuffer(part, np.uint8).reshape(width, one["d_model"])
        vector = np.ascontiguousarray(planes.T).view(one["vector"])[:, 0].astype("<f4")
        out.append({**one, "vector": base64.b64encode(vector.tobytes()).decode()})
    return out


def _as_dict(direction: Direction) -> dict[str, Any]:
    """A direction as `Recipe.to_json` writes it."""
    vector = base64.b64encode(direction.numpy().astype("<f4").tobytes()).decode()
    plain: dict[str, Any] = json.loads(json.dumps(direction.to_dict()))
    return {**plain, "d_model": direction.d_model, "vector": vector}


def _digest(vector: str) -> str:
    return hashlib.sha256(vector.encode()).hexdigest()[:8]


def _logits(lab: Lab) -> list[float]:
    """A few numbers that models of one name do not have in common."""
    scores = lab.backend.score([Row(PROBE, chat=False)])[0, :LOGITS].tolist()
    return [float(f"{x:.4g}") for x in scores]


def _near(found: float, wanted: float) -> bool:
    return math.isclose(found, wanted, rel_tol=0.02, abs_tol=0.1)
