"""The panel as a static page: what a saved notebook shows where there is no kernel.

JupyterLab does not save the state of widgets by default, and in place of a widget without state it shows an error and
ignores the HTML beside it. So the last texts are an output of their own, next to the panel: a live panel hides it, and
without one it is what a reader sees. Model text is escaped; styles stand in the tags, as viewers drop style sheets.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from html import escape

from IPython.core.getipython import get_ipython
from IPython.display import HTML, display

from steerlab.ui.protocol import Info, PanelState, PaneResult, Result, SteeringState

CLASS = "steerlab-static"
REST = 0.5  # seconds
# hides "Error displaying widget: model not found" below the texts
_HIDE_ERROR = (
    f"<style>.jp-OutputArea-child:has(.{CLASS}) ~ .jp-OutputArea-child:has(.jupyter-widgets)"
    ":not(:has(.jupyter-widgets *)) {display: none}</style>"
)
_BOX = "border:1px solid #8888;border-radius:6px;padding:10px 12px;margin:4px 0;max-width:72em"
_PANE = "flex:1 1 240px;min-width:0;border-left:3px solid {};padding-left:10px"
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0"
_COLOURS = {"baseline": "#8a8a8a", "steered": "#6d5bd0", "control": "#a8834a"}
_TITLES = {"control": "Random control"}


class StaticPage:
    """One panel's page in the notebook. name: its class, and the id of its output. render: writes it.

    A notebook draws an output anew whenever it is replaced, also one that a live panel hides, which takes time from a
    slider that moves over texts that are ready. So the page can wait until nothing has changed for a moment.
    """

    def __init__(self, name: str, render: Callable[[], str]) -> None:
        self._name, self._render = name, render
        self._lock = threading.Lock()
        self._html: str | None = None  # as it is in the notebook
        self._waiting: threading.Timer | None = None

    def place(self) -> None:
        """Put the page into the running cell's output, where there is a notebook to hold it."""
        shell = get_ipython()
        if shell is None or getattr(shell, "kernel", None) is None:
            return
        with self._lock:
            self._html = self._render()
            display(HTML(self._html), display_id=self._name)  # type: ignore[no-untyped-call]

    def renew(self, *, at_once: bool = True) -> None:
        """Put a newer page there, if it is any different: at once, or after `REST` seconds, unless asked again or told
        to leave it before.
        """
        if self._html is None:
            return
        self.leave()
        if at_once:
            self._replace()
            return
        here = contextvars.copy_context()  # of the cell or message that it belongs to
        with self._lock:
            self._waiting = threading.Timer(REST, lambda: here.run(self._replace))
            self._waiting.daemon = True
            self._waiting.start()

    def leave(self) -> None:
        """Do not renew it now: who changes what it shows will ask again."""
        with self._lock:
            if self._waiting:
                self._waiting.cancel()

    def _replace(self) -> None:
        with self._lock:
            html = self._render()
            if html != self._html:
                self._html = html
                display(HTML(html), display_id=self._name, update=True)  # type: ignore[no-untyped-call]


def class_of(widget: str) -> str:
    """The name of one panel's page. widget: its id, which the JupyterLab extension takes from that name."""
    return f"{CLASS}-{widget}"


def render(page: str, info: Info, state: PanelState, result: Result) -> str:
    """The last texts, what made them, and how to make them move again. Nothing to see before there is a text."""
    if not any(pane.tokens for pane in result.panes.values()):
        return f'<div class="{CLASS} {page}"></div>'
    panes = "".join(_pane(name, pane) for name, pane in result.panes.items())
    rows = "<br>".join(_row(row) for row in state.steering if row.enabled)
    rows += "".join(
        f"<br>This recipe may not do what you mean: {escape(conflict)}" for conflict in state.conflicts
    )
    error = f"<div><b>Error:</b> {escape(result.error.what)}</div>" if result.error else ""
    return (
        f'<div class="{CLASS} {page}" style="{_BOX}">{_HIDE_ERROR}'
        f"<div><b>Steering lab</b> · {escape(info.name)} · saved texts; run the cell to steer</div>"
        f'<div style="{_TEXT}"><b>Prompt</b> {escape(state.prompt)}</div><div>{rows}</div>{error}'
        f'<div style="display:flex;flex-wrap:wrap;gap:16px;margin-top:8px">{panes}</div></div>'
    )


def _row(row: SteeringState) -> str:
    sites = f"{len(row.cells)} site{'' if len(row.cells) == 1 else 's'}"
    return f"{escape(row.mode)} <b>{escape(row.direction)}</b> {row.coefficient:+g} at {sites}"


def _pane(name: str, pane: PaneResult) -> str:
    applied = f"applied on {pane.applied.steps} of {pane.applied.of} steps" if pane.applied else ""
    said = f"no answer: {escape(pane.fault)}" if pane.fault else applied
    title = _TITLES.get(name, name.capitalize())
    return (
        f'<div style="{_PANE.format(_COLOURS.get(name, "#8a8a8a"))}"><b>{escape(title)}</b>'
        f'<div style="{_TEXT}">{escape("".join(pane.tokens))}</div><small>{said}</small></div>'
    )
