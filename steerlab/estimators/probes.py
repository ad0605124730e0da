"""The logistic probe as an estimator: its weights as a direction, at every position and layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from steerlab.backends.base import Backend
from steerlab.estimators.about import as_tuple, default_positions, origin
from steerlab.lens.probes import captured, linear_probe
from steerlab.maps import DirectionMap
from steerlab.prompts import ContrastSet, Position, Positions
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
    stream is kept in a temporary file while the probes are fitted, so memory does not grow with the number of prompts;
    the file has 4 bytes for every prompt, position, layer and component. Raises PromptError for a side of fewer than
    two prompts.
    """
    positions = default_positions(backend, chat) if positions is None else positions
    where = as_tuple(positions)
    sites = [Site(layer, point) for layer in range(backend.info.n_layers)]
    sides = (contrast.positive, contrast.negative)
    labels = [True] * len(sides[0]) + [False] * len(sides[1])
    vectors = torch.zeros(len(where), len(sites), backend.info.d_model, dtype=torch.float64)
    details: dict[tuple[Position, int], dict[str, Any]] = {}
    with captured(backend, [*sides[0], *sides[1]], sites, positions, chat=chat) as x:
        norm, spread = _norms(x, len(sides[0]))
        for i, position in enumerate(where):
            for found in linear_probe(x[:, :, i], labels, held_out=held_out, l2=l2, seed=seed):
                layer, yes, no = found.layer, found.labels.index(True), found.labels.index(False)
                details[position, layer] = {"held-out accuracy": str(found.accuracy), "chance": found.chance}
                if (
                    spread[i, layer] > 1e-6 * norm[i, layer]
                ):  # else nothing but rounding tells the sides apart
                    weights = found.weights[yes] - found.weights[no]
                    vectors[i, layer] = torch.nn.functional.normalize(weights, dim=0)
    about = {
        "method": "logistic probe",
        "positive prompts": len(sides[0]),
        "negative prompts": len(sides[1]),
        "held out": held_out,
        "l2": l2,
        **origin(backend, sides),
    }
    return DirectionMap(vectors, norm, where, point, contrast.name, backend.info.name, about, details)


def _norms(x: np.ndarray[Any, Any], n: int) -> tuple[Tensor, Tensor]:
    """Of a stream [rows layers positions d_model], by rows: the mean norm over both sides, of which the first has `n`
    rows, and how far rows lie from their mean (root mean square). Both [positions layers].
    """
    norms = torch.zeros(2, *x.shape[1:3], dtype=torch.float64)
    total, squares = torch.zeros(x.shape[1:], dtype=torch.float64), torch.zeros_like(norms[0])
    for i, row in enumerate(x):
        one = torch.as_tensor(row).double()
        norms[int(i >= n)] += one.norm(dim=-1)
        squares += one.square().sum(-1)
        total += one
    around = squares / len(x) - (total / len(x)).square().sum(-1)
    return (norms[0] / n + norms[1] / (len(x) - n)).T / 2, around.clamp_min(0).sqrt().T
