"""Linear probes: what can be read off the stream of each layer by a linear classifier, tested on rows held out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steerlab import metrics
from steerlab.backends.base import Backend
from steerlab.directions import Direction
from steerlab.errors import PromptError
from steerlab.prompts import Prompt
from steerlab.rows import Row
from steerlab.sites import Point, Site

Labels = Sequence[Hashable] | Tensor | np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier of one layer's stream, with its accuracy on rows that it was not fitted on.

    accuracy: with Wilson's 95% interval. chance: the accuracy, on the same rows, of always saying the commonest label.
    weights: [labels d_model]; bias: [labels]; the label with the largest `W x + b` is what it says.
    """

    layer: int
    accuracy: metrics.Estimate
    chance: float
    labels: tuple[Hashable, ...]
    weights: Tensor
    bias: Tensor
    site: Site | None = None

    def predict(self, x: Tensor | np.ndarray[Any, Any]) -> list[Hashable]:
        """The label of each row of `x`, `[rows d_model]`."""
        scores = torch.as_tensor(x).double() @ self.weights.T + self.bias
        return [self.labels[i] for i in scores.argmax(-1)]

    def direction(self, label: Hashable = None, *, name: str | None = None) -> Direction:
        """The vector along which the probe finds a label (by default the last one) rather than the others."""
        i = len(self.labels) - 1 if label is None else self.labels.index(label)
        others = [j for j in range(len(self.labels)) if j != i]
        about = {
            "method": "linear probe",
            "label": str(self.labels[i]),
            "held-out accuracy": str(self.accuracy),
        }
        vector = self.weights[i] - self.weights[others].mean(0)
        return Direction(vector, self.site, name=name or str(self.labels[i]), provenance=about)


def linear_probe(
    x: Tensor | np.ndarray[Any, Any],
    y: Labels,
    *,
    held_out: float = 0.25,
    l2: float = 1.0,
    seed: int = 0,
) -> list[Probe]:
    """Fit a logistic regression to every layer, and test it on rows that were held out (Alain and Bengio 2016).

    x: [rows layers d_model], or [rows d_model] for one layer. y: a label per row, two or more different ones. held_out:
    the share of each label's rows, drawn by `seed`, that is kept for the test. l2: the weight of |W|^2 / 2 beside the
    sum of the rows' losses, for x centred and scaled to a mean variance of 1. Raises PromptError where there are too
    few rows.
    """
    stream = torch.as_tensor(x).double()
    stream = stream[:, None] if stream.ndim == 2 else stream
    given: list[Hashable] = y.tolist() if isinstance(y, Tensor | np.ndarray) else list(y)
    if stream.ndim != 3 or len(stream) != len(given):
        raise PromptError(
            f"x of shape {list(stream.shape)} and {len(given)} labels do not go together",
            "x is [rows layers d_model], with a label for every row.",
        )
    labels = tuple(sorted(set(given), key=str))
    target = torch.tensor([labels.index(label) for label in given])
    train, test = _split(target, labels, held_out, seed)
    commonest = target[train].mode().values
    probes = []
    for layer in range(stream.shape[1]):
        weights, bias = _logistic(stream[train, layer], target[train], len(labels), l2)
        hits = (stream[test, layer] @ weights.T + bias).argmax(-1) == target[test]
        chance = float((target[test] == commonest).double().mean())
        probes.append(Probe(layer, metrics.rate(hits.tolist()), chance, labels, weights, bias))
    return probes


def probe(
    backend: Backend,
    prompts: Sequence[Prompt],
    y: Labels,
    *,
    point: Point = "resid_pre",
    position: int = -1,
    chat: bool = True,
    held_out: float = 0.25,
    l2: float = 1.0,
    seed: int = 0,
) -> list[Probe]:
    """`linear_probe` on the stream of prompts at a position, for every layer of a model."""
    sites = [Site(layer, point) for layer in range(backend.info.n_layers)]
    x = backend.capture([Row(p, chat=chat) for p in prompts], sites, (position,), values=True).values
    assert x is not None
    probes = linear_probe(x[:, :, 0], y, held_out=held_out, l2=l2, seed=seed)
    return [replace(one, site=site) for one, site in zip(probes, sites, strict=True)]


def _split(target: Tensor, labels: Sequence[Hashable], held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """The rows to fit on and the rows to test on, each with its share of every label."""
    if len(labels) < 2:
        raise PromptError(
            f"all rows have the one label {list(labels)}", "A probe tells two or more labels apart."
        )
    if not 0 < held_out < 1:
        raise PromptError(
            f"held_out is a share between 0 and 1, not {held_out}", "0.25 keeps a quarter for the test."
        )
    noise = torch.Generator().manual_seed(seed)
    train, test = [], []
    for i, label in enumerate(labels):
        rows = (target == i).nonzero()[:, 0]
        if len(rows) < 2:
            raise PromptError(
                f"the label {label!r} has only one row", "One row to fit on and one to test on is the least."
            )
        rows = rows[torch.randperm(len(rows), generator=noise)]
        n = min(len(rows) - 1, max(1, round(held_out * len(rows))))
        test.append(rows[:n])
        train.append(rows[n:])
    return torch.cat(train), torch.cat(test)


def _logistic(x: Tensor, target: Tensor, n_labels: int, l2: float) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression with an L2 penalty, by L-BFGS in float64: weights [labels d], bias [labels].

    In the space of the rows, where a stream wider than there are rows costs no more than they do.
    """
    mean = x.mean(0)
    scale = (x - mean).square().mean().sqrt().clamp_min(1e-12)
    u, s, v = torch.linalg.svd((x - mean) / scale, full_matrices=False)
    z = torch.cat([u * s, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    wanted = torch.nn.functional.one_hot(target, n_labels).to(x.dtype)
    w = torch.zeros(z.shape[1], n_labels, dtype=x.dtype)
    penalty = torch.full((z.shape[1], 1), l2, dtype=x.dtype)
    penalty[-1] = 0  # not the bias
    solver = torch.optim.LBFGS(
        [w], max_iter=500, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        logp = (z @ w).log_softmax(-1)
        w.grad = z.T @ (logp.exp() - wanted) + penalty * w
        return (penalty * w.square()).sum() / 2 - (wanted * logp).sum()

    with torch.no_grad():
        solver.step(loss)
    weights = (v.T @ w[:-1]).T / scale
    return weights, w[-1] - weights @ mean
