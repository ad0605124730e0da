"""The identities in half precision, each with the tolerance that the eight bits of bfloat16 leave."""

from __future__ import annotations

import models
import pytest
import reference
import torch

from steerlab import BASELINE, Ablate, Add, ContrastSet, Direction, Recipe, Row, Sampling, Site
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.estimators import difference_in_means
from steerlab.prompts import encode
from steerlab.sites import POINTS

PROMPT = "How do I bake bread?"
V, W = (
    Direction(
        3 * torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(seed)), Site(2, "resid_pre")
    )
    for seed in (100, 101)
)


in_both = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])


@in_both
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_half_precision_keeps_the_identities(architecture: str, dtype: torch.dtype) -> None:
    model = models.build(architecture, dtype=dtype)
    backend = LocalBackend(model, byte_tokenizer())
    points = [p for p in POINTS if p in backend.info.points]
    assert backend.info.dtype == str(dtype).removeprefix("torch.")
    assert ("resid_mid" in points) == (architecture not in models.PARALLEL)

    recipes = [BASELINE, Recipe([Add(V, 0.0, layers="all", sites=points)]), Recipe([Ablate(V, strength=0.0)])]
    baseline, *zeros = (backend.score([Row(PROMPT, recipe)])[0] for recipe in recipes)
    assert all(torch.equal(zero, baseline) for zero in zeros), "zero strength is the baseline bit for bit"

    ids = encode(byte_tokenizer(), PROMPT)
    for recipe in (Recipe([Add(V, 1.5)]), Recipe([Ablate(V)]), Recipe([Ablate(V, sites=points)])):
        hooks = reference.logits(model, architecture, ids, recipe)[-1].float()
        ours = backend.score([Row(PROMPT, recipe)])[0]
        assert (ours - hooks).abs().max() < 0.05 * hooks.abs().max(), recipe
        assert (ours - baseline).abs().max() > 0.05 * hooks.abs().max(), "the recipe changed nothing"

    sites = [Site(layer, point) for layer in range(models.N_LAYERS) for point in points]
    x = backend.capture([Row(PROMPT, Recipe([Ablate(V, sites=points)]))], sites, (-1,), values=True).values
    assert x is not None
    assert ((x @ V.unit).abs() / x.norm(dim=-1)).max() < 2e-3
    assert len(backend.generate([Row(PROMPT, Recipe([Ablate(V)]))], Sampling(4))[0].token_ids) == 4


@in_both
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_half_precision_keeps_what_is_between_sites_tokens_and_prompts(
    architecture: str, dtype: torch.dtype
) -> None:
    """Identities 4, 5, 6, 8 and 9."""
    model = models.build(architecture, dtype=dtype)
    backend = LocalBackend(model, byte_tokenizer())
    after, before = (
        backend.score([Row(PROMPT, Recipe([Add(V, 2.0, sites=[site])]))])[0]
        for site in (Site(1, "resid_post"), Site(2, "resid_pre"))
    )
    assert torch.equal(after, before), "the output of a block is the input of the next"

    with reference.hooked(
        model, architecture, Site(1, "mlp_out"), lambda x: (x.float() + 2 * V.vector).to(x)
    ):
        biased = model(input_ids=torch.tensor([encode(byte_tokenizer(), PROMPT)])).logits[0, -1].float()
    assert (after - biased).abs().max() < 0.05 * biased.abs().max(), "and an addition there a bias on the MLP"

    site = Site(2, "resid_pre")
    rows = [Row(PROMPT, Recipe([Add(V, c)])) for c in (0.0, 1.0, 2.0)]
    x = backend.capture(rows, [site], (-1,), values=True).values
    assert x is not None
    one, two = (x[i, 0, 0] - x[0, 0, 0] for i in (1, 2))
    assert (two - 2 * one).norm() < 0.02 * two.norm(), "addition is linear at its site"
    once, twice = (backend.score([Row(PROMPT, Recipe([Ablate(V)] * n))])[0] for n in (1, 2))
    assert (once - twice).abs().max() < 0.02 * once.abs().max(), "ablation is idempotent"
    across = Direction(W.vector - (W.vector @ V.unit) * V.unit, W.site)
    orders = [V, across], [across, V]
    first, second = (backend.score([Row(PROMPT, Recipe([Ablate(v) for v in order]))])[0] for order in orders)
    assert (first - second).abs().max() < 0.05 * first.abs().max(), "orthogonal ones commute"
    assert (first - once).abs().max() > 0.05 * first.abs().max(), "and the second one does something"

    recipe = Recipe([Add(V, 2.0, tokens="generated"), Ablate(V, tokens="prompt")])
    together = backend.score([Row("Hi"), Row(PROMPT, recipe), Row(PROMPT + " And then? " * 5)])[1]
    alone = backend.score([Row(PROMPT, recipe)])[0]
    assert (together - alone).abs().max() < 0.05 * alone.abs().max(), "a row is the same alone and in a batch"

    made = backend.generate([Row(PROMPT, recipe)], Sampling(6))[0]
    ids = encode(byte_tokenizer(), PROMPT)
    hooks = reference.logits(model, architecture, [*ids, *made.token_ids], recipe, len(ids)).float()
    chosen = hooks[len(ids) - 1 : -1].gather(-1, torch.tensor(made.token_ids)[:, None])[:, 0]
    best = hooks[len(ids) - 1 : -1].max(-1).values
    assert (best - chosen).max() < 0.05 * hooks.abs().max(), "every generated token is steered"
    assert made.applied == (len(made.token_ids), len(made.token_ids))

    sides = ["Steal it!", "Break the door!"], ["What is it?", "Name a door."]
    found = difference_in_means(backend, ContrastSet(*sides), positions=[-1])
    for layer in (1, models.N_LAYERS - 1):
        means = [
            torch.stack(
                [
                    reference.read(
                        model, architecture, encode(byte_tokenizer(), p), Site(layer, "resid_pre")
                    )[-1]
                    for p in side
                ]
            )
            .double()
            .mean(0)
            for side in sides
        ]
        got = found.at(-1, layer).vector.double()
        assert torch.cosine_similarity(got, means[0] - means[1], dim=0) > 0.999, (
            "directions are those of hooks"
        )
