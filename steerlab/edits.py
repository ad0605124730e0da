"""The arithmetic of steering: a residual and operands go in, the edited residual comes out.

This file imports torch alone: on a remote backend it is what travels to the server, and nothing else of steerlab is
there. All arithmetic is in float32 at least, because in bfloat16 about 20 times more of an ablated component
survives; the result has the type of the residual. An operand of zero strength returns the residual bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Operand(NamedTuple):
    """One thing that is done to a batch at one point. Rows that it does not concern have zeros everywhere.

    kind: "add", "add_keep_norm", "project" or "project_positive". vectors: [rows k d_model], unit and orthogonal for
    the projections. strength: [rows 1 1]. target: [rows 1 k], what the projections are moved to, None for zero.
    where: [rows pos 1], the tokens of this pass at which it acts, None for all. gate: [rows 1 d_model] unit vectors
    and threshold: [rows 1 1], above which a token's projection must lie, None for no gate. scaled: strength times
    vectors, and turned: vectors as [rows d_model k], where they are known already.
    """

    kind: str
    vectors: Tensor
    strength: Tensor
    target: Tensor | None = None
    where: Tensor | None = None
    gate: Tensor | None = None
    threshold: Tensor | None = None
    scaled: Tensor | None = None
    turned: Tensor | None = None

    def to(self, device: torch.device | str) -> Operand:
        """The same on another device."""
        moved: Any = {k: v.to(device) for k, v in self._asdict().items() if isinstance(v, Tensor)}
        return self._replace(**moved)

    def of(self, rows: slice | Tensor) -> Operand:
        """The same for some of the rows."""
        some: Any = {k: v[rows] for k, v in self._asdict().items() if isinstance(v, Tensor)}
        return self._replace(**some)


def add(
    resid: Tensor, vector: Tensor, coefficient: Tensor | float = 1.0, *, keep_norm: bool = False
) -> Tensor:
    """Activation addition: `x + c v` (Turner et al. 2023; Arditi et al. 2024, eq. 3).

    resid: [... d_model], any float type. vector: [d_model] or broadcastable. keep_norm: rescale to the norm that x had.
    Returns a new tensor of resid's type.
    """
    x = _float(resid)
    y = x + coefficient * _float(vector)
    return (_rescale(y, x) if keep_norm else y).to(resid.dtype)


def ablate(
    resid: Tensor, vector: Tensor, strength: Tensor | float = 1.0, *, one_sided: bool = False
) -> Tensor:
    """Directional ablation: `x - s (x . u) u`, with u the unit vector along `vector` (Arditi et al. 2024, eq. 4).

    resid: [... d_model], any float type. vector: [d_model], any nonzero norm. strength: 0 leaves the residual, 1
    removes the whole component. one_sided: `x - s relu(x . u) u`, which leaves what points the other way. Returns a
    new tensor of resid's type.
    """
    return _project(_float(resid), _unit(vector), strength, None, one_sided).to(resid.dtype)


def clamp(resid: Tensor, vector: Tensor, value: Tensor | float) -> Tensor:
    """Set the component along a direction to a value: `x - (x . u) u + a u`, with u the unit vector along `vector`.

    With `a` the mean projection on harmless prompts this is affine concept editing (Marshall et al. 2024). resid:
    [... d_model], any float type. vector: [d_model], any nonzero norm. Returns a new tensor of resid's type.
    """
    return _project(_float(resid), _unit(vector), 1.0, torch.as_tensor(value), False).to(resid.dtype)


def apply(resid: Tensor, operands: list[Operand]) -> Tensor:
    """Apply a point's operands to a batch, in order. resid: [rows pos d_model]. Returns a new tensor of its type."""
    x = _float(resid)
    for kind, vectors, strength, target, where, gate, threshold, *_ in operands:
        if kind == "add" or kind == "add_keep_norm":
            y = x + strength * vectors
            if kind == "add_keep_norm":
                y = _rescale(y, x)
        else:
            y = _project(x, vectors, strength, target, kind == "project_positive")
        if gate is not None and threshold is not None:
            passes = (x * gate).sum(-1, keepdim=True) > threshold
            where = passes if where is None else where & passes
        x = y if where is None else torch.where(where, y, x)
    return x.to(resid.dtype)


def apply_(resid: Tensor, operands: list[Operand]) -> Tensor:
    """`apply` in place: resid itself is changed and returned."""
    if resid.dtype not in (torch.float32, torch.float64):
        return resid.copy_(apply(resid, operands))
    for operand in operands:
        scaled = operand.scaled if operand.where is None and operand.gate is None else None
        if scaled is not None and operand.kind == "add":
            resid.add_(scaled)
        elif (
            scaled is not None
            and operand.turned is not None
            and operand.kind == "project"
            and operand.target is None
            and scaled.shape[1] == 1
            and scaled.dtype == resid.dtype  # products of matrices promote no types
        ):
            resid.addcmul_(torch.bmm(resid, operand.turned), scaled, value=-1)
        else:
            resid.copy_(apply(resid, [operand]))
    return resid


def _project(
    x: Tensor, basis: Tensor, strength: Tensor | float, target: Tensor | None, one_sided: bool
) -> Tensor:
    """Move the projections of x on an orthonormal basis [... k d_model] towards the target, by strength."""
    basis = basis.to(x.dtype)
    if basis.shape[-2] == 1:  # without matrix products, which are dearer for a single direction
        along = (x * basis).sum(-1, keepdim=True)
    else:
        along = x @ basis.mT
    if one_sided:
        along = along.relu()
    change = strength * (along if target is None else along - target)
    return x - (change * basis if basis.shape[-2] == 1 else change @ basis)


def _rescale(y: Tensor, x: Tensor) -> Tensor:
    scaled: Tensor = y * (x.norm(dim=-1, keepdim=True) / y.norm(dim=-1, keepdim=True).clamp_min(1e-30))
    return scaled


def _unit(vector: Tensor) -> Tensor:
    """The unit vector along a vector [d_model], as a basis [1 d_model]."""
    v = _float(vector)
    unit: Tensor = v / v.norm(dim=-1, keepdim=True)
    return unit[None]


def _float(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
