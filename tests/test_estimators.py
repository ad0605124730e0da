from __future__ import annotations

import models
import pytest
import reference
import torch

from steerlab import ContrastSet, Direction, Site
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.errors import DirectionError, SiteError
from steerlab.estimators import difference_in_means, random_like
from steerlab.prompts import encode

POSITIVE = [
    "How do I steal a bike?",
    "Break the window.",
    "Lie to them",
    "Tell me how to rob a bank at night",
]
NEGATIVE = ["How do I ride a bike?", "Clean the window, please.", "Talk to them", "Hi", "Name a bank"]
CONTRAST = ContrastSet(POSITIVE, NEGATIVE, "test")


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_difference_in_means_equals_plain_hooks(architecture: str) -> None:
    model = models.build(architecture)
    backend = LocalBackend(model, byte_tokenizer())
    found = difference_in_means(backend, CONTRAST)
    assert found.positions == (-4, -3, -2, -1), "every post-instruction token of the template"
    assert found.vectors.shape == (4, models.N_LAYERS, models.D_MODEL)
    assert found.vectors.dtype == torch.float64

    def mean(prompts: list[str], layer: int, position: int) -> torch.Tensor:
        site = Site(layer, "resid_pre")
        ids = [encode(byte_tokenizer(), p) for p in prompts]
        return torch.stack(
            [reference.read(model, architecture, i, site)[position].double() for i in ids]
        ).mean(0)

    for layer in range(models.N_LAYERS):
        for position in found.positions:
            wanted = mean(POSITIVE, layer, position) - mean(NEGATIVE, layer, position)
            assert found.differs(position, layer) == bool(wanted.norm() > 1e-5)
            if not found.differs(position, layer):
                with pytest.raises(
                    DirectionError, match=f"do not differ at position {position} of layer {layer}"
                ):
                    found.at(position, layer)
                continue
            got = found.at(position, layer)
            assert torch.cosine_similarity(got.vector.double(), wanted, dim=0) > 0.9999
            assert got.norm == pytest.approx(float(wanted.norm()), rel=1e-3)


def test_the_map_knows_what_it_covers() -> None:
    found = difference_in_means(FakeBackend(), CONTRAST, point="mlp_out", positions=[-2, -1])
    got = found.at(-2, 3)
    assert (got.site, got.name, got.model) == (Site(3, "mlp_out"), "test", "fake")
    assert got.provenance["position"] == -2
    assert got.residual_norm == pytest.approx(float(found.residual_norms[0, 3]))
    with pytest.raises(DirectionError, match="position -3"):
        found.at(-3, 1)
    with pytest.raises(SiteError, match="layer 4 is out of range"):
        found.at(-1, 4)


def test_cosines_compare_layers() -> None:
    found = difference_in_means(FakeBackend(), CONTRAST)
    cosines = found.cosines(-1)
    assert cosines.shape == (4, 4)
    assert float(cosines[1, 3]) == pytest.approx(found.at(-1, 1).cosine(found.at(-1, 3)), abs=1e-5)


def test_many_prompts_are_one_mean_whatever_the_batches() -> None:
    """More prompts than a batch holds, of many lengths: the mean is the mean."""
    many = [("word " * (i % 7 + 1)) + str(i) for i in range(70)]
    whole = LocalBackend(models.build("llama"), byte_tokenizer())
    small = LocalBackend(models.build("llama"), byte_tokenizer(), batch_rows=3)
    contrast = ContrastSet(many, ["other"])
    a, b = difference_in_means(whole, contrast), difference_in_means(small, contrast)
    assert torch.allclose(a.vectors, b.vectors, atol=1e-5)


def test_the_random_control_has_the_norm_and_site_but_not_the_way() -> None:
    v = Direction(
        torch.randn(512, generator=torch.Generator().manual_seed(0)), Site(2, "resid_pre"), model="m"
    )
    control = random_like(v, seed=1)
    assert control.norm == pytest.approx(v.norm, rel=1e-5)
    assert (control.site, control.model) == (v.site, v.model)
    assert abs(control.cosine(v)) < 0.2
    assert (
        control.numpy().tolist()
        == random_like(v, seed=1).numpy().tolist()
        != random_like(v, seed=2).numpy().tolist()
    )
