"""Progress: the bars in a cell, and what moves them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

from steerlab.backends.base import rows_done

DELAY = 1.0  # seconds that work takes before a cell shows a bar of it

# Called as work goes on: how much is done, and how much there is.
Progress = Callable[[int, int], None]


class InCell:
    """A bar of tqdm, made from what it takes. In a notebook it has a place that is empty once it is gone: a widget
    that is closed stands there as an error when the notebook is opened again.
    """

    def __init__(self, **about: Any) -> None:
        self._place: Any = None
        if all(base.__module__ != "tqdm.notebook" for base in tqdm.__mro__):  # in a terminal
            self.bar = tqdm(leave=False, **about)
            return
        from IPython.display import display

        self.bar = tqdm(leave=False, display=False, **about)
        self._place = display(self.bar.container, display_id=True)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Take it away; in a notebook one that has not come to its total stays, in red."""
        self.bar.close()
        if self._place and not (self.bar.total and self.bar.n < self.bar.total):
            self._place.update({"text/plain": ""}, raw=True)


class Bar:
    """A bar of tqdm under a cell, once the work has taken a second: a phase of it after the other, each from 0."""

    def __init__(self, unit: str) -> None:
        self._unit, self._began = unit, time.monotonic()
        self._text = ""
        self._shown: InCell | None = None

    def __call__(self, done: int, total: int, text: str) -> None:
        """How much of a phase is done, and how much there is to do in it."""
        if self._shown is None or text != self._text:
            self.close()
            if time.monotonic() - self._began < DELAY:
                return
            self._text = text
            self._shown = InCell(total=total, initial=done, desc=text, unit=self._unit)
        bar = self._shown.bar
        bar.total = total
        bar.update(done - bar.n)

    def close(self, *, whole: bool = True) -> None:
        """Take it away; one that is not `whole` stays in a notebook, where the work broke off."""
        if self._shown is None:
            return
        if whole:
            self._shown.bar.total = self._shown.bar.n
        self._shown.close()
        self._shown = None


@contextmanager
def bar(unit: str = "row") -> Iterator[Bar]:
    """A bar for the work that is done within it."""
    made = Bar(f" {unit}")
    try:
        yield made
    except BaseException:
        made.close(whole=False)
        raise
    made.close()


@contextmanager
def counted(progress: Progress, rows: int, *, each: int = 1) -> Iterator[None]:
    """Within it a backend moves `progress`, as it reads, scores or answers so many rows, of `each` units."""
    done = 0.0

    def add(share: float) -> None:
        nonlocal done
        done = min(rows, done + share)
        progress(round(done * each), rows * each)

    before = rows_done.set(add)
    try:
        progress(0, rows * each)
        yield
    finally:
        rows_done.reset(before)


@contextmanager
def bar_of_rows(text: str, rows: int, *, each: int = 1, unit: str = "row") -> Iterator[None]:
    """A bar of the rows that a backend reads, scores or answers within it."""
    with bar(unit) as shown, counted(lambda done, total: shown(done, total, text), rows, each=each):
        yield
