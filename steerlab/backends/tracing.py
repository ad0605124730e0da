"""Forward passes of a Hugging Face model through nnsight: edited and read at sites, begun and ended at any block.

A pass visits only the sites that it is told of, in forward order, and waits its turn: a person's own traces and ours
share the model, one forward pass each. What a person writes in a trace is a block of code that nnsight runs beside the
model; ours is a list of functions, which nnsight's interleaver calls at the modules: a token needs no block of its own,
and modules that no pass has visited are as they were.
"""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, NamedTuple

import nnsight
import torch
from nnsight.intervention.envoy import Envoy
from nnsight.intervention.interleaver import (
    EarlyStopException,
    Event,
    Interleaver,
    Mediator,
    OutOfOrderError,
    Pending,
)
from nnsight.intervention.tracer import InterleavingTracer
from nnsight.intervention.util import first_input, replace_first_input
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from steerlab import edits
from steerlab.backends.architectures import GivenSites, SiteMap, find_sites
from steerlab.backends.base import before_pass
from steerlab.sites import Site

Inputs = dict[str, Any]
# What is done to the tensor at a site: the same tensor, changed in place, or another; None to leave it.
Edit = Callable[[Tensor], Tensor | None]

_forward_lock = threading.RLock()

SMALL = 10_000_000  # parameters, below which one thread is faster than several that wait for each other


class LockedTracer(InterleavingTracer):  # type: ignore[misc]
    """A trace that waits its turn."""

    def execute(self, code: Any) -> None:
        with _forward_lock:
            super().execute(code)


class SharedModel(nnsight.TransformersModel):  # type: ignore[misc]
    """nnsight's model for several threads: a person's own traces and ours take turns, one forward pass each."""

    def trace(self, *args: Any, tracer_cls: type[InterleavingTracer] = LockedTracer, **kwargs: Any) -> Any:
        return super().trace(*args, tracer_cls=tracer_cls, **kwargs)

    def interleave(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        with _forward_lock:
            return super().interleave(fn, *args, **kwargs)


class Sparse(Envoy):  # type: ignore[misc]
    """nnsight's view of the modules that have been visited, and of those that hold them: the others cost nothing."""

    device = None  # inputs are where they have to be

    def _add_envoy(self, name: str, module: torch.nn.Module) -> None:
        """Children are wrapped when they are asked for."""


class Visit(NamedTuple):
    """What is done once in a forward pass, when it comes to a place: "{module's path}.{input, skip or output}".

    act: takes nnsight's value of that place and returns what it is from there on.
    """

    place: str
    act: Callable[[Any], Any]


class Visits(Mediator):  # type: ignore[misc]
    """Visits in forward order, in the part of a trace's block. stop: whether the pass ends with the last one."""

    def __init__(self, visits: Sequence[Visit], *, stop: bool = False) -> None:
        super().__init__(None, {}, {})
        self._left, self._stop = list(reversed(visits)), stop

    def start(self, interleaver: Interleaver = None) -> None:
        """Wait for the first place."""
        self.interleaver = interleaver
        self.counts_at_start = dict(interleaver.counts)
        self._wait()

    def handle(self, provider: str, value: Any) -> Any:
        """The forward pass is at the place that was waited for."""
        while self.pending is not None and self.pending.provider == provider:
            value = self._left.pop().act(value)
            self._wait()
        if self._stop and self.pending is None:
            raise EarlyStopException
        return value

    def _wait(self) -> None:
        self.pending = Pending(Event.VALUE, self._left[-1].place, 0) if self._left else None


class Passed(NamedTuple):
    """What a forward pass gave. logits: of the last positions [rows keep vocab], float32, None for a pass that was
    ended early. edited: the sites where something was done. streams: the inputs of the blocks that were asked for, by
    layer [rows pos d_model]; the layer after the last block stands for its output.
    """

    logits: Tensor | None
    edited: set[Site]
    streams: dict[int, Tensor]


class TracedModel:
    """A model behind nnsight. `hf` is the model itself."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sites: GivenSites | None = None
    ) -> None:
        model.eval()
        self.sites: SiteMap = find_sites(model, sites)
        self.hf = model
        self.n_layers = self.sites.n_layers
        self._tokenizer = tokenizer
        self._one_thread = model.device.type == "cpu" and model.num_parameters() < SMALL
        self._accepts = set(inspect.signature(model.forward).parameters)
        self._envoys: dict[str, Any] = {}
        self._view = Sparse(model, envoys=Sparse)

    @functools.cached_property
    def wrapped(self) -> SharedModel:
        """nnsight's view of the whole model, a person's own."""
        with _forward_lock:
            # a copy of the tokenizer, because nnsight turns its padding round
            return SharedModel(self.hf, tokenizer=copy.deepcopy(self._tokenizer), task="text-generation")

    @property
    def device(self) -> torch.device:
        """Where inputs go: the device of the model's first weights."""
        device: torch.device = self.hf.device
        return device

    def inputs(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Cache | None = None,
        *,
        keep: int = 1,
    ) -> Inputs:
        """What the model's forward takes for new tokens `ids` [rows new].

        mask: [rows pos] over all tokens so far, 0 for padding on the left; None where there is none. positions: of the
        new tokens [rows new]; None where they are the first ones and nothing is padded.
        """
        given = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": positions,
            "logits_to_keep": keep,
            "use_cache": cache is not None,
            "past_key_values": cache,
        }
        return {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in given.items()
            if name in self._accepts and value is not None
        }

    def run(
        self,
        inputs: Inputs,
        todo: Mapping[Site, Edit],
        *,
        keep: int = 1,
        begin: tuple[int, Tensor] | None = None,
        end: int | None = None,
        streams: Collection[int] = (),
    ) -> Passed:
        """One forward pass.

        begin: a layer and the stream [rows pos d_model] that enters its block: the blocks below are left out, and
        `todo` names no site below but `resid_post` of the block just below. The stream may be changed in place.
        end: the layer before whose block the pass stops. streams: the layers whose block's input is wanted.
        """
        found: dict[int, Tensor] = {}
        first, start = begin or (0, None)
        skipped: list[Visit] = []
        edits = dict(todo)
        if start is not None:
            below = edits.pop(Site(first - 1, "resid_post"), None)
            start = start if below is None else _changed(start, below)
            skipped = [self.skip(layer, start) for layer in range(first)]
            if first in streams:
                found[first] = start
        read = [
            (
                Site(layer, "resid_pre") if layer < self.n_layers else Site(layer - 1, "resid_post"),
                _keeping(found, layer),
            )
            for layer in streams
            if layer not in found
        ]
        out = self.through(inputs, [*skipped, *self.visits([*read, *edits.items()])], stop=end is not None)
        logits = None if out is None else out.logits[:, -keep:].float()
        return Passed(logits, set(todo), found)

    def through(self, inputs: Inputs, visits: Sequence[Visit], *, stop: bool = False) -> Any:
        """One forward pass with visits, in forward order. Returns what the model does, or None where it was stopped
        after the last of them.
        """
        mine = Visits(visits, stop=stop)
        with self.turn():
            self._view.interleaver.mediators.append(mine)
            out = self._view.interleave("__call__", **inputs)
        if mine.pending is not None:
            raise OutOfOrderError(f"the forward pass did not come to {mine.pending.provider}")
        return out

    def visits(self, edits: Iterable[tuple[Site, Edit]]) -> list[Visit]:
        """The visits to sites, in forward order; several to one site in the order given."""
        return [self._visit(site, edit) for site, edit in sorted(edits, key=itemgetter(0))]

    def _visit(self, site: Site, edit: Edit) -> Visit:
        hook = self.sites.hook(site)

        def act(value: Any) -> Any:
            held = first_input(*value) if hook.side == "input" else value
            x: Tensor = held[0] if hook.wrapped else held
            new = edit(x)
            if new is None or new is x:
                return value
            if hook.in_place:
                x.copy_(new)
                return value
            if hook.side == "input":
                return replace_first_input(*value, new)
            return (new, *held[1:]) if hook.wrapped else new

        return Visit(f"{self._envoy(hook.path).path}.{hook.side}", act)

    def skip(self, layer: int, stream: Tensor) -> Visit:
        """The visit to a block that leaves it out: its output is a stream."""
        hook = self.sites.hook(Site(layer, "resid_post"))
        return Visit(f"{self._envoy(hook.path).path}.skip", lambda _: (stream,) if hook.wrapped else stream)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One forward pass of ours: nobody else's runs, and a small model keeps to one thread meanwhile.

        On a machine that is busy otherwise, two threads made a token of the embedded model ten times dearer than one.
        """
        before_pass.get()()
        with _forward_lock:
            threads = torch.get_num_threads()
            if self._one_thread:
                torch.set_num_threads(1)
            try:
                yield
            finally:
                torch.set_num_threads(threads)

    def _envoy(self, path: str) -> Any:
        """nnsight's view of the module at a path."""
        if path not in self._envoys:
            with _forward_lock:
                self._envoys[path] = self._view.get(path)
        return self._envoys[path]


def editing(operands: Mapping[Site, list[edits.Operand]]) -> dict[Site, Edit]:
    """The edits that operands stand for; they change the tensors of a pass in place.

    Kept from one pass to the next they keep their operands on the device of the tensor that they met.
    """

    def edit(here: list[edits.Operand]) -> Edit:
        moved: dict[torch.device, list[edits.Operand]] = {}

        def apply(x: Tensor) -> Tensor:
            if x.device not in moved:
                moved[x.device] = [o if o.vectors.device == x.device else o.to(x.device) for o in here]
            return edits.apply_(x, moved[x.device])

        return apply

    return {site: edit(here) for site, here in operands.items()}


def _keeping(found: dict[int, Tensor], layer: int) -> Edit:
    def keep(x: Tensor) -> None:
        found[layer] = x

    return keep


def _changed(x: Tensor, edit: Edit) -> Tensor:
    new = edit(x)
    return x if new is None else new
