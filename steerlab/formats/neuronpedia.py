"""Neuronpedia's JSON: {"modelId", "layerNumber", "hookType", "vector"}, as its vectors are sent, or with "hookName", as
its features are answered.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from steerlab.directions import Direction
from steerlab.errors import DirectionError, FileError, SiteError
from steerlab.formats.files import agreed, hook_site, opening, read_json
from steerlab.sites import Site

# What Neuronpedia takes for a vector of one's own.
HOOKS = {"resid_pre": "hook_resid_pre", "resid_post": "hook_resid_post"}


def read(path: str | Path, *, site: Site | None = None) -> Direction:
    """Read a vector or a feature. site: for one that does not say its hook.

    Raises FileError for a missing, truncated or foreign file and as a question where the site is not known; SiteError
    for a hook outside the residual stream; DirectionError for NaN.
    """
    path = Path(path)
    data = read_json(path)
    numbers = data.get("vector")
    if not isinstance(numbers, list):
        raise FileError(
            f'{path} has no "vector", so it is no vector of Neuronpedia', f"It has {sorted(data)[:9]}."
        )
    if not numbers:
        raise DirectionError(
            f"{path} has an empty vector: Neuronpedia does not keep those of all features",
            "Read the feature from the autoencoder's own file, sae_weights.safetensors.",
        )
    with opening(path, "a vector of Neuronpedia"):
        if not all(type(number) in (int, float) for number in numbers):
            raise FileError(f"{path}: its vector is not a list of numbers")
        vector = np.array(numbers, np.float64)
    where = agreed(
        path, hook_site(path, _hook(data)), site, "its hook: hookType and layerNumber, or hookName"
    )
    label = data.get("vectorLabel") or data.get("label")
    return Direction(
        vector,  # type: ignore[arg-type]
        where,
        name=label if isinstance(label, str) else path.stem,
        provenance={
            "format": "Neuronpedia",
            "file": path.name,
            **{
                key: data[key]
                for key in ("modelId", "layer", "index")
                if isinstance(data.get(key), str | int)
            },
        },
    )


def write(path: str | Path, direction: Direction, *, model_id: str | None = None) -> Path:
    """Write what Neuronpedia takes for a new vector. Returns the path.

    model_id: the model's name there, "gpt2-small" say; directions that were read from Neuronpedia know it. Raises
    SiteError for a site that it does not take, FileError as a question for no model_id.
    """
    path, site = Path(path), direction.site
    if site is None or site.point not in HOOKS:
        raise SiteError(
            f"Neuronpedia takes vectors of {' and '.join(HOOKS)}, and {direction!r} is of neither"
        )
    model_id = model_id or direction.provenance.get("modelId")
    if not isinstance(model_id, str):
        raise FileError(
            "a vector of Neuronpedia names its model, and the direction does not say it",
            'Answer with the name: write(path, direction, model_id="gpt2-small").',
        )
    content = {
        "modelId": model_id,
        "layerNumber": site.layer,
        "hookType": HOOKS[site.point],
        "vector": direction.vector.tolist(),
        "vectorLabel": direction.name,
    }
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return path


def _hook(data: dict[str, Any]) -> object:
    layer, hook = data.get("layerNumber"), data.get("hookType")
    if type(layer) is int and isinstance(hook, str):
        return f"blocks.{layer}.hook_{hook.removeprefix('hook_')}"
    return data.get("hookName")
