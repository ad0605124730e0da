"""The panel in a page with nothing else: no Jupyter, no network, a policy as strict as a host's may be. It stands for
hosts that cannot be tested here, as VS Code and Colab: what works here needs nothing of its host but anywidget.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rig
from playwright.sync_api import Page

from steerlab import Lab

sys.path.append(str(Path(__file__).parents[1] / "ui"))
import scripted as scripted  # for the tests, which find it by this module
from wires import Wire

STATIC = rig.REPOSITORY / "steerlab" / "static"
PAGE = """<!doctype html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src blob: 'unsafe-inline'; style-src 'unsafe-inline'"></head>
<body><div id="cell" class="jupyter-widgets"></div></body></html>"""
# anywidget's side: a model with traits and messages, and nothing more.
HOST = """async ([source, css, traits]) => {
    const style = document.createElement("style");
    style.textContent = css;
    document.head.append(style);
    const handlers = {};
    window.sent = [];
    window.model = {
        get: name => traits[name],
        set: (name, value) => { traits[name] = value; },
        save_changes: () => undefined,
        on: (event, handler) => (handlers[event] ??= []).push(handler),
        off: () => undefined,
        send: message => window.sent.push(message),
    };
    window.hear = ({ messages, changes }) => {
        for (const [name, value] of Object.entries(changes)) {
            traits[name] = value;
            for (const handler of handlers["change:" + name] ?? []) handler();
        }
        for (const message of messages) for (const handler of handlers["msg:custom"] ?? []) handler(message, []);
        return window.sent.splice(0);
    };
    const blob = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const widget = await (await import(blob)).default();
    await widget.initialize({ model });
    const end = new AbortController();
    window.close_view = () => end.abort();
    await widget.render({ model, el: document.getElementById("cell"), signal: end.signal });
}"""
TRAITS = ("info", "directions", "examples", "state", "result", "page")


class BarePanel:
    """A real panel in this process at one end, a page at the other; `until` lets them talk."""

    def __init__(self, page: Page, lab: Lab) -> None:
        self.page, self.wire = page, Wire(lab)
        self._heard = 0
        self._traits = self._now()
        page.set_content(PAGE)
        bundle = [(STATIC / name).read_text() for name in ("widget.js", "widget.css")]
        page.evaluate(HOST, [*bundle, self._traits])

    def _now(self) -> dict[str, Any]:
        return {name: json.loads(json.dumps(getattr(self.wire.panel, name))) for name in TRAITS}

    def talk(self) -> None:
        """Carry what waits, both ways."""
        now, messages = self._now(), self.wire.messages[self._heard :]
        changes = {name: value for name, value in now.items() if value != self._traits[name]}
        self._traits, self._heard = now, self._heard + len(messages)
        for message in self.page.evaluate("what => hear(what)", {"messages": messages, "changes": changes}):
            self.wire.say(**message)

    def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not in {seconds} s"
            self.talk()
            time.sleep(0.01)

    def text(self, pane: str) -> str:
        return self.read(f'[data-pane="{pane}"] .sl-text')

    def status(self) -> str:
        return self.read(".sl-status")

    def read(self, selector: str) -> str:
        """A text of the page, without waiting for it: the panel would wait for us."""
        return str(self.page.evaluate("s => document.querySelector(s)?.textContent ?? ''", selector))
