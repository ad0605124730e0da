"""Nothing is dropped where tokens come fast. `python benchmarks/stream_stress.py` is the long form, with its frames."""

from __future__ import annotations

import re

import pytest
import rig
import stress
from panel import SCRIPTED, open_panel
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e

# How far the steered pane is scrolled at most from here on.
WATCH_SCROLL = """() => {
    const scroller = document.querySelector('[data-pane="steered"] .sl-scroll');
    window.steerlabScroll = 0;
    const look = () => {
        window.steerlabScroll = Math.max(window.steerlabScroll, scroller.scrollTop);
        requestAnimationFrame(look);
    };
    look();
}"""


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
        assert text.locator("> .sl-line").count()
        text.hover()
        expect(text.locator("> span")).to_have_count(600)
        assert text.evaluate("el => el.getBoundingClientRect().height") == height


def test_the_count_and_the_rate_stand_under_a_text_while_it_is_written_and_move_nowhere(
    server: rig.Server, page: Page
) -> None:
    cell = f"{SCRIPTED}lab = scripted.scheduled(rate=20, tokens=20)\nlab"
    panel = open_panel(page, server, "live.ipynb", cell)
    rig.execute(page, "lab.sampling = type(lab.sampling)(100)")
    rig.set_slider(panel.slider, 1)
    foot = panel.pane("steered").locator(".sl-foot")
    rate = foot.locator(".sl-facts > span", has_text="tok/s")
    expect(foot).to_contain_text(re.compile(r"applied on [2-9]\d of [2-9]\d steps.*tok/s.*so far"))
    told = re.fullmatch(r"(\d+) tok/s", rate.inner_text())
    assert told
    assert 10 <= int(told[1]) <= 22
    place = """el => [...el.children].filter((line) => line.offsetHeight).map((line) => [
        line.offsetTop - el.offsetTop, line.offsetHeight, line.firstElementChild?.offsetLeft ?? null,
    ])"""
    written = foot.evaluate(place)
    assert panel.pane("steered").get_attribute("data-phase") == "running"
    expect(foot).to_contain_text("applied on 100 of 100 steps20 tok/s")
    expect(foot).to_contain_text("ended by itself")
    expect(foot).to_contain_text("answers")
    ended = foot.evaluate(place)
    assert [line[:2] for line in ended] == [line[:2] for line in written]
    assert ended[0] == written[0]


def test_what_is_written_over_a_long_text_is_in_view(server: rig.Server, page: Page) -> None:
    cell = f"{SCRIPTED}lab = scripted.scheduled(rate=2000, tokens=300)\nlab"
    panel = open_panel(page, server, "over.ipynb", cell)
    for pane in stress.PANES:
        expect(panel.pane(pane).locator(".sl-text")).to_contain_text(".299")
    upper = panel.pane("control").locator(".sl-scroll")
    upper.evaluate("el => el.scrollTop = 200")  # somebody reads here
    rig.execute(page, "lab.backend.rate = 25; lab.prompt = 'Another'")
    in_view = """pane => {
        const [text, view] = [".sl-last", ".sl-scroll"].map(s => pane.querySelector(s).getBoundingClientRect());
        return text.bottom > view.top && text.bottom <= view.bottom;
    }"""

    def written_to(token: int) -> None:
        for pane in ("baseline", "steered"):
            expect(panel.pane(pane).locator(".sl-last")).to_contain_text(f".{token} ")
            assert panel.pane(pane).locator(".sl-old").count(), "the old text is still behind it"
            assert panel.pane(pane).evaluate(in_view)

    written_to(5)
    page.evaluate(WATCH_SCROLL)
    rig.execute(page, "lab.prompt = 'A third'")  # cuts the second short
    expect(panel.pane("steered").locator(".sl-last")).not_to_contain_text(".5 ")
    written_to(5)
    assert page.evaluate("steerlabScroll") == 0, "the view went to the end of the old text and back"
    written_to(130)
    assert upper.evaluate("el => el.scrollTop") == 200
