"""Steering and reading with plain PyTorch hooks and hand-written module names: the oracle that backends are held
against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from steerlab import Ablate, Add, Clamp, Recipe, Site
from steerlab.interventions import Intervention

_LLAMA = {"attn_out": "self_attn", "resid_mid": "post_attention_layernorm", "mlp_out": "mlp"}
_GEMMA = {
    "attn_out": "post_attention_layernorm",
    "resid_mid": "pre_feedforward_layernorm",
    "mlp_out": "post_feedforward_layernorm",
}
_FALCON = {"attn_out": "self_attention", "mlp_out": "mlp"}
_NAMES = {
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    "olmo2": {**_GEMMA, "resid_mid": "mlp"},
    "falcon": _FALCON,
    "falcon-new": _FALCON,
    "gpt2": {"attn_out": "attn", "resid_mid": "ln_2", "mlp_out": "mlp"},
    "gpt-neox": {"attn_out": "attention", "mlp_out": "mlp"},
}
_BLOCKS = {
    "gpt2": "transformer.h",
    "falcon": "transformer.h",
    "falcon-new": "transformer.h",
    "gpt-neox": "gpt_neox.layers",
}


def blocks(model: PreTrainedModel, architecture: str) -> nn.ModuleList:
    stack = model.get_submodule(_BLOCKS.get(architecture, "model.layers"))
    assert isinstance(stack, nn.ModuleList)
    return stack


@contextmanager
def hooked(
    model: PreTrainedModel, architecture: str, site: Site, edit: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """While open, `edit` maps the tensor at a site."""
    block = blocks(model, architecture)[site.layer]

    def output(_: nn.Module, __: object, out: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return (edit(out[0]), *out[1:]) if isinstance(out, tuple) else edit(out)

    def before(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> object:
        x = args[0] if args else kwargs["hidden_states"]
        if site.point == "resid_mid":  # the residual branch shares this tensor
            x.copy_(edit(x))
            return None
        return ((edit(x), *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": edit(x)})

    if site.point in ("resid_pre", "resid_post"):
        module = block
    else:
        module = block.get_submodule(_NAMES.get(architecture, _LLAMA)[site.point])
    if site.point in ("resid_pre", "resid_mid"):
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(output)
    try:
        yield
    finally:
        handle.remove()


def change(x: Tensor, step: Intervention) -> Tensor:
    """The formulas of the papers, one token at a time where that is plainer."""
    v = step.direction.vector
    u = v / v.norm()
    match step:
        case Add():
            y = x + step.coefficient * v
            return y / y.norm(dim=-1, keepdim=True) * x.norm(dim=-1, keepdim=True) if step.keep_norm else y
        case Ablate():
            if step.one_sided:
                return x - step.strength * (x @ u)[..., None].clamp_min(0) * u
            span = torch.stack([d.vector for d in step.directions], 1)  # [d_model k]
            onto = span @ torch.linalg.pinv(span, rtol=1e-5)
            return x - step.strength * x @ onto
        case Clamp():
            return x - (x @ u)[..., None] * u + step.value * u
    raise AssertionError(step)


@torch.no_grad()
def logits(
    model: PreTrainedModel, architecture: str, ids: Sequence[int], recipe: Recipe, n_prompt: int | None = None
) -> Tensor:
    """The logits of every position of one sequence, `[pos vocab]`, steered by hooks, without a cache."""
    n_prompt = len(ids) if n_prompt is None else n_prompt
    is_prompt = torch.arange(len(ids)) < n_prompt
    acts = {"all": torch.ones(len(ids), dtype=torch.bool), "prompt": is_prompt, "generated": ~is_prompt}
    with ExitStack() as stack:
        for step in recipe.interventions:
            if isinstance(step.tokens, tuple):
                mask = torch.tensor([i - n_prompt in step.tokens for i in range(len(ids))])[None, :, None]
            else:
                mask = acts[step.tokens][None, :, None]

            def edit(x: Tensor, step: Intervention = step, mask: Tensor = mask) -> Tensor:
                if step.gate:
                    g = step.gate.direction.vector
                    mask = mask & ((x @ g)[..., None] > step.gate.threshold * g.norm())
                return torch.where(mask, change(x.float(), step).to(x.dtype), x)

            for site in step.resolve(model.config.num_hidden_layers):
                stack.enter_context(hooked(model, architecture, site, edit))
        out: Tensor = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    return out


def greedy(
    model: PreTrainedModel, architecture: str, prompt: Sequence[int], recipe: Recipe, n: int, stop: int
) -> list[int]:
    """`n` greedy tokens, every one from a full forward pass over all that came before."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(logits(model, architecture, ids, recipe, len(prompt))[-1].argmax()))
        if ids[-1] == stop:
            break
    return ids[len(prompt) :]


@torch.no_grad()
def read(model: PreTrainedModel, architecture: str, ids: Sequence[int], site: Site) -> Tensor:
    """The tensor at a site, `[pos d_model]`, of one sequence."""
    seen: list[Tensor] = []

    def look(x: Tensor) -> Tensor:
        seen.append(x[0].clone())
        return x

    with hooked(model, architecture, site, look):
        model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    return seen[0]
