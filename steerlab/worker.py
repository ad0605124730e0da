"""The worker: what computes, so that nothing a person does waits for it.

Work runs in lanes, a thread each, and a lane gives way to the ones before it. `submit` is the first, for what a person
looks at: its newest job wins. `background` has three more, in which jobs wait their turn: "ask" for what takes
seconds, "long" for what takes minutes, "idle" for what nobody asked for yet. Before each of its forward passes a
background job waits while anything more urgent runs, so that a moved slider never waits for more than one of them,
and a cancelled one ends there. A job need do nothing for that: backends call `base.before_pass`, where the worker
listens, and look at `base.cancelled` while they wait for a server. What a person runs in a cell is on a thread of its
own, beside what the panel is asked and before "long" and "idle" (`goes_first`).
"""

from __future__ import annotations

import atexit
import contextvars
import functools
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, Literal, ParamSpec, Protocol, TypeVar

from steerlab.backends.base import before_pass, cancelled, nobody, rows_done

# A job looks at its event between steps and ends soon after it is set.
Job = Callable[[threading.Event], None]

Lane = Literal["ask", "long", "idle"]
LANES: tuple[Lane, ...] = ("ask", "long", "idle")


class Cancelled(BaseException):
    """Raised inside a background job that was cancelled. Not an Exception, so that nothing takes it for a failure."""


class Task:
    """A background job that was submitted."""

    def __init__(self, worker: Worker, job: Job, lane: _Lane) -> None:
        self._worker, self._job, self._lane = worker, job, lane
        self._cancel = threading.Event()
        self._context = contextvars.copy_context()

    @property
    def cancelled(self) -> bool:
        """Whether it was told to end."""
        return self._cancel.is_set()

    def cancel(self) -> None:
        """End it before its next step, also while it waits; one that has not begun never begins."""
        self._worker._end(self)

    def give_way(self) -> None:
        """Wait while anything more urgent runs or waits. Raises Cancelled where the task was cancelled. A task of
        `submit` goes on: nothing is more urgent, and it ends by itself.
        """
        if self._lane.rank:
            self._worker._give_way(self)

    def run(self) -> None:
        """Run the job in the context of its submit, but with its own `before_pass`, `cancelled` and `rows_done`: it may
        have been submitted by another background task, whose own would wait for that one, or by a cell with a bar.
        """
        self._context.run(self._within)

    def _within(self) -> None:
        before_pass.set(self.give_way)
        cancelled.set(self._cancel.is_set)
        rows_done.set(nobody)
        self.give_way()
        self._job(self._cancel)


class _Lane:
    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.waiting: deque[Task] = deque()
        self.running: Task | None = None
        self.thread: threading.Thread | None = None
        self.closed = False

    @property
    def busy(self) -> bool:
        return self.running is not None or bool(self.waiting)


class Worker:
    """Runs jobs on daemon threads, one a lane. They end when it is closed, and with it when nobody has it any more.

    A job handles its own errors; one that it lets out is reported as any thread's is, and the worker goes on. Each job
    runs in the context of its submit, which is where Jupyter keeps the cell or message that output belongs to.
    """

    def __init__(self, name: str = "steerlab-worker") -> None:
        self._name = name
        self._changed = threading.Condition()
        self._first = _Lane(0)
        self._background: dict[Lane, _Lane] = {name: _Lane(i) for i, name in enumerate(LANES, 1)}
        self._lanes = [self._first, *self._background.values()]
        self._outside = 0  # how much runs elsewhere that goes first
        _WORKERS.add(self)

    def submit(self, job: Job) -> None:
        """Run this job as soon as the running one has ended, which it is told to do at once; one that waits is
        forgotten.
        """
        with self._changed:
            self._clear()
            self._queue(Task(self, job, self._first))

    def background(self, job: Job, lane: Lane = "ask", *, asked: bool = True) -> Task:
        """Run this job after those of its lane, giving way to every lane before it. "idle" jobs end where a job of
        another background lane comes: what nobody asked for never delays what somebody did. asked: whether anybody
        asked for this one.
        """
        with self._changed:
            if asked and lane != "idle":
                self._drop_idle()
            task = Task(self, job, self._background[lane])
            self._queue(task)
            return task

    def cancel(self) -> None:
        """End the job of `submit` that runs, and forget the one that waits."""
        with self._changed:
            self._clear()
            self._changed.notify_all()

    def cancel_idle(self) -> None:
        """End and forget what nobody asked for."""
        with self._changed:
            self._drop_idle()
            self._changed.notify_all()

    @contextmanager
    def first(self) -> Iterator[None]:
        """Within it "long" and "idle" work waits before its next pass; "ask" does not, since a cell may take hours. On
        the worker's own threads, which give way to each other already, it changes nothing.
        """
        if self.here:
            yield
            return
        with self._changed:
            self._outside += 1
        try:
            yield
        finally:
            with self._changed:
                self._outside -= 1
                self._changed.notify_all()

    @property
    def here(self) -> bool:
        """Whether it is asked on one of the worker's own threads."""
        return threading.current_thread() in [lane.thread for lane in self._lanes]

    def join(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs or waits in any lane. Returns whether that came to be within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(lane.busy for lane in self._lanes), timeout)

    def close(self) -> None:
        """End everything, as soon as it looks, and take nothing more."""
        with self._changed:
            for lane in self._lanes:
                lane.closed = True
                for task in (*lane.waiting, lane.running):
                    if task:
                        task._cancel.set()
                lane.waiting.clear()
            self._changed.notify_all()

    def __del__(self) -> None:
        self.close()

    # ------------------------------------------------------------------------------- all below holds the condition

    def _clear(self) -> None:
        self._first.waiting.clear()
        if self._first.running:
            self._first.running._cancel.set()

    def _drop_idle(self) -> None:
        idle = self._background["idle"]
        for task in (*idle.waiting, idle.running):
            if task:
                task._cancel.set()
        idle.waiting.clear()

    def _queue(self, task: Task) -> None:
        lane = task._lane
        if lane.closed:
            task._cancel.set()
            return
        lane.waiting.append(task)
        if lane.thread is None:
            name = self._name if lane is self._first else f"{self._name}-{LANES[lane.rank - 1]}"
            lane.thread = threading.Thread(target=_serve, args=[lane, self._changed], name=name, daemon=True)
            lane.thread.start()
        self._changed.notify_all()

    def _end(self, task: Task) -> None:
        with self._changed:
            task._cancel.set()
            if task in task._lane.waiting:
                task._lane.waiting.remove(task)
            self._changed.notify_all()

    def _give_way(self, task: Task) -> None:
        urgent = self._lanes[: task._lane.rank]
        waits = task._lane is not self._background["ask"]
        with self._changed:
            self._changed.wait_for(
                lambda: task.cancelled or not ((waits and self._outside) or any(lane.busy for lane in urgent))
            )
        if task.cancelled:
            raise Cancelled


def _serve(lane: _Lane, changed: threading.Condition) -> None:
    """Run a lane's jobs until it is closed. While it waits it has nothing that would keep its worker, or a lab."""
    while True:
        with changed:
            changed.wait_for(lambda: lane.waiting or lane.closed)
            if not lane.waiting:
                return
            lane.running = lane.waiting.popleft()
        try:
            lane.running.run()
        except Cancelled:
            pass
        except BaseException:  # one that goes on would end the lane, and what waits in it would wait for ever
            threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), lane.thread]))
        finally:
            with changed:
                lane.running = None
                changed.notify_all()


_WORKERS: weakref.WeakSet[Worker] = weakref.WeakSet()


def on_a_worker() -> bool:
    """Whether it is asked on a thread of any worker."""
    return any(worker.here for worker in list(_WORKERS))


_LAST_PASS = 2.0  # seconds that passes may take which are still running when the program ends
if hasattr(os, "register_at_fork"):  # a child has none of their threads
    os.register_at_fork(after_in_child=_WORKERS.clear)


@atexit.register
def _close_all() -> None:
    """A thread that Python ends inside of torch takes the whole program with it, by an abort."""
    workers, end = list(_WORKERS), time.monotonic() + _LAST_PASS
    for worker in workers:
        worker.close()
    for thread in [lane.thread for worker in workers for lane in worker._lanes if lane.thread]:
        thread.join(max(0.0, end - time.monotonic()))


class _Works(Protocol):
    worker: Worker


S = TypeVar("S", bound=_Works)
P = ParamSpec("P")
R = TypeVar("R")


def goes_first(verb: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A verb that a person calls in a cell, before which "long" and "idle" work waits (`Worker.first`)."""

    @functools.wraps(verb)
    def first(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.worker.first():
            return verb(self, *args, **kwargs)

    return first
