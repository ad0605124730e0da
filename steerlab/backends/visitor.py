"""nnsight's model and its interleaver as steerlab has them: a forward pass at a time, visited without a block of code.

All that is derived from nnsight's classes is here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import nnsight
import torch
from nnsight.intervention.envoy import Envoy
from nnsight.intervention.interleaver import EarlyStopException, Interleaver, OutOfOrderError
from nnsight.intervention.tracer import InterleavingTracer

forward_lock = threading.RLock()


class LockedTracer(InterleavingTracer):  # type: ignore[misc]
    """A trace that waits its turn."""

    def execute(self, code: Any) -> None:
        with forward_lock:
            super().execute(code)


class SharedModel(nnsight.TransformersModel):  # type: ignore[misc]
    """nnsight's model for several threads: a person's own traces and ours take turns, one forward pass each."""

    def trace(self, *args: Any, tracer_cls: type[InterleavingTracer] = LockedTracer, **kwargs: Any) -> Any:
        return super().trace(*args, tracer_cls=tracer_cls, **kwargs)

    def interleave(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        with forward_lock:
            return super().interleave(fn, *args, **kwargs)


class Alone(Envoy):  # type: ignore[misc]
    """nnsight's view of one module without those inside it: a module that no pass visits costs nothing."""

    def _add_envoy(self, name: str, module: torch.nn.Module) -> None:
        pass


# What is done with nnsight's value of a place: returns what it is from there on.
Act = Callable[[Any], Any]
# By place, "{module's path}.{input, skip or output}", what is done when a forward pass first comes to it.
Visits = Mapping[str, Sequence[Act]]


class Visitor(Interleaver):  # type: ignore[misc]
    """nnsight's interleaver, with functions in the part of a trace's block."""

    def __init__(self) -> None:
        super().__init__()
        self._left: dict[str, Sequence[Act]] = {}
        self._stop, self._thread = False, 0

    def handle(self, provider: str, value: Any) -> Any:
        """The forward pass is at a place."""
        # a person's own forward on another thread comes by here, too
        acts = self._left.pop(provider, None) if threading.get_ident() == self._thread else None
        if acts is None:
            return value
        for act in acts:
            value = act(value)
        if self._stop and not self._left:
            raise EarlyStopException
        return value

    @contextmanager
    def on(self, visits: Visits, *, stop: bool) -> Iterator[None]:
        """The forward pass of the block makes these visits, all of them; the last one ends it with `stop`."""
        self._left, self._stop, self._thread = dict(visits), stop, threading.get_ident()
        self.interleaving = self.busy = True
        try:
            yield
            if self._left:
                raise OutOfOrderError(f"the forward pass did not come to {', '.join(self._left)}")
        except EarlyStopException:
            pass
        finally:
            self.interleaving = self.busy = False
            self._left = {}
