"""The panel in a page with nothing else: no Jupyter, no network, a policy as strict as a host's may be. It stands for
hosts that cannot be tested here, as VS Code and Colab: what works here needs nothing of its host but anywidget.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import rig
from playwright.sync_api import Frame, Locator, Page

from steerlab import Lab
from steerlab.ui.panel import Panel

sys.path.append(str(Path(__file__).parents[1] / "ui"))
import scripted as scripted  # for the tests, which find it by this module
from wires import Wire

STATIC = rig.REPOSITORY / "steerlab" / "static"
BODY = '<body><div id="cell" class="jupyter-widgets"></div></body></html>'
PAGE = f"""<!doctype html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src blob: 'unsafe-inline'; style-src 'unsafe-inline'"></head>{BODY}"""
# anywidget's side: a model with traits and messages, and nothing more. `told` hears of what must not happen.
HOST = """async ([source, css, traits]) => {
    window.told = [];
    for (const kind of ["error", "unhandledrejection", "securitypolicyviolation"]) window.addEventListener(kind,
        event => told.push(`${kind}: ${event.message ?? event.reason ?? event.blockedURI ?? event.target?.outerHTML}`),
        { capture: true });
    const style = document.createElement("style");
    style.textContent = css;
    document.head.append(style);
    const handlers = {};
    window.sent = [];
    window.model = {
        get: name => {
            if (!(name in traits)) throw new Error(`the panel has no trait ${name}`);
            return traits[name];
        },
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
    URL.revokeObjectURL(blob);
    await widget.initialize({ model });
    const end = new AbortController();
    window.close_view = () => end.abort();
    await widget.render({ model, el: document.getElementById("cell"), signal: end.signal });
}"""
# what the panel adds to the traits of any widget
TRAITS = sorted({*Panel.class_trait_names(sync=True)} - {*anywidget.AnyWidget.class_trait_names(sync=True)})
NOTEBOOK, OUTPUT = "https://notebook.test/", "https://output.test/"


@dataclass(frozen=True)
class Host:
    """The frame in which a host shows outputs: its sandbox, its Content-Security-Policy, and what it is granted."""

    sandbox: str
    policy: str = ""
    allow: str = ""


# without allow-same-origin: no storage, no cookies, no asynchronous clipboard
COLAB = Host("allow-scripts allow-forms allow-popups allow-downloads allow-modals")
VS_CODE = Host(
    "allow-scripts allow-same-origin allow-forms allow-pointer-lock allow-downloads",
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; connect-src 'none'",
    "clipboard-read; clipboard-write",
)
HOSTS = {"colab": COLAB, "vscode": VS_CODE}


class BarePanel:
    """A real panel in this process at one end, a page at the other; `until` lets them talk. host: whose frame it is in;
    by default it is in the page itself.
    """

    def __init__(self, page: Page, lab: Lab, host: Host | None = None) -> None:
        self.page, self.wire = page, Wire(lab)
        self._heard = 0
        self._traits = self._now()
        self._told: list[str] = []
        page.on("request", lambda request: self._requested(request.url))
        page.on("pageerror", lambda error: self._told.append(str(error)))
        self.frame = _frame(page, host)
        bundle = [(STATIC / name).read_text() for name in ("widget.js", "widget.css")]
        self.frame.evaluate(HOST, [*bundle, self._traits])

    def _now(self) -> dict[str, Any]:
        return {name: json.loads(json.dumps(getattr(self.wire.panel, name))) for name in TRAITS}

    def _requested(self, url: str) -> None:
        if not url.startswith(("blob:", "data:", "about:")) and url not in (NOTEBOOK, OUTPUT):
            self._told.append(f"request: {url}")

    def told(self) -> list[str]:
        """Requests, what the policy refused, errors and rejections that nobody caught, of the whole time so far."""
        return [*self._told, *self.frame.evaluate("told")]

    def talk(self) -> None:
        """Carry what waits, both ways."""
        now, messages = self._now(), self.wire.messages[self._heard :]
        changes = {name: value for name, value in now.items() if value != self._traits[name]}
        self._traits, self._heard = now, self._heard + len(messages)
        for message in self.frame.evaluate("what => hear(what)", {"messages": messages, "changes": changes}):
            self.wire.say(**message)

    def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not in {seconds} s; told: {self.told()}"
            self.talk()
            time.sleep(0.01)

    def until_seen(self, wanted: Locator) -> Locator:
        """Let them talk until it is in sight."""
        self.until(wanted.first.is_visible)
        return wanted

    @property
    def root(self) -> Locator:
        return self.frame.locator(".sl-app")

    def text(self, pane: str) -> str:
        return self.read(f'[data-pane="{pane}"] .sl-text')

    def status(self) -> str:
        return self.read(".sl-status")

    def read(self, selector: str) -> str:
        """A text of the page, without waiting for it: the panel would wait for us."""
        return str(self.frame.evaluate("s => document.querySelector(s)?.textContent ?? ''", selector))

    def clipboard(self) -> str:
        """What a person would paste into the notebook around the frame."""
        field = self.page.get_by_label("Pasted")
        field.fill("")
        field.press("Control+v")
        return field.input_value()


def _frame(page: Page, host: Host | None) -> Frame:
    """The page itself, empty; or an empty output of this host, in a page of another origin."""
    if host is None:
        page.set_content(PAGE)
        return page.main_frame
    style = "body { margin: 0 } iframe { border: 0; width: 100%; height: 90vh }"
    around = f"""<!doctype html><style>{style}</style><textarea aria-label="Pasted"></textarea>
        <iframe sandbox="{host.sandbox}" allow="{host.allow}" src="{OUTPUT}"></iframe>"""
    policy = {"content-security-policy": host.policy} if host.policy else {}
    page.route(NOTEBOOK, lambda route: route.fulfill(body=around, content_type="text/html"))
    page.route(
        OUTPUT,
        lambda route: route.fulfill(
            body=f'<!doctype html><html><head><meta charset="utf-8"></head>{BODY}',
            headers={"content-type": "text/html", **policy},
        ),
    )
    page.goto(NOTEBOOK)
    frame = page.frame(url=OUTPUT)
    assert frame is not None
    return frame
