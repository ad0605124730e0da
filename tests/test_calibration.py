from __future__ import annotations

import pytest
import torch
from overflowing import Overflowing

from steerlab import Ablate, Add, Clamp, Direction, Lab, Recipe, Row, Site, metrics
from steerlab.backends.fake import FakeBackend
from steerlab.calibration import within_budget
from steerlab.errors import DirectionError, PromptError, RecipeError

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
    assert found.kl.value == pytest.approx(cost(found.recipe), abs=1e-6)
    assert found.kl.value <= 0.1
    assert cost(Recipe([Add(V, found.strength + most / 100)])) > 0.1
    assert found.strength * most > 0


def test_the_cost_comes_with_its_interval() -> None:
    found = within_budget(BACKEND, lambda c: Recipe([Add(V, c)]), PROMPTS, kl=0.1, most=4.0)
    base, steered = (BACKEND.score([Row(p, r) for p in PROMPTS]) for r in (Recipe(), found.recipe))
    assert found.kl == pytest.approx(metrics.average(metrics.kl(base, steered)), abs=1e-6)
    assert found.kl.n == len(PROMPTS)


def test_a_budget_that_is_never_passed_gives_the_most() -> None:
    found = within_budget(BACKEND, lambda s: Recipe([Ablate(V, strength=s)]), PROMPTS, kl=50.0, most=1.0)
    assert found.strength == 1.0


W = Direction(torch.randn(16, generator=torch.Generator().manual_seed(1)), Site(1, "resid_pre"))
MAKES = {
    "ablation": lambda s: Recipe([Ablate([V, W], strength=s)]),
    "ablation of one layer": lambda s: Recipe([Ablate(V, layers=3, sites="resid_post", strength=3 * s)]),
    "one-sided": lambda s: Recipe([Ablate(V, strength=s, one_sided=True)]),
    "addition that keeps the norm": lambda s: Recipe([Add(V, 4 * s, keep_norm=True)]),
    "several layers": lambda s: Recipe([Add(V, s, layers=[1, 2, 3], sites=["resid_pre", "mlp_out"])]),
    "two steps": lambda s: Recipe([Ablate(W, strength=s), Add(V, 2 * s)]),
    "chosen tokens": lambda s: Recipe([Add(V, s, tokens=[-2, -1])]),
}


@pytest.mark.parametrize("name", MAKES)
def test_any_number_of_a_recipe_can_have_a_budget(name: str) -> None:
    """A third of what the whole costs is kept, and a little more is too much."""
    make = MAKES[name]
    budget = cost(make(1.0)) / 3
    found = Lab(BACKEND).calibrate(make, PROMPTS, kl=budget)
    assert 0 < found.strength < 1
    assert found.recipe == make(found.strength)
    assert found.kl.value == pytest.approx(cost(found.recipe), abs=1e-6)
    assert found.kl.value <= budget < cost(make(found.strength + 1 / 100))


def test_a_clamp_is_searched_from_the_value_that_costs_least() -> None:
    sites = [V.site] if V.site else []
    mean = float(BACKEND.capture([Row(p) for p in PROMPTS], sites, [-1]).mean[0, 0].float() @ V.unit)

    def make(value: float) -> Recipe:
        return Recipe([Clamp(V, value, tokens=[-1])])

    budget = cost(make(mean)) + 0.1
    for most in (mean + 30, mean - 30):
        found = within_budget(BACKEND, make, PROMPTS, kl=budget, start=mean, most=most)
        assert (found.strength - mean) * (most - mean) > 0
        assert found.kl.value == pytest.approx(cost(found.recipe), abs=1e-6)
        assert found.kl.value <= budget < cost(make(found.strength + (most - mean) / 100))
    with pytest.raises(RecipeError, match=f"already strength {mean:.3g} costs more"):
        within_budget(BACKEND, make, PROMPTS, kl=cost(make(mean)) / 2, start=mean, most=mean + 1)


def test_impossible_budgets_are_refused() -> None:
    with pytest.raises(PromptError, match="prompts is empty"):
        within_budget(BACKEND, lambda c: Recipe([Add(V, c)]), [], most=1.0)
    for kl, most in ((0.0, 1.0), (float("nan"), 1.0), (0.1, 0.0)):
        with pytest.raises(RecipeError, match="leaves nothing to search"):
            within_budget(BACKEND, lambda c: Recipe([Add(V, c)]), PROMPTS, kl=kl, most=most)
    with pytest.raises(RecipeError, match="costs more than 1e-09 nats"):
        within_budget(BACKEND, lambda c: Recipe([Add(V, c)]), PROMPTS, kl=1e-9, most=100.0)


def strength(row: Row) -> float:
    return sum(step.coefficient for step in row.recipe.interventions if isinstance(step, Add))


def test_what_is_not_finite_has_no_cost_and_is_said_to_have_none() -> None:
    def add(c: float) -> Recipe:
        return Recipe([Add(V, c)])

    one_prompt = Overflowing(lambda row: row.prompt == "Hi")
    with pytest.raises(PromptError, match="baseline's logits are not finite on 1 of 3 prompts"):
        within_budget(one_prompt, add, PROMPTS, most=1.0)
    with pytest.raises(RecipeError, match=r"already at strength 0\.00694 the logits are not finite"):
        within_budget(Overflowing(lambda row: strength(row) > 0), add, PROMPTS, most=1.0)
    with pytest.raises(RecipeError, match=r"already at strength 2 the logits are not finite"):
        within_budget(Overflowing(lambda row: strength(row) > 1), add, PROMPTS, start=2.0, most=3.0)


def test_where_a_model_overflows_no_budget_is_kept() -> None:
    far = Overflowing(lambda row: row.prompt == "Hi" and strength(row) > 0.5)
    found = within_budget(far, lambda c: Recipe([Add(V, c)]), PROMPTS, kl=1e6, most=1.0)
    assert found.strength == pytest.approx(0.5, abs=1e-6)
    assert found.kl.value == pytest.approx(cost(found.recipe), abs=1e-6)


def test_a_given_end_needs_no_norm_of_the_stream() -> None:
    assert V.residual_norm is None
    lab = Lab(BACKEND)
    assert lab.calibrate(V, PROMPTS, kl=0.1, most=4.0) == within_budget(
        BACKEND, lambda c: Recipe([Add(V, c)]), PROMPTS, kl=0.1, most=4.0
    )
    with pytest.raises(DirectionError):
        lab.calibrate(V, PROMPTS, kl=0.1)
