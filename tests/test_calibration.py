from __future__ import annotations

import pytest
import torch

from steerlab import Ablate, Add, Direction, Recipe, Row, Site, metrics
from steerlab.backends.fake import FakeBackend
from steerlab.calibration import within_budget
from steerlab.errors import RecipeError

PROMPTS = ["How do I bake bread?", "Hi", "What is a lock?"]
BACKEND = FakeBackend()
V = Direction(torch.randn(16, generator=torch.Generator().manual_seed(0)), Site(2, "resid_pre"))


def cost(recipe: Recipe) -> float:
    base, steered = (BACKEND.score([Row(p, r) for p in PROMPTS]) for r in (Recipe(), recipe))
    return float(metrics.kl(base, steered).mean())


@pytest.mark.parametrize("most", [4.0, -4.0])
def test_the_strength_is_the_largest_within_the_budget(most: float) -> None:
    found = within_budget(BACKEND, lambda c: Recipe([Add(V, c)]), PROMPTS, kl=0.1, most=most)
    assert found.recipe == Recipe([Add(V, found.strength)])
    assert found.kl == pytest.approx(cost(found.recipe), abs=1e-6)
    assert found.kl <= 0.1
    assert cost(Recipe([Add(V, found.strength + most / 100)])) > 0.1
    assert found.strength * most > 0


def test_a_budget_that_is_never_passed_gives_the_most() -> None:
    found = within_budget(BACKEND, lambda s: Recipe([Ablate(V, strength=s)]), PROMPTS, kl=50.0, most=1.0)
    assert found.strength == 1.0


def test_impossible_budgets_are_refused() -> None:
    for kl, most in ((0.0, 1.0), (float("nan"), 1.0), (0.1, 0.0)):
        with pytest.raises(RecipeError, match="leaves nothing to search"):
            within_budget(BACKEND, lambda c: Recipe([Add(V, c)]), PROMPTS, kl=kl, most=most)
    with pytest.raises(RecipeError, match="costs more than 1e-09 nats"):
        within_budget(BACKEND, lambda c: Recipe([Add(V, c)]), PROMPTS, kl=1e-9, most=100.0)
