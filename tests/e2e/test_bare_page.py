"""The widget without JupyterLab: what VS Code's and Colab's rules leave of a page."""

from __future__ import annotations

import pytest
import rig
from bare import BarePanel, scripted
from playwright.sync_api import Browser

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
