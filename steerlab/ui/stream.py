"""Batches tokens into messages: the first at once, then at most `hz` messages a second.

One message per token would stall the front end at about 200 tokens a second; at 30 Hz it keeps up with a thousand.
"""

from __future__ import annotations

import time
from collections.abc import Callable

HZ = 30.0


class Pump:
    """Collects the texts of several panes and hands them on together."""

    def __init__(
        self, send: Callable[[dict[str, list[str]]], None], *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._send, self._clock = send, clock
        self._waiting: dict[str, list[str]] = {}
        self._sent_at = float("-inf")

    def push(self, pane: str, text: str) -> None:
        """Add one token to a pane."""
        self._waiting.setdefault(pane, []).append(text)

    def tick(self) -> None:
        """After a step, when every pane has its token: send, if the last message is long enough ago."""
        if self._clock() - self._sent_at >= 1 / HZ:
            self.flush()

    def flush(self) -> None:
        """Send what is waiting."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            self._sent_at = self._clock()
            self._send(waiting)
