"""steering-vectors and repeng find the same directions as steerlab, where they compute the same thing."""

from __future__ import annotations

import copy
from typing import Any

import models
import pytest
import torch
from torch import Tensor

from steerlab import ContrastSet, Site
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.estimators import caa, difference_in_means, principal_component
from steerlab.rows import Row
from steerlab.sites import Point

PAIRS = [
    ("The weather is lovely", "The weather is awful"),
    ("Yes", "No, not at all"),
    ("I love this song", "I hate it"),
    ("What a kind thing to say!", "What a cruel thing to say!"),
    ("We won the game", "We lost it badly"),
    ("Good morning", "Go away"),
]
LAST = models.N_LAYERS - 1
IN_REPENG = [
    a for a in models.ARCHITECTURES if a != "gpt-neox"
]  # it does not know where GPT-NeoX has its layers


NORM_AFTER = ("gemma2", "gemma3", "olmo2")
# Of the modules of new Falcons with "attn" in their names steering-vectors guesses the shortest, which is a norm.
MODULES = {("falcon-new", "self_attn"): {"self_attn": "transformer.h.{num}.self_attention"}}


def tokenizer() -> Any:
    """One for the peers alone: they give no position ids, so that a GPT-2 needs its padding on the right, and nnsight
    turns that of its own tokenizer to the left."""
    own = copy.deepcopy(byte_tokenizer())
    own.padding_side = "right"
    return own


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a.double(), b.double(), dim=0))


def means(architecture: str, point: Point) -> Any:
    backend = LocalBackend(models.build(architecture), byte_tokenizer())
    contrast = ContrastSet([a for a, _ in PAIRS], [b for _, b in PAIRS])
    return difference_in_means(backend, contrast, point=point, positions=[-1], chat=False)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_means_of_steering_vectors(steering_vectors: Any, architecture: str, batch_size: int) -> None:
    """Its layer l is the output of block l; its default is the last token of plain text."""
    model = models.build(architecture)
    peer = steering_vectors.train_steering_vector(model, tokenizer(), PAIRS, batch_size=batch_size)
    ours = means(architecture, "resid_post")
    assert list(peer.layer_activations) == list(range(models.N_LAYERS))
    for layer, theirs in peer.layer_activations.items():
        found = ours.at(-1, layer)
        assert cosine(found.vector, theirs) > 0.9999
        assert found.norm == pytest.approx(float(theirs.norm()), rel=1e-4), "neither is normalised"


@pytest.mark.parametrize(("layer_type", "point"), [("mlp", "mlp_out"), ("self_attn", "attn_out")])
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_means_of_steering_vectors_inside_blocks(
    steering_vectors: Any, architecture: str, layer_type: str, point: Point
) -> None:
    """The same, but in models that normalise after the sub-layer, where it reads what is not yet normalised. That is
    why an import of these layer types asks."""
    peer = steering_vectors.train_steering_vector(
        models.build(architecture),
        tokenizer(),
        PAIRS,
        layer_type=layer_type,
        layer_config=MODULES.get((architecture, layer_type)),
    )
    ours = means(architecture, point)
    cosines = [cosine(ours.at(-1, n).vector, theirs) for n, theirs in peer.layer_activations.items()]
    assert len(cosines) == models.N_LAYERS
    if architecture in NORM_AFTER:
        assert max(cosines) < 0.999
    else:
        assert min(cosines) > 0.9999


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_caa_of_steering_vectors(steering_vectors: Any, architecture: str) -> None:
    """Its read_token_index of -2, the convention of the paper's own code."""
    questions = [
        ("Is it far? ", "(A)", "(B)"),
        ("Is it not a rather long way? ", "(B)", "(A)"),
        ("?", "(A)", "(C)"),
    ]
    model = models.build(architecture)
    peer = steering_vectors.train_steering_vector(
        model, tokenizer(), [(q + a, q + b) for q, a, b in questions], read_token_index=-2
    )
    ours = caa(LocalBackend(models.build(architecture), byte_tokenizer()), questions, chat=False)
    for layer, theirs in peer.layer_activations.items():
        found = ours.at(-2, layer)
        assert cosine(found.vector, theirs) > 0.9999
        assert found.norm == pytest.approx(float(theirs.norm()), rel=1e-4), "neither is normalised"


def states(architecture: str) -> tuple[Tensor, Tensor]:
    """The outputs of every block at the last token, `[pairs layers d_model]`, of both sides."""
    backend = LocalBackend(models.build(architecture), byte_tokenizer())
    sites = [Site(n, "resid_post") for n in range(models.N_LAYERS)]
    sides = [
        backend.capture([Row(pair[i], chat=False) for pair in PAIRS], sites, [-1], values=True).values
        for i in (0, 1)
    ]
    assert sides[0] is not None
    assert sides[1] is not None
    return sides[0][:, :, 0].double(), sides[1][:, :, 0].double()


def leading(rows: Tensor) -> Tensor:
    """The first principal component of rows, as they are."""
    return torch.linalg.svd(rows, full_matrices=False).Vh[0]


@pytest.mark.parametrize("architecture", IN_REPENG)
def test_principal_components_of_repeng(repeng: Any, architecture: str) -> None:
    """Its "pca_diff", the default. Its layers are 1 to the last; of the last one it reads the state *after* the final
    norm, as transformers gives it, though it adds before it, so the last layer is compared with that.

    Its sign is that of most pairs, steerlab's that of their mean; they differ only where these do.
    """
    model = models.build(architecture)
    data = [repeng.DatasetEntry(positive=a, negative=b) for a, b in PAIRS]
    peer = repeng.ControlVector.train(model, tokenizer(), data, method="pca_diff")
    assert sorted(peer.directions) == list(range(1, models.N_LAYERS))
    backend = LocalBackend(models.build(architecture), byte_tokenizer())
    contrast = ContrastSet([a for a, _ in PAIRS], [b for _, b in PAIRS])
    ours = principal_component(backend, contrast, point="resid_post", positions=[-1], chat=False)
    positive, negative = states(architecture)
    for layer in range(1, LAST):
        theirs = torch.from_numpy(peer.directions[layer])
        found = ours.at(-1, layer).vector
        assert abs(cosine(found, theirs)) > 0.9999
        projections = (positive - negative)[:, layer] @ theirs.double()
        most, mean = (projections > 0).double().mean() - 0.5, projections.mean()
        assert cosine(found, theirs) > 0 or float(most * mean) <= 0
    norm = model.get_submodule("transformer.ln_f" if hasattr(model, "transformer") else "model.norm")
    with torch.no_grad():
        rows = (norm(positive[:, LAST].float()) - norm(negative[:, LAST].float())).double()
    theirs = torch.from_numpy(peer.directions[LAST])
    assert abs(cosine(leading(rows - rows.mean(0)), theirs)) > 0.9999
    assert abs(cosine(ours.at(-1, LAST).vector, theirs)) < 0.9999


@pytest.mark.parametrize("architecture", IN_REPENG)
def test_both_peers_agree_on_what_steerlab_lacks(
    repeng: Any, steering_vectors: Any, architecture: str
) -> None:
    """repeng's "pca_center" and steering-vectors' pca_aggregator are the component of differences that are *not*
    centred. steerlab has no estimator of it: its states give both, so nothing but the estimator differs."""
    model = models.build(architecture)
    data = [repeng.DatasetEntry(positive=a, negative=b) for a, b in PAIRS]
    one = repeng.ControlVector.train(model, tokenizer(), data, method="pca_center")
    two = steering_vectors.train_steering_vector(
        model, tokenizer(), PAIRS, aggregator=steering_vectors.pca_aggregator()
    )
    positive, negative = states(architecture)
    for layer in range(1, LAST):
        wanted = leading((positive - negative)[:, layer])
        wanted = wanted * ((positive - negative)[:, layer] @ wanted).mean().sign()
        assert abs(cosine(wanted, torch.from_numpy(one.directions[layer]))) > 0.9999
        assert cosine(wanted, two.layer_activations[layer]) > 0.9999
