"""The tabs below the panel, and what each holds, in a real JupyterLab and a real Notebook."""

from __future__ import annotations

import pytest
import rig
from panel import SCRIPTED, open_panel
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e

CELL = SCRIPTED + "lab = scripted.lab()\nlab"


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_the_recipe_goes_from_the_panel_into_a_cell_that_runs(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "code.ipynb", CELL)
    panel.push(1.0)
    panel.root.get_by_role("tab", name="Preview").focus()
    page.keyboard.press("End")
    tab = panel.root.get_by_role("tab", name="Code")
    expect(tab).to_be_focused()
    expect(tab).to_have_attribute("aria-selected", "true")
    code = panel.root.locator(".sl-code")
    expect(code).to_contain_text("sl.Add(refusal, coefficient=1.0)")
    rig.set_slider(panel.slider, 1.5)  # the preview and the code follow, whatever tab is open
    expect(code).to_contain_text("sl.Add(refusal, coefficient=1.5)")
    rig.until_prints(page, "print(lab.recipe.interventions[0].coefficient)", "1.5")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel.root.get_by_role("button", name="Copy").click()
    expect(panel.root.get_by_text("Copied", exact=True)).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == code.text_content()
    panel.root.get_by_role("button", name="Insert a cell below").click()
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    expect(cells).to_have_count(2)
    rig.run_cell(page, 1)
    expect(cells.nth(1).locator(".jp-OutputArea-output")).to_contain_text("I am sorry")
    panel.root.get_by_role("tab", name="Preview").click()
    assert panel.text("steered").startswith("I am sorry")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_the_code_in_pure_nnsight_writes_the_panel_s_text_in_a_cell_of_its_own(
    server: rig.Server, page: Page
) -> None:
    panel = open_panel(page, server, "nnsight.ipynb", "import steerlab as sl\nlab = sl.Lab()\nlab")
    refusal = panel.push_to_refusal()
    baseline = panel.text("baseline")
    assert refusal != baseline
    panel.root.get_by_role("tab", name="Code").click()
    panel.root.get_by_role("radio", name="nnsight").check()
    expect(panel.root.locator(".sl-code")).to_contain_text("from nnsight import")
    panel.root.get_by_role("button", name="Insert a cell below").click()
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    expect(cells).to_have_count(2)
    source = page.evaluate("jupyterapp.shell.currentWidget.content.widgets[1].model.sharedModel.source")
    assert "import steerlab" not in source
    rig.run_cell(page, 1)
    output = cells.nth(1).locator("[data-mime-type='application/vnd.jupyter.stdout']")
    expect(output).to_contain_text("STEERED:", timeout=60_000)
    printed = " ".join(output.inner_text().split())
    assert printed == f"BASELINE: {' '.join(baseline.split())} STEERED: {' '.join(refusal.split())}"


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_undo_in_the_panel_takes_a_drag_back_as_one_and_leaves_the_notebook_alone(
    server: rig.Server, page: Page
) -> None:
    panel = open_panel(page, server, "undo.ipynb", CELL, "1")
    page.evaluate(
        """async () => {
            const slider = document.querySelector(".sl-slider input");
            const fire = (type, Kind) => slider.dispatchEvent(new Kind(type, { bubbles: true }));
            fire("pointerdown", PointerEvent);
            for (let i = 1; i <= 20; i++) {
                slider.value = String(i / 10);
                fire("input", Event);
                await new Promise((resolve) => setTimeout(resolve, 60));
            }
            fire("pointerup", PointerEvent);
        }"""
    )
    assert panel.text("steered").startswith("I am sorry")
    panel.root.get_by_role("radio", name="ablate").check()
    panel.prompt.focus()
    page.keyboard.press("Control+z")
    expect(panel.root.get_by_role("radio", name="add", exact=True)).to_be_checked()
    expect(panel.slider).to_have_value("2")
    page.keyboard.press("Control+z")
    expect(panel.slider).to_have_value("0")
    rig.until_prints(page, "print(len(lab.recipe))", "0")
    page.keyboard.press("Control+Shift+Z")
    expect(panel.slider).to_have_value("2")
    panel.root.get_by_role("button", name="Undo").click()
    expect(panel.slider).to_have_value("0")
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(2)
