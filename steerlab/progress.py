"""Progress: what moves a bar in a cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def moves(bar: Any) -> Callable[[int, int], None]:
    """A progress callback that moves a bar of tqdm."""

    def move(done: int, total: int) -> None:
        bar.total = total or bar.total
        bar.update(done - bar.n)

    return move
