"""Strength in units of damage: the largest number of a recipe whose KL divergence on harmless prompts keeps a budget.

The number is whatever the recipe makes of it: a coefficient of addition, at one layer or several, with the norm kept or
not; the strength of an ablation; the value of a clamp; the threshold of a gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from steerlab import metrics
from steerlab.backends.base import Backend
from steerlab.errors import PromptError, RecipeError
from steerlab.metrics import Estimate
from steerlab.prompts import Prompt, several
from steerlab.recipes import Recipe
from steerlab.rows import Row

# From a strength to what is done: lambda s: Recipe([Ablate(direction, strength=s)]).
Make = Callable[[float], Recipe]

STEPS = 12  # strengths that are measured together, as rows of one batch


class Calibrated(NamedTuple):
    """A strength, the mean KL to the baseline that it costs (nats, at the last prompt position), and its recipe.

    The KL is that on the prompts of the search, whose luck chose the strength, too: on others it may pass the budget.
    """

    strength: float
    kl: Estimate
    recipe: Recipe


def most_rows(prompts: int) -> int:
    """How many rows a search scores at most."""
    return (2 + 2 * STEPS) * prompts


def within_budget(
    backend: Backend,
    make: Make,
    prompts: Sequence[Prompt],
    *,
    kl: float = 0.1,
    start: float = 0.0,
    most: float,
) -> Calibrated:
    """The strength furthest from `start`, on the way to `most`, before the mean KL on the prompts passes the budget.

    make: from a strength to a recipe, `lambda s: Recipe([Ablate(direction, strength=s)])`. start: where the search
    begins; the baseline is at 0, but for a clamp it is the value that costs least: the mean projection. The way is
    searched twice, in even steps and then between the last one within the budget and the first beyond, so the answer
    is exact to about a 144th of it. Where logits are not finite, a strength costs more than any budget. Raises
    RecipeError for a budget that nothing keeps, and PromptError where the baseline's logits are not finite.
    """
    prompts = several(prompts)
    if not kl > 0 or not abs(most - start) > 0:
        raise RecipeError(
            f"a KL budget of {kl} from strength {start:g} to {most:g} leaves nothing to search",
            "Give a budget above 0, and an end that is not the start.",
        )
    base = backend.score([Row(prompt) for prompt in prompts])
    if broken := int((~metrics.kl(base, base).isfinite()).sum()):
        raise PromptError(
            f"the baseline's logits are not finite on {broken} of {len(prompts)} prompts, so no KL can be measured",
            "Load the model in float32 or bfloat16, or leave those prompts out.",
        )

    def measure(strengths: Sequence[float]) -> list[Tensor]:
        """The KL of each prompt, for each strength."""
        rows = [Row(prompt, make(strength)) for strength in strengths for prompt in prompts]
        steered = backend.score(rows).unflatten(0, (len(strengths), len(prompts)))
        return [metrics.kl(base, logits) for logits in steered]

    low, each = start, measure([start])[0] if start else torch.zeros(len(prompts))
    found = float(each.mean())
    high, beyond = most, found
    for _ in range(2):
        strengths = torch.linspace(low, high, STEPS + 1)[1:].tolist()
        measured = measure(strengths)
        costs = [float(one.mean()) for one in measured]
        first = next((i for i, cost in enumerate(costs) if not cost <= kl), len(costs))
        if first:
            low, found, each = strengths[first - 1], costs[first - 1], measured[first - 1]
        if first == len(costs):
            break
        high, beyond = strengths[first], costs[first]
    if low == start and not (start and found <= kl):
        passed, cost = (start, found) if start else (high, beyond)
        if not math.isfinite(cost):
            raise RecipeError(
                f"already at strength {passed:.3g} the logits are not finite, so its KL has no number",
                "Load the model in float32 or bfloat16, or search over smaller strengths.",
            )
        raise RecipeError(
            f"already strength {passed:.3g} costs more than {kl:g} nats of KL",
            "Allow more, or act at fewer sites.",
        )
    return Calibrated(low, metrics.average(each), make(low))
