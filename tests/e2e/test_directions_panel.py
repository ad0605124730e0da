"""Several directions, files by the browser's own dialog and downloads, and snapshots, in a real JupyterLab."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import rig
import torch
from panel import SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Page, expect
from test_looks import fits

from steerlab import Recipe, Site
from steerlab.estimators import DirectionMap
from steerlab.formats import load

pytestmark = pytest.mark.e2e

CELL = SCRIPTED + "lab = scripted.lab(n_layers={layers})\nlab"


def load_file(panel: PanelInPage, *paths: Path) -> None:
    with panel.page.expect_file_chooser() as dialog:
        panel.root.get_by_role("button", name="load a file").click()
    dialog.value.set_files(list(paths))


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_vector_comes_in_by_a_file_and_goes_out_by_a_download_and_so_does_the_recipe(
    server: rig.Server, page: Page, tmp_path: Path
) -> None:
    panel = open_panel(page, server, "files.ipynb", CELL.format(layers=28), "1")
    vector = torch.arange(1.0, 17.0)
    torch.save(vector, tmp_path / "happy.pt")
    load_file(panel, tmp_path / "happy.pt")
    question = panel.root.get_by_role("form", name="What the file does not say")
    question.get_by_label("layer").select_option("12")
    question.get_by_label("point").select_option("resid_post")
    question.get_by_role("button", name="Use it").click()
    row = panel.root.get_by_role("group", name="happy", exact=True)
    expect(row).to_be_visible()
    rig.until_prints(page, "print(lab.directions['happy'].site)", "resid_post[12]")
    row.get_by_role("button", name="More for happy").click()
    with page.expect_download() as download:
        row.get_by_role("menuitem", name="Save as .safetensors").click()
    download.value.save_as(tmp_path / "out.safetensors")
    assert download.value.suggested_filename == "happy.safetensors"
    saved = load(tmp_path / "out.safetensors")
    assert torch.equal(saved.vector, vector)
    assert saved.site == Site(12, "resid_post")
    rig.set_slider(row.get_by_role("slider"), 0.5)
    panel.text("steered")
    with page.expect_download() as download:
        panel.root.get_by_role("button", name="Save the recipe").click()
    download.value.save_as(tmp_path / "recipe.steer.json")
    recipe = Recipe.load(tmp_path / "recipe.steer.json")
    assert [step.direction.name for step in recipe.interventions] == ["happy"]
    rig.set_slider(row.get_by_role("slider"), 0)
    rig.until_prints(page, "print(len(lab.recipe))", "0")
    load_file(panel, tmp_path / "recipe.steer.json")
    rig.until_prints(page, "print(lab.recipe.fingerprint)", recipe.fingerprint)
    found = DirectionMap(torch.rand(3, 28, 16) + 1, torch.ones(3, 28), (-3, -2, -1), "resid_pre", "sad")
    load_file(panel, found.save(tmp_path / "map.safetensors"))
    where = question.get_by_label("position")
    expect(where).to_have_value("-1")
    where.select_option("-2")
    question.get_by_role("button", name="Use it").click()
    question.get_by_label("layer").select_option("7")
    question.get_by_role("button", name="Use it").click()
    rig.until_prints(page, "print(lab.directions['sad'].site)", "resid_pre[7]")
    (tmp_path / "notes.json").write_text('{"a": 1}')
    load_file(panel, tmp_path / "notes.json")
    expect(panel.root.get_by_role("alert")).to_contain_text(
        "of no format that steerlab knows", timeout=20_000
    )


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_several_directions_with_the_keyboard_alone(server: rig.Server, page: Page) -> None:
    cell = (
        SCRIPTED
        + "import steerlab as sl\nlab = scripted.lab()\nr = lab.directions['refusal']\n"
        + "lab.directions = {**lab.directions, 'happy': sl.Direction(range(1, 17), r.site, name='happy')}\nlab"
    )
    panel = open_panel(page, server, "keys.ipynb", cell, "1")
    keys = page.keyboard.press
    order = "print([s.direction.name for s in lab.recipe.interventions])"
    for name in ("refusal", "happy"):
        panel.root.get_by_role("slider", name=f"Coefficient of {name}").focus()
        keys("ArrowRight")
    rig.until_prints(page, order, "['refusal', 'happy']")
    panel.root.get_by_role("button", name="Move happy").focus()
    keys("ArrowUp")
    rig.until_prints(page, order, "['happy', 'refusal']")
    panel.root.get_by_role("button", name="More for happy").focus()
    keys("Enter")
    keys("ArrowDown")  # Rename…
    keys("Enter")
    expect(panel.root.locator("input:focus")).to_have_value("happy")
    page.keyboard.type("joy")
    keys("Enter")
    expect(panel.root.get_by_role("group", name="joy", exact=True)).to_be_visible()
    rig.until_prints(page, "print(list(lab.directions))", "['refusal', 'joy']")
    panel.root.get_by_role("button", name="More for joy").focus()
    keys("ArrowDown")
    keys("End")  # Remove
    keys("Enter")
    expect(panel.root.get_by_role("group", name="joy", exact=True)).to_have_count(0)
    rig.until_prints(page, order, "['refusal']")
    panel.root.get_by_role("button", name="Add a direction of the lab").focus()
    keys("Enter")
    keys("ArrowDown")
    keys("Escape")
    expect(panel.root.get_by_role("button", name="Add a direction of the lab")).to_be_focused()
    keys("Enter")
    keys("ArrowDown")
    keys("Enter")
    expect(panel.root.get_by_role("group", name="joy", exact=True)).to_be_visible()
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(2)


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_snapshots_are_kept_compared_restored_and_shared(server: rig.Server, page: Page) -> None:
    cell = "import steerlab as sl\nlab = sl.Lab()\nlab"
    panel = open_panel(page, server, "snapshots.ipynb", cell, "1")
    panel.root.get_by_role("tab", name="Snapshots").click()
    tab = panel.root.get_by_role("tabpanel", name="Snapshots")
    name = tab.get_by_role("textbox", name="Name of the snapshot")
    name.fill("plain")
    name.press("Enter")
    expect(tab.get_by_role("checkbox", name="Compare plain")).to_be_visible(timeout=20_000)
    rig.set_slider(panel.slider, 1.5)
    name.fill("push")
    name.press("Enter")
    rig.until_prints(page, "print([len(s.recipe) for s in lab.snapshots.values()])", "[0, 1]")
    for one in ("plain", "push"):
        tab.get_by_role("checkbox", name=f"Compare {one}").check()
    panes = tab.get_by_role("region", name="text")
    expect(panes).to_have_count(2, timeout=60_000)
    first, second = panes.nth(0).inner_text(), panes.nth(1).inner_text()
    assert first != second
    rig.until_prints(page, "print(str(lab.run([lab.snapshots['push'].row])[0]).strip())", second.strip())
    tab.get_by_role("button", name="Restore plain").click()
    expect(panel.root.get_by_role("checkbox", name="refusal")).not_to_be_checked()
    rig.until_prints(page, "print(len(lab.recipe))", "0")
    tab.get_by_role("button", name="Restore push").click()
    expect(panel.slider).to_have_value("1.5")
    tab.get_by_role("button", name="Share what is set").click()
    text = tab.get_by_role("textbox", name="Shared text", exact=True)
    expect(text).to_have_value(re.compile("^steerlab1-"))
    shared = text.input_value()
    tab.get_by_role("button", name="Restore plain").click()
    rig.until_prints(page, "print(len(lab.recipe))", "0")
    tab.get_by_role("textbox", name="A shared text to open").fill(shared)
    tab.get_by_role("button", name="Open a shared text").click()
    expect(panel.slider).to_have_value("1.5")
    tab.get_by_role("button", name="Delete plain").click()
    rig.until_prints(page, "print(list(lab.snapshots))", "['push']")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_the_tab_of_directions_shows_the_layers_of_a_deep_model_at_480_pixels(
    server: rig.Server, page: Page
) -> None:
    cell = (
        SCRIPTED
        + "import torch\nfrom steerlab.estimators import DirectionMap\nlab = scripted.lab(n_layers=28)\n"
        + "v = torch.randn(3, 28, 16, dtype=torch.float64)\n"
        + "lab.map = DirectionMap(v, torch.full((3, 28), 9.0), (-3, -2, -1), 'resid_pre', name='x')\nlab"
    )
    page.set_viewport_size({"width": 592, "height": 1600})
    panel = open_panel(page, server, "deep.ipynb", cell)
    rig.fold_sidebar(page)
    panel.root.get_by_role("tab", name="Directions").click()
    tab = panel.root.get_by_role("tabpanel", name="Directions")
    expect(tab.locator(".sl-layers .sl-heat-cell")).to_have_count(28 * 28)
    tab.locator(".sl-bars-layer").first.focus()
    page.keyboard.press("End")
    expect(tab.locator(".sl-bars-layer").last).to_be_focused()
    assert fits(page)
    expect(panel.root.locator(".sl-cell").first).to_have_attribute("aria-label", re.compile("chance: 0.20"))
