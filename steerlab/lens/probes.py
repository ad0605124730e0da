"""Linear probes: what can be read off the stream of each layer by a linear classifier, tested on rows held out.

A logistic regression has no sufficient statistics: every step of its fit needs all rows. So that memory stays flat
however many there are, the stream of prompts is read once, kept in a file, and gone through in chunks at every step.
The fit is still that to all rows, since the loss and its gradient are sums over them.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steerlab import metrics
from steerlab.backends.base import Backend
from steerlab.directions import Direction
from steerlab.errors import DirectionError, PromptError, own_line
from steerlab.noise import seeded
from steerlab.prompts import Positions, Prompt, several
from steerlab.rows import Row
from steerlab.sites import Point, Site

Array = np.ndarray[Any, Any]
Labels = Sequence[Hashable] | Tensor | Array
# The rows to fit on, chunk by chunk, as often as they are asked for: [rows d_model] with [rows labels], one-hot.
Chunks = Callable[[], Iterator[tuple[Tensor, Tensor]]]

CAPTURED = 32  # prompts whose stream is read at once
CHUNK = 1024  # rows of one layer that are in memory at once


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier of one layer's stream, with its accuracy on rows that it was not fitted on.

    accuracy: with Wilson's 95% interval. chance: the accuracy, on the same rows, of always saying the commonest label.
    weights: [labels d_model]; bias: [labels]; the label with the largest `W x + b` is what it says. Where too few rows
    had a stream of finite numbers, accuracy, chance, weights and bias are NaN, and n is 0.

    site, position, model, residual_norm (the mean norm of the stream there): of a probe of a model, where it was found.
    """

    layer: int
    accuracy: metrics.Estimate
    chance: float
    labels: tuple[Hashable, ...]
    weights: Tensor
    bias: Tensor
    site: Site | None = None
    position: int | None = None
    model: str | None = None
    residual_norm: float | None = None

    def predict(self, x: Tensor | np.ndarray[Any, Any]) -> list[Hashable]:
        """The label of each row of `x`, `[rows d_model]`. Raises PromptError where the probe was not fitted, and for x
        of another shape.
        """
        if not self.weights.isfinite().all():
            raise PromptError(
                f"the probe of layer {self.layer} was not fitted: too few rows had a stream of finite numbers",
                "Load the model in float32 or bfloat16.",
            )
        rows = torch.as_tensor(x)
        if rows.shape[1:] != self.weights.shape[1:]:
            raise PromptError(
                f"x of shape {list(rows.shape)} does not fit the probe of layer {self.layer}",
                f"x is [rows d_model], and d_model is {self.weights.shape[1]} here: one row is x[None].",
            )
        scores = rows.double() @ self.weights.T + self.bias
        return [self.labels[i] for i in scores.argmax(-1)]

    def direction(self, label: Hashable = None, *, name: str | None = None) -> Direction:
        """The vector along which the probe finds a label (by default the last one) rather than the others. Raises
        DirectionError for a label that it was not fitted on.
        """
        label = self.labels[-1] if label is None else label
        if label not in self.labels:
            raise DirectionError(
                f"the probe of layer {self.layer} tells no label {label!r} apart",
                f"It has {list(self.labels)}.",
            )
        i = self.labels.index(label)
        others = [j for j in range(len(self.labels)) if j != i]
        about = {
            "method": "linear probe",
            "label": str(self.labels[i]),
            "held-out accuracy": str(self.accuracy),
            **({"point": self.site.point} if self.site else {}),
            **({} if self.position is None else {"position": self.position}),
        }
        return Direction(
            self.weights[i] - self.weights[others].mean(0),
            self.site,
            name=name or str(self.labels[i]),
            model=self.model,
            residual_norm=self.residual_norm,
            provenance=about,
        )


def linear_probe(
    x: Tensor | np.ndarray[Any, Any],
    y: Labels,
    *,
    held_out: float = 0.25,
    l2: float = 1.0,
    seed: int = 0,
) -> list[Probe]:
    """Fit a logistic regression to every layer, and test it on rows that were held out (Alain and Bengio 2016).

    x: [rows layers d_model], or [rows d_model] for one layer; of a `np.memmap`, a part at a time is in memory. y: a
    label per row, two or more different ones. held_out: the share of each label's rows, drawn by `seed`, that is kept
    for the test. l2: the weight of |W|^2 / 2 beside the sum of the rows' losses, for x centred and scaled to a mean
    variance of 1. A layer's rows with NaN or infinite numbers are left out of its fit and its test, with a warning.
    Raises PromptError where there are too few rows.
    """
    stream = x[:, None] if x.ndim == 2 else x
    given: list[Hashable] = y.tolist() if isinstance(y, Tensor | np.ndarray) else list(y)
    if stream.ndim != 3 or len(stream) != len(given):
        raise PromptError(
            f"x of shape {list(stream.shape)} and {len(given)} labels do not go together",
            "x is [rows layers d_model], with a label for every row.",
        )
    labels = tuple(sorted(set(given), key=str))
    target = torch.tensor([labels.index(label) for label in given])
    train, test = _split(target, labels, held_out, seed)
    probes, left_out = [], {}
    for layer in range(stream.shape[1]):
        finite = _norms(stream, layer).isfinite()
        if not finite.all():
            left_out[layer] = int((~finite).sum())
        fit, check = train[finite[train]], test[finite[test]]
        if len(target[fit].unique()) < len(labels):
            check = check[:0]
        if not len(check):
            nothing = torch.full((len(labels), stream.shape[-1]), math.nan, dtype=torch.float64)
            probes.append(Probe(layer, metrics.rate([]), math.nan, labels, nothing, nothing[:, 0]))
            continue
        weights, bias = _logistic(stream, layer, fit, target, len(labels), l2)
        hits = [
            hit
            for rows in check.split(CHUNK)
            for hit in (_rows(stream, layer, rows) @ weights.T + bias).argmax(-1) == target[rows]
        ]
        chance = float((target[check] == target[fit].mode().values).double().mean())
        probes.append(Probe(layer, metrics.rate([bool(hit) for hit in hits]), chance, labels, weights, bias))
    if left_out:
        each = ", ".join(f"{n} at layer {layer}" for layer, n in left_out.items())
        warnings.warn(
            f"of {len(stream)} rows, those whose stream has NaN or infinite numbers are left out of the probes: {each}",
            stacklevel=own_line(),
        )
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
    """`linear_probe` on the stream of prompts at a position, for every layer of a model. The stream is kept in a
    temporary file meanwhile.
    """
    sites = [Site(layer, point) for layer in range(backend.info.n_layers)]
    with captured(backend, prompts, sites, (position,), chat=chat) as x:
        probes = linear_probe(x[:, :, 0], y, held_out=held_out, l2=l2, seed=seed)
        norms = [_norms(x[:, :, 0], layer) for layer in range(len(sites))]
    means = [float(norm[norm.isfinite()].mean()) for norm in norms]
    return [
        replace(
            one,
            site=site,
            position=position,
            model=backend.info.name,
            residual_norm=None if math.isnan(mean) else mean,
        )
        for one, site, mean in zip(probes, sites, means, strict=True)
    ]


@contextmanager
def captured(
    backend: Backend, prompts: Sequence[Prompt], sites: Sequence[Site], positions: Positions, *, chat: bool
) -> Iterator[Array]:
    """The stream of prompts in a temporary file, `[prompts sites positions d_model]`, float32; the operating system
    keeps of it in memory what there is room for. It is gone when the context ends. Raises PromptError for no prompts.
    """
    prompts = several(prompts)
    width = 1 if positions == "response" else len(positions)
    shape = (len(prompts), len(sites), width, backend.info.d_model)
    with tempfile.TemporaryFile() as file:
        stream = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
        for start in range(0, len(prompts), CAPTURED):
            rows = [Row(p, chat=chat) for p in prompts[start : start + CAPTURED]]
            values = backend.capture(rows, sites, positions, values=True).values
            assert values is not None
            stream[start : start + len(rows)] = values.numpy()
        yield stream


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
    noise = seeded(seed)
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


def _rows(stream: Tensor | Array, layer: int, rows: Tensor) -> Tensor:
    """Some rows of one layer, `[rows d_model]`, float64: a copy, and nothing else of the stream in memory."""
    some = stream[rows.numpy(), layer] if isinstance(stream, np.ndarray) else stream[rows, layer]
    return torch.as_tensor(some).double().cpu()


def _norms(stream: Tensor | Array, layer: int) -> Tensor:
    """The norm of every row of one layer, `[rows]`, float64; NaN or infinite where numbers of the row are."""
    parts = torch.arange(len(stream)).split(CHUNK)
    return torch.cat([_rows(stream, layer, rows).norm(dim=-1) for rows in parts])


def _logistic(
    stream: Tensor | Array, layer: int, train: Tensor, target: Tensor, n_labels: int, l2: float
) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression with an L2 penalty on the rows `train`: weights [labels d], bias [labels]."""
    parts = train.split(CHUNK)
    total, squares = torch.zeros(stream.shape[-1], dtype=torch.float64), 0.0
    for rows in parts:
        total += _rows(stream, layer, rows).sum(0)
    mean = total / len(train)
    for rows in parts:
        squares += float((_rows(stream, layer, rows) - mean).square().sum())
    scale = max((squares / (len(train) * len(mean))) ** 0.5, 1e-12)

    def chunks() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in parts:
            wanted = torch.nn.functional.one_hot(target[rows], n_labels).double()
            yield (_rows(stream, layer, rows) - mean) / scale, wanted

    if len(parts) > 1:
        w, bias = _fitted(chunks, len(mean), n_labels, l2)
    else:
        # in the space of the rows, where a stream wider than there are rows costs no more than they do
        ((x, wanted),) = chunks()
        u, s, back = torch.linalg.svd(x, full_matrices=False)
        few = [(u * s, wanted)]
        w, bias = _fitted(lambda: iter(few), len(s), n_labels, l2)
        w = back.T @ w
    weights = w.T / scale
    return weights, bias - weights @ mean


def _fitted(chunks: Chunks, width: int, n_labels: int, l2: float) -> tuple[Tensor, Tensor]:
    """The minimum of `l2 |w|^2 / 2 - sum of log-probabilities`, by L-BFGS in float64: [width labels], and the bias
    [labels], which is not penalised.
    """
    w = torch.zeros(width + 1, n_labels, dtype=torch.float64)
    w.grad = torch.zeros_like(w)
    solver = torch.optim.LBFGS(
        [w], max_iter=500, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        assert w.grad is not None
        value = l2 * w[:-1].square().sum() / 2
        w.grad[:-1], w.grad[-1] = l2 * w[:-1], 0.0
        for x, wanted in chunks():
            logp = (x @ w[:-1] + w[-1]).log_softmax(-1)
            w.grad[:-1] += x.T @ (logp.exp() - wanted)
            w.grad[-1] += (logp.exp() - wanted).sum(0)
            value = value - (wanted * logp).sum()
        return value

    with torch.no_grad():
        solver.step(loss)
    return w[:-1], w[-1]
