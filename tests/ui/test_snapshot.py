from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from wires import Wire

from steerlab.ui import snapshot

NASTY = '<img src=x onerror="alert(1)"></div><script>alert(2)</script>'


def test_the_page_escapes_prompt_texts_and_names(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.run(prompt=NASTY)
    wire.finished()
    page = wire.panel._static()
    assert "<img" not in page
    assert "<script" not in page
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;" in page


def test_the_page_shows_the_last_texts_and_what_made_them(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.push(1.0)
    wire.finished()
    page = wire.panel._static()
    for words in ("Sure. First heat", "I am sorry", "refusal", "+1", "applied on 20 of 20 steps"):
        assert words in page


def test_before_there_is_a_text_the_page_is_empty(wire: Wire) -> None:
    assert wire.panel._static() == f'<div class="steerlab-static {wire.panel.page}"></div>'


class Notebook:
    """Stands for IPython in a kernel: what was put into the outputs, the id, the HTML, and whether it was there."""

    kernel = object()

    def __init__(self) -> None:
        self.shown: list[tuple[str, str, bool]] = []
        self.renewed = threading.Event()

    def display(self, page: Any, *, display_id: str, update: bool = False) -> None:
        self.shown.append((display_id, page.data, update))
        if update:
            self.renewed.set()


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    made = Notebook()
    monkeypatch.setattr(snapshot, "get_ipython", lambda: made)
    monkeypatch.setattr(snapshot, "display", made.display)
    return made


def test_a_shown_panel_puts_its_page_into_the_notebook_and_renews_it_after_a_run(
    wire: Wire, notebook: Notebook
) -> None:
    data, _ = wire.panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == repr(wire.lab)
    wire.say(kind="hello")
    wire.finished()
    assert notebook.renewed.wait(10)
    (name, _, first), (again, page, update) = notebook.shown
    assert (name, again) == (wire.panel.page, wire.panel.page)
    assert (first, update) == (False, True)
    assert "Sure. First heat" in page


@pytest.fixture
def page(notebook: Notebook) -> snapshot.StaticPage:
    texts = iter(range(1000))
    made = snapshot.StaticPage("page", lambda: f"text {next(texts)}")
    made.place()
    return made


def test_a_page_is_renewed_at_once_or_once_nothing_changes(
    page: snapshot.StaticPage, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "REST", 1.0)
    page.renew()
    assert notebook.shown == [("page", "text 0", False), ("page", "text 1", True)]
    notebook.renewed.clear()
    for _ in range(50):
        page.renew(at_once=False)
    assert len(notebook.shown) == 2
    assert notebook.renewed.wait(10)
    time.sleep(0.2)
    assert notebook.shown[2:] == [("page", "text 2", True)]


def test_what_changes_again_is_not_written_before(
    page: snapshot.StaticPage, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "REST", 0.2)
    page.renew(at_once=False)
    page.leave()
    time.sleep(0.5)
    assert notebook.shown == [("page", "text 0", False)]
    page.renew()
    assert notebook.shown[1:] == [("page", "text 1", True)]


def test_a_page_that_is_as_it_was_is_left_alone(notebook: Notebook) -> None:
    page = snapshot.StaticPage("page", lambda: "the same")
    page.place()
    page.renew()
    assert notebook.shown == [("page", "the same", False)]


def test_without_a_notebook_nothing_is_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "display", None)
    page = snapshot.StaticPage("page", lambda: "<div></div>")
    page.place()
    page.renew()
    page.renew(at_once=False)
    assert page._waiting is None
