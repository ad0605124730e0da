"""The first minutes of a person with the panel, in real JupyterLab and Notebook."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import rig
from panel import EMBEDDED, FIRST_CELL, SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Page, expect

from steerlab.demo.world import is_refusal

pytestmark = pytest.mark.e2e

NASTY = "<img src=x onerror=\"document.title='broken in'\">"


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_person_drags_the_slider_to_a_refusal_and_back(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, replace(server, kernel="python3"), "first.ipynb")  # that imports all by itself
    baseline = panel.text("baseline")
    assert not is_refusal(baseline)
    assert panel.text("steered") == baseline
    assert is_refusal(panel.push_to_refusal())
    expect(panel.pane("steered").locator(".sl-foot")).to_contain_text("applied on")
    own, steered = (panel.pane(name).get_by_title("Cross-entropy") for name in ("baseline", "steered"))
    for told in (own, steered):
        expect(told).to_have_text(re.compile(r"^CE (< )?\d"))
    assert panel.text("baseline") == baseline
    assert panel.push(0) == baseline

    panel.prompt.fill(NASTY)
    panel.prompt.press("Enter")
    expect(panel.root.locator(".sl-template")).to_contain_text("onerror")
    panel.text("steered")
    assert page.locator(".jp-Notebook img").count() == 0
    assert page.title() != "broken in"
    assert panel.prompt.input_value() == NASTY


@pytest.mark.skipif(not EMBEDDED, reason="the embedded model is not trained yet")
def test_the_launcher_card_opens_a_panel_that_works(server: rig.Server, page: Page) -> None:
    page.goto(f"{server.url}/lab?reset", wait_until="domcontentloaded")
    card = page.locator(".jp-LauncherCard", has_text="Steering Lab")
    expect(card.locator("svg")).to_be_visible(timeout=60_000)
    card.click()
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
    expect(cell).to_contain_text("sl.Lab()", timeout=60_000)
    assert cell.inner_text().split() == "import steerlab as sl lab = sl.Lab() lab".split()
    expect(page.locator(".sl-app")).to_be_visible(timeout=60_000)
    panel = PanelInPage(page)
    expect(panel.pane("baseline").locator(".sl-text")).not_to_be_empty(timeout=60_000)
    assert panel.text("baseline")


def test_a_new_lab_runs_its_own_cell_where_another_notebook_is_looked_at_by_then(
    server: rig.Server, page: Page
) -> None:
    server.write("other.ipynb", "1")
    rig.open_notebook(page, server, "other.ipynb")
    counts = page.evaluate(
        """async () => {
            const { shell, commands } = jupyterapp;
            const other = shell.currentWidget;
            const back = () => setTimeout(() => shell.activateById(other.id));
            shell.currentChanged.connect(back);
            const made = await commands.execute("steerlab:new-lab");
            shell.currentChanged.disconnect(back);
            return [made, other].map((panel) => panel.content.widgets[0].model.executionCount);
        }"""
    )
    assert counts == [1, None]


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_keys_reach_the_panel_and_not_the_notebook(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "keys.ipynb", FIRST_CELL, "1")
    cells = page.locator(".jp-Notebook .jp-Cell")
    panel.slider.focus()
    for key in ("ArrowRight", "ArrowRight", "a", "b", "d", "d"):
        page.keyboard.press(key)
    assert float(panel.slider.input_value()) > 0
    expect(cells).to_have_count(2)
    panel.prompt.fill("")
    page.keyboard.type("add a bad dab")
    assert panel.prompt.input_value() == "add a bad dab"
    expect(cells).to_have_count(2)

    site = panel.root.get_by_role("gridcell", name="attn_out[1]:")
    panel.root.get_by_role("gridcell", name="attn_out[0]:").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(site).to_have_attribute("aria-selected", "true")
    expect(site).to_be_focused()
    page.keyboard.press("Control+Shift+C")  # the palette still opens from inside
    expect(page.locator(".lm-CommandPalette-input")).to_be_visible()


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_the_panel_moves_with_the_lab_in_another_cell(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "both.ipynb")
    assert "Error" not in rig.execute(page, "import steerlab as sl; d = lab.directions['refusal']")
    rig.execute(page, "lab.recipe = sl.Recipe([sl.Add(d, 1.0)])")
    expect(panel.slider).to_have_value("1")
    expect(panel.pane("steered").locator(".sl-foot")).to_contain_text("applied on")
    assert panel.text("steered") != panel.text("baseline")
    panel.root.get_by_role("radio", name="ablate").check()
    rig.until_prints(page, "print(lab.recipe == sl.Recipe([sl.Ablate(d)]))", "True")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_two_views_of_one_lab_are_one_panel(server: rig.Server, page: Page) -> None:
    first = open_panel(page, server, "views.ipynb", FIRST_CELL, "lab")
    rig.run_cell(page, 1)
    second = PanelInPage(page, 1)
    expect(second.root).to_be_visible()
    refusal = first.push_to_refusal()
    assert second.slider.input_value() == first.slider.input_value()
    assert second.text("steered") == refusal


def test_a_number_is_told_as_a_multiple_of_the_stream_and_raw_on_hover(
    server: rig.Server, page: Page
) -> None:
    panel = open_panel(page, server, "raw.ipynb", SCRIPTED + "lab = scripted.lab()\nlab")
    panel.push(1.5)
    norms = rig.execute(page, "d = lab.directions['refusal']; print(d.norm, d.residual_norm)")
    norm, stream = map(float, norms.split())
    told = panel.root.locator(".sl-meaning")
    expect(told).to_have_text(f"+{1.5 * norm / stream:.2f} × ‖resid‖")
    told.hover()
    under_the_pointer = "[...document.querySelectorAll(':hover')].at(-1).title"
    assert (
        page.evaluate(under_the_pointer) == f"1.5 × |v| {norm:#.4g}; mean ‖resid‖ at its site {stream:#.4g}"
    )
