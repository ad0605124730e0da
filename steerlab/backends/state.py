"""What tells a model from itself before a change: its weights, its adapters and a person's hooks."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

KEPT = 8  # states that are known again

Switches = dict[int, tuple[object, ...]]


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
    """The states in which a model was seen, by their numbers: 0 is the first."""

    def __init__(self) -> None:
        self._count = 0
        self._seen: list[tuple[int, list[Stamp], Switches]] = []  # the newest last

    def number(self, parts: Sequence[torch.nn.Module]) -> int:
        """The number of the state that a model's modules are in, the same where they are as they were before. Another
        one is: other weights, or changed in place, by an optimizer or under `torch.no_grad()`; other adapters switched
        on (peft's `set_adapter`, `disable_adapter`); forward hooks of a person's own that have come or gone, not what
        they do. Numbers that a module has as plain attributes are not looked at, and what is written through `.data` is
        not seen, since torch does not count it. It takes half a millisecond for four hundred tensors.
        """
        switches = {i: found for i, part in enumerate(parts) if (found := _switches(part))}
        stamps = [
            _stamp(weight, away=away)
            for part, away in zip(parts, map(_offloaded, parts), strict=True)
            for weight in (*part._parameters.values(), *part._buffers.values())
            if weight is not None
        ]
        for number, weights, switched in reversed(self._seen):
            if switched == switches and len(weights) == len(stamps) and all(map(Stamp.same, weights, stamps)):
                return number
        self._seen = [*self._seen[1 - KEPT :], (self._count, stamps, switches)]
        self._count += 1
        return self._count - 1


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
