from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from steerlab import BASELINE, Ablate, Add, Direction, Recipe, Row, Site, edits
from steerlab.errors import DirectionError, PromptError, RecipeError, SiteError
from steerlab.estimators import random_like
from steerlab.lens import linear_probe
from steerlab.rows import Plan, seeds

V = Direction([3.0, 4.0], Site(1, "resid_pre"), model="m")
W = Direction([1.0, -1.0], Site(1, "resid_pre"))
HERE = Site(1, "resid_pre")


def plan(*recipes: Recipe) -> Plan:
    return Plan(recipes, n_layers=3, d_model=2, model="m")


def test_every_prompt_has_a_seed_of_its_own_whatever_stands_beside_it() -> None:
    chat = [{"role": "user", "content": "a"}]
    found = seeds(["a", "b", chat, "a"], 0)
    assert len(set(found)) == 4
    assert all(0 <= seed < 2**32 for seed in found), "torch's generator takes no more of a seed"
    assert seeds([chat, "b", "a"], 0) == [found[2], found[1], found[0]]
    assert set(found).isdisjoint(seeds(["a", "b", chat, "a"], 1))
    assert seeds(["a"], 0) == seeds(["a"], np.int64(0)) == [4221436415], "on every machine"
    with pytest.raises(PromptError, match="a seed is an integer"):
        seeds(["a"], "0")  # type: ignore[arg-type]


def run(p: Plan, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return edits.apply(x, p.operands(index, "cpu")[HERE])


def test_only_touched_sites_are_visited_in_forward_order() -> None:
    p = plan(BASELINE, Recipe([Add(V, sites=[Site(2, "mlp_out"), Site(0, "resid_mid")])]), Recipe([Add(W)]))
    assert p.sites == (Site(0, "resid_mid"), HERE, Site(2, "mlp_out"))
    assert plan(BASELINE, BASELINE).sites == ()


def test_rows_with_different_recipes_are_one_batch() -> None:
    recipes = [
        BASELINE,
        Recipe([Add(V, 2.0)]),
        Recipe([Ablate(V)]),
        Recipe([Add(W), Ablate(V)]),
        Recipe([Ablate(V), Add(W)]),
        Recipe([Add(V), Add(W, 0.5)]),
    ]
    x = torch.randn(len(recipes), 4, 2, generator=torch.Generator().manual_seed(0))
    together = run(plan(*recipes), x, torch.arange(-4, 0)[None])
    for i, recipe in enumerate(recipes):
        expected = x[i]
        for step in recipe.interventions:
            v = step.direction.vector
            expected = (
                edits.add(expected, v, step.coefficient)
                if isinstance(step, Add)
                else edits.ablate(expected, v)
            )
        assert torch.allclose(together[i], expected, atol=1e-6), recipe
    assert torch.equal(together[0], x[0]), "the baseline is untouched bit for bit"


def test_scopes_choose_tokens() -> None:
    recipes = [Recipe([Add(V, 1.0, tokens=scope)]) for scope in ("all", "prompt", "generated", [-2])]
    moved = run(plan(*recipes), torch.zeros(4, 4, 2), torch.tensor([[-2, -1, 0, 1]])).any(-1)
    assert moved.tolist() == [
        [True] * 4,
        [True, True, False, False],
        [False, False, True, True],
        [True, False, False, False],
    ]
    shifted = torch.tensor([[-2, -1, 0, 1]] * 3 + [[-3, -2, -1, 0]])
    assert run(plan(*recipes), torch.zeros(4, 4, 2), shifted).any(-1)[3].tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_touched_says_which_passes_a_recipe_needs() -> None:
    p = plan(Recipe([Add(V, tokens="prompt"), Add(W, layers=2, tokens="generated")]), BASELINE)
    assert p.touched(0, generated=False) == {HERE}
    assert p.touched(0, generated=True) == {Site(2, "resid_pre")}
    assert p.touched(1, generated=False) == set()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SiteError, match="layer 3 is out of range"):
        plan(Recipe([Add(V, layers=[3])]))
    with pytest.raises(DirectionError, match="d_model 3, and the model has 2"):
        plan(Recipe([Add(Direction([1.0, 2.0, 3.0], HERE))]))
    other = Direction([1.0, 2.0], HERE, model="other")
    with pytest.raises(RecipeError, match=r"found in other, and this model is m.*transferred_to"):
        plan(Recipe([Ablate(other)]))
    assert plan(Recipe([Ablate(other.transferred_to("m"))])).sites


@pytest.mark.parametrize("seed", ["x", 1.5, None, 2**64])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    for call in (
        lambda: Row("Hi", seed=seed),
        lambda: random_like(V, seed=seed),
        lambda: linear_probe(torch.eye(4), "aabb", seed=seed),
    ):
        with pytest.raises(PromptError, match="a seed is an integer of 64 bits, not"):
            call()


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_row_has_its_own_copy_of_a_conversation(kind: type) -> None:
    turns = [{"role": "user", "content": "Hi"}]
    given = kind(turns)
    row = Row(given)
    assert row.prompt == given
    assert row == Row(kind([dict(turns[0])]))
    turns[0]["content"] = "Bye"
    assert row.prompt == kind([{"role": "user", "content": "Hi"}])
