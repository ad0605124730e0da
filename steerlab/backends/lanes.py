"""Lanes: rows whose computation is the same, and how they are run without computing anything twice.

A lane's prompt is first run without steering, as far as it is not known yet (`prefixes`). Then the lane starts at the
first block and the first token where its recipe acts. What lies before is the baseline's: streams, keys and values.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from steerlab.backends.architectures import PROBE
from steerlab.backends.budget import Budget
from steerlab.backends.kv import Memory
from steerlab.backends.prefixes import Need, Prefix, Prefixes, fill, stacked
from steerlab.backends.tracing import TracedModel, editing
from steerlab.reach import Reach, reach
from steerlab.recipes import BASELINE
from steerlab.rows import Plan


@dataclass(frozen=True, eq=False)
class Lane:
    """Tokens under a recipe. after: how many of them come after the prompt. layer: the block where it starts, and new:
    how many of the last tokens it computes; before, it is the baseline.
    """

    ids: tuple[int, ...]
    reach: Reach
    after: int
    layer: int
    new: int

    @property
    def keep(self) -> int:
        """Of how many of the last tokens the logits are wanted: those after the prompt, and the one before them."""
        return 1 + self.after

    @property
    def whole(self) -> bool:
        """Whether nothing of the baseline is of use."""
        return self.layer == 0 and self.new == len(self.ids)

    @property
    def plain(self) -> bool:
        """Whether nothing is done to these tokens: the lane is the baseline."""
        return not self.reach.sites(generated=False) and not (self.after and self.reach.steps)

    @property
    def kind(self) -> tuple[int, bool, int]:
        """Lanes of one kind are run together: they start at one block, and at about as many tokens."""
        return self.layer, self.plain, self.new.bit_length()

    @property
    def place(self) -> tuple[tuple[int, bool, int], int, tuple[int, ...]]:
        """What lanes are sorted by, so that those of a kind meet, and among them those of a length and of a prompt."""
        return self.kind, len(self.ids), self.ids


# The prompts of some lanes.
Known = dict[tuple[int, ...], Prefix]


class Ran(NamedTuple):
    """What a pass of lanes gave: the last logits [lanes keep vocab], float32, and for each lane whether all was done
    that its recipe asks for there.
    """

    logits: Tensor
    done: list[bool]


# From lanes of a pass and their last logits [lanes keep vocab] what is wanted of each of them, on the CPU.
Wanted = Callable[[Sequence[Lane], Tensor], Sequence[Tensor]]


def last(lanes: Sequence[Lane], logits: Tensor) -> list[Tensor]:
    """The logits after each lane's last token, `[vocab]` a lane."""
    return list(logits[:, -1].cpu())


def told(lanes: Sequence[Lane], logits: Tensor) -> list[Tensor]:
    """The log-probability of each token that comes after a lane's prompt, `[tokens]` a lane."""
    found = []
    for lane, mine in zip(lanes, logits, strict=True):
        ids = torch.tensor(lane.ids[len(lane.ids) - lane.after :], dtype=torch.long, device=mine.device)
        logprobs = mine[len(mine) - 1 - lane.after : -1].log_softmax(-1)
        found.append(logprobs.gather(-1, ids[:, None])[:, 0].cpu())
    return found


class Lanes:
    """Runs lanes. `resumable`: whether this model's passes can start at any block, which is seen by trying."""

    def __init__(
        self, model: TracedModel, prefixes: Prefixes, budget: Budget, *, pad: int, d_model: int
    ) -> None:
        self.model, self.prefixes, self.budget = model, prefixes, budget
        self.n_layers = model.n_layers
        self._pad, self._d_model = pad, d_model
        self.resumable = True

    @torch.no_grad()
    def agree(self) -> bool:
        """Whether a short text gives the same logits in one pass and resumed from its middle."""
        half, ids = (
            max(1, self.n_layers // 2),
            tuple(i % self.model.hf.config.get_text_config().vocab_size for i in PROBE),
        )
        none = reach(BASELINE, self.n_layers)
        whole, resumed = Lane(ids, none, 0, 0, len(ids)), Lane(ids, none, 0, half, 2)
        try:
            self.resumable = False  # the whole pass leaves nothing out
            _, one = next(self.logits([whole], last))
            self.resumable = True
            _, other = next(self.logits([resumed], last))
        except (
            Exception
        ):  # a cache or an input that this model's code does not take, whatever error it makes of it
            return False
        finally:
            self.prefixes.clear()
        return bool((one - other).norm() < 0.05 * one.norm())

    def lane(self, ids: Sequence[int], reach: Reach, *, after: int = 0) -> Lane:
        """The lane of some tokens, of which `after` come after the prompt."""
        layer, first = reach.begins(self.n_layers, generated=after > 0)
        if not self.resumable:
            layer, first = 0, None
        if first is None:
            new = 1 + after if layer == self.n_layers else len(ids)
        else:
            new = min(len(ids), max(1 + after, after - first))
        return Lane(tuple(ids), reach, after, layer, new)

    def logits(self, lanes: Sequence[Lane], wanted: Wanted) -> Iterator[tuple[int, Tensor]]:
        """What is wanted of each lane's last logits, with the lane's number; in the order in which they come. Nothing
        else is held of a pass when the next one begins.
        """
        order = sorted(range(len(lanes)), key=lambda i: lanes[i].place)
        for chunk in self._portions(order, lanes):
            known = self.prepare([lanes[i] for i in chunk], memory=False)
            for _, same in itertools.groupby(chunk, key=lambda i: lanes[i].kind):
                group = list(same)
                if self.is_known(lanes[group[0]]):
                    for i in group:
                        logits = known[lanes[i].ids].logits
                        assert logits is not None
                        yield i, wanted([lanes[i]], logits[None, None].clone())[0]
                    continue
                while group:
                    size = self.fitting([lanes[i] for i in group])
                    some, group = group[:size], group[size:]
                    mine = [lanes[i] for i in some]
                    run = functools.partial(
                        self._wanted, wanted, mine, self.plan([lane.reach for lane in mine]), known
                    )
                    parts = self.budget.halving(len(mine), run)
                    yield from zip(some, itertools.chain.from_iterable(parts), strict=True)
        self.prefixes.settle()

    def _wanted(
        self, wanted: Wanted, lanes: Sequence[Lane], plan: Plan, known: Known, rows: slice
    ) -> Sequence[Tensor]:
        return wanted(lanes[rows], self.run(lanes, plan, rows, known=known).logits)

    def begin(self, lane: Lane) -> int:
        """The block from which a lane's generated tokens are not those of the unsteered model."""
        return lane.reach.begins(self.n_layers, generated=True)[0]

    def is_known(self, lane: Lane) -> bool:
        """Whether a lane's logits are those of its prompt's baseline, which are kept with it."""
        return lane.plain and lane.layer == self.n_layers and not lane.after

    def _portions(self, order: list[int], lanes: Sequence[Lane]) -> Iterator[list[int]]:
        """The lanes in portions whose prompts can be held together: those of a prompt are in one."""
        prompts: dict[tuple[int, ...], list[int]] = {}
        for i in order:
            prompts.setdefault(lanes[i].ids, []).append(i)
        size = 0
        portion: set[int] = set()
        for ids, mine in prompts.items():
            new = 0 if all(lanes[i].whole for i in mine) else self.bytes_of(len(ids))
            if portion and size + new > self.prefixes.budget:
                yield [i for i in order if i in portion]
                self.prefixes.settle()
                size, portion = 0, set()
            size += new
            portion |= set(mine)
        yield [i for i in order if i in portion]

    def bytes_of(self, tokens: int) -> int:
        """About what a prompt of so many tokens takes when all of its baseline is kept."""
        stream: int = (self.n_layers + 1) * self._d_model * self.model.hf.dtype.itemsize
        whole: int = tokens * (stream + self.budget.kept)
        return whole

    def fitting(self, lanes: Sequence[Lane]) -> int:
        """How many of the first lanes fit into one pass."""
        size = keep = 0
        for size, lane in enumerate(lanes, 1):
            past = len(lane.ids) if lane.new < len(lane.ids) else 0
            keep = max(keep, lane.keep)
            if self.budget.rows(past, lane.new, keep=keep) < size:
                return size - 1
        return size

    def plan(self, reaches: Sequence[Reach]) -> Plan:
        """What recipes come down to, lowered."""
        return Plan(
            [one.recipe for one in reaches], n_layers=self.n_layers, d_model=self._d_model, reaches=reaches
        )

    # ------------------------------------------------------------------------------------------------- the baseline

    def prepare(self, lanes: Sequence[Lane], *, memory: bool) -> Known:
        """Run the prompts of lanes without steering, as far as the lanes need it. memory: whether the keys and values
        of all blocks are needed, for tokens that are to come. Returns the prompts: another thread may forget them.
        """
        needs: dict[tuple[int, ...], Need] = {}
        known: Known = {}
        for lane in lanes:
            if lane.whole:
                continue
            known.setdefault(lane.ids, self.prefixes.of(lane.ids))
            depth, streams, logits = needs.get(lane.ids, Need())
            if memory:
                depth = max(depth, lane.layer)
            if lane.new < len(lane.ids) and lane.layer < self.n_layers:
                depth = self.n_layers
            if self.is_known(lane):
                logits = True
            elif lane.layer:
                streams |= {lane.layer}
            needs[lane.ids] = Need(depth, streams, logits)
        generous = sum(self.bytes_of(len(ids)) for ids in needs) <= self.prefixes.budget // 4
        todo: dict[int, list[tuple[Prefix, Need]]] = {}
        for ids, need in needs.items():
            prefix = known[ids]
            start = prefix.missing_from(need)
            if start is not None:
                todo.setdefault(start, []).append((prefix, need))
        for start, group in todo.items():
            group.sort(key=lambda one: (self._end(one[1]), len(one[0].ids)))
            while group:
                size = 1
                while size < len(group) and self.budget.rows(0, len(group[size][0].ids)) > size:
                    size += 1
                some, group = group[:size], group[size:]
                self.budget.halving(
                    len(some), functools.partial(self._baseline, some, start, memory, generous)
                )
        return known

    def _end(self, need: Need) -> int:
        """How many blocks have to be run for it."""
        return self.n_layers if need.logits else max(need.depth, *need.streams, 0)

    def _baseline(
        self, group: Sequence[tuple[Prefix, Need]], start: int, memory: bool, generous: bool, rows: slice
    ) -> None:
        """One pass over some of the prompts of a group, from a layer where all of their streams are known."""
        some = group[rows]
        prefixes = [prefix for prefix, _ in some]
        end = max(self._end(need) for _, need in some)
        streams = set[int]().union(*(need.streams for _, need in some))
        if generous:
            streams |= set(range(1, min(end + 1, self.n_layers)))
        width = max(len(prefix.ids) for prefix in prefixes)
        remember = memory or any(need.depth for _, need in some)
        kept = Memory(self.n_layers, len(some), width) if remember else None
        ids, mask, positions = self._inputs([prefix.ids for prefix in prefixes], width)
        passed = self.model.run(
            self.model.inputs(ids, mask, positions, kept.window(slice(0, len(some)), 0, 0) if kept else None),
            {},
            begin=(start, stacked([prefix.streams[start] for prefix in prefixes], width)) if start else None,
            end=end if end < self.n_layers else None,
            streams={layer for layer in streams if start < layer <= end},
            tail=None if self.n_layers in streams else 1,
        )
        alone = len(some) == 1
        for row, prefix in enumerate(prefixes):
            first = width - len(prefix.ids)
            if kept and start <= len(prefix.keys):
                prefix.learn(kept, row, first, range(start, end))
            for layer, x in passed.streams.items():
                prefix.streams[layer] = x[row, first:] if alone else x[row, first:].clone()
            if passed.logits is not None:
                prefix.logits = passed.logits[row, -1].to("cpu", copy=True)

    # ---------------------------------------------------------------------------------------------- the lanes' own part

    def run(
        self,
        lanes: Sequence[Lane],
        plan: Plan,
        rows: slice,
        *,
        known: Known,
        memory: Memory | None = None,
        at: int = 0,
        end: int = 0,
        begin: int = 0,
    ) -> Ran:
        """One pass of some of the lanes, all of which start at one layer.

        plan: of all the lanes. memory: where their keys and values are kept, lane `i` in row `at + i`, the last token
        before column `end`; what lies below and before is filled in, from block `begin` on.
        """
        some = lanes[rows]
        layer, new = some[0].layer, max(lane.new for lane in some)
        keep = max(lane.keep for lane in some)
        width = max(len(lane.ids) for lane in some)
        past = width - new
        prefixes = [Prefix(lane.ids) if lane.whole else known[lane.ids] for lane in some]
        generating = memory is not None
        there = slice(at + rows.start, at + rows.stop)
        if memory is None and past and layer < self.n_layers:
            memory, there, end = Memory(self.n_layers, len(some), width), slice(0, len(some)), width
        if memory is not None:
            before = [max(0, len(lane.ids) - new) for lane in some]
            for block in range(self.n_layers):
                if block >= layer:
                    fill(memory, prefixes, there, end, block, before)
                elif generating and block >= begin:
                    fill(memory, prefixes, there, end, block, [len(lane.ids) for lane in some])
        ids, mask, positions = self._inputs([lane.ids for lane in some], new)
        index = torch.arange(-new, 0)[None] + torch.tensor([[lane.after] for lane in some])
        if len({lane.after for lane in some}) == 1:
            index = index[:1]
        operands = plan.operands(index if len(index) == 1 else _spread(index, rows, len(lanes)), "cpu")
        if len(some) < len(lanes):
            operands = {site: [o.of(rows) for o in ops] for site, ops in operands.items()}
        passed = self.model.run(
            self.model.inputs(
                ids,
                mask,
                positions,
                memory.window(there, end - width, past) if memory is not None else None,
                keep=keep,
            ),
            editing(operands),
            keep=keep,
            begin=(layer, stacked([p.streams[layer] for p in prefixes], new)) if layer else None,
            tail=keep if self.resumable else None,
        )
        assert passed.logits is not None
        edited = passed.edited
        return Ran(
            passed.logits,
            [lane.reach.sites(generated=False) <= edited for lane in some],
        )

    def _inputs(
        self, sequences: Sequence[Sequence[int]], new: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The last `new` tokens of sequences, padded on the left [rows new], with mask and positions where needed."""
        lengths = [len(ids) for ids in sequences]
        width = max(lengths)
        tokens = torch.tensor(
            [
                [self._pad] * (new - len(ids)) + list(ids[len(ids) - new if new < len(ids) else 0 :])
                for ids in sequences
            ]
        )
        ragged = min(lengths) < width
        if not ragged and new == width:
            return tokens, None, None
        before = width - torch.tensor(lengths)[:, None]
        columns = torch.arange(width)[None]
        positions = (columns[:, width - new :] - before).clamp_min(0)
        return tokens, (columns >= before).long() if ragged else None, positions


def _spread(index: Tensor, rows: slice, n: int) -> Tensor:
    """The rows' indices among those of all `n` lanes."""
    whole = index[:1].expand(n, -1).clone()
    whole[rows] = index
    return whole
