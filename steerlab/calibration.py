"""Strength in units of damage: the largest coefficient whose KL divergence on harmless prompts keeps a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from steerlab import metrics
from steerlab.backends.base import Backend
from steerlab.errors import RecipeError
from steerlab.prompts import Prompt
from steerlab.recipes import Recipe
from steerlab.rows import Row

STEPS = 12  # strengths that are measured together, as rows of one batch


class Calibrated(NamedTuple):
    """A strength, the mean KL to the baseline that it costs (nats, at the last prompt position), and its recipe."""

    strength: float
    kl: float
    recipe: Recipe


def within_budget(
    backend: Backend,
    make: Callable[[float], Recipe],
    prompts: Sequence[Prompt],
    *,
    kl: float = 0.1,
    most: float,
) -> Calibrated:
    """The largest strength up to `most` before the mean KL on the prompts first passes the budget.

    make: from a strength to a recipe, `lambda c: Recipe([Add(direction, c)])`. The strengths are searched twice, in
    even steps and then between the last one within the budget and the first beyond, so the answer is exact to about
    `most / 144`. A negative `most` searches downwards. Raises RecipeError for a budget that nothing keeps.
    """
    if not kl > 0 or not most:
        raise RecipeError(
            f"a KL budget of {kl} up to strength {most} leaves nothing to search", "Give both above 0."
        )
    base = backend.score([Row(prompt) for prompt in prompts])

    def measure(strengths: Sequence[float]) -> list[float]:
        rows = [Row(prompt, make(strength)) for strength in strengths for prompt in prompts]
        steered = backend.score(rows).unflatten(0, (len(strengths), len(prompts)))
        return [float(metrics.kl(base, logits).mean()) for logits in steered]

    low, found = 0.0, 0.0
    high = most
    for _ in range(2):
        strengths = torch.linspace(low, high, STEPS + 1)[1:].tolist()
        costs = measure(strengths)
        first = next((i for i, cost in enumerate(costs) if not cost <= kl), len(costs))
        if first:
            low, found = strengths[first - 1], costs[first - 1]
        if first == len(costs):
            break
        high = strengths[first]
    if low == 0:
        raise RecipeError(
            f"already strength {high:.3g} costs more than {kl:g} nats of KL",
            "Allow more, or act at fewer sites.",
        )
    return Calibrated(low, found, make(low))
