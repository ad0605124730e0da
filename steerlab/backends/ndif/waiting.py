"""Waiting for a server: every wait has a limit, and ends within a twentieth of a second where somebody stops it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import websocket

from steerlab.backends.base import cancelled

T = TypeVar("T")

LOOK = 0.05  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds. connect: for a connection. answer: for the answer to a request. silence: for any
    sign of life on an open connection. The others without a word about the job, while it waits for its turn, for its
    model to be loaded, for its next token, and for its result.
    """

    connect: float = 10.0
    answer: float = 30.0
    silence: float = 30.0
    queued: float = 600.0
    deploying: float = 1800.0
    running: float = 300.0
    result: float = 300.0

    def of(self, stage: str) -> float:
        """The limit for a stage of a job."""
        if stage in ("provisioning", "deploying"):
            return self.deploying
        return self.running if stage in ("dispatched", "running") else self.queued


class Cancelled(Exception):  # noqa: N818
    """Somebody stopped a wait; never seen outside this package."""


class Stop:
    """Ends waits, once set: here, by the event of who asked, or where the work that it was made in was cancelled."""

    def __init__(self, asked: threading.Event | None = None) -> None:
        self._here, self._asked, self._cancelled = threading.Event(), asked, cancelled.get()

    def set(self) -> None:
        """End every wait that has this."""
        self._here.set()

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._here.is_set() or bool(self._asked and self._asked.is_set()) or self._cancelled()

    def check(self) -> None:
        """Raise Cancelled where it is set."""
        if self.is_set():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Wait, or raise Cancelled."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            self._here.wait(min(LOOK, left))
        self.check()


class Frames:
    """What comes on a connection, in order: pairs of a kind ("data", "sign" for a sign of life, "closed") and data.
    hide: takes out of a text what nobody shall see.
    """

    def __init__(self, connection: Any, hide: Callable[[str], str]) -> None:
        self._connection, self._hide = connection, hide
        self._frames: queue.SimpleQueue[tuple[str, str | bytes]] = queue.SimpleQueue()
        connection.settimeout(None)
        threading.Thread(target=self._listen, daemon=True).start()

    def get(self) -> tuple[str, str | bytes]:
        """The next one. Raises queue.Empty where none comes at once."""
        return self._frames.get(timeout=LOOK)

    def ping(self) -> None:
        """Ask the server whether it is there: "sign" is its answer."""
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self._connection.ping()

    def _listen(self) -> None:
        with contextlib.suppress(Exception):
            while True:
                opcode, frame = self._connection.recv_data_frame(True)
                if opcode == websocket.ABNF.OPCODE_TEXT:
                    self._frames.put(("data", self._hide(frame.data.decode("utf-8", "replace"))))
                elif opcode == websocket.ABNF.OPCODE_BINARY:
                    self._frames.put(("data", bytes(frame.data)))
                elif opcode == websocket.ABNF.OPCODE_CLOSE:
                    break
                else:
                    self._frames.put(("sign", ""))
        self._frames.put(("closed", ""))


def within(seconds: float, stop: Stop, call: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """The result of a call or its error; a TimeoutError after `seconds`, whatever the call waits for."""
    done: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((call(), None))
        except Exception as error:
            done.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stop.check()
        with contextlib.suppress(queue.Empty):
            return done.get(timeout=LOOK)
    return None, TimeoutError(f"no answer within {seconds:.0f} seconds")
