"""What tells a model from itself before a change: its weights, its adapters and a person's hooks."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Stamp(NamedTuple):
    """What tells a weight from another and from itself before a change. tensor: a weak reference, of which Python
    makes only one while it is held.
    """

    tensor: weakref.ref[Tensor] | None
    version: int
    address: int

    def same(self, other: Stamp) -> bool:
        """Whether they are of one tensor, unchanged."""
        return self.tensor is other.tensor and self[1:] == other[1:]


class State:
    """The state of a model at the last look."""

    def __init__(self) -> None:
        self._weights: list[Stamp] = []
        self._switches: dict[int, tuple[object, ...]] = {}

    def changed(self, parts: Sequence[torch.nn.Module]) -> bool:
        """Whether a model's modules are in another state than at the last call: other weights, or changed in place, by
        an optimizer or under `torch.no_grad()`; other adapters switched on (peft's `set_adapter`, `disable_adapter`);
        forward hooks of a person's own that have come or gone, not what they do. Numbers that a module has as plain
        attributes are not looked at, and what is written through `.data` is not seen, since torch does not count it.
        It takes half a millisecond for four hundred tensors.
        """
        before, switched = self._weights, self._switches
        self._switches = {i: switches for i, part in enumerate(parts) if (switches := _switches(part))}
        self._weights = [
            _stamp(weight, away=away)
            for part, away in zip(parts, map(_offloaded, parts), strict=True)
            for weight in (*part._parameters.values(), *part._buffers.values())
            if weight is not None
        ]
        return (
            switched != self._switches
            or len(before) != len(self._weights)
            or not all(map(Stamp.same, before, self._weights))
        )


def _offloaded(part: torch.nn.Module) -> bool:
    """Whether accelerate keeps a module's weights elsewhere, and puts others in their place for each of its passes."""
    hook = getattr(part, "_hf_hook", None)
    return any(getattr(one, "offload", False) for one in getattr(hook, "hooks", [hook]))


def _switches(part: torch.nn.Module) -> tuple[object, ...]:
    """What a module does besides what its weights say: a person's hooks, by their numbers; and of one of peft which of
    its adapters it applies, how strongly, and whether it leaves them out.
    """
    hooks = (*part._forward_pre_hooks, *part._forward_hooks)
    if not hasattr(type(part), "active_adapters"):  # a look at every module itself would be dear
        return hooks
    active, off, scaling = (
        getattr(part, name, None) for name in ("active_adapters", "disable_adapters", "scaling")
    )
    # a model of transformers has methods of these names
    return hooks if callable(active) or callable(off) else (*hooks, repr(active), repr(off), repr(scaling))


def _stamp(weight: Tensor, *, away: bool) -> Stamp:
    if away or weight.is_meta:
        return Stamp(None, 0, 0)
    tensor = weakref.ref(weight)
    try:
        return Stamp(tensor, weight._version, weight.data_ptr())
    except RuntimeError:  # no version: made in inference mode; no address: quantised, of several tensors
        return Stamp(tensor, 0, 0)
