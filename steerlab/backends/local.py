"""The local backend: a Hugging Face model in this process, read and steered through nnsight.

The decode loop is our own, a forward pass for each token that nnsight's interleaver lets us visit (`tracing`), with the
key-value memory held here, so that streaming, cancelling and per-row sampling are ours, and so that nothing is computed
twice: see `lanes`.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from steerlab.backends.architectures import GivenSites, Hook
from steerlab.backends.base import (
    Activations,
    Linearised,
    ModelInfo,
    OnTokens,
    Table,
    continued,
    encode_row,
    encode_rows,
    in_order,
    readers,
    rows_done,
    wide,
)
from steerlab.backends.batch import Batch, WholeBatch, can_share
from steerlab.backends.budget import Budget
from steerlab.backends.cells import Look, looked
from steerlab.backends.decoding import Decoding, Passes, left_padded, token_index
from steerlab.backends.jacobians import linearised
from steerlab.backends.kv import TooManyRowsError, windowed
from steerlab.backends.lanes import Lane, Lanes, Wanted, last, told
from steerlab.backends.loading import quantised
from steerlab.backends.prefixes import Prefixes
from steerlab.backends.tables import by_cosine
from steerlab.backends.tracing import Edit, Inputs, TracedModel, editing
from steerlab.backends.visitor import SharedModel
from steerlab.errors import ModelError
from steerlab.generations import Generation, Sampling, Token
from steerlab.prompts import Positions
from steerlab.reach import Reach, reach
from steerlab.recipes import Recipe
from steerlab.rows import Row, check_fits
from steerlab.sites import Site

SHARED_ROWS, SHARED_PROMPT = 32, 4  # so many rows of one length, and of a prompt, are worth a trunk


class LocalBackend:
    """A model in this process.

    batch_rows: the most rows that share a forward pass; by default as many as the free memory allows, and never more
    than is of use. prefix_bytes: what may be kept of the prompts between calls (streams, keys and values of their
    baselines), by default a tenth of the free memory and a gigabyte at most; 0 keeps nothing. sites: where points are
    that are not found by arithmetic (`architectures.GivenSites`). revision: the commit that the weights are of.
    loaded: whether a lab loaded the weights from its `source` itself, and was not handed them.

    The weights may be changed while it holds them (`state.State.changed` says what is seen of that): the next verb
    forgets what it kept of the old ones. The model may be in training mode: passes of this backend run in eval mode,
    and it is put back after each.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str | None = None,
        revision: str | None = None,
        batch_rows: int | None = None,
        prefix_bytes: int | None = None,
        sites: GivenSites | None = None,
        loaded: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.given_sites, self.loaded, self.quantised = sites, loaded, quantised(model)
        self._traced = TracedModel(model, tokenizer, sites)
        self._sites = self._traced.sites
        self._hf = model
        config = model.config.get_text_config()
        self._stop: frozenset[int] | None = None  # a person's own
        self._stops = self._those_of_the_model()
        self.info = ModelInfo(
            name=name or name_of(model),
            backend="local",
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            n_layers=self._sites.n_layers,
            d_model=config.hidden_size,
            points=self._sites.points,
            context=self._traced.context,
            revision=revision,
        )
        self._budget = Budget(model, batch_rows)
        self._lanes = Lanes(
            self._traced,
            Prefixes(self._budget.prefixes() if prefix_bytes is None else prefix_bytes),
            self._budget,
            pad=tokenizer.pad_token_id or 0,
            d_model=self.info.d_model,
        )
        self._lanes.resumable = windowed(DynamicCache(config=model.config)) and self._lanes.agree()
        self._state, self._state_lock = 0, threading.Lock()
        self._states = {(0, self._stops): 0}

    @property
    def model(self) -> SharedModel:
        """nnsight's view of the model, for a person's own traces."""
        return self._traced.wrapped

    def weights_seen(self) -> int:
        """A number for the model's weights and the tokens that end an answer, 0 as they were at first; looks again, and
        where another state is found, forgets the prompts that were kept. Every verb that runs the model begins with it.
        """
        with self._state_lock:
            stops = self._those_of_the_model() if self._stop is None else self._stop
            state = self._states.setdefault((self._traced.state(), stops), len(self._states))
            if state != self._state:
                self._state, self._stops = state, stops
                self._lanes.prefixes.clear()
            return state

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The ids that end an answer: those of the model's generation config, until they are set here."""
        return self._stops if self._stop is None else self._stop

    @stop_tokens.setter
    def stop_tokens(self, ids: Iterable[int]) -> None:
        self._stop = frozenset(ids)

    def _those_of_the_model(self) -> frozenset[int]:
        settings = self._hf.generation_config
        stop = settings.eos_token_id if settings else None
        stop = self.tokenizer.eos_token_id if stop is None else stop
        return frozenset({stop} if isinstance(stop, int) else stop or ())

    # ------------------------------------------------------------------------------------------------ the three verbs

    def check(self, recipe: Recipe) -> None:
        """Raise the SteerlabError that running the recipe would raise: a site or a direction that does not fit."""
        info = self.info
        for step in recipe.interventions:
            for direction in step.involved:
                check_fits(direction, info.d_model, info.name)
            for site in step.resolve(info.n_layers):
                self._sites.hook(site)

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
        self.weights_seen()
        for site in sites:
            self._sites.hook(site)
        tails = continuations or [()] * len(rows)
        context = self.info.context
        encoded = continued(encode_rows(self.tokenizer, rows, context), tails, context)
        order = sorted(set(sites))
        sums: dict[Site, Tensor] = {}
        norms: dict[Site, Tensor] = {}
        kept: Tensor | None = None
        reaches = self._reaches(rows)

        def read(batch: list[int], part: slice) -> tuple[list[int], dict[Site, tuple[Tensor, Tensor]]]:
            some = batch[part]
            plan = self._lanes.plan([reaches[i] for i in some])
            ids, mask = left_padded(self.tokenizer, [encoded[i] for i in some])
            width = ids.shape[1]
            each = readers(
                self.tokenizer,
                [rows[i] for i in some],
                [encoded[i] for i in some],
                positions,
                continuations and [tails[i] for i in some],
            )
            weight = torch.stack([pad(w, (width - w.shape[1], 0)) for w in each])
            todo = editing(plan.operands(token_index(mask, [len(tails[i]) for i in some]), "cpu"))
            return some, self._read(self._whole(ids, mask), todo, order, weight)

        # short and long prompts apart: less padding
        for batch in self._budget.portions(sorted(range(len(rows)), key=lambda i: len(encoded[i]))):
            for some, found in self._budget.halving(len(batch), functools.partial(read, batch)):
                for j, site in enumerate(order):
                    x, lengths = found[site]
                    sums[site] = sums.get(site, 0) + wide(x).sum(0).cpu()
                    norms[site] = norms.get(site, 0) + wide(lengths).sum(0).cpu()
                    if values and kept is None:
                        kept = torch.empty(len(rows), len(order), *x.shape[1:])
                    if kept is not None:
                        kept[some, j] = x.cpu()
                rows_done.get()(len(some))
        self._budget.tell()
        pick = [order.index(site) for site in sites]
        return Activations(
            torch.stack([sums[s] for s in sites]) / len(rows),
            torch.stack([norms[s] for s in sites]) / len(rows),
            kept[:, pick] if kept is not None else None,
        )

    def _read(
        self, inputs: Inputs, todo: dict[Site, Edit], sites: Sequence[Site], weight: Tensor
    ) -> dict[Site, tuple[Tensor, Tensor]]:
        """One steered forward pass up to the last of `sites`: the stream there and its norms, through `weight` [rows
        positions tokens], as [rows positions d_model] and [rows positions].
        """
        read: dict[Site, tuple[Tensor, Tensor]] = {}
        # the first column that is read: positions are mostly near the end
        first = int((weight != 0).flatten(0, 1).any(0).nonzero()[0])
        weight = weight[..., first:]
        unread = (weight == 0).all(1)[..., None]
        single = bool(((weight == 1).sum(-1) == 1).all() and ((weight != 0).sum(-1) == 1).all())
        rows, tokens = torch.arange(len(weight))[:, None], weight.argmax(-1)

        def reader(site: Site) -> Edit:
            def keep(x: Tensor) -> None:
                if single:  # by number: in a product one infinite token would reach all positions
                    there = x[:, first:][rows.to(x.device), tokens.to(x.device)].float()
                    read[site] = there, there.norm(dim=-1)
                    return
                # padding may hold NaN, and 0 times NaN is NaN
                part = x[:, first:].float().masked_fill(unread.to(x.device), 0)
                there = weight.to(x.device)
                read[site] = there @ part, (there @ part.norm(dim=-1, keepdim=True))[..., 0]

            return keep

        last = max(sites)
        edits = [(site, edit) for site, edit in todo.items() if not last < site]
        visits = self._traced.visits([*edits, *((site, reader(site)) for site in sites)])
        self._traced.through(inputs, visits, stop=True)
        return read

    @torch.no_grad()
    def score(self, rows: Sequence[Row]) -> Tensor:
        """The logits at the last position of each row's prompt, `[rows vocab]`, float32."""
        self.weights_seen()
        encoded = encode_rows(self.tokenizer, rows, self.info.context)
        lanes = [self._lanes.lane(ids, r) for ids, r in zip(encoded, self._reaches(rows), strict=True)]
        return torch.stack(self._wanted(lanes, last))

    @torch.no_grad()
    def likelihood(self, rows: Sequence[Row], continuations: Sequence[Sequence[int]]) -> list[Tensor]:
        """The log-probability of every token of a continuation after its row's prompt: a tensor `[tokens]` a row."""
        self.weights_seen()
        context = self.info.context
        encoded = continued(encode_rows(self.tokenizer, rows, context), continuations, context)
        each = zip(encoded, self._reaches(rows), continuations, strict=True)
        return self._wanted([self._lanes.lane(ids, r, after=len(tail)) for ids, r, tail in each], told)

    def _wanted(self, lanes: Sequence[Lane], wanted: Wanted) -> list[Tensor]:
        """What is wanted of the last logits of lanes, equal lanes computed once."""
        first: dict[tuple[object, ...], int] = {}
        which = [first.setdefault((lane.ids, lane.after, lane.reach.key), len(first)) for lane in lanes]
        once = dict(zip(which, lanes, strict=True))
        found, equal = {}, Counter(which)
        for number, tensor in self._lanes.logits([once[i] for i in range(len(first))], wanted):
            found[number] = tensor
            rows_done.get()(equal[number])
        self._budget.tell()
        return [found[number] for number in which]

    @torch.no_grad()
    def decode(self, resid: Tensor) -> Tensor:
        """What the final norm and the head make of a stream `[... d_model]`: logits `[... vocab]`, float32.

        A forward pass that skips every block, so that scaled and capped logits are those of the model itself.
        """
        self.weights_seen()
        x = resid.reshape(-1, 1, self.info.d_model)
        parts: list[Tensor] = []
        done = 0
        while done < len(x) or not parts:
            size = min(len(x) - done, self._budget.cells())
            parts += self._budget.halving(size, functools.partial(self._decoded, x), done)
            done += size
        self._budget.tell()
        return torch.cat(parts).reshape(*resid.shape[:-1], parts[0].shape[-1])

    def _decoded(self, x: Tensor, rows: slice) -> Tensor:
        """What some rows of a stream [rows 1 d_model] decode to, [rows vocab]."""
        some = x[rows].to(self._traced.device, self._hf.dtype)
        skips = self._traced.skips(range(self.info.n_layers), some)
        inputs = self._traced.inputs(torch.zeros(len(some), 1, dtype=torch.long))
        logits: Tensor = self._traced.through(inputs, skips).logits[:, -1].float().cpu()
        return logits

    @torch.inference_mode()  # a tenth less time than without gradients alone, for a token of a small model
    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        """Answer every row, equal ones once. `cancel`, once set, ends all of them within one token; what came so far is
        returned.
        """
        self.weights_seen()
        if on_tokens:
            on_tokens = _outside(on_tokens)
        encoded = encode_rows(self.tokenizer, rows, self.info.context)
        # what does not fit is told here, before the first token of any batch
        together: dict[tuple[object, ...], list[int]] = {}
        lanes: list[Lane] = []
        for i, (row, ids, r) in enumerate(zip(rows, encoded, self._reaches(rows), strict=True)):
            lane = self._lanes.lane(ids, r)
            key = lane.ids, r.key, row.seed if sampling.temperature else 0
            if key not in together:
                lanes.append(lane)
            together.setdefault(key, []).append(i)
        numbers = list(together.values())
        answers: dict[int, Generation] = {}
        for order, begins in self._queues(lanes):
            while order:
                new = min(sampling.max_new_tokens, self.info.context - min(len(lanes[i].ids) for i in order))
                size = self._fitting([lanes[i] for i in order], new, shared=begins is not None)
                some, order = order[:size], order[size:]
                decoding = Decoding(
                    self,
                    [[(number, rows[number]) for number in numbers[i]] for i in some],
                    [lanes[i].ids for i in some],
                    sampling,
                )
                passes = self._passes(
                    [lanes[i] for i in some], new, [begins[i] for i in some] if begins else None
                )
                try:
                    answers |= decoding.run(passes, on_tokens, cancel)
                except TooManyRowsError:  # before the first token
                    del passes  # what of it was there makes room
                    self._budget.did_not_fit(len(some))
                    order = some + order
        self._budget.tell()
        return [answers[i] for i in range(len(rows))]

    def _passes(self, batch: Sequence[Lane], new: int, begins: Sequence[int] | None) -> Passes:
        """The passes of lanes that are generated together."""
        if self._lanes.resumable:
            return Batch(self._lanes, batch, new, begins)
        return WholeBatch(self._lanes, batch, self.tokenizer)

    @functools.cached_property
    def _growable(self) -> bool:
        return can_share(self._lanes)

    def _queues(self, lanes: Sequence[Lane]) -> Iterator[tuple[list[int], dict[int, int] | None]]:
        """The lanes in the order in which they are generated, in queues of which none shares a batch with another; and
        the blocks where they begin, where enough of them share prompts of a length (`trunks`).
        """
        by_length: dict[int, list[int]] = {}
        for i, lane in enumerate(lanes):
            by_length.setdefault(len(lane.ids), []).append(i)
        rest: list[int] = []
        for mine in by_length.values():
            prompts = {lanes[i].ids for i in mine}
            if len(mine) >= SHARED_ROWS and len(mine) >= SHARED_PROMPT * len(prompts) and self._growable:
                begins = {i: self._lanes.begin(lanes[i]) for i in mine}
                yield sorted(mine, key=lambda i: (begins[i], lanes[i].place)), begins
            else:
                rest += mine
        yield sorted(rest, key=lambda i: lanes[i].place), None

    def _fitting(self, lanes: Sequence[Lane], new: int, *, shared: bool) -> int:
        """How many of the first lanes are generated together, with `new` tokens each."""
        widest = 0
        for size, lane in enumerate(lanes):
            widest = max(widest, len(lane.ids))
            if size and self._budget.rows(widest + new, 1, shared=shared) <= size:
                return size
        return len(lanes)

    # ------------------------------------------------------------------------------------------- tokens and gradients

    @torch.no_grad()
    def look(self, asked: Sequence[Look]) -> list[list[Tensor]]:
        """What functions of `looks` make of cells: of each, its tensors `[sites positions ...]`."""
        return looked(self, asked)

    @torch.no_grad()
    def token_rows(self, ids: Sequence[int], table: Table) -> Tensor:
        """The rows of some tokens in the embedding or the unembedding matrix, `[tokens d_model]`, float32."""
        matrix = self._matrix(table)
        return matrix[torch.tensor(list(ids), device=matrix.device)].float().cpu()

    def nearest(self, vector: Tensor, table: Table, k: int) -> tuple[Tensor, Tensor]:
        """The k tokens whose rows of a matrix lie nearest to a vector [d_model], and those nearest to its opposite:
        their cosines and their ids, each `[2 k]`.
        """
        return by_cosine(self._matrix(table)[: len(self.tokenizer)], vector, k)

    def _matrix(self, table: Table) -> Tensor:
        """A row for every token, as the model keeps it. Raises ModelError where it has none, or has it quantised."""
        embedding = table == "embedding"
        module = self._hf.get_input_embeddings() if embedding else self._hf.get_output_embeddings()
        if module is None:
            raise ModelError(f"{self.info.name} has no {table} matrix")
        weight: Tensor = module.weight
        if not weight.is_floating_point():
            raise ModelError(
                f"the {table} matrix of {self.info.name} is quantised: its rows are not at hand",
                "Load the model without quantising that matrix.",
            )
        if weight.shape[-1] != self.info.d_model:
            raise ModelError(
                f"the {table} matrix of {self.info.name} has rows of {weight.shape[-1]} numbers, and the stream has "
                f"{self.info.d_model}: they cannot be compared",
                'For the tokens nearest to a direction give by="head", which decodes it as the model does.',
            )
        return weight

    def linearise(self, row: Row, source: Site, position: int, target: Site) -> Linearised:
        """How the stream at `target` and the last token depends on the stream at `source` and a position of a row's
        prompt (`base.Backend.linearise`).
        """
        self.weights_seen()
        in_order(source, target)
        ids = torch.tensor([encode_row(self.tokenizer, row, self.info.context)])
        found = linearised(self._traced, self._budget, ids, source, position, target, self.info.d_model)
        self._budget.tell()
        return found

    # ------------------------------------------------------------------------------- what only weights at hand allow

    @property
    def source(self) -> str:
        """The Hugging Face id or the folder (an absolute path) that the weights came from; empty where not known."""
        path: str = self._hf.name_or_path
        return str(Path(path).resolve()) if path and Path(path).is_dir() else path

    def hook(self, site: Site) -> Hook:
        """The module of the Hugging Face model, and the side of it, where a site is touched."""
        return self._sites.hook(site)

    # -------------------------------------------------------------------------------------------------- from rows to it

    def _reaches(self, rows: Sequence[Row]) -> list[Reach]:
        """What the rows' recipes come down to. Raises the SteerlabError of one that does not fit the model."""
        recipes = {id(row.recipe): row.recipe for row in rows}
        # what a fold leaves along a direction is rounding in float32; who takes float64 wants less than that
        fold = self._hf.dtype == torch.float32 and self._sites.closed
        found = {}
        for i, recipe in recipes.items():
            self.check(recipe)
            found[i] = reach(recipe, self.info.n_layers, fold=fold)
        return [found[id(row.recipe)] for row in rows]

    def _whole(self, ids: Tensor, mask: Tensor) -> Inputs:
        """The inputs of a pass over left-padded prompts from their beginning."""
        if mask.all():
            return self._traced.inputs(ids)
        return self._traced.inputs(ids, mask, (mask.cumsum(-1) - 1).clamp_min(0))


def name_of(model: PreTrainedModel) -> str:
    """A model's id on the hub, or the name of the folder that it came from; its type, where it came from neither."""
    given: str = model.name_or_path
    folder = Path(given)
    if given and folder.is_dir():
        return folder.resolve().name
    # a folder that is no longer there
    path = folder.is_absolute() or given.startswith((".", "~")) or given.count("/") > 1
    return (folder.name if path else given) or type(model).__name__


def _outside(on_tokens: OnTokens) -> OnTokens:
    """A person's callback, out of inference mode: what it makes may be used like any tensor."""

    def tell(tokens: Sequence[Token]) -> None:
        with torch.inference_mode(False), torch.no_grad():
            on_tokens(tokens)

    return tell
