"""A panel with something in every tab, and a list of jobs, for what is walked through and looked at as a whole."""

from __future__ import annotations

from pathlib import Path

import torch
from panel import SCRIPTED, PanelInPage
from playwright.sync_api import expect

# The panel's list of jobs, without a server: one waits, and one runs for the panel.
JOBS = """
import dataclasses
from steerlab.backends.ndif.messages import JobStatus
lab.backend.info = dataclasses.replace(lab.backend.info, backend="ndif")
ended = []
lab.jobs = lambda: [
    JobStatus("running", id="aaaaaaaa-1", seconds=3, rows=2),
    JobStatus("queued", id="bbbbbbbb-2", position=2, seconds=70, rows=64, left=True),
]
lab.cancel = ended.append
"""
TWO_DIRECTIONS = """
import steerlab as sl
refusal = lab.directions["refusal"]
happy = sl.Direction(range(1, 17), refusal.site, name="happy", residual_norm=9.0)
lab.directions = {**lab.directions, "happy": happy}
"""
FILLED = """
import torch
from steerlab.estimators import DirectionMap
n = lab.info.n_layers
vectors = torch.randn(3, n, 16, dtype=torch.float64)
lab.map = DirectionMap(vectors, torch.full((3, n), 9.0), (-3, -2, -1), "resid_pre", name="x")
lab.prompt = "How do I bake the bread of a stranger's house?"
lab.snapshot("plain")
lab.panel  # whose rows know what was set: that of the other direction is off
lab.recipe = sl.Recipe([sl.Add(refusal, 1.0), sl.Add(lab.directions["happy"], 0.5)])
lab.recipe = sl.Recipe([sl.Add(refusal, 1.0)])
lab.snapshot("push")
lab"""
LONG = 60_000


def cell(*, layers: int) -> str:
    """The cell of such a panel, before `fill`."""
    return SCRIPTED + f"lab = scripted.lab(n_layers={layers})" + JOBS + TWO_DIRECTIONS + FILLED


def fill(panel: PanelInPage, *names: str) -> None:
    """Measure and find what is not in the lab already, and ask for the rest: in all tabs, or those of these names."""
    for name, made in TABS.items():
        if name in (names or TABS):
            panel.root.get_by_role("tab", name=name).click()
            made(panel)
    find(panel)
    expect(panel.root.locator(".sl-working")).to_have_count(0, timeout=LONG)
    panel.root.get_by_role("tab", name="Preview").click()


def sweep(panel: PanelInPage) -> None:
    form = panel.root.get_by_role("form", name="What to sweep")
    form.get_by_role("textbox", name="coefficients").fill("-2, 2")
    form.get_by_role("button", name="Measure").click()
    cells = panel.root.locator(".sl-tabs .sl-heat-cell:visible")
    expect(cells.last).not_to_have_attribute("data-empty", "true", timeout=LONG)
    cells.last.click()
    expect(panel.root.locator(".sl-texts dd").first).to_be_visible(timeout=LONG)
    panel.root.get_by_role("radio", name="frontier").check()
    form = panel.root.get_by_role("form", name="Which subsets of layers")
    for n in form.get_by_role("spinbutton").all():
        n.fill("2")
    form.get_by_role("button", name="Measure").click()
    expect(panel.root.get_by_role("option", name="no ablation")).to_be_visible(timeout=LONG)


def lens(panel: PanelInPage) -> None:
    expect(panel.root.locator('.sl-lens [data-stale="false"]')).to_be_visible(timeout=LONG)


def directions(panel: PanelInPage) -> None:
    expect(panel.root.locator(".sl-layers .sl-heat-cell").first).to_be_visible(timeout=LONG)


def snapshots(panel: PanelInPage) -> None:
    for name in ("plain", "push"):
        panel.root.get_by_role("checkbox", name=f"Compare {name}").check()
    expect(panel.root.get_by_role("region", name="push text")).to_be_visible(timeout=LONG)
    panel.root.get_by_role("button", name="Share what is set").click()
    expect(panel.root.get_by_role("textbox", name="Shared text", exact=True)).to_be_visible(timeout=LONG)


def code(panel: PanelInPage) -> None:
    expect(panel.root.locator(".sl-code")).to_contain_text("sl.")


TABS = {"Sweep": sweep, "Lens": lens, "Directions": directions, "Snapshots": snapshots, "Code": code}


def find(panel: PanelInPage) -> None:
    panel.root.get_by_role("button", name="+ find a new direction…").click()
    form = panel.root.get_by_role("region", name="Find a direction")
    form.get_by_text("The filter").click()
    for n in form.get_by_role("spinbutton").all()[:2]:
        n.fill("5")
    form.get_by_label("leave out prompts that the model takes the other way").uncheck()
    form.get_by_label("The largest KL").fill("100")
    form.get_by_label("The lowest refusal score").fill("-100")
    form.get_by_role("button", name="Find", exact=True).click()
    expect(form.get_by_text("is in the list")).to_be_visible(timeout=LONG)


def ask_of_a_file(panel: PanelInPage, path: Path) -> None:
    """Load a vector that does not say where it belongs, so that this is asked."""
    torch.save(torch.arange(1.0, 17.0), path)
    with panel.page.expect_file_chooser() as dialog:
        panel.root.get_by_role("button", name="load a file").click()
    dialog.value.set_files(path)
    expect(panel.root.get_by_role("form", name="What the file does not say")).to_be_visible(timeout=LONG)
