"""The identities in bfloat16, each with the tolerance that eight bits of mantissa leave."""

from __future__ import annotations

import models
import pytest
import reference
import torch

from steerlab import BASELINE, Ablate, Add, Direction, Recipe, Row, Sampling, Site
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.prompts import encode
from steerlab.sites import POINTS

PROMPT = "How do I bake bread?"
V = Direction(
    3 * torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(100)), Site(2, "resid_pre")
)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_bfloat16_keeps_the_identities(architecture: str) -> None:
    model = models.build(architecture, dtype=torch.bfloat16)
    backend = LocalBackend(model, byte_tokenizer())
    points = [p for p in POINTS if p in backend.info.points]
    assert backend.info.dtype == "bfloat16"
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
