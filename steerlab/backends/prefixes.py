"""What the unsteered model made of prompts: the streams between its blocks, and their keys and values.

A row computes nothing that its prompt's baseline has computed already. Prompts are kept between calls, the latest ones,
within a budget of bytes, until the weights change (`local`).
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from steerlab.backends.kv import Memory


class Need(NamedTuple):
    """What has to be known of a prompt's baseline: of how many blocks the keys and values, which streams, and whether
    the logits.
    """

    depth: int = 0
    streams: frozenset[int] = frozenset()
    logits: bool = False


@dataclass(eq=False)
class Prefix:
    """The baseline of one prompt, as far as it is known.

    keys, values: of the first blocks, each [heads tokens head_dim]. streams: by layer, what enters its block [tokens
    d_model]; the layer after the last block stands for its output. logits: after the last token [vocab], float32.
    """

    ids: tuple[int, ...]
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    streams: dict[int, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """The size of its tensors."""
        held = [
            *self.keys,
            *self.values,
            *self.streams.values(),
            *([] if self.logits is None else [self.logits]),
        ]
        return sum(tensor.nbytes for tensor in held)

    def missing_from(self, need: Need) -> int | None:
        """The layer from which it has to be computed to know what is needed; None where nothing is missing."""
        missing = [layer for layer in need.streams if layer not in self.streams]
        if len(self.keys) < need.depth:
            missing.append(len(self.keys))
        if self.logits is None and need.logits:
            missing.append(max((*self.streams, 0)))
        if not missing:
            return None
        known = list(self.streams)  # another thread may add to them
        return max((layer for layer in known if layer <= min(missing)), default=0)

    def learn(self, memory: Memory, row: int, first: int, layers: range) -> None:
        """Take keys and values of some blocks from a row of a memory, whose columns from `first` on are this prompt."""
        alone = memory.rows == 1
        # keys last: they say how far the prompt is known
        for name, theirs in (("values", memory.values), ("keys", memory.keys)):
            mine = getattr(self, name)
            if layers.start <= len(mine) < layers.stop:  # another thread may have come further meanwhile
                parts = [_part(theirs[layer], row, first, first + len(self.ids)) for layer in layers]
                setattr(
                    self, name, mine[: layers.start] + (parts if alone else [part.clone() for part in parts])
                )


class Prefixes:
    """Prompts by their tokens, the latest ones within `budget` bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()
        self._lock = threading.Lock()  # several threads run rows; no pass is waited for with it

    def of(self, ids: tuple[int, ...]) -> Prefix:
        """What is known of a prompt; it counts as used."""
        with self._lock:
            prefix = self._kept.setdefault(ids, Prefix(ids))
            self._kept.move_to_end(ids)
            return prefix

    @property
    def nbytes(self) -> int:
        """The size of everything that is kept."""
        with self._lock:
            return sum(prefix.nbytes for prefix in self._kept.values())

    def settle(self) -> None:
        """Forget the prompts that were not used for longest, until the rest is within the budget."""
        size = self.nbytes
        with self._lock:
            while size > self.budget and self._kept:
                size -= self._kept.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()


def _part(there: Tensor | None, row: int, first: int, end: int) -> Tensor:
    assert there is not None
    return there[row, :, first:end]


def stacked(parts: list[Tensor], width: int) -> Tensor:
    """The last tokens of several prompts, `[rows width d_model]`, with zeros before those that are shorter."""
    if len({id(part) for part in parts}) == 1 and len(parts[0]) >= width:
        return parts[0][-width:].expand(len(parts), -1, -1).clone()
    out = parts[0].new_zeros(len(parts), width, parts[0].shape[-1])
    for row, part in enumerate(parts):
        n = min(width, len(part))
        out[row, width - n :] = part[len(part) - n :]
    return out


def fill(
    memory: Memory, prefixes: list[Prefix], rows: slice, end: int, layer: int, lengths: list[int]
) -> None:
    """Copy a block's keys and values of the first tokens of prompts, `lengths` of each, into rows of a memory, so that
    the prompt's last token would stand before column `end`.
    """
    row = rows.start + memory.room[layer]
    for (prefix, length), same in itertools.groupby(zip(prefixes, lengths, strict=True)):
        stop = row + sum(1 for _ in same)
        if length:
            mine = prefix.keys[layer], prefix.values[layer]
            first = end - len(prefix.ids)
            for there, part in zip(memory.at(layer, mine), mine, strict=True):
                there[row:stop, :, first : first + length] = part[:, :length]
        row = stop
