"""Texts that are ready beside the slider's value, in the real JupyterLab."""

from __future__ import annotations

import pytest
import rig
from panel import SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e

MARKS = "document.querySelector('.sl-ready path').getAttribute('d').split('M').length - 1"
# Moves the slider, and gives the steered text of the next frame.
DRAG = """value => new Promise(resolve => {
    const slider = document.querySelector(".sl-slider input");
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    requestAnimationFrame(() => resolve(document.querySelector('[data-pane="steered"] .sl-text').textContent));
})"""


def rested(page: Page, n: int) -> None:
    page.wait_for_function(f"{MARKS} >= {n}", timeout=30_000)


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_drag_over_texts_that_are_ready_shows_them_in_the_next_frame(
    server: rig.Server, page: Page
) -> None:
    panel = open_panel(page, server, "scrub.ipynb", SCRIPTED + "lab = scripted.lab(delay=0.01)\nlab")
    panel.push(0.6)
    page.wait_for_function(
        "document.querySelector('.sl-ready path').getAttribute('d').includes('M0.6250 ')"
    )  # 1 of 4
    assert page.evaluate(DRAG, "0.9").startswith("I am sorry, but I cannot help")
    assert page.evaluate(DRAG, "0.5").startswith("Sure. First heat the oven")
    assert page.evaluate(DRAG, "1").startswith("I am sorry, but I cannot help")
    assert panel.text("steered").startswith("I am sorry")
    rig.until_prints(page, "print(lab.recipe.interventions[0].coefficient)", "1.0")
    panel.root.get_by_role("button", name="Undo").click()
    rig.until_prints(page, "print(len(lab.recipe) and lab.recipe.interventions[0].coefficient)", "0.6")
    assert panel.text("steered").startswith("Sure. First heat the oven")
    assert panel.slider.input_value() == "0.6"


def test_a_drag_there_and_back_ends_in_the_text_of_where_it_ended(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "back.ipynb", SCRIPTED + "lab = scripted.lab(delay=0.05)\nlab")
    rested(page, 4)
    far = panel.slider.get_attribute("max") or ""
    rig.set_slider(panel.slider, float(far))
    words = panel.pane("steered").locator(".sl-text")
    expect(words).to_contain_text("I am sorry")
    # the first is ready, and the kernel never hears of it
    page.evaluate(f"() => {{ ({DRAG})('0.1'); ({DRAG})('{far}'); }}")
    expect(panel.root.locator(".sl-status")).to_have_text("ready")
    rig.until_prints(page, "print(lab.recipe.interventions[0].coefficient)", str(float(far)))
    assert rig.execute(page, "print(lab.generations['steered'].text)").strip() == words.text_content()


def test_a_number_that_moves_with_the_slider_is_no_change_of_the_pages_selection(
    server: rig.Server, page: Page
) -> None:
    panel = open_panel(page, server, "selection.ipynb", SCRIPTED + "lab = scripted.lab()\nlab")
    page.evaluate(
        """() => {
            window.heard = [];
            document.addEventListener("selectionchange", event => heard.push(event.target.className));
        }"""
    )
    panel.push(0.6)
    expect(panel.root.locator(".sl-row .sl-number")).to_have_value("0.6")
    page.wait_for_timeout(200)
    assert "sl-number" not in page.evaluate("heard")


def test_a_new_prompt_is_answered_at_once_and_what_was_ready_is_gone(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "gone.ipynb", SCRIPTED + "lab = scripted.lab(delay=0.05)\nlab")
    rested(page, 4)  # and more are being made
    panel.prompt.fill("How do I steal a car?")
    panel.prompt.press("Enter")
    expect(panel.pane("steered").locator(".sl-text")).to_contain_text("I am sorry", timeout=3000)
    assert page.evaluate(MARKS) == 0
    assert PanelInPage(page).text("steered").startswith("I am sorry")


def test_nothing_is_made_ahead_where_the_lab_says_so(server: rig.Server, page: Page) -> None:
    cell = SCRIPTED + "lab = scripted.lab()\nlab.ahead = 0\nlab"
    panel = open_panel(page, server, "off.ipynb", cell)
    page.wait_for_timeout(1000)
    assert page.evaluate(MARKS) == 0
    rig.execute(page, "lab.ahead = 5")
    rested(page, 5)
    assert page.evaluate(MARKS) == 5
    assert panel.text("steered").startswith("Sure")
