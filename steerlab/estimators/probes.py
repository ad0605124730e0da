"""The logistic probe as an estimator: its weights as a direction, at every position and layer."""

from __future__ import annotations

from typing import Any

import torch

from steerlab.backends.base import Backend, Position, Positions
from steerlab.estimators.maps import DirectionMap, as_tuple, default_positions
from steerlab.lens import linear_probe
from steerlab.prompts import ContrastSet
from steerlab.rows import Row
from steerlab.sites import Point, Site


def logistic_probe(
    backend: Backend,
    contrast: ContrastSet,
    *,
    point: Point = "resid_pre",
    positions: Positions | None = None,
    chat: bool = True,
    held_out: float = 0.25,
    l2: float = 1.0,
    seed: int = 0,
) -> DirectionMap:
    """The weights of a logistic regression that tells the two sides apart, at every position and layer, as unit vectors
    that point towards the positive side (`lens.linear_probe`, which says what held_out, l2 and seed are).

    Each direction's provenance has the accuracy on the prompts that were held out, with its interval, and chance. The
    stream of all prompts is held at once. Raises PromptError for a side of fewer than two prompts.
    """
    positions = default_positions(backend, chat) if positions is None else positions
    sites = [Site(layer, point) for layer in range(backend.info.n_layers)]
    n = len(contrast.positive)
    rows = [Row(prompt, chat=chat) for prompt in (*contrast.positive, *contrast.negative)]
    x = backend.capture(rows, sites, positions, values=True).values
    assert x is not None
    norms = x.double().norm(dim=-1)
    norm = (norms[:n].mean(0) + norms[n:].mean(0)).T / 2
    spread = (x - x.mean(0)).double().norm(dim=-1).mean(0).T
    where = as_tuple(positions)
    vectors = torch.zeros(len(where), len(sites), x.shape[-1], dtype=torch.float64)
    details: dict[tuple[Position, int], dict[str, Any]] = {}
    for i, position in enumerate(where):
        labels = [True] * n + [False] * (len(rows) - n)
        for found in linear_probe(x[:, :, i], labels, held_out=held_out, l2=l2, seed=seed):
            layer, yes, no = found.layer, found.labels.index(True), found.labels.index(False)
            details[position, layer] = {"held-out accuracy": str(found.accuracy), "chance": found.chance}
            if spread[i, layer] > 1e-6 * norm[i, layer]:  # else there is nothing but rounding to tell apart
                weights = found.weights[yes] - found.weights[no]
                vectors[i, layer] = torch.nn.functional.normalize(weights, dim=0)
    about = {
        "method": "logistic probe",
        "positive prompts": n,
        "negative prompts": len(rows) - n,
        "held out": held_out,
        "l2": l2,
    }
    return DirectionMap(vectors, norm, where, point, contrast.name, backend.info.name, about, details)
