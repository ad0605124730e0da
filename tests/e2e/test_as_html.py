"""A notebook that was saved after a run, as a page: nbconvert's, without a kernel and without a network."""

from __future__ import annotations

import subprocess
import sys

import pytest
import rig
from panel import SCRIPTED, open_panel
from playwright.sync_api import Browser, Page, Route, expect

pytestmark = pytest.mark.e2e

NASTY = """<img src=x onerror="document.title='broken in'"></div><b>bread</b>"""


def test_a_converted_notebook_shows_the_last_texts_without_kernel_and_network(
    server: rig.Server, page: Page, browser: Browser
) -> None:
    # a scripted model repeats such a prompt, so the markup is in the model's text, too
    panel = open_panel(
        page, server, "saved.ipynb", SCRIPTED + f"lab = scripted.lab()\nlab.prompt = {NASTY!r}\nlab"
    )
    answer, refusal = panel.text("baseline"), panel.push(1.0)
    expect(page.locator(".steerlab-static")).to_contain_text(refusal)  # hidden by the panel, but there
    rig.command(page, "docmanager:save")
    convert = [sys.executable, "-m", "nbconvert", "--to", "html", "--log-level", "ERROR", "saved.ipynb"]
    subprocess.run(convert, cwd=server.root, check=True, timeout=120)

    context = browser.new_context(viewport={"width": 480, "height": 900})
    context.route("**/*", only_files)
    static = context.new_page()
    static.goto((server.root / "saved.html").as_uri(), wait_until="load")
    texts = static.locator(".steerlab-static")
    assert texts.is_visible()
    shown = texts.inner_text()
    for words in (NASTY, answer, refusal, "add refusal +1 at 1 site", "applied on 20 of 20 steps"):
        assert words in shown
    assert answer.startswith("<img")
    assert static.locator("img, .steerlab-static b:text('bread')").count() == 0
    assert static.title() != "broken in"
    assert texts.evaluate("el => el.scrollWidth <= el.clientWidth")
    assert static.locator("body").inner_text().count(refusal) == 1
    assert "Error" not in static.locator("body").inner_text()
    context.close()


def only_files(route: Route) -> None:
    if route.request.url.startswith("file:"):
        route.continue_()
    else:
        route.abort()
