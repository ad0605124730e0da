"""A notebook's lab beside it: the same panel in JupyterLab's side area, or that of a lab which no cell shows."""

from __future__ import annotations

import json

import pytest
import rig
from panel import SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Locator, Page, expect
from test_kernel import RUN, restart
from test_looks import AXE, ILLEGIBLE
from test_menu import INSERT, item, menu

pytestmark = pytest.mark.e2e

CELL = SCRIPTED + "lab = scripted.lab()\nlab"
SIDE = ".steerlab-beside"
SOURCES = "jupyterapp.shell.currentWidget.content.widgets.map(one => one.model.sharedModel.getSource())"


def show(page: Page) -> Locator:
    rig.command(page, "steerlab:show-beside")
    side = page.locator(SIDE)
    expect(side).to_have_count(1)
    return side


def panel_in(side: Locator) -> PanelInPage:
    """The panel beside the notebook, once it is there."""
    found = PanelInPage(side.page)
    found.root = side.locator(".sl-app")
    expect(found.root).to_be_visible()
    return found


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_it_is_the_same_panel_in_two_places_and_its_recipe_becomes_a_cell(
    server: rig.Server, page: Page
) -> None:
    panel = open_panel(page, server, "beside.ipynb", CELL, "'below'")
    side = show(page)
    beside = panel_in(side)
    expect(side.get_by_role("heading").first).to_have_text("beside.ipynb")
    assert beside.text("baseline") == panel.text("baseline")
    rig.set_slider(beside.slider, 1.5)
    expect(panel.slider).to_have_value("1.5")
    expect(panel.pane("steered").locator(".sl-text")).to_contain_text("something else.")
    assert beside.text("steered") == panel.text("steered")
    show(page)  # once more changes nothing
    expect(beside.root).to_have_count(1)
    expect(page.locator(".steerlab-static")).to_be_hidden()

    item(menu(page), INSERT).click()
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    expect(cells).to_have_count(3)
    beside.root.get_by_role("tab", name="Code").click()
    beside.root.get_by_role("button", name="Insert a cell below").click()
    expect(cells).to_have_count(4)
    first, second, last = page.evaluate(SOURCES)[1:]
    assert first == second
    assert last == "'below'"
    assert rig.execute(page, "wanted = lab.recipe; lab.recipe = type(wanted)([])") == ""
    rig.run_cell(page, 1)
    rig.until_prints(page, "print(recipe == wanted)", "True")


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci in js/")
def test_it_is_legible_and_axe_finds_nothing_at_its_narrowest(server: rig.Server, page: Page) -> None:
    open_panel(page, server, "narrow-side.ipynb", CELL.replace("lab()", "lab(n_layers=10)"))
    side = show(page)
    beside = panel_in(side)
    beside.push(1)
    box = side.bounding_box()
    assert box is not None
    assert box["width"] == 360
    page.add_script_tag(path=AXE)
    page.evaluate("document.body.style.height = '100vh'")  # as in test_looks
    for theme in ("Dark", "Light"):
        name = f"JupyterLab {theme}"
        page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", name)
        expect(beside.root).to_have_attribute("data-theme", theme.lower())
        page.wait_for_load_state("networkidle")
        report = page.evaluate(f"axe.run('{SIDE}')")
        assert [f"{v['id']}: {n['html'][:120]}" for v in report["violations"] for n in v["nodes"]] == []
    here = ILLEGIBLE.replace('".sl-app"', f'"{SIDE} .sl-app"')
    assert page.evaluate(here) == []


def test_a_lab_that_no_cell_shows_comes_by_itself_and_the_newest_is_the_one(
    server: rig.Server, page: Page
) -> None:
    make = SCRIPTED + "lab = scripted.lab()\nother = scripted.lab()\nlab = scripted.lab()\nlab.prompt = 'Hi'"
    server.write("unseen.ipynb", "1 + 1", make, "lab.close(); other.prompt = 'Ho'")
    rig.open_notebook(page, server, "unseen.ipynb")
    side = show(page)
    expect(side).to_contain_text("There is no open lab in this notebook’s kernel. Run a cell that makes one")
    rig.run_cell(page, 0)
    rig.run_cell(page, 1)
    beside = panel_in(side)
    expect(beside.prompt).to_have_value("Hi")
    assert rig.execute(page, "print([n for n in dir() if 'beside' in n or n == 'show'])") == "[]\n"
    rig.run_cell(page, 2)
    expect(beside.prompt).to_have_value("Ho")
    beside.push(1)
    rig.until_prints(page, "print(other.recipe.interventions[0].coefficient)", "1.0")
    rig.command(page, "docmanager:save")
    outputs = [c["outputs"] for c in json.loads((server.root / "unseen.ipynb").read_text())["cells"]]
    assert outputs[1:] == [[], []], "what is beside the notebook is in none of its cells"
    restart(page)
    expect(side).to_contain_text("The kernel is gone.")
    expect(side).to_contain_text("it then comes back here by itself")
    rig.run_cell(page, 1)
    expect(beside.prompt).to_have_value("Hi")
    expect(side).not_to_contain_text("The kernel is gone.")


def test_after_a_restart_the_button_beside_runs_the_cells_and_both_are_live_again(
    server: rig.Server, page: Page
) -> None:
    panel = open_panel(page, server, "again-beside.ipynb", CELL)
    side = show(page)
    beside = panel_in(side)
    rig.set_slider(beside.slider, 1.5)
    expect(panel.slider).to_have_value("1.5")
    restart(page)
    expect(side).to_contain_text("The kernel is gone.")
    side.get_by_role("button", name=RUN).click()
    expect(side).not_to_contain_text("The kernel is gone.", timeout=30_000)
    for one in (panel, beside):
        expect(one.slider).to_have_value("1.5")
    rig.set_slider(beside.slider, -1)
    expect(panel.slider).to_have_value("-1")
    page.reload(wait_until="domcontentloaded")
    expect(beside.slider).to_have_value("-1", timeout=60_000)  # JupyterLab puts it where it was
    rig.command(page, "docmanager:save")
    rig.command(page, "application:close")
    expect(side).to_have_count(0)
