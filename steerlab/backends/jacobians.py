"""Jacobians of a local model: how a later state of the residual stream depends on an earlier one, to first order."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from steerlab.backends.base import Linearised, wide
from steerlab.backends.budget import Budget
from steerlab.backends.tracing import TracedModel
from steerlab.sites import Site


def linearised(
    model: TracedModel, budget: Budget, ids: Tensor, source: Site, position: int, target: Site, d_model: int
) -> Linearised:
    """How the stream at `target` and the last token depends on the stream at `source` and a position, for the tokens of
    one prompt [1 tokens]. The Jacobian's rows are found in batches: each row of a batch is the same prompt, and is
    asked for the gradient of another component.
    """

    def run(ways: Tensor, part: slice) -> Linearised:
        some = ways[part]
        start, end = differentiable(model, ids.expand(len(some), -1), source, position, target)
        (jacobian,) = torch.autograd.grad(end, start, some.to(end))
        return Linearised(wide(start[0].detach()).cpu(), wide(end[0].detach()).cpu(), wide(jacobian).cpu())

    parts: list[Linearised] = []
    for ways in budget.portions(torch.eye(d_model, device=model.device)):
        parts += budget.halving(len(ways), functools.partial(run, ways))
    return Linearised(parts[0].at, parts[0].value, torch.cat([part.jacobian for part in parts]))


def differentiable(
    model: TracedModel, ids: Tensor, source: Site, position: int, target: Site
) -> tuple[Tensor, Tensor]:
    """One forward pass over ids [rows tokens] up to `target`, differentiable from a position at `source` on: the states
    at both, each [rows d_model].
    """
    seen: list[Tensor] = []

    def begin(x: Tensor) -> Tensor:
        x = x.detach().clone()
        seen.append(x[:, position].clone().requires_grad_())
        x[:, position] = seen[0]
        return x

    def finish(x: Tensor) -> None:
        seen.append(x[:, -1])

    visits = model.visits([(source, begin), (target, finish)])
    with torch.enable_grad():
        model.through(model.inputs(ids), visits, stop=True)
    start, end = seen
    return start, end
