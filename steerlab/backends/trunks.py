"""Trunks: what rows of a batch share while they are generated.

Rows whose tokens so far agree are the same text, and below the first block that a row's recipe changes that text goes
through the unsteered model. So a block sees one trunk for each text, and besides it the branches: the rows that have
left their trunk, each at the block where it begins. A trunk ends with the block below the last of its branches, and is
split where its rows go on with different tokens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Rows of a batch's memory in one block, counted from the first branch: trunks are the negative ones (`kv.Memory`).
Rows = slice | Tensor


@dataclass(frozen=True)
class Layout:
    """The rows of one pass. rows: in the memory, by block. trunks, branches: how many of them are in each block; the
    place after the last block counts as one. grown: by block where they change, the rows that enter it, as rows that
    left the block below. heads: for each row of the first block, one of the batch that has its token.
    """

    rows: list[Rows]
    trunks: list[int]
    branches: list[int]
    grown: dict[int, Tensor]
    heads: list[int]


class Trunks:
    """The trunks of a batch, those that end first in front, each the rows that it carries.

    begins: by row the block where it begins, ascending, with 0 for rows that no trunk carries. texts: by row what is
    equal for equal texts.
    """

    def __init__(self, begins: Sequence[int], texts: Sequence[object], n_layers: int) -> None:
        self.begins, self._n_layers = list(begins), n_layers
        found: dict[object, list[int]] = {}
        for row, (begin, text) in enumerate(zip(begins, texts, strict=True)):
            if begin:
                found.setdefault(text, []).append(row)
        self.carried: list[list[int]] = []
        self._tops: list[int] = []
        self._set(list(found.values()), [0] * len(found))

    @property
    def room(self) -> list[int]:
        """By block, how many rows have not begun: as many trunks as there may come to be."""
        return [len(self.begins) - self.begun(block) for block in range(self._n_layers)]

    def begun(self, block: int) -> int:
        """How many rows are branches in a block: the first ones."""
        return bisect_right(self.begins, block)

    def top(self, carried: Sequence[int]) -> int:
        """The block where a trunk's last row begins."""
        return self.begins[carried[-1]]

    def through(self, block: int) -> int:
        """How many trunks go through a block: the last ones."""
        return len(self._tops) - bisect_right(self._tops, block)

    def part(self, tokens: Mapping[int, int]) -> list[int] | None:
        """Split the trunks whose rows go on with different tokens; rows without a token go with the others. Returns for
        each trunk the one that it was, and None where all are what they were.
        """
        parts, was = [], []
        for i, rows in enumerate(self.carried):
            found: dict[int, list[int]] = {}
            ended = [row for row in rows if row not in tokens]
            for row in rows:
                if row in tokens:
                    found.setdefault(tokens[row], []).append(row)
            some = list(found.values()) or [[]]
            some[0] = sorted([*some[0], *ended])
            parts += some
            was += [i] * len(some)
        return self._set(parts, was) if len(parts) > len(self.carried) else None

    def keep(self, rows: Sequence[int]) -> list[int]:
        """Drop all rows but these, which get new numbers. Returns for each trunk that is left the one that it was."""
        number = {row: i for i, row in enumerate(rows)}
        self.begins = [self.begins[row] for row in rows]
        parts = [[number[row] for row in carried if row in number] for carried in self.carried]
        left = [i for i, part in enumerate(parts) if part]
        return self._set([parts[i] for i in left], left)

    def _set(self, parts: Sequence[list[int]], was: Sequence[int]) -> list[int]:
        order = self._order(parts, was)
        self.carried = [parts[i] for i in order]
        self._tops = [self.top(rows) for rows in self.carried]
        return [was[i] for i in order]

    def _order(self, parts: Sequence[list[int]], was: Sequence[int]) -> list[int]:
        """By their ends, and among those with one end so that as many as may stay where they are, counted from the last
        one: what moves is copied.
        """
        tops = [self.top(rows) for rows in parts]
        order = sorted(range(len(parts)), key=tops.__getitem__)
        here = {(tops[i], at) for at, i in enumerate(order, start=-len(order))}
        staying: dict[int, int] = {}
        for i, top in enumerate(tops):
            place = was[i] - len(self.carried)
            if (top, place) in here:
                staying.setdefault(place, i)
        stay = set(staying.values())
        moving = iter([i for i in order if i not in stay])
        return [staying[at] if at in staying else next(moving) for at in range(-len(order), 0)]

    def layout(self, rows: slice) -> Layout:
        """What a pass over some of the rows does in each block."""
        n = len(self.carried)
        trunk = {row: i for i, carried in enumerate(self.carried) for row in carried}
        mine = sorted({trunk[row] for row in range(rows.start, rows.stop) if self.begins[row]})
        tops = [self._tops[i] for i in mine]
        place = {i: at for at, i in enumerate(mine)}
        found = Layout([], [], [], {}, [])
        gone = there = 0
        for block in range(self._n_layers + 1):
            ended = bisect_right(tops, block)
            begun = max(0, min(self.begun(block), rows.stop) - rows.start)
            if block and (ended, begun) != (gone, there):
                old = len(mine) - gone
                new = range(rows.start + there, rows.start + begun)
                found.grown[block] = torch.tensor(
                    [*range(ended - gone, old + there), *(place[trunk[row]] - gone for row in new)]
                )
            gone, there = ended, begun
            found.trunks.append(len(mine) - ended)
            found.branches.append(begun)
            if block < self._n_layers:
                found.rows.append(
                    _rows([*(i - n for i in mine[ended:]), *range(rows.start, rows.start + begun)])
                )
        found.heads.extend(
            [self.carried[i][0] for i in mine] + list(range(rows.start, rows.start + found.branches[0]))
        )
        return found


def _rows(rows: Sequence[int]) -> Rows:
    """The same as a slice where they stand side by side: a view of them costs nothing."""
    if not rows or rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1) if rows else slice(0, 0)
    return torch.tensor(rows)
