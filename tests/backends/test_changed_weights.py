"""Models whose weights change while a backend holds them, and models in training mode."""

from __future__ import annotations

import threading
from collections.abc import Callable

import models
import pytest
import torch
from accelerate import cpu_offload
from torch import nn
from transformers import PreTrainedModel

from steerlab import Add, Direction, Lab, Recipe, Row, Sampling, Site
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.errors import ModelError

NOISE = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(7))
V = Direction(3 * NOISE, Site(1, "resid_pre"))
ADD = Recipe([Add(V, 1.0, layers=3)])
ROWS = [Row("How do I bake bread?"), Row("How do I bake bread?", ADD)]


def in_place(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.zero_()


def another(layer: nn.Linear) -> None:
    """Of the same version at the same address."""
    data, version = layer.weight.data, layer.weight._version
    for _ in range(version):
        data.zero_()
    layer.weight = nn.Parameter(data)
    assert layer.weight._version == version


def as_data(layer: nn.Linear) -> None:
    layer.weight.data = torch.zeros_like(layer.weight)


def by_an_optimizer(layer: nn.Linear) -> None:
    layer.weight.grad = layer.weight.detach().clone()
    torch.optim.SGD([layer.weight], lr=1.0).step()


CHANGES = [in_place, another, as_data, by_an_optimizer]


@pytest.mark.parametrize("change", CHANGES)
def test_no_verb_answers_from_weights_that_were_changed(change: Callable[[nn.Linear], None]) -> None:
    model = models.build("llama")
    held = LocalBackend(model, byte_tokenizer())

    def ask(backend: LocalBackend) -> tuple[torch.Tensor, ...]:
        answers = backend.generate(ROWS, Sampling(4))
        return (
            backend.score(ROWS),
            torch.cat(backend.likelihood(ROWS, [[65, 66], [65, 66]])),
            torch.tensor([answer.token_ids for answer in answers]),
        )

    before = ask(held)
    change(model.model.layers[1].mlp.down_proj)
    wanted = ask(LocalBackend(model, byte_tokenizer()))
    assert not torch.allclose(before[0], wanted[0], atol=1e-2)
    for one, other in zip(ask(held), wanted, strict=True):
        assert torch.equal(one, other)


class Adapted(nn.Module):
    """A linear layer with adapters, as peft has them: switches on its side, and the parameters stay as they are."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.adapters = nn.ModuleDict(
            {name: nn.Linear(layer.in_features, layer.out_features, bias=False) for name in ("one", "other")}
        )
        self._active = ["one"]
        self._off = False

    @property
    def active_adapters(self) -> list[str]:
        return self._active

    @property
    def disable_adapters(self) -> bool:
        return self._off

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = [] if self._off else [self.adapters[name](x) for name in self._active]
        return sum(added, self.layer(x))


def test_no_verb_answers_from_adapters_that_were_switched() -> None:
    model = models.build("llama")
    mlp = model.model.layers[1].mlp
    mlp.down_proj = adapted = Adapted(mlp.down_proj)
    held, seen = LocalBackend(model, byte_tokenizer()), [torch.zeros(2, len(byte_tokenizer()))]

    def asked_anew() -> None:
        found, wanted = (one.score(ROWS) for one in (held, LocalBackend(model, byte_tokenizer())))
        assert torch.equal(found, wanted)
        assert not any(torch.allclose(found, one, atol=1e-2) for one in seen)
        seen.append(found)

    asked_anew()
    adapted._active[:] = ["other"]
    asked_anew()
    adapted._active = ["one", "other"]
    asked_anew()
    adapted._off = True
    asked_anew()
    assert held.weights_seen() == held.weights_seen() == 3


def test_a_lab_gives_no_text_of_weights_that_were_changed() -> None:
    model = models.build("llama")
    lab = Lab((model, byte_tokenizer()))
    before = lab.generate("Hi", max_new_tokens=6)
    row = Row("Hi")
    assert lab.recall(row, *lab.answer_keys([row], Sampling(6))) == before
    in_place(model.model.layers[1].mlp.down_proj)
    assert lab.recall(row, *lab.answer_keys([row], Sampling(6))) is None
    assert lab.generate("Hi", max_new_tokens=6).token_ids != before.token_ids


def test_prompts_are_kept_while_the_weights_are_the_same() -> None:
    backend = LocalBackend(models.build("llama"), byte_tokenizer())
    backend.generate(ROWS, Sampling(4))
    kept = backend._lanes.prefixes.nbytes
    assert kept > 0
    assert backend.weights_seen() == 0
    assert backend._lanes.prefixes.nbytes == kept


def test_weights_without_a_version_or_away_from_memory_can_be_held() -> None:
    model = models.build("llama")
    with torch.inference_mode():
        model.model.layers[1].mlp.down_proj.weight = nn.Parameter(torch.ones(48, 80), requires_grad=False)
    backend = LocalBackend(model, byte_tokenizer())
    norm = model.model.layers[1].input_layernorm
    assert backend.weights_seen() == 0
    for seen in (1, 1):  # as accelerate does it for a model that is larger than memory
        norm.weight = nn.Parameter(torch.ones(48, device="meta"))
        assert backend.weights_seen() == seen


def test_weights_that_are_put_in_place_for_a_pass_alone_are_no_change() -> None:
    model = models.build("llama")
    for layer in model.model.layers:
        cpu_offload(layer.mlp, "cpu")  # as accelerate does it for a model that is larger than the GPUs
    held: list[LocalBackend] = []
    looks: list[int] = []
    model.model.layers[2].mlp.down_proj.register_forward_pre_hook(
        lambda *_: looks.extend(backend.weights_seen() for backend in held)
    )
    held.append(LocalBackend(model, byte_tokenizer()))
    held[0].score(ROWS)
    held[0].score([Row("Something else")])
    assert set(looks) == {0}


def test_a_hook_of_ones_own_is_a_change_and_so_is_its_end() -> None:
    lab = Lab((models.build("llama"), byte_tokenizer()))
    before = lab.generate("Hi", max_new_tokens=6), lab.backend.score(ROWS)
    handle = lab.model._module.model.layers[1].register_forward_hook(lambda _module, _args, out: -out)
    hooked = lab.generate("Hi", max_new_tokens=6), lab.backend.score(ROWS)
    assert hooked[0].token_ids != before[0].token_ids
    assert not torch.allclose(hooked[1], before[1], atol=1e-2)
    handle.remove()
    assert lab.generate("Hi", max_new_tokens=6).token_ids == before[0].token_ids
    assert torch.equal(lab.backend.score(ROWS), before[1])


def test_a_table_goes_on_once_the_model_is_as_it_was() -> None:
    lab, ended = Lab((models.build("llama"), byte_tokenizer())), threading.Event()
    table = lab.score(
        ["Hi", "Hello"],
        [ADD],
        ["kl"],
        batch_rows=1,
        cancel=ended,
        progress=lambda done, _: done and ended.set(),
    )
    assert table.done < table.total
    layer = lab.model._module.model.layers[1]
    handle = layer.register_forward_hook(lambda _module, _args, out: -out)
    with pytest.raises(ModelError, match="hooks .* have changed"):
        table.resume()
    handle.remove()
    table.resume()
    assert table.done == table.total
    with torch.no_grad():
        layer.mlp.down_proj.weight.mul_(2)
    seen = lab.backend.weights_seen()
    with torch.no_grad():
        layer.mlp.down_proj.weight.div_(2)
    assert lab.backend.weights_seen() not in (0, seen), "what was written to is never known again"


def test_a_trace_of_ones_own_is_no_change() -> None:
    lab = Lab((models.build("llama"), byte_tokenizer()))
    with lab.model.trace("Hi there"):
        logits = lab.model.output.logits.save()
    assert logits.isfinite().all()
    assert lab.backend.weights_seen() == 0


def training(model: PreTrainedModel) -> list[str]:
    return [name for name, part in model.named_modules() if part.training]


@pytest.mark.parametrize("part", ["", "transformer.h.1"])
def test_dropout_is_off_in_passes_and_the_mode_stays_the_users(part: str) -> None:
    model = models.build("gpt2")  # with dropout of a tenth
    backend = LocalBackend(model, byte_tokenizer())
    at, source, target = [Site(2, "resid_post")], Site(0, "resid_pre"), Site(3, "resid_pre")
    wanted = backend.score(ROWS), backend.capture(ROWS, at, [-1]).mean, backend.generate(ROWS, Sampling(4))
    slope = backend.linearise(ROWS[0], source, -1, target).jacobian
    model.get_submodule(part).train()
    theirs = training(model)
    assert theirs
    backend._lanes.prefixes.clear()
    assert torch.equal(backend.score(ROWS), wanted[0])
    assert torch.equal(backend.capture(ROWS, at, [-1]).mean, wanted[1])
    assert backend.generate(ROWS, Sampling(4)) == wanted[2]
    assert torch.equal(backend.linearise(ROWS[0], source, -1, target).jacobian, slope)

    def look(*_: object) -> None:
        backend.weights_seen()

    looks = model.transformer.h[2].register_forward_pre_hook(look)
    backend._lanes.prefixes.clear()
    assert backend.generate(ROWS, Sampling(4)) == wanted[2], "though another thread looks during a pass"
    looks.remove()
    assert training(model) == theirs
    assert training(LocalBackend(model, byte_tokenizer())._hf) == theirs
