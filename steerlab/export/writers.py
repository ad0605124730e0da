"""Finds the weights that write to the residual stream, by their effect, and takes directions out of them.

A weight writes to a tensor where nudging it along a vector of the stream moves the tensor along that vector and
nowhere else. That is so of the last matrix of attention and MLP, of its bias, of stacked experts and of embeddings, in
whichever axis they hold the stream, and not of what a norm or another matrix follows.

All of it happens in one forward pass, in float32 and block by block: a block finds its writers, loses the directions,
and what it then writes is measured and goes to the next block. So only one block at a time is in memory twice.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from steerlab.backends.architectures import PROBE, SiteMap
from steerlab.errors import ModelError
from steerlab.export.projections import EMBEDDINGS, Projections
from steerlab.sites import Site

LEFT = 1e-5  # of the norm: what may be left along a direction in float32
PARALLEL = 1e-3  # relative: what is no writer is off by 1 or so
NOTICED = 1e-4  # relative to what is written: less is rounding

Weights = dict[str, Tensor]
Run = Callable[[Weights], dict[Site, Tensor]]


class Axis(NamedTuple):
    """A parameter, by its name in the model, and the axis of it that is the residual stream."""

    name: str
    axis: int


@dataclass
class Changed:
    """What was done. writers: the weights that lost directions, by what they write. left: the largest share of a norm
    that is left along a direction at any site of the recipe, in float32; saved: the same with the weights rounded to
    the model's own type.
    """

    writers: dict[Site, list[Axis]] = field(default_factory=dict)
    left: float = 0.0
    saved: float = 0.0


class _Stop(Exception):  # noqa: N818
    """Ends a forward pass where it has shown enough."""


@torch.no_grad()
def orthogonalise(model: PreTrainedModel, sites: SiteMap, wanted: Projections) -> Changed:
    """Take directions out of the weights of `model`: it gets new parameters, and the old tensors stay as they are.

    Raises ModelError where something is left at a site, because what writes there is not linear in any weight.
    """
    changed = Changed()
    blocks = model.get_submodule(sites.path)
    assert isinstance(blocks, nn.ModuleList)
    head = model.get_output_embeddings()
    later = [name for name, module in model.named_modules() if module is head or module is blocks]
    outside: Weights = {
        name: parameter.float()
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not any(name.startswith(f"{module}.") for module in later)
    }

    def embed(replaced: Weights) -> dict[Site, Tensor]:
        seen: list[Tensor] = []

        def first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            seen.append(next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.ndim == 3))
            raise _Stop

        with _instead(blocks[0], first):
            _run(model, outside | replaced)
        return {EMBEDDINGS: seen[0]}

    if EMBEDDINGS in wanted.writers:
        outside |= _rewrite(model, "", embed, outside, wanted, changed)

    def visit(layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        prefix = f"{sites.path}.{layer}."
        block = copy.deepcopy(blocks[layer]).float()
        del block.__dict__["forward"]  # the copy of what brought us here
        hooks = [
            (site, sites.hook(site))
            for site in {*wanted.writers, *wanted.gone}
            if site.layer == layer and site != EMBEDDINGS
        ]
        output: list[Any] = []

        def run(replaced: Weights) -> dict[Site, Tensor]:
            seen: dict[Site, Tensor] = {}
            with ExitStack() as stack:
                for site, hook in hooks:
                    inner = block.get_submodule(f"{hook.path}."[len(prefix) :].rstrip("."))
                    stack.enter_context(_seen_by(inner, hook.side, site, seen))
                short = {name.removeprefix(prefix): value for name, value in replaced.items()}
                output[:] = [functional_call(block, short, _float(args), _float(kwargs))]
            return seen

        own: Weights = {f"{prefix}{name}": value for name, value in block.named_parameters()}
        _rewrite(model, prefix, run, own, wanted, changed)
        if layer == sites.n_layers - 1:
            raise _Stop
        return output[0]

    with ExitStack() as stack:
        for i, block in enumerate(blocks):
            stack.enter_context(_instead(block, partial(visit, i)))
        _run(model, outside)
    return changed


def _rewrite(
    model: PreTrainedModel, prefix: str, run: Run, weights: Weights, wanted: Projections, changed: Changed
) -> Weights:
    """One part of the model, a block or what comes before them: find its writers among `weights` (float32), take the
    directions out, measure what `run` then shows, and give `model` the result. Returns what is new, in float32.
    """
    before = run({})
    writers = {
        site: found for site, found in _writers(run, weights, before).items() if site in wanted.writers
    }
    new: Weights = {}
    for site, found in writers.items():
        changed.writers[site] = found
        for name, axis in found:
            new[name] = _without(new.get(name, weights[name]), axis, wanted.writers[site])
    types = {name: model.get_parameter(name).dtype for name in new}
    rounded = {name: value.to(types[name]) for name, value in new.items()}
    # the float32 one comes last: what it writes is what goes on to the next block
    saved, left = (_left(run(w), wanted) for w in ({n: v.float() for n, v in rounded.items()}, new))
    for site, share in left.items():
        if not share < LEFT:
            raise _not_linear(model, site, share, writers.get(site, []))
    changed.left = max(changed.left, *left.values(), 0.0)
    changed.saved = max(changed.saved, *saved.values(), 0.0)
    for name, value in rounded.items():
        module, _, own = name.rpartition(".")
        setattr(model.get_submodule(module), own, nn.Parameter(value, requires_grad=False))
    return new


def _writers(run: Run, weights: Weights, before: dict[Site, Tensor]) -> dict[Site, list[Axis]]:
    """The weights that write to each of the tensors in `before`, which is what `run` shows without replacements."""
    found: dict[Site, list[Axis]] = {site: [] for site in before}
    if not before:
        return found
    example = next(iter(before.values()))
    noise = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=noise).to(example.device)

    width = example.shape[-1]
    ray = random(width)
    ray /= ray.norm()
    for name, weight in weights.items():
        for axis in (i for i, size in enumerate(weight.shape) if size == width):
            other = [1 if i == axis else size for i, size in enumerate(weight.shape)]
            nudge = random(*other) * ray.reshape([width if i == axis else 1 for i in range(weight.ndim)])
            # as large as the weight; a bias, which may be small, as large as what is written
            size = weight.norm() if weight.ndim > 1 else example.norm(dim=-1).mean()
            after = run({name: nudge.mul_(size / nudge.norm()).add_(weight)})
            for site, value in before.items():
                change = after[site] - value
                across = change - (change @ ray)[..., None] * ray
                if change.norm() > NOTICED * value.norm() and across.norm() < PARALLEL * change.norm():
                    found[site].append(Axis(name, axis))
    return {site: list(_with_siblings(axes, weights)) for site, axes in found.items()}


def _with_siblings(found: Iterable[Axis], weights: Weights) -> Iterator[Axis]:
    """The same weight in the other modules of a list: experts that no token of the probe was sent to."""

    def kind(name: str) -> str:
        return re.sub(r"(?<=\.)\d+(?=\.)", "#", name)

    wanted = {(kind(name), axis, weights[name].shape) for name, axis in found}
    for name, weight in weights.items():
        for axis in range(weight.ndim):
            if (kind(name), axis, weight.shape) in wanted:
                yield Axis(name, axis)


def _without(weight: Tensor, axis: int, units: Iterable[Tensor]) -> Tensor:
    """`W - u u^T W` for each unit vector in turn, with the stream in `axis` of a weight of any rank."""
    w = weight.movedim(axis, -1)
    for unit in units:
        u = unit.to(w)
        w = w - (w @ u)[..., None] * u
    return w.movedim(-1, axis).contiguous()


def _left(seen: dict[Site, Tensor], wanted: Projections) -> dict[Site, float]:
    """The largest share of a token's norm that lies along a direction that should be gone, by site."""
    return {
        site: max(
            float(((x @ unit.to(x)).abs() / x.norm(dim=-1).clamp_min(1e-12)).max())
            for unit in wanted.gone[site]
        )
        for site, x in seen.items()
        if site in wanted.gone
    }


def _not_linear(model: PreTrainedModel, site: Site, share: float, found: list[Axis]) -> ModelError:
    done = (
        f"after {', '.join(axis.name for axis in found)} lost it"
        if found
        else "and no weight writes it there"
    )
    return ModelError(
        f"the weights of {type(model).__name__} cannot express this ablation: at {site} {share:.1e} of the norm still "
        f"lies along the direction, {done}",
        "A norm with weights between the last matrix and the residual stream, as in Gemma 2 and 3 and OLMo 2, has no "
        "exact counterpart: steer with the recipe at run time.",
    )


def _run(model: PreTrainedModel, weights: Weights) -> None:
    vocab = int(model.config.get_text_config().vocab_size)
    ids = torch.tensor([[i % vocab for i in PROBE]], device=model.device)
    try:
        functional_call(model, weights, (), {"input_ids": ids, "use_cache": False}, tie_weights=False)
    except _Stop:
        return


@contextmanager
def _instead(block: nn.Module, run: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> Iterator[None]:
    """While open, a block runs `run` instead of its own forward."""
    block.forward = lambda *args, **kwargs: run(args, kwargs)
    try:
        yield
    finally:
        del block.forward


@contextmanager
def _seen_by(module: nn.Module, side: str, site: Site, seen: dict[Site, Tensor]) -> Iterator[None]:
    """While open, `seen` receives the tensor of a site as it passes."""

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[site] = next(
            v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.ndim == 3
        ).clone()

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        seen[site] = (output[0] if isinstance(output, tuple) else output).clone()

    if side == "input":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def _float(value: Any) -> Any:
    """Copies of all floating-point tensors in a block's arguments, in float32."""
    if isinstance(value, Tensor):
        return value.float().clone() if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(_float(v) for v in value)
    if isinstance(value, dict):
        return {k: _float(v) for k, v in value.items()}
    return value
