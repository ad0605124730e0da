"""The worker: one background thread that serves the newest request, so that nothing a person does waits for older
work.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable

# A job looks at its event between steps and ends soon after it is set.
Job = Callable[[threading.Event], None]


class Worker:
    """Runs jobs one at a time on a daemon thread. A new job cancels the running one and replaces one that waits.

    A job handles its own errors; one that it lets out is reported as any thread's is, and the worker goes on. Each job
    runs in the context of its `submit`, which is where Jupyter keeps the cell or message that output belongs to.
    """

    def __init__(self, name: str = "steerlab-worker") -> None:
        self._name = name
        self._changed = threading.Condition()
        self._waiting: tuple[Job, threading.Event, contextvars.Context] | None = None
        self._running: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Run this job as soon as the running one has ended, which it is told to do at once."""
        with self._changed:
            self._cancel()
            self._waiting = (job, threading.Event(), contextvars.copy_context())
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def cancel(self) -> None:
        """End the running job, and forget the one that waits."""
        with self._changed:
            self._cancel()
            self._waiting = None
            self._changed.notify_all()

    @property
    def here(self) -> bool:
        """Whether it is asked on the worker's own thread."""
        return threading.current_thread() is self._thread

    def join(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs or waits. Returns whether that came to be within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running is None and self._waiting is None, timeout)

    def _cancel(self) -> None:
        if self._running:
            self._running.set()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                assert self._waiting is not None
                (job, cancel, context), self._waiting = self._waiting, None
                self._running = cancel
            try:
                context.run(job, cancel)
            except Exception:
                threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), self._thread]))
            finally:
                with self._changed:
                    self._running = None
                    self._changed.notify_all()
