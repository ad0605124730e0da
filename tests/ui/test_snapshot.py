from __future__ import annotations

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


def test_a_shown_panel_puts_its_page_into_the_notebook_and_renews_it_after_each_run(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: dict[str, str] = {}
    monkeypatch.setattr(snapshot, "place", lambda page, html: placed.update({page: html}) is None)
    monkeypatch.setattr(snapshot, "replace", lambda page, html: placed.update({page: html}))
    data, _ = wire.panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == repr(wire.lab)
    wire.say(kind="hello")
    wire.finished()
    wire.until(lambda: "Sure. First heat" in placed[wire.panel.page])


def test_without_a_notebook_nothing_is_placed(wire: Wire) -> None:
    assert not snapshot.place("page", "<div></div>")
