"""A batch of lanes that are generated together on a local model: one memory, from which lanes leave when they end."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from steerlab.backends.decoding import left_padded, token_index
from steerlab.backends.kv import Memory
from steerlab.backends.lanes import Lane, Lanes, Ran
from steerlab.backends.prefixes import Prefix, fill
from steerlab.backends.tracing import Edit, editing
from steerlab.edits import Operand
from steerlab.sites import Site

ENOUGH = (
    0.25  # of the rows have to have ended before the others move together: moving costs a copy of the memory
)


class Batch:
    """The passes of lanes, sorted by `Lane.place`, that come to at most `new` tokens each."""

    def __init__(self, lanes: Lanes, batch: Sequence[Lane], new: int) -> None:
        self._lanes, self._batch = lanes, list(batch)
        self._width = max(len(lane.ids) for lane in batch)
        # the last token is never read
        self._memory = Memory(lanes.n_layers, len(batch), self._width + new - 1)
        self._there = list(range(len(batch)))  # the lane in each row of the memory
        self._past = self._width
        before = self._width - torch.tensor([len(lane.ids) for lane in batch])[:, None]
        self._before: Tensor | None = before if before.any() else None
        self._columns = torch.arange(self._memory.columns)[None]
        self._needed = [lane.reach.sites(generated=True) for lane in batch]
        self._operands: dict[Site, list[Operand]] = {}
        self._edits: dict[tuple[int, int], dict[Site, Edit]] = {}

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
                )
                parts += self._lanes.budget.halving(len(mine), run)
            at += len(mine)
        self._operands = self._lanes.plan([lane.reach for lane in self._batch]).operands(
            torch.zeros(1, 1, dtype=torch.long), "cpu"
        )
        self._lanes.prefixes.settle()
        return _joined(parts)

    def _of_a_kind(self, at: int) -> list[Lane]:
        """The lanes from one on that are run together."""
        same = [lane for lane in self._batch[at:] if lane.kind == self._batch[at].kind]
        return same[: self._lanes.fitting(same)]

    def _baselines(self, prefixes: list[Prefix], at: int) -> Tensor:
        """Lanes whose prompt is not steered: all is known."""
        for layer in range(self._lanes.n_layers):
            lengths = [len(prefix.ids) for prefix in prefixes]
            fill(self._memory, prefixes, slice(at, at + len(prefixes)), self._width, layer, lengths)
        return torch.stack([prefix.logits for prefix in prefixes if prefix.logits is not None])[:, None]

    def next(self, ids: Sequence[int], lanes: Sequence[int]) -> tuple[Tensor, list[bool]]:
        """The pass over one new token of some lanes."""
        if len(lanes) <= (1 - ENOUGH) * len(self._there):
            self._leave(lanes)
        rows = {lane: row for row, lane in enumerate(self._there)}
        at = [rows[lane] for lane in lanes]
        tokens = torch.zeros(len(self._there), 1, dtype=torch.long)
        tokens[at, 0] = torch.tensor(list(ids))
        logits, done = _joined(
            self._lanes.budget.halving(len(self._there), lambda some: self._pass(tokens, some))
        )
        self._past += 1
        return (logits, done) if len(at) == len(done) else (logits[at], [done[row] for row in at])

    def _pass(self, tokens: Tensor, rows: slice) -> Ran:
        model, there = self._lanes.model, self._there[rows]
        key = rows.start, rows.stop
        if key not in self._edits:
            some = len(there) < len(self._there)
            self._edits[key] = editing(
                {site: [o.of(rows) for o in ops] if some else ops for site, ops in self._operands.items()}
            )
        mask, positions = None, torch.full((len(there), 1), self._past)
        if self._before is not None:
            before = self._before[rows]
            mask, positions = (self._columns[:, : self._past + 1] >= before).long(), positions - before
        cache = self._memory.window(rows, 0, self._past)
        passed = model.run(model.inputs(tokens[rows], mask, positions, cache), self._edits[key])
        assert passed.logits is not None
        return Ran(passed.logits, [self._needed[lane] <= passed.edited for lane in there])

    def _leave(self, lanes: Sequence[int]) -> None:
        """Only these lanes go on."""
        rows = [row for row, lane in enumerate(self._there) if lane in set(lanes)]
        index = torch.tensor(rows)
        self._memory.keep(rows)
        self._there = [self._there[row] for row in rows]
        self._operands = {site: [o.of(index) for o in ops] for site, ops in self._operands.items()}
        self._edits.clear()
        if self._before is not None:
            self._before = self._before[index]


class WholeBatch:
    """The same for a model whose passes cannot be resumed: every lane goes through every pass, with a cache that the
    model's own library made.
    """

    def __init__(self, lanes: Lanes, batch: Sequence[Lane], tokenizer: PreTrainedTokenizerBase) -> None:
        self._model, self._batch = lanes.model, batch
        self._plan = lanes.plan([lane.reach for lane in batch])
        self._cache = DynamicCache(config=lanes.model.hf.config)
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
        positions = (self._mask.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        passed = self._model.run(self._model.inputs(ids, self._mask, positions, self._cache), edits)
        assert passed.logits is not None
        done = [self._batch[lane].reach.sites(generated=generated) <= passed.edited for lane in lanes]
        return passed.logits[list(lanes), -1], done


def _joined(parts: Sequence[Ran]) -> tuple[Tensor, list[bool]]:
    logits = [part.logits[:, -1] for part in parts]
    device = logits[-1].device
    whole = torch.cat([one.to(device) for one in logits]) if len(logits) > 1 else logits[0]
    return whole, [done for part in parts for done in part.done]
