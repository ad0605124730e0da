"""The widget without JupyterLab: what VS Code's and Colab's rules leave of a page, and what moves in it."""

from __future__ import annotations

import itertools

import pytest
import rig
from bare import BarePanel, scripted
from playwright.sync_api import Browser, expect

pytestmark = pytest.mark.e2e


def test_the_panel_works_in_a_page_without_jupyter_and_without_network(browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 480, "height": 1200})
    told: list[str] = []
    page.on("request", lambda request: told.append(request.url))
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    panel = BarePanel(page, scripted.lab())
    panel.until(lambda: panel.status() == "ready" and panel.text("control") == scripted.ANSWER)
    assert panel.text("baseline") == panel.text("steered") == scripted.ANSWER
    rig.set_slider(page.locator(".sl-slider input").first, 1)
    panel.until(lambda: panel.status() == "ready" and panel.text("steered") == scripted.REFUSAL)
    assert panel.wire.lab.recipe.interventions[0].coefficient == 1  # type: ignore[union-attr]
    panel.wire.lab.prompt = "From Python"
    panel.until(lambda: page.get_by_role("textbox", name="Prompt").input_value() == "From Python")
    page.get_by_role("button", name="Undo").click()
    panel.until(lambda: panel.wire.lab.prompt != "From Python")
    page.get_by_role("tab", name="Code").click()
    panel.until(lambda: "sl.Add" in panel.read(".sl-code"))
    assert page.evaluate("document.documentElement.scrollWidth <= 480")
    page.evaluate("close_view()")
    assert page.locator(".sl-app *").count() == 0, "a closed view leaves nothing"
    assert [one for one in told if not one.startswith("blob:")] == []
    page.close()


@pytest.mark.parametrize("width", [480, 760, 900, 1200])
def test_a_press_counts_though_the_status_changes_before_the_release(browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 1200})
    panel = BarePanel(page, scripted.lab())
    panel.until(lambda: panel.status() == "ready" and panel.text("control") == scripted.ANSWER)

    def hear(job: str = "", **traits: object) -> None:
        said = {"kind": "job", "stage": job, "position": 12 if job == "queued" else None, "seconds": 0}
        page.evaluate("what => hear(what)", {"messages": [said], "changes": traits})

    hear(info=panel.wire.panel.info | {"backend": "ndif", "device": "https://ndif.example.org:5001"})
    opener = page.get_by_role("group", name="Server").get_by_role("button").first
    buttons = page.locator(".sl-header button")
    boxes = None
    for before, after in itertools.pairwise(("", "sending", "received", "queued", "running", "fetching", "")):
        hear(before)
        expect(opener).to_have_attribute("aria-expanded", "false")
        box = opener.bounding_box()
        assert box is not None
        for share in (0.05, 0.95):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
            page.mouse.down()
            word = opener.inner_text()
            hear(after)
            expect(opener).not_to_have_text(word)
            page.mouse.up()
            expect(opener).to_have_attribute("aria-expanded", "true")
            page.keyboard.press("Escape")
            expect(opener).to_have_attribute("aria-expanded", "false")
            hear(before)
            expect(opener).to_have_text(word)
        now = [button.bounding_box() for button in buttons.all()]
        assert boxes in (None, now), "what is in the header stays where it is"
        boxes = now
    page.close()
