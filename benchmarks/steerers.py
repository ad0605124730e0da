"""Steered generation as each package documents it: one interface over steerlab, its peers and plain hooks.

Every steerer has a model of its own, so that what one package does to a model costs no other. A package that is not
installed raises ImportError when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from oracle import ablated, added
from subjects import Subject, generate, tokenizer
from torch import Tensor

import steerlab as sl

Kind = Literal["add", "ablate"]
# Prompts of one length to new token ids, a list per prompt.
Steerer = Callable[[Sequence[str]], list[list[int]]]
Make = Callable[[Subject, sl.Direction, Kind, int], Steerer]


def plain(subject: Subject, direction: sl.Direction, kind: Kind, n: int) -> Steerer:
    """Transformers' generate, nothing steered: what the others are measured against."""
    return lambda texts: generate(subject.plain, subject.batch(texts), n)


def hooks(subject: Subject, direction: sl.Direction, kind: Kind, n: int) -> Steerer:
    """PyTorch hooks and transformers' generate."""
    model = subject.copy()
    vector = direction.vector.to(model.device)

    def run(texts: Sequence[str]) -> list[list[int]]:
        with added(model, vector, layer_of(direction)) if kind == "add" else ablated(model, vector):
            return generate(model, subject.batch(texts), n)

    return run


def steerlab(subject: Subject, direction: sl.Direction, kind: Kind, n: int) -> Steerer:
    """`lab.generate`, or `lab.run` for several rows."""
    lab = subject.lab()
    recipe = sl.Recipe([sl.Add(direction) if kind == "add" else sl.Ablate(direction)])

    def run(texts: Sequence[str]) -> list[list[int]]:
        fresh = sl.Lab(lab.backend)  # it remembers no answer
        if len(texts) == 1:
            return [list(fresh.generate(texts[0], recipe, max_new_tokens=n).token_ids)]
        answers = fresh.run([sl.Row(text, recipe) for text in texts], sl.Sampling(n))
        return [list(answer.token_ids) for answer in answers]

    return run


def repeng(subject: Subject, direction: sl.Direction, kind: Kind, n: int) -> Steerer:
    """Its ControlModel. It adds at the outputs of blocks alone, and cannot ablate."""
    if kind == "ablate":
        raise NotImplementedError("repeng cannot ablate")
    package = load_repeng()
    model = subject.copy()
    layer = layer_of(direction) - 1  # the output of the block before
    vector = package.ControlVector("llama", {layer: direction.vector.float().numpy()})
    wrapped = package.ControlModel(model, [layer])
    wrapped.set_control(vector, 1.0)
    return lambda texts: generate(wrapped, subject.batch(texts), n)


def steering_vectors(subject: Subject, direction: sl.Direction, kind: Kind, n: int) -> Steerer:
    """Its SteeringVector.apply; to ablate, its operator at the outputs of blocks, attentions and MLPs."""
    package = importlib.import_module("steering_vectors")
    model = subject.copy()
    if kind == "add":
        vector = package.SteeringVector({layer_of(direction) - 1: direction.vector.float()})

        def run(texts: Sequence[str]) -> list[list[int]]:
            with vector.apply(model):
                return generate(model, subject.batch(texts), n)

        return run
    everywhere = {layer: direction.vector.float() for layer in range(subject.n_layers)}
    vectors = [
        package.SteeringVector(everywhere, layer_type=t) for t in ("decoder_block", "self_attn", "mlp")
    ]
    operator = package.ablation_operator()

    def remove(texts: Sequence[str]) -> list[list[int]]:
        one, two, three = vectors
        with (
            one.apply(model, operator=operator),
            two.apply(model, operator=operator),
            three.apply(model, operator=operator),
        ):
            return generate(model, subject.batch(texts), n)

    return remove


def nnsight(subject: Subject, direction: sl.Direction, kind: Kind, n: int) -> Steerer:
    """Its generate, with the edits in `tracer.all()`."""
    package = importlib.import_module("nnsight")
    model = package.TransformersModel(subject.copy(), tokenizer=tokenizer(), task="text-generation")
    device = subject.plain.device
    vector, layer = direction.vector.to(device, subject.plain.dtype), layer_of(direction)
    unit = vector / vector.norm()

    def inputs(texts: Sequence[str]) -> dict[str, Tensor]:
        return subject.batch(texts)

    def add(texts: Sequence[str]) -> list[list[int]]:
        given = inputs(texts)
        with torch.no_grad(), model.generate(**given, max_new_tokens=n, do_sample=False) as tracer:
            for _ in tracer.iter[:n]:
                block = model.model.layers[layer]
                block.input = block.input + vector
            out = tracer.result.save()
        return [row.tolist() for row in out[:, given["input_ids"].shape[1] :]]

    def remove(texts: Sequence[str]) -> list[list[int]]:
        given = inputs(texts)
        with torch.no_grad(), model.generate(**given, max_new_tokens=n, do_sample=False) as tracer:
            for _ in tracer.iter[:n]:
                for block in model.model.layers:
                    x = block.input
                    block.input = x - (x @ unit)[..., None] * unit
                    attended = block.self_attn.output
                    a = attended[0]
                    block.self_attn.output = (a - (a @ unit)[..., None] * unit, *attended[1:])
                    m = block.mlp.output
                    block.mlp.output = m - (m @ unit)[..., None] * unit
            out = tracer.result.save()
        return [row.tolist() for row in out[:, given["input_ids"].shape[1] :]]

    return add if kind == "add" else remove


def pyvene(subject: Subject, direction: sl.Direction, kind: Kind, n: int) -> Steerer:
    """Its IntervenableModel with interventions that need no source."""
    package = importlib.import_module("pyvene")
    vector = direction.vector.to(subject.plain.device, subject.plain.dtype)
    unit = vector / vector.norm()

    class Push(package.SourcelessIntervention):  # type: ignore[misc, name-defined]
        def forward(self, base: Tensor, source: Any = None, subspaces: Any = None, **_: Any) -> Tensor:
            return base + vector

    class Remove(package.SourcelessIntervention):  # type: ignore[misc, name-defined]
        def forward(self, base: Tensor, source: Any = None, subspaces: Any = None, **_: Any) -> Tensor:
            left: Tensor = base - (base @ unit)[..., None] * unit
            return left

    width = subject.plain.config.hidden_size
    if kind == "add":
        places = [(layer_of(direction), "input")]
    else:
        places = [
            (i, part) for i in range(subject.n_layers) for part in ("input", "self_attn.output", "mlp.output")
        ]
    make = Push if kind == "add" else Remove
    config = [
        {"component": f"model.layers[{i}].{part}", "intervention": make(embed_dim=width, keep_last_dim=True)}
        for i, part in places
    ]
    model = package.IntervenableModel(config, subject.copy())
    model.disable_model_gradients()

    def run(texts: Sequence[str]) -> list[list[int]]:
        given = subject.batch(texts)
        with torch.no_grad():
            _, out = model.generate(
                given, unit_locations=None, intervene_on_prompt=True, max_new_tokens=n, do_sample=False
            )
        return [row.tolist() for row in out[:, given["input_ids"].shape[1] :]]

    return run


def transformer_lens(subject: Subject, direction: sl.Direction, kind: Kind, n: int) -> Steerer:
    """Its TransformerBridge over the same weights, with hooks while its own generate runs."""
    model = bridge(subject)
    vector = direction.vector.to(subject.plain.device, subject.plain.dtype)
    unit = vector / vector.norm()
    if kind == "add":
        given = [(f"blocks.{layer_of(direction)}.hook_in", lambda x, hook: x + vector)]
    else:
        names = [
            f"blocks.{i}.{part}"
            for i in range(subject.n_layers)
            for part in ("hook_in", "attn.hook_out", "mlp.hook_out")
        ]
        given = [(name, lambda x, hook: x - (x @ unit)[..., None] * unit) for name in names]

    def run(texts: Sequence[str]) -> list[list[int]]:
        ids = subject.batch(texts)["input_ids"]
        with torch.no_grad(), model.hooks(fwd_hooks=given):
            out = model.generate(
                ids, max_new_tokens=n, do_sample=False, stop_at_eos=False, verbose=False, return_type="tokens"
            )
        return [row.tolist() for row in out[:, ids.shape[1] :]]

    return run


STEERERS: dict[str, Make] = {
    "plain generate": plain,
    "steerlab": steerlab,
    "raw hooks": hooks,
    "repeng": repeng,
    "nnsight": nnsight,
    "pyvene": pyvene,
    "steering-vectors": steering_vectors,
    "TransformerLens": transformer_lens,
}


def layer_of(direction: sl.Direction) -> int:
    """The layer at whose input a direction was found."""
    assert direction.site is not None
    return direction.site.layer


def load_repeng() -> Any:
    """repeng 0.4.0 names np.float_, which NumPy 2 has no more: it is there while repeng is imported."""
    names = {"float_": np.float64} if not hasattr(np, "float_") else {}
    for name, value in names.items():
        setattr(np, name, value)
    try:
        return importlib.import_module("repeng")
    finally:
        for name in names:
            delattr(np, name)


def bridge(subject: Subject) -> Any:
    """TransformerLens' view of a copy of the model."""
    package = importlib.import_module("transformer_lens")
    boot = package.TransformerBridge.boot_transformers
    return boot("random-llama", hf_model=subject.copy(), tokenizer=tokenizer(), device=subject.plain.device)
