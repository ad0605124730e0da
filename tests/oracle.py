"""The whole of Arditi et al. 2024, sections 2 to 4, with plain PyTorch hooks: the oracle of the search for a direction,
and what the benchmarks compare with.

Nothing of steerlab is in here. Every prompt runs alone, so there is no batch, no padding and no attention mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

Ids = Sequence[int]
Hook = Callable[[Tensor], Tensor | None]


def encode(tokenizer: PreTrainedTokenizerBase, instruction: str) -> list[int]:
    """One user turn in the chat template, up to where the assistant begins."""
    return list(tokenizer(_rendered(tokenizer, instruction), add_special_tokens=False)["input_ids"])


def n_post_instruction(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens the template has after the instruction."""
    after = _rendered(tokenizer, "INSTRUCTION").partition("INSTRUCTION")[2]
    return len(tokenizer(after, add_special_tokens=False)["input_ids"])


def _rendered(tokenizer: PreTrainedTokenizerBase, instruction: str) -> str:
    turns = [{"role": "user", "content": instruction}]
    return str(tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    stack = model.get_submodule("model.layers")
    assert isinstance(stack, nn.ModuleList)
    return stack


@contextmanager
def hooks(
    before: Sequence[tuple[nn.Module, Hook]], after: Sequence[tuple[nn.Module, Hook]]
) -> Iterator[None]:
    """While open, each function sees the first input (`before`) or the output of its module, and may replace it."""

    def pre(hook: Hook) -> Any:
        def run(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            new = hook(args[0] if args else kwargs["hidden_states"])
            if new is None:
                return None
            return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

        return run

    def post(hook: Hook) -> Any:
        def run(_: nn.Module, __: Any, out: Any) -> Any:
            new = hook(out[0] if isinstance(out, tuple) else out)
            return out if new is None else (new, *out[1:]) if isinstance(out, tuple) else new

        return run

    handles = [module.register_forward_pre_hook(pre(hook), with_kwargs=True) for module, hook in before]
    handles += [module.register_forward_hook(post(hook)) for module, hook in after]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def last_logits(model: PreTrainedModel, prompts: Sequence[Ids]) -> Tensor:
    """`[prompts vocab]`, float64, at the last position."""
    rows = [model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -1] for ids in prompts]
    return torch.stack(rows).double()


@torch.no_grad()
def mean_activations(model: PreTrainedModel, prompts: Sequence[Ids], n: int) -> tuple[Tensor, Tensor]:
    """Mean of resid_pre and of its norm at the last `n` positions, `[n layers d_model]` and `[n layers]`, float64."""
    total = torch.zeros(n, len(blocks(model)), model.config.hidden_size, dtype=torch.float64)
    norms = torch.zeros(n, len(blocks(model)), dtype=torch.float64)

    def keep(layer: int) -> Hook:
        def look(x: Tensor) -> None:
            total[:, layer] += x[0, -n:].double()
            norms[:, layer] += x[0, -n:].double().norm(dim=-1)

        return look

    with hooks([(block, keep(layer)) for layer, block in enumerate(blocks(model))], []):
        last_logits(model, prompts)
    return total / len(prompts), norms / len(prompts)


@contextmanager
def ablated(model: PreTrainedModel, r: Tensor) -> Iterator[None]:
    """`x - (x . u) u` at resid_pre, attn_out and mlp_out of every layer and every position (eq. 4)."""
    unit = (r / r.norm()).to(model.device, model.dtype)

    def remove(x: Tensor) -> Tensor:
        return x - (x @ unit)[..., None] * unit

    parts = [getattr(block, name) for block in blocks(model) for name in ("self_attn", "mlp")]
    with hooks([(block, remove) for block in blocks(model)], [(part, remove) for part in parts]):
        yield


@contextmanager
def added(model: PreTrainedModel, r: Tensor, layer: int) -> Iterator[None]:
    """`x + r` at resid_pre of one layer and every position (eq. 3)."""
    with hooks([(blocks(model)[layer], lambda x: x + r.to(x))], []):
        yield


def refusal_score(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    p = logits.softmax(-1)[:, list(tokens)].sum(-1)
    return torch.log(p + 1e-8) - torch.log(1 - p + 1e-8)


def contrasting(
    model: PreTrainedModel, sides: tuple[Sequence[Ids], Sequence[Ids]], tokens: Sequence[int]
) -> tuple[list[Ids], list[Ids]]:
    """The harmful prompts whose score is above 0, and the harmless ones whose score is below."""
    harmful, harmless = (refusal_score(last_logits(model, side), tokens) for side in sides)
    return (
        [ids for ids, score in zip(sides[0], harmful, strict=True) if score > 0],
        [ids for ids, score in zip(sides[1], harmless, strict=True) if score < 0],
    )


def kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    p, q = p_logits.softmax(-1), q_logits.softmax(-1)
    return (p * (torch.log(p + 1e-6) - torch.log(q + 1e-6))).sum(-1)


@dataclass(frozen=True)
class Scores:
    """One candidate. NaN where the two sides do not differ."""

    bypass: float = math.nan
    induce: float = math.nan
    kl: float = math.nan


@dataclass(frozen=True)
class Found:
    """means: `[positions layers d_model]`, float64. scores and the best: by (position from the end, layer)."""

    means: Tensor
    tokens: list[int]
    scores: dict[tuple[int, int], Scores]
    best: tuple[int, int]


def find(
    model: PreTrainedModel,
    n_positions: int,
    train: tuple[Sequence[Ids], Sequence[Ids]],
    select: tuple[Sequence[Ids], Sequence[Ids]],
    tokens: Sequence[int],
    *,
    max_kl: float = 0.1,
    min_induce: float = 0.0,
) -> Found:
    """The search: train and select are each (harmful, harmless); tokens are those of a refusal."""
    kept, (harmful, harmless) = (contrasting(model, side, tokens) for side in (train, select))
    (harm, harm_norm), (less, less_norm) = (mean_activations(model, side, n_positions) for side in kept)
    means, norms = harm - less, (harm_norm + less_norm) / 2
    base = last_logits(model, harmless)
    scores = {}
    for i in range(n_positions):
        for layer in range(means.shape[1]):
            r = means[i, layer]
            cell = (i - n_positions, layer)
            scores[cell] = Scores()
            if r.norm() > 1e-6 * norms[i, layer]:  # else what is left is rounding
                with ablated(model, r):
                    bypass = refusal_score(last_logits(model, harmful), tokens)
                    damage = kl(base, last_logits(model, harmless))
                with added(model, r, layer):
                    induce = refusal_score(last_logits(model, harmless), tokens)
                scores[cell] = Scores(*(float(x.mean()) for x in (bypass, induce, damage)))
    passed = {
        (position, layer): s.bypass
        for (position, layer), s in scores.items()
        if not math.isnan(s.bypass + s.induce + s.kl)
        and layer < int(0.8 * means.shape[1])
        and s.kl <= max_kl
        and s.induce >= min_induce
    }
    return Found(means, list(tokens), scores, min(passed, key=lambda cell: passed[cell]))
