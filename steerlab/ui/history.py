"""Undo and redo: what was set, and the recipe that it stood for, one moment a gesture.

The recipe is kept beside the panel's state, because a recipe may hold steps that the panel has no row for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from steerlab.recipes import Recipe
from steerlab.ui.protocol import PanelState

KEPT = 200
# what the kernel adds to a state, which nobody set
TOLD = {"beyond", "conflicts", "undoable", "redoable", "revision", "origin", "edit"}


class Moment(NamedTuple):
    """A state and its recipe."""

    state: PanelState
    recipe: Recipe

    @property
    def settings(self) -> tuple[dict[str, Any], Recipe]:
        """What a person can set; moments equal in it are one."""
        return self.state.model_dump(exclude=TOLD), self.recipe


class History:
    """The moments so far, and those that were taken back. Not safe for threads: the panel's lock guards it."""

    def __init__(self, now: Moment) -> None:
        self._past: list[Moment] = []
        self._now = now
        self._future: list[Moment] = []
        self._gesture = ""

    @property
    def undoable(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._past)

    @property
    def redoable(self) -> bool:
        """Whether one was taken back."""
        return bool(self._future)

    def put(self, now: Moment, gesture: str = "") -> None:
        """A change; one of the same gesture as the last belongs to that one."""
        if now.settings == self._now.settings:
            return
        if not gesture or gesture != self._gesture:
            self._past = [*self._past, self._now][-KEPT:]
        self._now, self._future, self._gesture = now, [], gesture

    def amend(self, now: Moment) -> None:
        """What is set changed by itself, as when a direction was found: nothing to undo."""
        self._now, self._gesture = now, ""

    def undo(self) -> Moment | None:
        """The moment before, which is now the present; None where there is none."""
        return self._step(self._past, self._future)

    def redo(self) -> Moment | None:
        """The moment that was taken back last."""
        return self._step(self._future, self._past)

    def _step(self, source: list[Moment], target: list[Moment]) -> Moment | None:
        if not source:
            return None
        target.append(self._now)
        self._now, self._gesture = source.pop(), ""
        return self._now
