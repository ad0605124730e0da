"""Keys and values of a batch of rows in one place, so that rows can be filled from elsewhere, split and dropped.

Columns are tokens, padded on the left: the rows' last tokens stand in one column. A pass works on a window of the
memory, some rows from some column on; what it writes counts once it is over, so that one that failed can be run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from steerlab.backends.budget import out_of_memory
from steerlab.backends.trunks import Rows


class TooManyRowsError(Exception):
    """The keys and values of a batch do not fit into memory, however few of its rows are in a pass."""


class Memory:
    """Keys and values of every block, each `[rows heads columns head_dim]`, made where they are first needed.

    room: by block, how many of the rows stand before row 0: they are numbered from -1 down (`trunks`).
    """

    def __init__(self, n_layers: int, rows: int, columns: int, room: Sequence[int] = ()) -> None:
        self.rows, self.columns, self.room = rows, columns, list(room) or [0] * n_layers
        self.keys: list[Tensor | None] = [None] * n_layers
        self.values: list[Tensor | None] = [None] * n_layers

    def window(self, rows: slice | Sequence[Rows], first: int, past: int) -> Cache:
        """A cache for a pass over some rows, by block where they differ, whose columns from `first` on hold `past`
        tokens.
        """
        layers = range(len(self.keys))
        each = [rows] * len(layers) if isinstance(rows, slice) else rows
        return Cache(
            layers=[_Block(self, layer, self.inside(layer, each[layer]), first, past) for layer in layers]
        )

    def inside(self, layer: int, rows: Rows) -> Rows:
        """Where rows stand in a block's tensors."""
        room = self.room[layer]
        return slice(rows.start + room, rows.stop + room) if isinstance(rows, slice) else rows + room

    def at(self, layer: int, like: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The whole memory of a block, of the type, the device and the heads of `like` [… heads _ head_dim]. Raises
        TooManyRowsError where there is no room for it.
        """
        found = []
        for kept, one in zip((self.keys, self.values), like, strict=True):
            if (there := kept[layer]) is None:
                heads, _, size = one.shape[-3:]
                # zeros, because padding is masked by a product, and 0 times NaN is NaN
                try:
                    there = kept[layer] = one.new_zeros(self.rows, heads, self.columns, size)
                except RuntimeError as error:
                    if self.rows == 1 or not out_of_memory(error):
                        raise
                    raise TooManyRowsError from error
            found.append(there)
        return found[0], found[1]

    def keep(self, rows: Sequence[Sequence[int]], room: Sequence[int]) -> None:
        """Drop all rows but these, given by block; `room` is the new one. The last of them is the last row."""
        size = room[0] + sum(row >= 0 for row in rows[0])
        for kept in (self.keys, self.values):
            for layer, there in enumerate(kept):
                if there is not None:
                    index = (torch.tensor(rows[layer], dtype=torch.long) + self.room[layer]).to(there.device)
                    new = kept[layer] = there.new_empty(size, *there.shape[1:])
                    new[size - len(index) :] = there[index]
                    new[: size - len(index)] = 0
        self.rows, self.room = size, list(room)

    def arrange(self, rows: Sequence[Sequence[int]], past: int) -> None:
        """Put other rows before row 0, given by block, with their first `past` tokens."""
        for layer, there in enumerate(rows):
            moved = [(at, row) for at, row in enumerate(there, start=-len(there)) if at != row]
            if not moved:
                continue
            to, of = torch.tensor(moved).T + self.room[layer]
            for kept in (self.keys[layer], self.values[layer]):
                if kept is not None:
                    filled = kept[:, :, :past]
                    filled[to.to(kept.device)] = filled.index_select(0, of.to(kept.device))


class _Block(DynamicLayer):  # type: ignore[misc]
    """One block's part of a window, as attention layers of transformers use it."""

    is_initialized = True

    def __init__(self, memory: Memory, layer: int, rows: Rows, first: int, past: int) -> None:
        self._memory, self._layer, self._rows, self._first, self._past = memory, layer, rows, first, past

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the new tokens, and return those of the whole window."""
        start = self._first + self._past
        end = start + key_states.shape[-2]
        windows = []
        for there, new in zip(
            self._memory.at(self._layer, (key_states, value_states)), (key_states, value_states), strict=True
        ):
            there[self._rows, :, start:end] = new
            windows.append(there[self._rows, :, self._first : end])
        return windows[0], windows[1]

    def get_seq_length(self) -> int:
        """How many tokens came before this pass."""
        return self._past


def windowed(cache: Cache) -> bool:
    """Whether a model that has this cache can have a `Memory` instead: every block of it keeps keys and values of
    tokens alone, all of them or the last so many; the model's own mask hides the others.
    """
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
