"""What is read of cells: small numbers in the place of a stream, or of a vocabulary, for every one.

This file imports torch alone: on a remote backend it travels to the server, next to `edits`. Each function takes logits
[cells vocab], of one text or of two, and those of OF_STREAMS a stream [cells d_model]; it returns tensors whose first
dimension is the cells.
"""

from __future__ import annotations

import torch
from torch import Tensor


def projected(stream: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """`x . u` with each of some unit vectors [directions d_model], [cells directions], and `|x|`, [cells]."""
    return stream @ units.to(stream.device).T, stream.norm(dim=-1)


OF_STREAMS = (projected,)


def whole(logits: Tensor) -> tuple[Tensor]:
    """The logits themselves."""
    return (logits,)


def likeliest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The probabilities and the ids of the k likeliest tokens, each [cells k]; fewer where there are not so many."""
    values, ids = logits.softmax(-1).topk(min(k, logits.shape[-1]))
    return values, ids


def chance(logits: Tensor, token: int) -> tuple[Tensor]:
    """The probability of a token, [cells]."""
    return (logits.softmax(-1)[:, token],)


def rank(logits: Tensor, token: int) -> tuple[Tensor]:
    """How many tokens are likelier than this one, [cells]; all of them where its logit is no number."""
    return ((~(logits <= logits[:, token, None])).sum(-1),)


def followed(logits: Tensor, came: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The log-probability of the token that came [cells], and of the k likeliest others the probabilities and the ids,
    each [cells k].
    """
    came = came.to(logits.device)[:, None]
    logprobs = logits.log_softmax(-1)
    best, ids = logprobs.scatter(-1, came, -torch.inf).topk(min(k, logprobs.shape[-1] - 1))
    return logprobs.gather(-1, came)[:, 0], best.exp(), ids


def shifted(steered: Tensor, baseline: Tensor, k: int, most: bool) -> tuple[Tensor, Tensor]:
    """The k tokens whose probability rose most, or fell most: by how much, and their ids, each [cells k]."""
    change = steered.softmax(-1) - baseline.softmax(-1)
    values, ids = change.topk(min(k, change.shape[-1]), largest=most)
    return values, ids


def divergence(steered: Tensor, baseline: Tensor) -> tuple[Tensor]:
    """`kl(baseline, steered)`, [cells]."""
    return (kl(baseline, steered),)


def beside(steered: Tensor, baseline: Tensor, k: int) -> tuple[Tensor, ...]:
    """`likeliest` of the baseline and of what is steered, `shifted` to the most, and their `divergence`."""
    return (
        *likeliest(baseline, k),
        *likeliest(steered, k),
        *shifted(steered, baseline, k, True),
        *divergence(steered, baseline),
    )


def kl(baseline: Tensor, steered: Tensor) -> Tensor:
    """KL(baseline || steered) of the next-token distributions, in nats, with 1e-6 inside the logarithms as in the
    paper.

    Both are logits [rows vocab]; returns [rows], float64.
    """
    p, q = baseline.double().softmax(-1), steered.double().softmax(-1)
    return (p * ((p + 1e-6).log() - (q + 1e-6).log())).sum(-1)
