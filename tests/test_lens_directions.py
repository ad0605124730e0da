"""The tokens nearest to a direction and the strength at each site, against the matrices and plain hooks."""

from __future__ import annotations

import math

import models
import pytest
import reference
import torch

from steerlab import Ablate, Add, Direction, Lab, Recipe, Row, Sampling, Site, errors
from steerlab.backends import tables
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.lens import cosines, expression, nearest_tokens
from steerlab.prompts import encode

PROMPT = "How do I bake bread?"


def direction(seed: int = 0) -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(seed))
    return Direction(3 * noise, Site(2, "resid_pre"), name=f"random {seed}")


@pytest.mark.parametrize("by", ["unembedding", "embedding"])
def test_nearest_are_the_rows_of_largest_cosine(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS", 50)  # several parts
    model = models.build("llama")
    backend, v = LocalBackend(model, byte_tokenizer()), direction()
    head = model.get_output_embeddings() if by == "unembedding" else model.get_input_embeddings()
    cosine = torch.cosine_similarity(head.weight, v.vector[None], dim=-1)  # type: ignore[union-attr]
    found = nearest_tokens(backend, v, k=4, by=by)  # type: ignore[arg-type]
    assert found.along.ids == tuple(cosine.topk(4).indices.tolist())
    assert found.along.values == pytest.approx(cosine.topk(4).values.tolist(), abs=1e-6)
    assert found.against.ids == tuple((-cosine).topk(4).indices.tolist())
    assert found.along.texts == tuple(byte_tokenizer().decode([i]) for i in found.along.ids)
    assert "without the final norm" in found.says
    flipped = nearest_tokens(backend, -v, k=4, by=by)  # type: ignore[arg-type]
    assert (flipped.along.ids, flipped.against.ids) == (found.against.ids, found.along.ids)


def test_a_tokens_own_row_is_nearest_to_that_token(demo_lab: Lab) -> None:
    token = demo_lab.tokenizer(" cat", add_special_tokens=False)["input_ids"][0]
    row = demo_lab.token_row(token, site=Site(3, "resid_pre"))
    found = nearest_tokens(demo_lab.backend, row)
    assert found.along.ids[0] == token
    assert found.along.values[0] == pytest.approx(1, abs=1e-5)


def test_by_the_head_is_what_the_lens_says_of_the_vector() -> None:
    backend, v = FakeBackend(d_model=models.D_MODEL), direction()
    found = nearest_tokens(backend, v, k=3, by="head")
    logits = backend.decode(v.vector)
    assert found.along.ids == tuple(logits.topk(3).indices.tolist())
    assert found.along.values == pytest.approx((logits - logits.mean()).topk(3).values.tolist(), abs=1e-4)
    assert "final norm and the head" in found.says
    with pytest.raises(errors.DirectionError, match="d_model 1"):
        nearest_tokens(backend, Direction([1.0]), by="head")


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "falcon"])
def test_shares_are_the_projections_over_the_norms(architecture: str) -> None:
    model = models.build(architecture)
    backend, two = LocalBackend(model, byte_tokenizer()), [direction(0), direction(1)]
    found = expression(backend, PROMPT, two)
    ids = encode(byte_tokenizer(), PROMPT)
    assert found.points == backend.info.points
    assert found.names == ("random 0", "random 1")
    assert found.n_tokens == len(ids)
    for layer in range(models.N_LAYERS):
        for j, point in enumerate(found.points):
            x = reference.read(model, architecture, ids, Site(layer, point))
            for i, v in enumerate(two):
                wanted = torch.cosine_similarity(x, v.vector[None], dim=-1).abs().mean()
                assert float(found.shares[i, layer, j]) == pytest.approx(float(wanted), abs=1e-5)


def test_a_site_that_says_nothing_else_has_share_one_and_an_ablated_one_none() -> None:
    backend, v = FakeBackend(d_model=models.D_MODEL), direction()
    recipe = Recipe([Add(v, 1e5, layers=1, sites="resid_post"), Ablate(v, layers=[0], sites="resid_pre")])
    found = expression(backend, PROMPT, v, recipe, points=["resid_pre", "resid_post"])
    assert float(found.shares[0, 1, 1]) == pytest.approx(1, abs=1e-3)
    assert float(found.shares[0, 0, 0]) == pytest.approx(0, abs=1e-5)
    made = backend.generate([Row(PROMPT)], Sampling(4))[0]
    assert expression(backend, made, v).n_tokens == len(encode(byte_tokenizer(), PROMPT)) + 4


def test_chance_is_what_random_directions_have() -> None:
    backend = FakeBackend(d_model=models.D_MODEL)
    found = expression(backend, PROMPT, [direction(seed) for seed in range(200)])
    assert float(found.shares.mean()) == pytest.approx(found.chance, rel=0.05)
    assert found.chance == math.sqrt(2 / (math.pi * models.D_MODEL))


def test_cosines_between_directions_of_any_layer() -> None:
    one, other = direction(0), Direction(direction(1).vector, Site(0, "mlp_out"))
    found = cosines([one, other, -one])
    assert found.shape == (3, 3)
    assert float(found[0, 1]) == pytest.approx(one.cosine(other), abs=1e-6)
    assert torch.allclose(found.diagonal(), torch.ones(3), atol=1e-6)
    assert float(found[0, 2]) == pytest.approx(-1, abs=1e-6)
    with pytest.raises(errors.DirectionError, match="no direction"):
        cosines([])
    with pytest.raises(errors.DirectionError, match="d_model"):
        cosines([one, Direction([1.0])])


def test_norms_of_a_map_are_those_of_its_directions() -> None:
    from steerlab import prompts
    from steerlab.estimators import difference_in_means
    from steerlab.prompts import ContrastSet

    found = difference_in_means(
        FakeBackend(d_model=models.D_MODEL), ContrastSet(prompts.harmful(4), prompts.harmless(4))
    )
    assert found.norms.shape == (len(found.positions), found.n_layers)
    assert float(found.norms[-1, 2]) == pytest.approx(found.at(found.positions[-1], 2).norm, rel=1e-6)
