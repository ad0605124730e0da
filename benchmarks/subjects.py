"""The models that are measured, their prompts, and transformers' own generate."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from common import Options
from oracle import blocks, hooks
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
)

import steerlab as sl
from steerlab.backends.local import LocalBackend
from steerlab.demo import WEIGHTS
from steerlab.prompts import encode

NAMES = ("embedded", "50M", "1.5B", "tiny")
WORDS = (
    "cats boats rivers stones birds songs bread maps rain lamps keys doors trees hills books shoes".split()
)


@functools.cache
def tokenizer() -> PreTrainedTokenizerBase:
    """That of the embedded model, for all of them."""
    made: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(WEIGHTS)
    return made


def _config(name: str) -> PretrainedConfig:
    vocab = {"vocab_size": len(tokenizer()), "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    if name == "50M":
        return LlamaConfig(
            **vocab,
            hidden_size=576,
            intermediate_size=1408,
            num_hidden_layers=12,
            num_attention_heads=9,
            max_position_embeddings=1024,
            initializer_range=0.04,
        )
    if name == "1.5B":  # the shape of Qwen2.5-1.5B
        return Qwen2Config(
            **{**vocab, "vocab_size": 151936},
            hidden_size=1536,
            intermediate_size=8960,
            num_hidden_layers=28,
            num_attention_heads=12,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
        )
    return LlamaConfig(
        **vocab,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=1024,
        initializer_range=0.2,
    )


@dataclass(frozen=True)
class Subject:
    """A model by name; `plain` has had no library near it, and every caller of `copy` gets one of its own."""

    name: str
    plain: PreTrainedModel

    @property
    def n_layers(self) -> int:
        """How many blocks it has."""
        return len(self.blocks)

    @property
    def blocks(self) -> nn.ModuleList:
        """Its blocks."""
        return blocks(self.plain)

    def copy(self) -> PreTrainedModel:
        """The same weights in modules of their own."""
        return copy.deepcopy(self.plain)

    def lab(self) -> sl.Lab:
        """A lab on a copy, whose answers end by their length alone."""
        backend = LocalBackend(self.copy(), tokenizer(), name=self.name)
        backend.stop_tokens = set()
        return sl.Lab(backend)

    def direction(self, seed: int = 0, *, layer: int | None = None, norms: float = 0.5) -> sl.Direction:
        """A random direction at the input of a block, the middle one by default; `norms`: its norm, in those of the
        stream there.
        """
        layer = self.n_layers // 2 if layer is None else layer
        noise = torch.Generator().manual_seed(seed)
        vector = torch.randn(self.plain.config.hidden_size, generator=noise)
        norm = norms * self.stream_norm(layer)
        return sl.Direction(vector / vector.norm() * norm, sl.Site(layer, "resid_pre"), name="random")

    @torch.no_grad()
    def stream_norm(self, layer: int) -> float:
        """The mean norm of the residual stream at the input of a block, over the tokens of a prompt."""
        seen: list[Tensor] = []
        with hooks([(self.blocks[layer], seen.append)], []):
            self.plain(input_ids=torch.tensor([self.ids(prompts(1, 24)[0])], device=self.plain.device))
        return float(seen[0][0, 1:].float().norm(dim=-1).mean())

    def ids(self, prompt: str) -> list[int]:
        """A prompt's tokens, template included."""
        return encode(tokenizer(), prompt)

    def batch(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Prompts for `plain`, padded on the left where they need it."""
        encoded = [self.ids(text) for text in texts]
        width = max(map(len, encoded))
        ids = torch.tensor([[0] * (width - len(e)) + e for e in encoded], device=self.plain.device)
        mask = torch.tensor(
            [[0] * (width - len(e)) + [1] * len(e) for e in encoded], device=self.plain.device
        )
        return {"input_ids": ids, "attention_mask": mask}


@functools.lru_cache(maxsize=1)
def subject(name: str, device: str = "cpu") -> Subject:
    """A model of NAMES: float32 on a CPU, bfloat16 on a GPU."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    if name == "embedded":
        model = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=dtype)
    elif name in NAMES:
        torch.manual_seed(0)
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(_config(name), dtype=dtype)
    else:
        raise SystemExit(f"there is no model {name!r} here: give one of {', '.join(NAMES)}")
    model.generation_config.eos_token_id = None  # so that every answer has all its tokens
    model.generation_config.pad_token_id = 0
    return Subject(name, model.eval().to(device))


def subjects(options: Options, *default: str) -> Iterator[Subject]:
    """The models to measure, one after the other."""
    for name in ("tiny",) if options.quick else options.models or default:
        yield subject(name, options.device)


def prompts(n: int, length: int, seed: int = 0) -> list[str]:
    """`n` different prompts of exactly `length` tokens each, template included."""
    order = torch.Generator().manual_seed(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        text = "Tell me about"
        while (have := len(encode(tokenizer(), text))) < length:
            text += " " + WORDS[int(torch.randint(len(WORDS), (), generator=order))]
        if have == length:
            found[text] = None
    return list(found)


@torch.no_grad()
def generate(model: PreTrainedModel, inputs: dict[str, Tensor], n: int) -> list[list[int]]:
    """Greedy new tokens by transformers' own loop, a list per row."""
    out = model.generate(**inputs, max_new_tokens=n, do_sample=False)
    return [row.tolist() for row in out[:, inputs["input_ids"].shape[1] :]]
