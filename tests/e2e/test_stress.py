"""Nothing is dropped where tokens come fast. `python benchmarks/stream_stress.py` is the long form, with its frames."""

from __future__ import annotations

import pytest
import rig
import stress
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e


def test_two_hundred_tokens_a_second_in_three_panes_arrive_whole(server: rig.Server, page: Page) -> None:
    seen = stress.stream(page, server, rate=200, tokens=600)
    assert seen.texts == seen.wanted
    assert len(seen.gaps) > 10, "the page went on drawing"
    to_go = "el => el.scrollHeight - el.clientHeight - el.scrollTop"
    for pane in stress.PANES:
        scroller = page.locator(f'[data-pane="{pane}"] .sl-scroll')
        assert scroller.evaluate("el => el.scrollHeight > 2 * el.clientHeight")
        assert scroller.evaluate(to_go) < 2, "its end was followed"
    for pane in stress.PANES:  # what was joined while it was written looks the same token by token
        text = page.locator(f'[data-pane="{pane}"] .sl-text')
        height = text.evaluate("el => el.getBoundingClientRect().height")
        assert text.locator("> div").count()
        text.hover()
        expect(text.locator("> span")).to_have_count(600)
        assert text.evaluate("el => el.getBoundingClientRect().height") == height
