"""SAELens: a decoder row of a sparse autoencoder, from `sae_weights.safetensors` and `cfg.json` in one folder.

Row f of `W_dec` `[d_sae, d_in]` is what feature f adds to the activations that the autoencoder reconstructs; the hook
in `cfg.json` says which these are. For a transcoder that is its output hook. Reading only: a direction is no
autoencoder.
"""

from __future__ import annotations

import operator
from pathlib import Path

from steerlab.directions import Direction
from steerlab.errors import FileError
from steerlab.formats.files import QuestionError, agreed, hook_site, open_safetensors, plain, read_json
from steerlab.sites import Site

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"


def read(path: str | Path, feature: int | None = None, *, site: Site | None = None) -> Direction:
    """The decoder row of one feature, of any norm. Only that row is read, however large the file.

    path: the folder, or the safetensors file in it. site: for a folder whose cfg.json does not name the hook. Raises
    FileError for a missing, truncated or foreign file and as a question where feature or site are not known; SiteError
    for an autoencoder of something else than the residual stream; DirectionError for NaN.
    """
    path = Path(path)
    file = path / WEIGHTS if path.is_dir() else path
    config = read_json(file.with_name(CONFIG)) if file.with_name(CONFIG).exists() else {}
    metadata = config.get("metadata")
    about = (
        {**config, **metadata} if isinstance(metadata, dict) else config
    )  # version 6 moved the hook into it
    with open_safetensors(file) as weights:
        if "W_dec" not in weights.keys():  # noqa: SIM118  (not a dict)
            raise FileError(
                f"{file} has no W_dec, so it is no autoencoder of SAELens",
                f"It has {sorted(weights.keys())[:9]}.",
            )
        rows = weights.get_slice("W_dec")
        shape = rows.get_shape()
        width = about.get("d_out") or about.get("d_in") or shape[-1]  # a transcoder has its own d_out
        if len(shape) != 2 or shape[1] != width:
            raise FileError(
                f"{file}: W_dec has the shape {shape}, and a row of {width} for each feature was expected"
            )
        if feature is None:
            raise QuestionError(
                f"{file} has {shape[0]} features, and a direction is one of them",
                "Answer with its number: feature=0.",
                asks="feature",
                choices=range(shape[0]),
            )
        if not 0 <= feature < shape[0]:
            raise FileError(f"{file} has features 0 to {shape[0] - 1}, not {feature}")
        feature = operator.index(feature)
        row = plain(rows[feature : feature + 1], file)[0]
    # a transcoder's rows act at its output hook; hook_name was once called hook_point
    hook = about.get("hook_name_out") or about.get("hook_name") or about.get("hook_point")
    where = agreed(
        file, hook_site(file, hook), site, f"at which hook it was trained: {CONFIG} names none that is known"
    )
    if about.get("normalize_activations") == "covariance_whitening":
        raise FileError(
            f"{file} was trained on whitened activations, and its rows are no directions of the residual stream",
            "Fold the whitening into the weights first: sae.fold_activation_whitening in SAELens.",
        )
    return Direction(
        row,
        where,
        name=f"feature {feature}",
        provenance={
            "format": "SAELens",
            "file": file.name,
            "feature": feature,
            **{
                key: about[key]
                for key in (
                    "model_name",
                    "release",
                    "neuronpedia_id",
                    "architecture",
                    "normalize_activations",
                )
                if isinstance(about.get(key), str)
            },
        },
    )
