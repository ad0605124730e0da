"""Cells: what is looked at of the stream, questions about it, and their answers where the model is in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from steerlab.backends import looks
from steerlab.backends.base import Backend, nobody, rows_done
from steerlab.rows import Row
from steerlab.sites import Site

DECODED = 2**25  # numbers decoded at a time, 128 MB: the logits of all cells at once may not fit in memory


@dataclass(frozen=True, eq=False)
class Cells:
    """The stream of one text at sites x positions. The text is a row's prompt and what follows it, as in
    `Backend.capture`, and positions count from its end. streams: what is there, [sites positions d_model], float32,
    where it has been read.
    """

    row: Row
    sites: Sequence[Site]
    positions: Sequence[int]
    continuation: Sequence[int] = ()
    streams: Tensor | None = None

    def read(self, backend: Backend) -> Tensor:
        """Its streams: from a server they come here."""
        return read(backend, [self])[0] if self.streams is None else self.streams

    def part(self, sites: slice = slice(None), positions: slice = slice(None)) -> Cells:
        """Those at some of the sites and positions."""
        streams = None if self.streams is None else self.streams[sites, positions]
        return replace(self, sites=self.sites[sites], positions=self.positions[positions], streams=streams)


class Look(NamedTuple):
    """A question about cells. how: a function of `looks`. cells: of one text; or of two, of equal sites and positions,
    where it compares them. given: what it takes besides. A function of logits has of a tensor, [positions], the number
    of each cell; one of streams has it whole.
    """

    how: Callable[..., Sequence[Tensor]]
    cells: Sequence[Cells]
    given: tuple[Any, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Sites and positions."""
        return len(self.cells[0].sites), len(self.cells[0].positions)

    @property
    def decodes(self) -> bool:
        """Whether it is of logits."""
        return self.how not in looks.OF_STREAMS

    def portions(self, vocab: int) -> Iterator[tuple[slice, list[Any]]]:
        """Its cells in portions whose logits may be held at once, each with what is given of it; all of them where
        nothing is decoded.
        """
        n = self.shape[0] * self.shape[1]
        if not self.decodes:
            yield slice(0, n), [*self.given]
            return
        size = max(1, DECODED // vocab)
        given = [one.expand(self.shape).flatten() if isinstance(one, Tensor) else one for one in self.given]
        for start in range(0, max(1, n), size):
            part = slice(start, min(start + size, n))
            yield part, [one[part].clone() if isinstance(one, Tensor) else one for one in given]


def texts(several: Sequence[Cells]) -> list[list[int]]:
    """The numbers of those that are of one text, for each text."""
    found: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for number, cells in enumerate(several):
        found.setdefault((id(cells.row), tuple(cells.continuation)), []).append(number)
    return list(found.values())


def looked(backend: Backend, asked: Sequence[Look]) -> list[list[Tensor]]:
    """`Backend.look` by `capture` and `decode`, where streams and logits are here in any case."""
    unread = [cells for look in asked for cells in look.cells if cells.streams is None]
    streams = iter(read(backend, unread))
    return [
        _looked(backend, look, [next(streams) if c.streams is None else c.streams for c in look.cells])
        for look in asked
    ]


def read(backend: Backend, several: Sequence[Cells]) -> list[Tensor]:
    """The streams of cells, each `[sites positions d_model]`, by one `capture`."""
    if not several:
        return []
    together = texts(several)
    sites = sorted({site for cells in several for site in cells.sites})
    positions = sorted({position for cells in several for position in cells.positions})
    counted = rows_done.set(nobody)  # a look counts cells
    try:
        values = backend.capture(
            [several[numbers[0]].row for numbers in together],
            sites,
            positions,
            values=True,
            continuations=[several[numbers[0]].continuation for numbers in together],
        ).values
    finally:
        rows_done.reset(counted)
    assert values is not None
    found = {number: values[text] for text, numbers in enumerate(together) for number in numbers}
    return [
        _picked(_picked(found[number], 0, sites, cells.sites), 1, positions, cells.positions)
        for number, cells in enumerate(several)
    ]


def _picked(x: Tensor, dim: int, there: Sequence[Any], wanted: Sequence[Any]) -> Tensor:
    """Some of what is there along a dimension; all of it without a copy."""
    if list(wanted) == there:
        return x
    return x.index_select(dim, torch.tensor([there.index(one) for one in wanted]))


def _looked(backend: Backend, look: Look, streams: Sequence[Tensor]) -> list[Tensor]:
    flat = [stream.flatten(0, 1) for stream in streams]
    parts = []
    for part, given in look.portions(len(backend.tokenizer)):
        some = [stream[part] for stream in flat]
        parts.append(look.how(*(map(backend.decode, some) if look.decodes else some), *given))
        rows_done.get()(len(some[0]))
    return [torch.cat(column).unflatten(0, look.shape) for column in zip(*parts, strict=True)]
