"""Finds the sites of a model by their arithmetic, not by a table of names.

One short forward pass with plain hooks shows, for every block, its input P, its output Q and what its inner modules
read and write. Attention's output is what equals M - P, the MLP's what equals Q - M, for some inner tensor M:
`resid_mid`. A block in which no such M exists but P + a + b = Q does is a parallel one. So post-norms, biases and odd
names take care of themselves. What arithmetic does not find, a person can name: GivenSites.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from steerlab.errors import ModelError, SiteError
from steerlab.sites import POINTS, Point, Site, check_point

PROBE = (3, 5, 7, 11, 13)
# How far a right module may be off, relative: by this, and by what rounding the stream makes of what is added to it; a
# module that is right but for a sublayer beside it, or for a factor, is off by more, a wrong one by 1 or more.
TOLERANCE, MOST = 0.01, 0.25
EXACT = 1e-5  # of a block's output: what float32 leaves when its parts are summed
ATTENTION = re.compile(r"attn|attention|mixer")

Side = Literal["input", "output"]

# Where points are, said by a person: {"resid_pre": "model.layers.{layer}.input"}, modules' paths from the model's root.
GivenSites = Mapping[str, str]
EXAMPLE = 'sites={"resid_pre": "model.layers.{layer}.input", "resid_post": "model.layers.{layer}.output"}'


@dataclass(frozen=True)
class Hook:
    """Where a site is touched: a module's path from the model's root, and which side of it.

    wrapped: its output is a tuple whose first element is the tensor. in_place: the residual branch shares the tensor,
    so it has to be overwritten rather than replaced.
    """

    path: str
    side: Side
    wrapped: bool = False
    in_place: bool = False


class Seen(NamedTuple):
    """One tensor that passed through a block's inner module (or the block itself, name "")."""

    name: str
    side: Side
    value: Tensor
    wrapped: bool


class Place(NamedTuple):
    """A point that a person named, in a block: the inner module's name, "" for the block itself, and its side."""

    name: str
    side: Side


class SiteMap:
    """The hooks of every site of a model: `n_layers` blocks under `path`.

    closed: whether attn_out and mlp_out are all that its blocks add to the stream.
    """

    def __init__(
        self, path: str, blocks: list[dict[Point, Hook]], trees: list[str], *, closed: bool = False
    ) -> None:
        self.path = path
        self.n_layers = len(blocks)
        self.closed = closed
        self._blocks = blocks
        self._trees = trees

    @property
    def points(self) -> tuple[Point, ...]:
        """The points that every block has."""
        return tuple(p for p in POINTS if all(p in block for block in self._blocks))

    @property
    def hooks(self) -> list[Hook]:
        """Every hook of every block."""
        return [hook for block in self._blocks for hook in block.values()]

    def shown_as(self, model: nn.Module) -> SiteMap:
        """The same hooks in another model of the same tree, which its errors show."""
        trees = [repr(block) for block in _stack(model, self.path)]
        return SiteMap(self.path, self._blocks, trees, closed=self.closed)

    def hook(self, site: Site) -> Hook:
        """Where to touch a site. Raises SiteError where the block does not have it."""
        if site.layer >= self.n_layers:
            raise SiteError(
                f"layer {site.layer} is out of range: the model has {self.n_layers} layers",
                f"Layers count from 0, so the last one is {self.n_layers - 1}.",
            )
        block = self._blocks[site.layer]
        if site.point in block:
            return block[site.point]
        if site.point == "resid_mid" and "attn_out" in block:
            raise SiteError(
                f"there is no {site}: attention and the MLP of this model's blocks run in parallel",
                "Nothing lies between them: use resid_pre or resid_post.",
            )
        raise SiteError(
            f"{site} was not found in the block {self.path}.{site.layer}, which is\n{self._trees[site.layer]}",
            f"It has {', '.join(p for p in POINTS if p in block)}. Or say which module's input or output it is: "
            f'Lab(model, sites={{"{site.point}": "{self.path}.{{layer}}.….output"}}).',
        )


@torch.no_grad()
def find_sites(model: nn.Module, given: GivenSites | None = None) -> SiteMap:
    """Find every site of a Hugging Face decoder with one forward pass over five tokens.

    given: where points are that arithmetic does not find, or finds elsewhere; the others are still looked for. Raises
    ModelError where the stack of blocks is not found or is not finite, and SiteError for places that the model does not
    have.
    """
    if given:
        path, places = _places(given)
        blocks = _stack(model, path)
    else:
        path, blocks = find_blocks(model)
        places = {}
    seen: list[list[Seen]] = [[] for _ in blocks]
    names = {place.name for place in places.values()}
    handles = [h for block, log in zip(blocks, seen, strict=True) for h in _watch(block, log, names)]
    first = next(model.parameters())
    device, dtype = first.device, getattr(model, "dtype", first.dtype)
    vocab = int(getattr(model.config.get_text_config(), "vocab_size", 2**16))  # type: ignore[union-attr,operator]
    try:
        model(input_ids=torch.tensor([[i % vocab for i in PROBE]], device=device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    # of a sum; of a quantised model the stream is in half precision
    rounding = 2 * torch.finfo(dtype if dtype.is_floating_point else torch.float16).eps
    read = [_read_block(f"{path}.{i}", blocks[i], log, places, rounding) for i, log in enumerate(seen)]
    return SiteMap(
        path,
        [{point: hook for point, (hook, _) in block.items()} for block in read],
        [repr(block) for block in blocks],
        closed=all(_closed({point: value for point, (_, value) in block.items()}) for block in read),
    )


def taken(forward: Callable[..., Any], config: PretrainedConfig) -> set[str]:
    """The names of what a model's forward takes, of which none has its blocks leave positions out."""
    names = set(inspect.signature(forward).parameters)
    # where blocks share keys and values, the later ones would only see the positions whose logits are kept
    short = getattr(config.get_text_config(), "num_kv_shared_layers", 0)
    return names - {"logits_to_keep"} if short else names


def find_blocks(model: nn.Module) -> tuple[str, Sequence[nn.Module]]:
    """The decoder's stack of blocks: the shallowest ModuleList with as many entries as the config has layers."""
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)  # type: ignore[union-attr,operator]
    stacks = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    if not stacks:
        raise ModelError(
            f"{type(model).__name__} has no list of {n_layers or 'as many'} blocks"
            f"{'' if n_layers else ' as its config says'}, so its residual stream was not found:\n{model}",
            f"Say where it is by paths of this tree: Lab(model, {EXAMPLE}).",
        )
    path, stack = min(stacks, key=lambda stack: stack[0].count("."))
    return path, list(stack)


def _places(given: GivenSites) -> tuple[str, dict[Point, Place]]:
    """The path of the stack of blocks that a person's places share, and the places within a block."""
    places: dict[Point, Place] = {}
    stacks = set()
    for point, where in given.items():
        stack, _, inner = where.partition(".{layer}")
        name, _, side = inner.rpartition(".")
        if not stack or "{" in stack + inner or (name and name[0] != ".") or side not in ("input", "output"):
            raise SiteError(
                f"{where!r} does not say where {point} is",
                f"Give a module's path with {{layer}} for the number of the block, and its side: {EXAMPLE}.",
            )
        stacks.add(stack)
        places[check_point(point)] = Place(name.removeprefix("."), "input" if side == "input" else "output")
    if len(stacks) > 1:
        raise SiteError(
            f"the sites lie in several stacks of blocks: {', '.join(sorted(stacks))}",
            "All blocks of a model are in one list.",
        )
    return stacks.pop(), places


def _stack(model: nn.Module, path: str) -> Sequence[nn.Module]:
    """The blocks "path.0", "path.1" and so on."""
    modules = dict(model.named_modules(remove_duplicate=False))
    blocks: list[nn.Module] = []
    while block := modules.get(f"{path}.{len(blocks)}"):
        blocks.append(block)
    if not blocks:
        raise SiteError(f"{type(model).__name__} has no blocks {path}.0, {path}.1, …:\n{model}")
    return blocks


def _watch(block: nn.Module, log: list[Seen], names: set[str]) -> Iterator[torch.utils.hooks.RemovableHandle]:
    """Hooks on a block, on its inner modules down to the second level, and on those with `names`."""
    for name, module in block.named_modules():
        if name.count(".") > 1 and name not in names:
            continue

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name) -> None:
            values = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.ndim == 3]
            if values:
                log.append(Seen(name, "input", _kept(values[0]), False))

        def after(_: nn.Module, __: tuple[Any, ...], output: Any, name: str = name) -> None:
            wrapped = isinstance(output, tuple)
            value = output[0] if wrapped else output
            if isinstance(value, Tensor) and value.ndim == 3:
                log.append(Seen(name, "output", _kept(value), wrapped))

        yield module.register_forward_pre_hook(before, with_kwargs=True)
        yield module.register_forward_hook(after)


def _kept(value: Tensor) -> Tensor:
    """A value as it is now; a block's input may be on another device than what is inside."""
    return value.to("cpu", torch.float32, copy=True)


def _read_block(
    path: str, block: nn.Module, log: list[Seen], places: Mapping[Point, Place], rounding: float
) -> dict[Point, tuple[Hook, Tensor]]:
    """The hook of each point that a block has, and the tensor there."""

    def at(point: Point, name: str, side: Side) -> Seen:
        for s in log:
            if (s.name, s.side) == (name, side):
                return s
        raise SiteError(
            f"no stream [rows tokens d_model] was seen at the {side} of {f'{path}.{name}'.rstrip('.')}, which should "
            f"be {point}, in the block\n{block}",
            f"Say where it is by paths of this tree: Lab(model, {EXAMPLE}).",
        )

    start = at("resid_pre", *places.get("resid_pre", Place("", "input")))
    end = at("resid_post", *places.get("resid_post", Place("", "output")))
    if not (start.value.isfinite().all() and end.value.isfinite().all()):
        raise ModelError(
            f"the activations of this model are not finite, in {path} for the first",
            "Half precision may be too narrow for it: load it in bfloat16 or float32. Or a weight is NaN or infinite.",
        )
    inner = [s for s in log if s.name and s.value.shape == start.value.shape]
    written = [s for s in inner if s.side == "output"]
    found: dict[Point, Seen] = {"resid_pre": start, "resid_post": end}
    found |= _sequential(start.value, end.value, inner, written, rounding) or _parallel(
        start.value, end.value, written, rounding
    )
    found |= {point: at(point, *place) for point, place in places.items()}
    for point, s in found.items():
        if s.value.shape != start.value.shape:
            raise SiteError(
                f"the {s.side} of {path}.{s.name} is {list(s.value.shape)}, and the stream "
                f"is {list(start.value.shape)}",
                f"Name another module for {point}.",
            )
    return {
        point: (
            Hook(
                f"{path}.{s.name}".rstrip("."),
                s.side,
                s.wrapped,
                in_place=point == "resid_mid" and s.side == "input",
            ),
            s.value,
        )
        for point, s in found.items()
    }


def _closed(block: Mapping[Point, Tensor]) -> bool:
    if "attn_out" not in block or "mlp_out" not in block:
        return False
    return _error(block["resid_pre"] + block["attn_out"] + block["mlp_out"], block["resid_post"]) < EXACT


def _sequential(
    start: Tensor, end: Tensor, inner: list[Seen], written: list[Seen], rounding: float
) -> dict[Point, Seen]:
    best: tuple[float, dict[Point, Seen]] = (math.inf, {})
    for middle in inner:
        if middle.side != "input" or _error(middle.value, start) < 1e-6:
            continue
        added = middle.value - start, end - middle.value
        attention, mlp = (
            _equal(written, wanted, _tolerance(wanted, start, end, rounding)) for wanted in added
        )
        if attention and mlp:
            # a large sublayer hides the stream beside it, so a wrong M may be near: the nearest one is right
            error = max(_error(attention.value, added[0]), _error(mlp.value, added[1]))
            if error < 0.5 * best[0]:
                best = error, {"attn_out": attention, "resid_mid": middle, "mlp_out": mlp}
    return best[1]


def _parallel(start: Tensor, end: Tensor, written: list[Seen], rounding: float) -> dict[Point, Seen]:
    pairs = [(one, other) for i, one in enumerate(written) for other in written[i + 1 :]]
    errors = [_error(one.value + other.value, end - start) for one, other in pairs]
    if not errors or min(errors) > _tolerance(end - start, start, end, rounding):
        return {}
    depths = [one.name.count(".") + other.name.count(".") for one, other in pairs]
    fits = [i for i, error in enumerate(errors) if error <= 2 * min(errors) + 1e-6]
    one, other = pairs[min(fits, key=lambda i: depths[i])]
    attention, mlp = (other, one) if ATTENTION.search(other.name.split(".")[0]) else (one, other)
    return {"attn_out": attention, "mlp_out": mlp}


def _equal(written: list[Seen], wanted: Tensor, tolerance: float) -> Seen | None:
    """The shallowest module that wrote `wanted`, within what the number format allows."""
    errors = [(s.name.count("."), _error(s.value, wanted), i) for i, s in enumerate(written)]
    fits = [e for e in errors if e[1] < tolerance]
    if not fits:
        return None
    near = min(e[1] for e in fits)
    return written[min(e for e in fits if e[1] <= 2 * near + 1e-6)[2]]


def _tolerance(wanted: Tensor, start: Tensor, end: Tensor, rounding: float) -> float:
    """How far off a module may be that adds `wanted` to the stream of a block, relative."""
    stream = max(start.norm(), end.norm())
    return min(MOST, TOLERANCE + rounding * float(stream / wanted.norm().clamp_min(1e-12)))


def _error(value: Tensor, wanted: Tensor) -> float:
    return float((value - wanted).norm() / wanted.norm().clamp_min(1e-12))
