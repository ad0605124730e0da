"""Forward passes of a Hugging Face model through nnsight: edited and read at sites, begun and ended at any block.

A pass visits only the sites that it is told of, in forward order, and waits its turn: a person's own traces and ours
share the model, one forward pass each. What a person writes in a trace is a block of code that nnsight runs beside the
model; ours is a list of functions, which nnsight's interleaver calls at the modules: a token needs no block of its own,
and modules that no pass has visited are as they were.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from nnsight.intervention.util import first_input, replace_first_input
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from steerlab import edits
from steerlab.backends.architectures import GivenSites, Hook, SiteMap, find_sites, taken
from steerlab.backends.base import before_pass
from steerlab.backends.state import State
from steerlab.backends.visitor import Act, Alone, SharedModel, Visitor, Visits, forward_lock
from steerlab.errors import ModelError
from steerlab.sites import Site

Inputs = dict[str, Any]
# What is done to the tensor at a site: the same tensor, changed in place, or another; None to leave it.
Edit = Callable[[Tensor], Tensor | None]

SMALL = 10_000_000  # parameters, below which one thread is faster than several that wait for each other


class Passed(NamedTuple):
    """What a forward pass gave. logits: of the last positions [rows keep vocab], float32, None for a pass that was
    ended early. edited: the sites where something was done. streams: the inputs of the blocks that were asked for, by
    layer [rows pos d_model]; the layer after the last block stands for its output. memory: the keys and values, where
    the pass kept them.
    """

    logits: Tensor | None
    edited: set[Site]
    streams: dict[int, Tensor]
    memory: Cache | None = None


class TracedModel:
    """A model behind nnsight. `hf` is the model itself."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sites: GivenSites | None = None
    ) -> None:
        with forward_lock, evaluating(model):
            self.sites: SiteMap = find_sites(model, sites)
        self.hf = model
        self.n_layers = self.sites.n_layers
        self._tokenizer = tokenizer
        self._one_thread = model.device.type == "cpu" and model.num_parameters() < SMALL
        self._accepts = taken(model.forward, model.config)
        # its name in transformers from 5.24 on, and before
        self._memory = "cache" if "cache" in self._accepts else "past_key_values"
        if self._memory not in self._accepts:
            raise ModelError(
                f"{type(model).__name__} takes no keys and values of earlier tokens: {sorted(self._accepts)}",
                "Models are steered through Hugging Face's decoders, whose forward takes a cache.",
            )
        self._visitor = Visitor()
        self._seen: dict[str, Alone] = {}
        self._state, self._number = State(), 0
        self._training = False
        self._passing = False
        self.state()

    @functools.cached_property
    def wrapped(self) -> SharedModel:
        """nnsight's view of the whole model, a person's own."""
        with forward_lock:
            # a copy of the tokenizer, because nnsight turns its padding round
            return SharedModel(self.hf, tokenizer=copy.deepcopy(self._tokenizer), task="text-generation")

    @property
    def context(self) -> int:
        """How many tokens the model has positions for."""
        return getattr(self.hf.config.get_text_config(), "max_position_embeddings", None) or 2**31

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
        remember: bool = False,
        keep: int = 1,
    ) -> Inputs:
        """What the model's forward takes for new tokens `ids` [rows new].

        mask: [rows pos] over all tokens so far, 0 for padding on the left; None where there is none. positions: of the
        new tokens [rows new]; None where they are the first ones and nothing is padded. remember: whether the model
        makes a cache of its own kind, where none is given (`Passed.memory`).
        """
        given = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": positions,
            "logits_to_keep": keep,
            "use_cache": remember or cache is not None,
            self._memory: cache,
        }
        device = self.device
        return {
            name: value.to(device) if isinstance(value, Tensor) else value
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
        tail: int | None = None,
    ) -> Passed:
        """One forward pass.

        begin: a layer and the stream [rows pos d_model] that enters its block: the blocks below are left out, and
        `todo` names no site below but `resid_post` of the block just below. The stream may be changed in place.
        end: the layer before whose block the pass stops. streams: the layers whose block's input is wanted.
        tail: of how many of the last positions the last block's output is of use; by default of all. Its MLP computes
        no others.
        """
        found: dict[int, Tensor] = {}
        first, start = begin or (0, None)
        edits = dict(todo)
        skips: Visits = {}
        if start is not None:
            below = edits.pop(Site(first - 1, "resid_post"), None)
            start = start if below is None else _changed(start, below)
            skips = self.skips(range(first), start)
            if first in streams:
                found[first] = start
        read = [(self._entry(layer), _keeping(found, layer)) for layer in streams if layer not in found]
        visits: Visits = {**skips, **self.visits([*read, *edits.items()])}
        whole = end is None and first < self.n_layers
        if whole and tail is not None and tail < inputs["input_ids"].shape[1]:
            visits = self._narrowed(visits, tail)
        out = self.through(inputs, visits, stop=end is not None)
        logits = None if out is None else out.logits[:, -keep:].float()
        return Passed(logits, set(todo), found, None if out is None else out.get(self._memory))

    def through(self, inputs: Inputs, visits: Visits, *, stop: bool = False) -> Any:
        """One forward pass with visits. Returns what the model does, or None where it was stopped after the last of
        them.
        """
        with self.turn(), self._others_rest(), self._visitor.on(visits, stop=stop):
            return self.hf(**inputs)

    def visits(self, edits: Iterable[tuple[Site, Edit]]) -> Visits:
        """What edits come to; several at one site are done in the order given."""
        found: dict[str, list[Act]] = {}
        for site, edit in edits:
            hook = self.sites.hook(site)
            found.setdefault(f"{self._path(hook)}.{hook.side}", []).append(_acting(hook, edit))
        return found

    def skips(self, layers: Iterable[int], stream: Tensor) -> Visits:
        """What leaves blocks out: the output of each is a stream [rows pos d_model]."""
        hooks = [self.sites.hook(Site(layer, "resid_post")) for layer in layers]
        return {f"{self._path(hook)}.skip": [_leaving(hook, stream)] for hook in hooks}

    def _narrowed(self, visits: Visits, tail: int) -> Visits:
        """Visits, and those that have the MLP of the last block run over the last `tail` tokens alone. What it would
        add to the others is read by nobody: their keys and values come before it.
        """
        if "mlp_out" not in self.sites.points:
            return visits
        hook = self.sites.hook(Site(self.n_layers - 1, "mlp_out"))
        if hook.side != "output":
            return visits
        missing = 0

        def cut(value: Any) -> Any:
            nonlocal missing
            x: Tensor = first_input(*value)
            if x.dim() != 3:  # some models put the rows' tokens in one line
                return value
            missing = max(0, x.shape[1] - tail)
            return replace_first_input(*value, x[:, missing:].contiguous())

        def widen(value: Any) -> Any:
            x: Tensor = value[0] if hook.wrapped else value
            whole = torch.nn.functional.pad(x, (0, 0, missing, 0))
            return (whole, *value[1:]) if hook.wrapped else whole

        begin, finish = f"{self._path(hook)}.input", f"{self._path(hook)}.output"
        return {**visits, begin: [*visits.get(begin, ()), cut], finish: [widen, *visits.get(finish, ())]}

    def state(self) -> int:
        """The number of the state that the model is in (`state.State`)."""
        parts = list(self.hf.modules())
        if not self._passing:  # a pass has set it aside
            self._training = any(part.training for part in parts)
        before, self._number = self._number, self._state.number(parts)
        if (
            before != self._number
        ):  # where modules were put in the place of others, nnsight is to look at these
            there = set(parts)
            self._seen = {path: seen for path, seen in self._seen.items() if seen._module in there}
        return self._number

    def _path(self, hook: Hook) -> str:
        """The path of a module that nnsight looks at from now on."""
        if hook.path not in self._seen:
            with forward_lock:
                module = self.hf.get_submodule(hook.path)
                self._seen[hook.path] = Alone(module, path=hook.path, interleaver=self._visitor)
        return hook.path

    def _entry(self, layer: int) -> Site:
        """Where a block's input is; after the last block, its output."""
        return Site(layer, "resid_pre") if layer < self.n_layers else Site(layer - 1, "resid_post")

    @contextmanager
    def _others_rest(self) -> Iterator[None]:
        """A person's own trace, inside whose block a verb was called, sees nothing of our pass."""
        theirs = self.__dict__["wrapped"].interleaver if "wrapped" in self.__dict__ else None
        if theirs is None or not theirs.interleaving:
            yield
            return
        theirs.interleaving = False
        try:
            yield
        finally:
            theirs.interleaving = True

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One forward pass of ours: no other one of ours runs, and a small model keeps to one thread meanwhile. All of
        the model is in eval mode for the pass, and then again as it was. So a person's own forward pass at that very
        moment is in eval mode too, and a `model.eval()` is lost: train while the panel rests.

        On a machine that is busy otherwise, two threads made a token of the embedded model ten times dearer than one.
        """
        before_pass.get()()
        with forward_lock:
            threads = torch.get_num_threads()
            if self._one_thread:
                torch.set_num_threads(1)
            self._passing = True
            try:
                # a look at every module would be dear for a token
                with evaluating(self.hf) if self.hf.training or self._training else nullcontext():
                    yield
            finally:
                self._passing = False
                torch.set_num_threads(threads)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """All of a model in eval mode, and then again as it was."""
    training = [part for part in model.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


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


def _acting(hook: Hook, edit: Edit) -> Act:
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

    return act


def _leaving(hook: Hook, stream: Tensor) -> Act:
    return lambda _: (stream,) if hook.wrapped else stream


def _keeping(found: dict[int, Tensor], layer: int) -> Edit:
    def keep(x: Tensor) -> None:
        found[layer] = x

    return keep


def _changed(x: Tensor, edit: Edit) -> Tensor:
    new = edit(x)
    return x if new is None else new
