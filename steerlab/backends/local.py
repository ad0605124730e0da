"""The local backend: a Hugging Face model in this process, read and steered through nnsight.

The decode loop is our own, one nnsight trace per forward pass with the key-value cache held here, so that streaming,
cancelling and per-row sampling are ours. A trace visits only the sites that a batch touches, in forward order.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import nnsight
import torch
from nnsight.intervention.tracer import InterleavingTracer
from torch import Tensor
from torch.nn.functional import pad
from transformers import (
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from steerlab import edits
from steerlab.backends.architectures import GivenSites, Hook, SiteMap, find_sites
from steerlab.backends.base import (
    Activations,
    Linearised,
    ModelInfo,
    OnTokens,
    Positions,
    Table,
    before_pass,
    encode_row,
    readers,
)
from steerlab.backends.decoding import Decoding, Forward, left_padded, token_index
from steerlab.errors import ModelError, SiteError
from steerlab.generations import Generation, Sampling
from steerlab.recipes import Recipe
from steerlab.rows import Plan, Row
from steerlab.sites import Site

T = TypeVar("T")
Inputs = dict[str, Any]
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


class LocalBackend:
    """A model in this process. batch_rows: the most rows that share a forward pass. sites: where points are that are
    not found by arithmetic (`architectures.GivenSites`).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str | None = None,
        batch_rows: int = 64,
        sites: GivenSites | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.batch_rows = batch_rows
        model.eval()
        self.given_sites = sites
        self._sites: SiteMap = find_sites(model, sites)
        # a copy of the tokenizer, because nnsight turns its padding round
        self.model = SharedModel(model, tokenizer=copy.deepcopy(tokenizer), task="text-generation")
        self._hf = model
        self._one_thread = model.device.type == "cpu" and model.num_parameters() < SMALL
        self._accepts = set(inspect.signature(model.forward).parameters)
        config = model.config.get_text_config()
        stop = model.generation_config.eos_token_id if model.generation_config else None
        stop = tokenizer.eos_token_id if stop is None else stop
        self.stop_tokens = {stop} if isinstance(stop, int) else set(stop or ())
        self.info = ModelInfo(
            name=name or Path(model.name_or_path).name or type(model).__name__,
            backend="local",
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            n_layers=self._sites.n_layers,
            d_model=config.hidden_size,
            points=self._sites.points,
            context=getattr(config, "max_position_embeddings", None) or 2**31,
        )

    # ------------------------------------------------------------------------------------------------ the three verbs

    def check(self, recipe: Recipe) -> None:
        """Raise the SteerlabError that running the recipe would raise: a site or a direction that does not fit."""
        self._plan([recipe])

    @torch.no_grad()
    def capture(
        self,
        rows: Sequence[Row],
        sites: Sequence[Site],
        positions: Positions,
        *,
        values: bool = False,
        continuations: Sequence[Sequence[int]] | None = None,
    ) -> Activations:
        """Read the residual stream at sites x positions of the rows' prompts, or of the continuations that follow them,
        after their recipes acted there.
        """
        for site in sites:
            self._sites.hook(site)
        tails = continuations or [()] * len(rows)
        encoded = [
            encode_row(self.tokenizer, row, self.info.context) + list(tail)
            for row, tail in zip(rows, tails, strict=True)
        ]
        order = sorted(set(sites))
        sums: dict[Site, Tensor] = {}
        norms: dict[Site, Tensor] = {}
        kept: Tensor | None = None
        # short and long prompts apart: less padding
        for batch in _chunks(
            sorted(range(len(rows)), key=lambda i: len(encoded[i])), min(self.batch_rows, 32)
        ):
            plan = self._plan([rows[i].recipe for i in batch])
            ids, mask = left_padded(self.tokenizer, [encoded[i] for i in batch])
            width = ids.shape[1]
            each = readers(
                self.tokenizer,
                [rows[i] for i in batch],
                [encoded[i] for i in batch],
                positions,
                continuations and [tails[i] for i in batch],
            )
            weight = torch.stack([pad(w, (width - w.shape[1], 0)) for w in each])
            if values and kept is None:
                kept = torch.empty(len(rows), len(order), weight.shape[1], self.info.d_model)
            operands = plan.operands(token_index(mask, [len(tails[i]) for i in batch]), self.device)
            read = self._read(self._inputs(ids, mask), operands, order, weight)
            for j, site in enumerate(order):
                x = read[site]
                sums[site] = sums.get(site, 0) + x.double().sum(0).cpu()
                norms[site] = norms.get(site, 0) + x.double().norm(dim=-1).sum(0).cpu()
                if kept is not None:
                    kept[batch, j] = x.cpu()
        pick = [order.index(site) for site in sites]
        return Activations(
            torch.stack([sums[s] for s in sites]) / len(rows),
            torch.stack([norms[s] for s in sites]) / len(rows),
            kept[:, pick] if kept is not None else None,
        )

    @torch.no_grad()
    def score(self, rows: Sequence[Row]) -> Tensor:
        """The logits at the last position of each row's prompt, `[rows vocab]`, float32."""
        encoded = [encode_row(self.tokenizer, row, self.info.context) for row in rows]
        out: list[Tensor] = [torch.empty(0)] * len(rows)
        for batch in _chunks(sorted(range(len(rows)), key=lambda i: len(encoded[i])), self.batch_rows):
            plan = self._plan([rows[i].recipe for i in batch])
            ids, mask = left_padded(self.tokenizer, [encoded[i] for i in batch])
            operands = plan.operands(token_index(mask), self.device)
            logits, _ = self._forward(self._inputs(ids, mask), operands)
            for i, row in zip(batch, logits[:, -1].cpu(), strict=True):
                out[i] = row
        return torch.stack(out)

    @torch.no_grad()
    def likelihood(self, rows: Sequence[Row], continuations: Sequence[Sequence[int]]) -> list[Tensor]:
        """The log-probability of every token of a continuation after its row's prompt: a tensor `[tokens]` a row."""
        prompts = [encode_row(self.tokenizer, row, self.info.context) for row in rows]
        encoded = [prompt + list(tail) for prompt, tail in zip(prompts, continuations, strict=True)]
        out: list[Tensor] = [torch.empty(0)] * len(rows)
        for batch in _chunks(
            sorted(range(len(rows)), key=lambda i: len(encoded[i])), min(self.batch_rows, 16)
        ):
            plan = self._plan([rows[i].recipe for i in batch])
            ids, mask = left_padded(self.tokenizer, [encoded[i] for i in batch])
            lengths = [len(continuations[i]) for i in batch]
            index = token_index(mask, lengths)
            keep = max(lengths) + 1
            inputs = self._inputs(ids, mask, keep=keep)
            logits, _ = self._forward(inputs, plan.operands(index, self.device), keep=keep)
            logprobs = logits[:, :-1].log_softmax(-1).cpu().gather(-1, ids[:, 1 - keep :, None])[..., 0]
            for i, row, length in zip(batch, logprobs, lengths, strict=True):
                out[i] = row[keep - 1 - length :]
        return out

    @torch.no_grad()
    def decode(self, resid: Tensor) -> Tensor:
        """What the final norm and the head make of a stream `[... d_model]`: logits `[... vocab]`, float32.

        A forward pass that skips every block, so that scaled and capped logits are those of the model itself.
        """
        x = resid.reshape(-1, 1, self.info.d_model).to(self.device, self._hf.dtype)
        hooks = [self._sites.hook(Site(i, "resid_post")) for i in range(self.info.n_layers)]
        ones = torch.ones(len(x), 1, dtype=torch.long)
        with self._turn(), self.model.trace(**self._inputs(0 * ones, ones)):
            for hook in hooks:
                self._envoy(hook.path).skip((x,) if hook.wrapped else x)
            logits = self.model.output.logits.float().save()
        return logits.cpu().reshape(*resid.shape[:-1], -1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        """Answer every row. `cancel`, once set, ends all of them within one token; what came so far is returned."""
        encoded = [encode_row(self.tokenizer, row, self.info.context) for row in rows]
        self._plan(
            [row.recipe for row in rows]
        )  # what does not fit is told before the first token of any batch
        out: list[Generation] = []
        for batch in _chunks(list(range(len(rows))), self.batch_rows):
            mine = [rows[i] for i in batch]
            plan = self._plan([row.recipe for row in mine])
            decoding = Decoding(self, mine, [encoded[i] for i in batch], plan, sampling, first_row=batch[0])
            out += decoding.run(self._cached_forward(), on_tokens, cancel)
        return out

    # ------------------------------------------------------------------------------- what only weights at hand allow

    @property
    def source(self) -> str:
        """The Hugging Face id or the folder (an absolute path) that the weights came from; empty where not known."""
        path: str = self._hf.name_or_path
        return str(Path(path).resolve()) if path and Path(path).is_dir() else path

    def hook(self, site: Site) -> Hook:
        """The module of the Hugging Face model, and the side of it, where a site is touched."""
        return self._sites.hook(site)

    @torch.no_grad()
    def token_rows(self, ids: Sequence[int], table: Table) -> Tensor:
        """The rows of some tokens in the embedding or the unembedding matrix, `[tokens d_model]`, float32."""
        embedding = table == "embedding"
        module = self._hf.get_input_embeddings() if embedding else self._hf.get_output_embeddings()
        if module is None:
            raise ModelError(f"{self.info.name} has no {table} matrix")
        weight: Tensor = module.weight
        return weight[torch.tensor(list(ids), device=weight.device)].float().cpu()

    def linearise(self, row: Row, source: Site, position: int, target: Site) -> Linearised:
        """How the stream at `target` and the last token depends on the stream at `source` and a position of a row's
        prompt (`base.InProcess.linearise`). The Jacobian's rows are found in batches: each row of a batch is the same
        prompt, and is asked for the gradient of another component.
        """
        if not source < target:
            raise SiteError(f"{target} does not come after {source}", "Read the earlier site first.")
        ids = torch.tensor([encode_row(self.tokenizer, row, self.info.context)])
        jacobian = []
        for some in torch.eye(self.info.d_model, device=self.device).split(min(self.batch_rows, 32)):
            batch = ids.expand(len(some), -1)
            start, end = self._differentiable(batch, source, position, target)
            jacobian += [torch.autograd.grad(end, start, some.to(end))[0].double().cpu()]
        at, value = (x[0].detach().double().cpu() for x in (start, end))
        return Linearised(at, value, torch.cat(jacobian))

    def _differentiable(
        self, ids: Tensor, source: Site, position: int, target: Site
    ) -> tuple[Tensor, Tensor]:
        """One forward pass up to `target`, differentiable from a position at `source` on: the states at both, each
        [rows d_model]."""
        seen: list[Tensor] = []

        def begin(x: Tensor) -> Tensor:
            x = x.detach().clone()
            seen.append(x[:, position].clone().requires_grad_())
            x[:, position] = seen[0]
            return x

        def finish(x: Tensor) -> None:
            seen.append(x[:, -1])

        inputs = self._inputs(ids, torch.ones_like(ids))
        with torch.enable_grad(), self._turn(), self.model.trace(**inputs) as tracer:
            self._visit(source, begin)
            self._visit(target, finish)
            tracer.stop()
        start, end = seen
        return start, end

    # --------------------------------------------------------------------------------------------- one forward pass

    @property
    def device(self) -> torch.device:
        """Where inputs go: the device of the model's first weights."""
        device: torch.device = self._hf.device
        return device

    def _plan(self, recipes: Sequence[Recipe]) -> Plan:
        info = self.info
        plan = Plan(recipes, n_layers=info.n_layers, d_model=info.d_model, model=info.name)
        for site in plan.sites:
            self._sites.hook(site)
        return plan

    def _inputs(
        self, ids: Tensor, mask: Tensor, cache: DynamicCache | None = None, *, keep: int = 1
    ) -> Inputs:
        """What the model's forward takes for the new tokens `ids` [rows new]; `mask` [rows pos] covers all so far."""
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :],
            "logits_to_keep": keep,
            "use_cache": cache is not None,
            "past_key_values": cache,
        }
        return {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
            if name in self._accepts and value is not None
        }

    def _cached_forward(self) -> Forward:
        """Forward passes that share a new key-value cache."""
        cache = DynamicCache(config=self._hf.config)
        return lambda ids, mask, operands: self._forward(self._inputs(ids, mask, cache), operands)

    def _forward(
        self, inputs: Inputs, operands: dict[Site, list[edits.Operand]], *, keep: int = 1
    ) -> tuple[Tensor, set[Site]]:
        """One steered forward pass: the logits of the last `keep` positions `[rows keep vocab]`, float32, and the
        sites where edits were made.
        """
        edited: set[Site] = set()
        with self._turn(), self.model.trace(**inputs):
            for site in sorted(operands):
                self._visit(site, _edit(operands[site]))
                edited.add(site)
            logits = self.model.output.logits[:, -keep:].float().save()
        return logits, edited

    def _read(
        self, inputs: Inputs, operands: dict[Site, list[edits.Operand]], sites: Sequence[Site], weight: Tensor
    ) -> dict[Site, Tensor]:
        """One steered forward pass up to the last of `sites`: the stream there through `weight` [rows positions
        tokens], as [rows positions d_model].
        """
        read: dict[Site, Tensor] = {}
        unread = (weight == 0).all(1)[..., None]
        last = max(sites)
        with self._turn(), self.model.trace(**inputs) as tracer:
            for site in sorted({*operands, *sites}):
                if site > last:
                    break
                x = self._visit(site, _edit(operands.get(site)))
                if site in sites:
                    # padding may hold NaN, and 0 times NaN is NaN
                    read[site] = weight.to(x.device) @ x.float().masked_fill(unread.to(x.device), 0)
            tracer.stop()
        return read

    @contextmanager
    def _turn(self) -> Iterator[None]:
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

    def _visit(self, site: Site, edit: Edit) -> Tensor:
        """Inside a trace: the tensor at a site, edited where `edit` makes another of it."""
        hook = self._sites.hook(site)
        envoy = self._envoy(hook.path)
        value = envoy.input if hook.side == "input" else envoy.output
        x: Tensor = value[0] if hook.wrapped else value
        new = edit(x)
        if new is None:
            return x
        if hook.in_place:
            x.copy_(new)
        elif hook.side == "input":
            envoy.input = new
        else:
            envoy.output = (new, *value[1:]) if hook.wrapped else new
        return new

    def _envoy(self, path: str) -> Any:
        envoy: Any = self.model
        for part in path.split("."):
            envoy = envoy[int(part)] if part.isdigit() else getattr(envoy, part)
        return envoy


def _edit(operands: list[edits.Operand] | None) -> Edit:
    """The edit that operands stand for."""

    def edit(x: Tensor) -> Tensor | None:
        return edits.apply(x, [operand.to(x.device) for operand in operands]) if operands else None

    return edit


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
