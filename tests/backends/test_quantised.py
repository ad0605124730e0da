"""Models whose linear layers keep bytes and bring their own arithmetic, as quantised checkpoints do."""

from __future__ import annotations

import copy

import models
import pytest
import torch
from nnsight import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from steerlab import Ablate, Add, Direction, Recipe, Row, Sampling, Site
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.backends.ndif.travelling import rows_of
from steerlab.errors import ModelError

PROMPTS = ["Hi", "How do I bake bread?"]


class Packed(nn.Module):
    """A linear layer with a byte per weight, in one long column."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.shape, self.bias = linear.weight.shape, linear.bias
        self.scale = float(linear.weight.detach().abs().max()) / 127
        stored = (linear.weight.detach() / self.scale).round() + 128
        self.weight = nn.Parameter(stored.to(torch.uint8).reshape(-1, 1), requires_grad=False)

    @property
    def whole(self) -> Tensor:
        return (self.weight.reshape(self.shape).float() - 128) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.whole.to(x.dtype), self.bias)


def quantised(model: PreTrainedModel, *, head: bool = False) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A model with packed layers, and one of ordinary layers with the same weights."""
    packed, plain = copy.deepcopy(model), copy.deepcopy(model)
    for name, module in list(packed.named_modules()):
        if isinstance(module, nn.Linear) and (head or name != "lm_head"):
            parent, _, own = name.rpartition(".")
            new = Packed(module)
            setattr(packed.get_submodule(parent), own, new)
            plain.get_submodule(name).weight.data = new.whole
    return packed, plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_are_steered_as_ordinary_ones(dtype: torch.dtype) -> None:
    packed, plain = (model.to(dtype) for model in quantised(models.build("llama")))
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(3))
    v = Direction(noise, Site(2, "resid_pre"))
    recipes = [
        Recipe([]),
        Recipe([Add(v, 2.0)]),
        Recipe([Ablate(v)]),
        Recipe([Add(v, 1.0, tokens="generated")]),
    ]
    rows = [Row(prompt, recipe) for prompt in PROMPTS for recipe in recipes]
    packed_, plain_ = LocalBackend(packed, byte_tokenizer()), LocalBackend(plain, byte_tokenizer())
    assert packed_.info.dtype == plain_.info.dtype == str(dtype).removeprefix("torch.")
    assert packed_._lanes.resumable
    tolerance = {"atol": 1e-4} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.05}
    assert torch.allclose(packed_.score(rows), plain_.score(rows), **tolerance)
    if dtype == torch.float32:
        ours, theirs = packed_.generate(rows, Sampling(6)), plain_.generate(rows, Sampling(6))
        assert [a.token_ids for a in ours] == [a.token_ids for a in theirs]
    stream = torch.randn(2, models.D_MODEL)
    assert torch.allclose(packed_.decode(stream), plain_.decode(stream), **tolerance)
    for table in ("embedding", "unembedding"):
        assert torch.equal(packed_.token_rows([1, 7], table), plain_.token_rows([1, 7], table))


def test_rows_of_a_packed_head_are_refused() -> None:
    backend = LocalBackend(quantised(models.build("llama"), head=True)[0], byte_tokenizer())
    assert backend.score([Row("Hi")]).isfinite().all()
    with pytest.raises(ModelError, match="unembedding matrix of .* is quantised"):
        backend.token_rows([1], "unembedding")


def test_a_server_reads_the_rows_of_a_packed_head_through_it() -> None:
    packed, plain = (LocalBackend(m, byte_tokenizer()) for m in quantised(models.build("llama"), head=True))
    with packed.model.trace("Hi"):
        found = save(rows_of(packed.model, ("lm_head", None, models.D_MODEL, 9), [1, 7]))
    assert torch.allclose(found, plain.token_rows([1, 7], "unembedding"), atol=1e-6)
