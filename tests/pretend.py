"""Pretended devices: a machine with several accelerators, on a CPU.

A tensor on "pretend:1" holds a tensor of the CPU, which is what is computed with. What it adds is the rule of real
devices: an operation on tensors of two of them is an error. So code that forgets to move something fails here as it
would on several GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from accelerate.hooks import attach_align_device_hook_on_blocks
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from transformers import PreTrainedModel

aten = torch.ops.aten
BY_INDEX = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class On(Tensor):
    """A tensor on a pretended device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device | None = None, requires_grad: bool = False) -> On:
        """On a device, or one that is there already, as a parameter's class is called."""
        if isinstance(held, On):
            return held
        made: On = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device,
        )
        made.held = held  # type: ignore[attr-defined]
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a pretended device, and there are none now")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __getitem__(self, key: Any) -> Any:
        return Tensor.__getitem__(self, _indices(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        Tensor.__setitem__(self, _indices(key), value)


def _indices(key: Any) -> Any:
    """Lists as tensors, which may be on the CPU whatever they index."""
    if isinstance(key, tuple):
        return tuple(map(_indices, key))
    return torch.as_tensor(key) if isinstance(key, list) else key


class Devices(TorchDispatchMode):
    """Within it pretended devices are there. seen: where wide tensors were that were computed with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        moves = (
            func is aten._to_copy.default or func is aten.copy_.default or func.name().startswith("aten::to.")
        )
        bound = (args[0], args[2:], kwargs) if func in BY_INDEX else (args, kwargs)
        given = [x for x in tree_leaves(bound) if isinstance(x, Tensor)]
        places = {str(x.device) for x in given if x.dim() or isinstance(x, On)}
        self.seen |= places
        if len(places) > 1 and not moves:
            raise RuntimeError(f"{func}: all tensors must be on the same device, but are on {sorted(places)}")
        asked = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.device)]
        where = asked[0] if asked else given[0].device if moves else torch.device(next(iter(places), "cpu"))
        out = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if func._schema.is_mutable and func._schema.name.endswith("_"):
            return args[0]
        return tree_map(lambda x: On(x, where) if isinstance(x, Tensor) and where.type != "cpu" else x, out)


def _held(x: Any) -> Any:
    if isinstance(x, torch.device):
        return torch.device("cpu")
    return x.held if isinstance(x, On) else x


@contextmanager
def devices() -> Iterator[Devices]:
    """Pretended devices."""
    _register()
    plain = torch.tensor

    def tensor(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        made = plain(data, *args, **kwargs)  # made in C, past any mode
        return made if device is None else made.to(device)

    torch.tensor = tensor
    try:
        with Devices() as made:
            yield made
    finally:
        torch.tensor = plain


@cache
def _register() -> None:
    _setup_privateuseone_for_python_backend("pretend")


def spread(model: PreTrainedModel, places: Mapping[str, str]) -> PreTrainedModel:
    """A model with modules on devices, in the way of `dispatch_model`, which wants real ones."""
    where = {name: torch.device(place) for name, place in places.items()}
    attach_align_device_hook_on_blocks(
        model,
        execution_device={"": next(iter(where.values())), **where},
        offload=dict.fromkeys(where, False),
    )
    model.hf_device_map = dict(places)  # type: ignore[assignment]
    return model
