from __future__ import annotations

import models
import pytest
import reference
import torch

from steerlab import ContrastSet, Direction, Site
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.errors import DirectionError, PromptError, SiteError
from steerlab.estimators import difference_in_means, principal_component, prompt_pair, random_like
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


PAIRS = list(zip(POSITIVE, NEGATIVE[:4], strict=True))


def differences(model: object, architecture: str, layer: int) -> torch.Tensor:
    def read(prompt: str) -> torch.Tensor:
        ids = encode(byte_tokenizer(), prompt)
        return reference.read(model, architecture, ids, Site(layer, "resid_post"))[-1].double()  # type: ignore[arg-type]

    return torch.stack([read(a) - read(b) for a, b in PAIRS])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_principal_component_is_that_of_the_centred_differences(architecture: str) -> None:
    model = models.build(architecture)
    found = principal_component(LocalBackend(model, byte_tokenizer()), PAIRS)
    for layer in range(models.N_LAYERS):
        rows = differences(model, architecture, layer)
        values, ways = torch.linalg.eigh((rows - rows.mean(0)).T @ (rows - rows.mean(0)))
        assert values[-1] > 1.01 * values[-2], "the test needs a leading component"
        got = found.at(-1, layer)
        assert abs(torch.cosine_similarity(got.vector.double(), ways[:, -1], dim=0)) > 0.9999
        assert got.vector.double() @ rows.mean(0) > 0, "it points towards the first of each pair"
        assert got.norm == pytest.approx(1, abs=1e-5)


def test_principal_component_is_the_same_when_it_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend(d_model=24)
    pairs = [(f"{a} {i}", f"{b} {i * 7}") for i in range(30) for a, b in PAIRS]
    whole = principal_component(backend, pairs)
    monkeypatch.setattr("steerlab.estimators.CHUNK", 5)
    monkeypatch.setattr("steerlab.estimators.KEPT", 24)
    streamed = principal_component(backend, pairs)
    cosines = torch.cosine_similarity(whole.vectors, streamed.vectors, dim=-1)
    assert cosines.min() > 0.9999


@pytest.mark.parametrize("pairs", [[], [("a", "b")], [("a", "b"), ("a",)]])
def test_what_has_no_principal_component_is_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(PromptError, match="no principal component"):
        principal_component(FakeBackend(), pairs)


def test_a_prompt_pair_is_one_difference_of_plain_texts() -> None:
    model = models.build("llama")
    got = prompt_pair(LocalBackend(model, byte_tokenizer()), "Love", "Hate", site=Site(2, "mlp_out"))
    love, hate = (
        reference.read(model, "llama", encode(byte_tokenizer(), word, chat=False), Site(2, "mlp_out"))[-1]
        for word in ("Love", "Hate")
    )
    assert torch.allclose(got.vector, love - hate, atol=1e-5)
    assert got.site == Site(2, "mlp_out")
    assert got.provenance == {"method": "prompt pair", "shows": "Love", "lacks": "Hate"}
