"""A batch of lanes that are generated together on a local model: one memory, from which lanes leave when they end."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from steerlab.backends.architectures import PROBE
from steerlab.backends.decoding import left_padded, token_index
from steerlab.backends.kv import Memory
from steerlab.backends.lanes import Lane, Lanes, Ran, last
from steerlab.backends.prefixes import Prefix, fill
from steerlab.backends.tracing import Edit, editing
from steerlab.backends.trunks import Layout, Trunks
from steerlab.backends.visitor import Visits
from steerlab.edits import Operand
from steerlab.reach import reach
from steerlab.recipes import BASELINE
from steerlab.sites import Site

ENOUGH = (
    0.25  # of the rows have to have ended before the others move together: moving costs a copy of the memory
)


class Batch:
    """The passes of lanes that come to at most `new` tokens each.

    begins: the block where each lane leaves the trunk of its text (`trunks`), ascending, for prompts of one length;
    without it every lane goes through all of the blocks by itself.
    """

    def __init__(
        self, lanes: Lanes, batch: Sequence[Lane], new: int, begins: Sequence[int] | None = None
    ) -> None:
        self._lanes, self._batch = lanes, list(batch)
        self._width = max(len(lane.ids) for lane in batch)
        self._shared = begins is not None
        self._trunks = Trunks(begins or [0] * len(batch), [lane.ids for lane in batch], lanes.n_layers)
        # the last token is never read
        self._memory = Memory(lanes.n_layers, len(batch), self._width + new - 1, self._trunks.room)
        self._there = list(range(len(batch)))  # the lane in each row of the memory
        self._past = self._width
        before = self._width - torch.tensor([len(lane.ids) for lane in batch])[:, None]
        self._before: Tensor | None = before if before.any() else None
        self._columns = torch.arange(self._memory.columns)[None]
        self._needed = [lane.reach.sites(generated=True) for lane in batch]
        self._operands: dict[Site, list[Operand]] = {}
        self._touching = self._rows_by_site()
        self._ready: dict[tuple[int, int], tuple[Layout, Visits, list[bool]]] = {}

    def prompt(self) -> tuple[Tensor, list[bool]]:
        """The pass over the prompts: the baseline's first, then every lane from where it differs."""
        known = self._lanes.prepare(self._batch, memory=True)
        parts: list[Ran] = []
        at = 0
        while at < len(self._batch):
            mine = self._of_a_kind(at)
            if self._lanes.is_known(mine[0]):
                parts.append(Ran(self._baselines([known[lane.ids] for lane in mine], at), [True] * len(mine)))
            else:
                run = functools.partial(
                    self._lanes.run,
                    mine,
                    self._lanes.plan([lane.reach for lane in mine]),
                    known=known,
                    memory=self._memory,
                    at=at,
                    end=self._width,
                    begin=self._trunks.begins[at],
                )
                parts += self._lanes.budget.halving(len(mine), run)
            at += len(mine)
        for row, carried in enumerate(self._trunks.carried, start=-len(self._trunks.carried)):
            prefix = known[self._batch[carried[0]].ids]
            for layer in range(self._trunks.top(carried)):
                fill(self._memory, [prefix], slice(row, row + 1), self._width, layer, [self._width])
        self._operands = self._lanes.plan([lane.reach for lane in self._batch]).operands(
            torch.zeros(1, 1, dtype=torch.long), "cpu"
        )
        self._lanes.prefixes.settle()
        return _joined(parts)

    def _of_a_kind(self, at: int) -> list[Lane]:
        """The lanes from one on that are run together."""
        begins, first = self._trunks.begins, self._batch[at]
        same = [
            lane
            for lane, begin in zip(self._batch[at:], begins[at:], strict=True)
            if lane.kind == first.kind and begin == begins[at]
        ]
        return same[: self._lanes.fitting(same)]

    def _baselines(self, prefixes: list[Prefix], at: int) -> Tensor:
        """Lanes whose prompt is not steered: all is known."""
        for layer in range(self._trunks.begins[at], self._lanes.n_layers):
            lengths = [len(prefix.ids) for prefix in prefixes]
            fill(self._memory, prefixes, slice(at, at + len(prefixes)), self._width, layer, lengths)
        return torch.stack([prefix.logits for prefix in prefixes if prefix.logits is not None])[:, None]

    def next(self, ids: Sequence[int], lanes: Sequence[int]) -> tuple[Tensor, list[bool]]:
        """The pass over one new token of some lanes."""
        if len(lanes) <= (1 - ENOUGH) * len(self._there):
            self._leave(lanes)
        rows = {lane: row for row, lane in enumerate(self._there)}
        at = [rows[lane] for lane in lanes]
        known = dict(zip(at, ids, strict=True))
        self._part(known)
        for carried in self._trunks.carried:  # rows that have ended go along
            known |= dict.fromkeys(carried, next((known[row] for row in carried if row in known), 0))
        tokens = torch.tensor([[known.get(row, 0)] for row in range(len(self._there))])
        logits, done = _joined(
            self._lanes.budget.halving(len(self._there), lambda some: self._pass(tokens, some))
        )
        self._past += 1
        return (logits, done) if len(at) == len(done) else (logits[at], [done[row] for row in at])

    def _pass(self, tokens: Tensor, rows: slice) -> Ran:
        model, there = self._lanes.model, self._there[rows]
        key = rows.start, rows.stop
        if key not in self._ready:
            layout = self._trunks.layout(rows)
            edits = self._edits(layout, rows)
            done = [self._needed[lane] <= edits.keys() for lane in there]
            self._ready[key] = layout, model.visits(edits.items()), done
        layout, visits, done = self._ready[key]
        # blocks with fewer or more rows take one row of positions for all of them
        mask, positions = None, torch.full((1 if self._shared else len(there), 1), self._past)
        if self._before is not None:
            before = self._before[rows]
            mask, positions = (self._columns[:, : self._past + 1] >= before).long(), positions - before
        if self._past >= model.context:  # rows that have ended go along until they leave
            positions = positions.clamp_max(model.context - 1)
        cache = self._memory.window(layout.rows, 0, self._past)
        out = model.through(model.inputs(tokens[layout.heads], mask, positions, cache), visits)
        return Ran(out.logits[:, -1:].float(), done)

    def _edits(self, layout: Layout, rows: slice) -> dict[Site, Edit]:
        """What is done in a pass over some rows: at each site to the rows that touch it, and before that, between
        blocks, to let rows leave their trunk.
        """
        found: dict[Site, Edit] = {}
        for site, operands in self._operands.items():
            block = site.layer + (site.point == "resid_post")
            touching = [
                row
                for row in self._touching.get(site, ())
                if rows.start <= row < rows.start + layout.branches[block]
            ]
            if touching:
                some = slice(touching[0], touching[-1] + 1)
                whole = some == slice(0, len(self._there))
                edit = editing({site: operands if whole else [o.of(some) for o in operands]})[site]
                first = layout.trunks[block] + some.start - rows.start
                size = layout.trunks[block] + layout.branches[block]
                if (first, first + len(range(some.start, some.stop))) != (0, size):
                    edit = _within(edit, slice(first, first + some.stop - some.start))
                found[site] = edit
        for block, index in layout.grown.items():
            site = Site(block - 1, "resid_post")
            found[site] = _grown(index, found.get(site))
        return found

    def _rows_by_site(self) -> dict[Site, list[int]]:
        """The rows that touch each site, ascending."""
        found: dict[Site, list[int]] = {}
        for row, lane in enumerate(self._there):
            for site in self._needed[lane]:
                found.setdefault(site, []).append(row)
        return found

    def _part(self, tokens: dict[int, int]) -> None:
        """Trunks whose rows go on with different tokens are split."""
        n = len(self._trunks.carried)
        was = self._trunks.part(tokens)
        if was is not None:
            with self._lanes.model.turn():  # by one thread, where the model is small
                self._memory.arrange(self._carried(was, n), self._past)
            self._ready.clear()

    def _leave(self, lanes: Sequence[int]) -> None:
        """Only these lanes go on."""
        going = set(lanes)
        rows = [row for row, lane in enumerate(self._there) if lane in going]
        index = torch.tensor(rows)
        n = len(self._trunks.carried)
        carried = self._carried(self._trunks.keep(rows), n)
        begun = [self._trunks.begun(block) for block in range(self._lanes.n_layers)]
        self._memory.keep(
            [[*some, *rows[:count]] for some, count in zip(carried, begun, strict=True)], self._trunks.room
        )
        self._there = [self._there[row] for row in rows]
        self._operands = {site: [o.of(index) for o in ops] for site, ops in self._operands.items()}
        self._touching = self._rows_by_site()
        self._ready.clear()
        if self._before is not None:
            self._before = self._before[index]

    def _carried(self, was: Sequence[int], n: int) -> list[list[int]]:
        """By block, the memory's rows of the trunks that go through it, when there were `n`."""
        return [
            [i - n for i in was[len(was) - self._trunks.through(block) :]]
            for block in range(self._lanes.n_layers)
        ]


def _number(numbered: tuple[int, Tensor]) -> int:
    return numbered[0]


def _within(edit: Edit, rows: slice) -> Edit:
    """An edit of some of the rows, in place."""

    def apply(x: Tensor) -> Tensor:
        edit(x[rows])
        return x

    return apply


def _grown(index: Tensor, edit: Edit | None) -> Edit:
    """Other rows in the place of those that come, and then an edit."""

    def apply(x: Tensor) -> Tensor | None:
        x = x.index_select(0, index.to(x.device))
        return edit(x) if edit else x

    return apply


@torch.no_grad()
def can_share(lanes: Lanes) -> bool:
    """Whether a model's blocks take other rows than those that entered the first, which is seen by trying."""
    hf, n = lanes.model.hf, lanes.n_layers
    posts = [lanes.model.sites.hook(Site(layer, "resid_post")) for layer in range(n)]
    layers = DynamicCache(config=hf.config).layers
    if (
        not lanes.resumable
        or any(hook.in_place for hook in posts)
        or any(type(x) is not DynamicLayer for x in layers)
    ):
        return False
    one = tuple(i % hf.config.get_text_config().vocab_size for i in PROBE)
    none, other = reach(BASELINE, n), one[::-1]
    batch = [lanes.lane(ids, none) for ids in (one, other, one, one, other)]
    later = [*[one[0]] * 4, one[1]]
    try:
        passes = Batch(lanes, batch, 2, [0, *[n // 2] * 3, n])
        passes.prompt()
        found = passes.next(later, range(5))[0].float().cpu()
        longer = [
            Lane((*lane.ids, token), none, 0, 0, len(lane.ids) + 1)
            for lane, token in zip(batch, later, strict=True)
        ]
        wanted = torch.stack([logits for _, logits in sorted(lanes.logits(longer, last), key=_number)])
    except Exception:  # inputs that this model's code does not take, whatever error it makes of it
        return False
    return bool((found - wanted).norm() < 0.05 * wanted.norm())


class WholeBatch:
    """The same for a model whose passes cannot be resumed: every lane goes through every pass, with a cache of the
    kind that the model makes itself.
    """

    def __init__(self, lanes: Lanes, batch: Sequence[Lane], tokenizer: PreTrainedTokenizerBase) -> None:
        self._model, self._batch = lanes.model, batch
        self._plan = lanes.plan([lane.reach for lane in batch])
        self._cache: Cache | None = None
        self._ids, self._mask = left_padded(tokenizer, [list(lane.ids) for lane in batch])
        self._later = editing(self._plan.operands(torch.zeros(1, 1, dtype=torch.long), "cpu"))

    def prompt(self) -> tuple[Tensor, list[bool]]:
        """The pass over the prompts."""
        edits = editing(self._plan.operands(token_index(self._mask), "cpu"))
        return self._pass(self._ids, edits, range(len(self._batch)), generated=False)

    def next(self, ids: Sequence[int], lanes: Sequence[int]) -> tuple[Tensor, list[bool]]:
        """The pass over one new token of some lanes."""
        tokens = torch.zeros(len(self._batch), 1, dtype=torch.long)
        tokens[list(lanes), 0] = torch.tensor(list(ids))
        self._mask = torch.cat([self._mask, torch.ones_like(tokens)], 1)
        return self._pass(tokens, self._later, lanes, generated=True)

    def _pass(
        self, ids: Tensor, edits: dict[Site, Edit], lanes: Sequence[int], *, generated: bool
    ) -> tuple[Tensor, list[bool]]:
        # rows that have ended go along: theirs may be behind the last position there is
        last = self._model.context - 1
        positions = (self._mask.cumsum(-1) - 1).clamp(0, last)[:, -ids.shape[1] :]
        inputs = self._model.inputs(ids, self._mask, positions, self._cache, remember=True)
        passed = self._model.run(inputs, edits)
        assert passed.logits is not None
        self._cache = passed.memory
        done = [self._batch[lane].reach.sites(generated=generated) <= passed.edited for lane in lanes]
        return passed.logits[list(lanes), -1], done


def _joined(parts: Sequence[Ran]) -> tuple[Tensor, list[bool]]:
    logits = [part.logits[:, -1] for part in parts]
    device = logits[-1].device
    whole = torch.cat([one.to(device) for one in logits]) if len(logits) > 1 else logits[0]
    return whole, [done for part in parts for done in part.done]
