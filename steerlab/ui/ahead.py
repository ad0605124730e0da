"""Scrubbing: while nothing else is to do, the texts beside a slider's are made and sent, so that a drag over them needs
no model.

It runs in the worker's idle lane, which gives way to everything else before each forward pass. A new state ends it; a
question of a tab only interrupts it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from steerlab.generations import Sampling
from steerlab.lab import Lab
from steerlab.rows import Row
from steerlab.ui.preview import Preview
from steerlab.ui.protocol import KernelMessage, PaneId, PanelState, PaneResult, Ready, ReadyText, Trouble
from steerlab.worker import Task

# Coefficients of a batch, the first small, so that the nearest are soon there; the last for all that follow.
BATCHES = (4, 8, 16)


@dataclass(eq=False)
class Plan:
    """What is still to be made: the panes' rows by coefficient, the most wanted first."""

    state: PanelState
    row: int
    wanted: dict[float, Mapping[PaneId, Row]]
    sampling: Sampling
    done: int = 0
    """Batches, so far."""
    task: Task | None = None


class Ahead:
    """Makes what one plan wants, the newest."""

    def __init__(
        self,
        lab: Lab,
        preview: Preview,
        send: Callable[[KernelMessage], None],
        failed: Callable[[Exception], Trouble],
    ) -> None:
        self._lab, self._preview, self._send, self._failed = lab, preview, send, failed
        self._lock = threading.Lock()
        self._plan: Plan | None = None

    def plan(
        self, state: PanelState, row: int, wanted: Mapping[float, Mapping[PaneId, Row]], sampling: Sampling
    ) -> None:
        """Make these texts instead of those of the last plan. What is in memory is sent at once."""
        self.drop()
        plan = Plan(state, row, dict(wanted), sampling)
        known = {
            c: panes
            for c, panes in zip(wanted, self._preview.known(list(wanted.values()), sampling), strict=True)
            if panes
        }
        with self._lock:
            self._plan = plan
            self._tell(plan, known)
        self.resume()

    def drop(self) -> None:
        """Nothing of it is wanted any more."""
        with self._lock:
            plan, self._plan = self._plan, None
        if plan and plan.task:
            plan.task.cancel()

    def resume(self) -> None:
        """Go on where it was interrupted, if it was."""
        with self._lock:
            plan = self._plan
            if plan and plan.wanted and (plan.task is None or plan.task.cancelled):
                plan.task = self._lab.worker.background(lambda cancel: self._work(plan, cancel), "idle")

    def _work(self, plan: Plan, cancel: threading.Event) -> None:
        while plan.wanted and not cancel.is_set():
            size = BATCHES[min(plan.done, len(BATCHES) - 1)]
            batch = list(plan.wanted.items())[:size]
            try:
                made = self._preview.answers([rows for _, rows in batch], plan.sampling, cancel)
            except Exception as error:
                self._failed(error)  # kept for whoever looks; the run of that coefficient tells it in words
                return
            with self._lock:
                if plan is not self._plan or cancel.is_set():
                    return
                plan.done += 1
                texts = zip([c for c, _ in batch], made, strict=True)
                self._tell(plan, {c: panes for c, panes in texts if panes})
                for coefficient, _ in batch:
                    plan.wanted.pop(coefficient, None)

    def _tell(self, plan: Plan, texts: Mapping[float, Mapping[PaneId, PaneResult]]) -> None:
        for coefficient in texts:
            del plan.wanted[coefficient]
        if texts:
            made = [ReadyText(coefficient=c, panes=dict(panes)) for c, panes in texts.items()]
            self._send(Ready(state=plan.state, row=plan.row, texts=made))
