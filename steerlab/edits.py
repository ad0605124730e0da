"""The arithmetic of steering: a residual and operands go in, the edited residual comes out.

This file imports torch alone: on a remote backend it is what travels to the server, and nothing else of steerlab is
there. All arithmetic is in float32 at least, because in bfloat16 about 20 times more of an ablated component
survives; the result has the type of the residual. An operand of zero strength returns the residual bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

# What is done to a batch at one point: ("add" | "ablate", vectors [rows 1 d], strength [rows 1 1], where [rows pos 1]).
# `where` is the token scope of the forward pass at hand; None stands for every position.
Operand = tuple[str, Tensor, Tensor, Tensor | None]


def add(resid: Tensor, vector: Tensor, coefficient: Tensor | float = 1.0) -> Tensor:
    """Activation addition: `x + c v` (Turner et al. 2023; Arditi et al. 2024, eq. 3).

    resid: [... d_model], any float type. vector: [d_model] or broadcastable. Returns a new tensor of resid's type.
    """
    return (_float(resid) + coefficient * vector).to(resid.dtype)


def ablate(resid: Tensor, vector: Tensor, strength: Tensor | float = 1.0) -> Tensor:
    """Directional ablation: `x - s (x . u) u`, with u the unit vector along `vector` (Arditi et al. 2024, eq. 4).

    resid: [... d_model], any float type. vector: [d_model] or broadcastable, any nonzero norm. strength: 0 leaves the
    residual, 1 removes the whole component. Returns a new tensor of resid's type.
    """
    unit = vector / vector.norm(dim=-1, keepdim=True)
    return _remove(_float(resid), unit, strength).to(resid.dtype)


def apply(resid: Tensor, operands: list[Operand]) -> Tensor:
    """Apply a hook point's operands to a batch, in order.

    resid: [rows pos d_model]. Rows that an operand does not concern have zero strength in it. The vectors of "ablate"
    are unit vectors already (or zero where the strength is). Returns a new tensor of resid's type.
    """
    x = _float(resid)
    for kind, vectors, strength, where in operands:
        edited = x + strength * vectors if kind == "add" else _remove(x, vectors, strength)
        x = edited if where is None else torch.where(where, edited, x)
    return x.to(resid.dtype)


def _remove(x: Tensor, unit: Tensor, strength: Tensor | float) -> Tensor:
    return x - strength * (x * unit).sum(-1, keepdim=True) * unit


def _float(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
