"""Metrics: what a recipe did, from the logits at the last prompt position."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def refusal_score(logits: Tensor, refusal_tokens: Sequence[int]) -> Tensor:
    """How strongly the model is about to refuse: `log(p + e) - log(1 - p + e)`, e = 1e-8 (Arditi et al. 2024, eq. 6).

    logits: [rows vocab], at the last position of the prompt; p is the probability mass of the refusal tokens. Returns
    [rows], float64; above 0 a refusal is likelier than not.
    """
    p = logits.double().softmax(-1)[:, list(refusal_tokens)].sum(-1)
    return (p + 1e-8).log() - (1 - p + 1e-8).log()


def kl(baseline: Tensor, steered: Tensor) -> Tensor:
    """KL(baseline || steered) of the next-token distributions, in nats, with 1e-6 inside the logarithms as in the
    paper.

    Both are logits [rows vocab]; returns [rows], float64.
    """
    p, q = baseline.double().softmax(-1), steered.double().softmax(-1)
    return (p * ((p + 1e-6).log() - (q + 1e-6).log())).sum(-1)


def refusal_tokens(harmful: Tensor, harmless: Tensor, *, share: float = 0.9) -> list[int]:
    """The tokens with which a model begins its refusals, derived from its own answers.

    harmful, harmless: baseline logits [rows vocab]. Tokens are taken by how much likelier they are after harmful
    prompts than after harmless ones, until they hold `share` of all that is gained; the likeliest first.
    """
    gain = (harmful.double().softmax(-1).mean(0) - harmless.double().softmax(-1).mean(0)).clamp_min(0)
    order = gain.argsort(descending=True)
    enough = int((gain[order].cumsum(0) < share * gain.sum()).sum()) + 1
    return [int(i) for i in order[:enough]]
