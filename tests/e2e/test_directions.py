"""Several directions, files by the browser's own dialog and downloads, and snapshots, in a real JupyterLab."""

from __future__ import annotations

from pathlib import Path

import pytest
import rig
import torch
from panel import SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Page, expect

from steerlab import Recipe, Site
from steerlab.formats import load

pytestmark = pytest.mark.e2e

CELL = SCRIPTED + "lab = scripted.lab(n_layers={layers})\nlab"


def load_file(panel: PanelInPage, *paths: Path) -> None:
    with panel.page.expect_file_chooser() as dialog:
        panel.root.get_by_role("button", name="load a file").click()
    dialog.value.set_files(list(paths))


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
    (tmp_path / "notes.json").write_text('{"a": 1}')
    load_file(panel, tmp_path / "notes.json")
    expect(panel.root.get_by_role("alert")).to_contain_text("of no format that steerlab knows")


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
