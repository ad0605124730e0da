"""What is read of a matrix that has a row for every token.

This file imports torch alone: on a remote backend it travels to the server, next to `edits`.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 2**14  # at a time: the whole matrix, in float32, may not fit in memory beside the model


def by_cosine(matrix: Tensor, vector: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k rows of a matrix [tokens d_model] nearest to a vector [d_model], and those nearest to its opposite: their
    cosines and their numbers, each [2 k], the nearest first, on the CPU.
    """
    unit = (vector.float() / vector.float().norm()).to(matrix.device)
    parts = []
    for rows in matrix.detach().split(ROWS):
        rows = rows.float()
        parts.append((rows @ unit / rows.norm(dim=-1).clamp_min(1e-30)).cpu())
    cosine = torch.cat(parts)
    values, numbers = torch.stack([cosine, -cosine]).topk(min(k, len(cosine)))
    return values, numbers
