"""A panel whose messages are kept instead of sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from steerlab import Lab
from steerlab.ui.panel import Panel


class Wire:
    """Both ends of a panel's connection, without a kernel or a browser."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.panel = Panel(lab)
        self.messages: list[dict[str, Any]] = []
        self.panel.send = lambda message, buffers=None: self.messages.append(message)

    def say(self, **content: Any) -> None:
        """A message from the front end."""
        self.panel._on_message(self.panel, content, [])

    def run(self, **changes: Any) -> None:
        """What a front end sends when something in it changes."""
        self.say(kind="run", state={**self.panel.state, "origin": "front end", **changes})

    def push(self, coefficient: float, **changes: Any) -> None:
        """A move of the first row's slider."""
        row = {**self.panel.state["steering"][0], "enabled": True, "coefficient": coefficient, **changes}
        self.run(steering=[row, *self.panel.state["steering"][1:]])

    def ask(self, kind: str, **what: Any) -> dict[str, Any]:
        """Ask what a tab asks; the answer, or in words why there is none."""
        id = f"asked {len(self.messages)}"
        self.say(kind="ask", id=id, what={"kind": kind, **what})
        end: list[dict[str, Any]] = []

        def ended() -> bool:
            end[:] = [m for m in (*self.kinds("answer"), *self.kinds("failure")) if m["id"] == id]
            return bool(end)

        self.until(ended)
        told: dict[str, Any] = end[0]["answer"] if end[0]["kind"] == "answer" else end[0]["error"]
        return told

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        return [m for m in self.messages if m["kind"] == kind]

    def until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not in {seconds} s; messages: {self.messages[-5:]}"
            time.sleep(0.002)

    def finished(self) -> dict[str, Any]:
        """Wait for the newest run's end, and for whoever is told of it; its message."""
        preview = self.panel._preview
        self.until(lambda: self.kinds("end") and self.kinds("end")[-1]["run"] == preview.run)
        self.until(lambda: self.panel.result == preview.result().model_dump(mode="json"))
        return self.kinds("end")[-1]

    def text(self, pane: str) -> str:
        return "".join(self.panel.result["panes"][pane]["tokens"])

    def streamed(self, pane: str, run: int) -> str:
        return "".join("".join(m["panes"].get(pane, [])) for m in self.kinds("tokens") if m["run"] == run)
