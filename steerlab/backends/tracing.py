"""Forward passes of a Hugging Face model through nnsight: edited and read at sites, begun and ended at any block.

A pass visits only the sites that it is told of, in forward order, and waits its turn: a person's own traces and ours
share the model, one forward pass each.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import nnsight
import torch
from nnsight.intervention.envoy import Envoy
from nnsight.intervention.tracer import InterleavingTracer
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
    """nnsight's view of a few modules of a model: the others, most of them, cost nothing while a trace runs."""

    wanted: frozenset[str] = frozenset()
    device = None  # inputs are where they have to be

    def trace(self, *args: Any, tracer_cls: type[InterleavingTracer] = LockedTracer, **kwargs: Any) -> Any:
        return super().trace(*args, tracer_cls=tracer_cls, **kwargs)

    def interleave(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        with _forward_lock:
            return super().interleave(fn, *args, **kwargs)

    def _add_envoy(self, name: str, module: torch.nn.Module) -> Any:
        return super()._add_envoy(name, module) if f"{self.path}.{name}" in self.wanted else None


def _sparse(model: PreTrainedModel, paths: Collection[str]) -> Sparse:
    """A view of the modules at some paths, and of those that hold them."""
    parts = [path.split(".") for path in paths]
    wanted = {".".join(["model", *part[:n]]) for part in parts for n in range(1, len(part) + 1)}
    few = type("Few", (Sparse,), {"wanted": frozenset(wanted)})
    view: Sparse = few(model, envoys=few)
    return view


class Passed(NamedTuple):
    """What a forward pass gave. logits: of the last positions [rows keep vocab], float32, None for a pass that was
    ended early. edited: the sites where something was done. streams: the inputs of the blocks that were asked for, by
    layer [rows pos d_model]; the layer after the last block stands for its output.
    """

    logits: Tensor | None
    edited: set[Site]
    streams: dict[int, Tensor]


class TracedModel:
    """A model behind nnsight. `wrapped` is nnsight's view of it, a person's own; `view` that of its sites, which ours
    are traced with; `hf` the model itself.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sites: GivenSites | None = None
    ) -> None:
        model.eval()
        self.sites: SiteMap = find_sites(model, sites)
        # a copy of the tokenizer, because nnsight turns its padding round
        self.wrapped = SharedModel(model, tokenizer=copy.deepcopy(tokenizer), task="text-generation")
        self.hf = model
        self.n_layers = self.sites.n_layers
        self._one_thread = model.device.type == "cpu" and model.num_parameters() < SMALL
        self._accepts = set(inspect.signature(model.forward).parameters)
        self._envoys: dict[str, Any] = {}
        self.view = _sparse(model, {hook.path for hook in self.sites.hooks})

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
        edited: set[Site] = set()
        found: dict[int, Tensor] = {}
        logits: Tensor | None = None
        first, start = begin or (0, None)
        # places where something happens, by layer
        plan: dict[int, list[Site]] = {}
        for site in sorted(todo):
            plan.setdefault(site.layer, []).append(site)
        last = self.n_layers if end is None else end
        with self.turn(), self.view.trace(**inputs) as tracer:
            if start is not None:
                for site in plan.pop(first - 1, ()):
                    start = _changed(start, todo[site])
                    edited.add(site)
                for layer in range(first):
                    hook = self.sites.hook(Site(layer, "resid_post"))
                    self.envoy(hook.path).skip((start,) if hook.wrapped else start)
                if first in streams:
                    found[first] = start
            for layer in range(first, last):
                if layer in streams and layer not in found:
                    found[layer] = self.visit(Site(layer, "resid_pre"))
                for site in plan.get(layer, ()):
                    self.visit(site, todo[site])
                    edited.add(site)
            if last in streams and last not in found:
                found[last] = self.visit(Site(last - 1, "resid_post"))
            if end is not None:
                tracer.stop()
            logits = self.view.output.logits[:, -keep:].float().save()
        return Passed(logits, edited, found)

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

    def visit(self, site: Site, edit: Edit | None = None) -> Tensor:
        """Inside a trace: the tensor at a site, edited where `edit` makes another of it."""
        hook = self.sites.hook(site)
        envoy = self.envoy(hook.path)
        value = envoy.input if hook.side == "input" else envoy.output
        x: Tensor = value[0] if hook.wrapped else value
        new = edit(x) if edit else None
        if new is None or new is x:
            return x
        if hook.in_place:
            x.copy_(new)
        elif hook.side == "input":
            envoy.input = new
        else:
            envoy.output = (new, *value[1:]) if hook.wrapped else new
        return new

    def envoy(self, path: str) -> Any:
        """nnsight's view of the module at a path."""
        if path not in self._envoys:
            envoy: Any = self.view
            for part in path.split("."):
                envoy = envoy[int(part)] if part.isdigit() else getattr(envoy, part)
            self._envoys[path] = envoy
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


def _changed(x: Tensor, edit: Edit) -> Tensor:
    new = edit(x)
    return x if new is None else new
