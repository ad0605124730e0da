"""steering-vectors and repeng steer a model to the same logits as steerlab, where they do the same thing."""

from __future__ import annotations

from typing import Any

import models
import pytest
import torch
from torch import Tensor

from steerlab import Ablate, Add, Direction, Recipe, Row, Site
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend

PROMPTS = ["Hello there", "Once upon a time, in a town by the sea,", "?"]
IN_REPENG = [
    a for a in models.ARCHITECTURES if a != "gpt-neox"
]  # it does not know where GPT-NeoX has its layers
TOLERANCE = 1e-4


def vectors(layers: range) -> dict[int, Tensor]:
    torch.manual_seed(1)
    return {layer: torch.randn(models.D_MODEL) for layer in layers}


def directions(layers: range) -> list[Direction]:
    return [Direction(v, Site(layer, "resid_post")) for layer, v in vectors(layers).items()]


def ours(architecture: str, recipe: Recipe) -> Tensor:
    """`[prompts vocab]`, all prompts in one batch."""
    backend = LocalBackend(models.build(architecture), byte_tokenizer())
    return backend.score([Row(prompt, recipe, chat=False) for prompt in PROMPTS])


@torch.no_grad()
def theirs(model: Any) -> Tensor:
    """`[prompts vocab]`, one prompt after the other."""
    return torch.stack(
        [model(**byte_tokenizer()(prompt, return_tensors="pt")).logits[0, -1] for prompt in PROMPTS]
    )


def check(steered: Tensor, peer: Tensor, baseline: Tensor) -> None:
    assert (peer - baseline).abs().max() > 0.1, "the peer did steer"
    assert (steered - peer).abs().max() < TOLERANCE


@pytest.mark.parametrize("coefficient", [1.0, -0.7])
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_addition_of_steering_vectors(steering_vectors: Any, architecture: str, coefficient: float) -> None:
    layers = range(models.N_LAYERS)
    model = models.build(architecture)
    with steering_vectors.SteeringVector(vectors(layers)).apply(model, multiplier=coefficient):
        peer = theirs(model)
    recipe = Recipe([Add(d, coefficient) for d in directions(layers)])
    check(ours(architecture, recipe), peer, theirs(model))


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_ablation_of_steering_vectors(steering_vectors: Any, architecture: str) -> None:
    """Its ablation operator, at the outputs of some blocks."""
    layers = range(1, 3)
    model = models.build(architecture)
    operator = steering_vectors.ablation_operator()
    with steering_vectors.SteeringVector(vectors(layers)).apply(model, operator=operator):
        peer = theirs(model)
    recipe = Recipe([Ablate(d, sites=[d.site]) for d in directions(layers) if d.site])
    check(ours(architecture, recipe), peer, theirs(model))


@pytest.mark.parametrize("coefficient", [1.0, -0.7])
@pytest.mark.parametrize("architecture", IN_REPENG)
def test_addition_of_repeng(repeng: Any, architecture: str, coefficient: float) -> None:
    layers = range(1, models.N_LAYERS)
    model = models.build(architecture)
    vector = repeng.ControlVector("test", {layer: v.numpy() for layer, v in vectors(layers).items()})
    control = repeng.ControlModel(model, list(layers))
    control.set_control(vector, coefficient)
    peer = theirs(control)
    control.reset()
    recipe = Recipe([Add(d, coefficient) for d in directions(layers)])
    check(ours(architecture, recipe), peer, theirs(control))


@pytest.mark.parametrize("architecture", IN_REPENG)
def test_addition_of_repeng_that_keeps_the_norm(repeng: Any, architecture: str) -> None:
    layers = range(2, 3)
    model = models.build(architecture)
    vector = repeng.ControlVector("test", {layer: v.numpy() for layer, v in vectors(layers).items()})
    control = repeng.ControlModel(model, list(layers))
    control.set_control(vector, 3.0, normalize=True)
    peer = theirs(control)
    control.reset()
    recipe = Recipe([Add(d, 3.0, keep_norm=True) for d in directions(layers)])
    check(ours(architecture, recipe), peer, theirs(control))
