"""Principal components of the differences of paired prompts."""

from __future__ import annotations

import torch
from torch import Tensor

from steerlab.backends.base import Backend
from steerlab.errors import PromptError
from steerlab.estimators.about import as_tuple, origin
from steerlab.maps import DirectionMap
from steerlab.prompts import ContrastSet, Positions
from steerlab.rows import Row
from steerlab.sites import Point, Site

CHUNK = 32  # pairs whose activations are held at once
KEPT = 512  # rows of differences that are held at each site; beyond twice as many, only their principal components


def principal_component(
    backend: Backend,
    contrast: ContrastSet,
    *,
    point: Point = "resid_post",
    positions: Positions = (-1,),
    chat: bool = True,
) -> DirectionMap:
    """First principal component of the differences of paired prompts (Zou et al. 2023, section 3.1; the way of repeng).

    contrast: the n-th positive prompt is paired with the n-th negative one; two pairs or more. The differences are
    centred; the component, a unit vector, points towards the positive side, and is zero where nothing but rounding
    tells one pair from another. Memory does not grow with the number of pairs. Raises PromptError where the sides do
    not pair.
    """
    pairs = contrast.pairs()
    if len(pairs) < 2:
        raise PromptError("one pair has no principal component", "Give two pairs or more.")
    sites = [Site(layer, point) for layer in range(backend.info.n_layers)]
    rows: Tensor | None = None
    total, norm = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start : start + CHUNK]
        sides = [[Row(pair[i], chat=chat) for pair in chunk] for i in (0, 1)]
        shows, lacks = (backend.capture(side, sites, positions, values=True) for side in sides)
        assert shows.values is not None
        assert lacks.values is not None
        difference = (
            (shows.values - lacks.values).permute(1, 2, 0, 3).double()
        )  # [layers positions pairs d_model]
        rows = difference if rows is None else torch.cat([rows, difference], 2)
        total = total + difference.sum(2)
        norm = norm + (shows.norm + lacks.norm) / 2 * len(chunk)
        if rows.shape[2] > 2 * KEPT:
            _, scale, ways = torch.linalg.svd(rows, full_matrices=False)
            rows = scale[..., :KEPT, None] * ways[..., :KEPT, :]
    assert rows is not None
    norm = norm / len(pairs)
    vectors, spread = _leading(rows, total / len(pairs), len(pairs))
    vectors[spread <= 1e-6 * norm] = 0
    return DirectionMap(
        vectors.transpose(0, 1),
        norm.T,
        as_tuple(positions),
        point,
        contrast.name,
        backend.info.name,
        {"method": "principal component of differences", "pairs": len(pairs), **origin(backend, pairs)},
    )


def _leading(rows: Tensor, mean: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The first principal component [... d] of `n` centred rows [... r d], which may be compressed: their scatter is
    `rows^T rows - n mean mean^T`. Oriented along the mean. And the standard deviation along it, [...].
    """
    _, scale, ways = torch.linalg.svd(rows, full_matrices=False)
    inner = (ways @ mean[..., None])[..., 0]
    scatter = torch.diag_embed(scale**2) - n * inner[..., :, None] * inner[..., None, :]
    variance, own = torch.linalg.eigh(scatter)
    vector = (own[..., None, :, -1] @ ways)[..., 0, :]
    towards = (vector * mean).sum(-1, keepdim=True).sign()
    oriented: Tensor = vector * torch.where(towards == 0, 1.0, towards)
    return oriented, (variance[..., -1].clamp_min(0) / n).sqrt()
