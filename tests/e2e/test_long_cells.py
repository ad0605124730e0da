"""Long work in a cell: how far it is, and that Ctrl-C ends it and nothing else."""

from __future__ import annotations

import json

import pytest
import rig
from panel import SCRIPTED, open_panel
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e

LONG = "lab.compare([f'{i}?' for i in range(3)], [lab.recipe], max_new_tokens=20)"


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_long_cell_shows_how_far_it_is_and_can_be_interrupted(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "long.ipynb", SCRIPTED + "lab = scripted.lab(delay=0.01)\nlab", LONG)
    rig.execute(page, "lab.backend.delay = 0.3")
    rig.run_cell(page, 1)
    output = page.locator(".jp-OutputArea").nth(1)
    expect(output).to_contain_text("generating", timeout=30_000)
    expect(output.locator(".jupyter-widget-hprogress, .widget-hprogress").first).to_be_visible()
    expect(output).to_contain_text("token/s", timeout=30_000)
    page.evaluate("void jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()")
    expect(output).to_contain_text("KeyboardInterrupt", timeout=30_000)
    rig.execute(page, "lab.backend.delay = 0.01")
    assert panel.push(1.0).startswith("I am sorry")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_bar_leaves_nothing_behind_in_the_saved_notebook(server: rig.Server, page: Page) -> None:
    cell = (
        "lab.backend.delay = 0.15\nlab.compare(['1?', '2?'], [lab.recipe], max_new_tokens=20)[0][0].text[:5]"
    )
    open_panel(page, server, "gone.ipynb", SCRIPTED + "lab = scripted.lab(delay=0.01)\nlab", cell)
    rig.run_cell(page, 1)
    output = page.locator(".jp-OutputArea").nth(1)
    expect(output).to_contain_text("generating", timeout=30_000)
    expect(output).to_contain_text("'Sure.'", timeout=30_000)
    expect(output).not_to_contain_text("generating")
    rig.command(page, "docmanager:save")
    outputs = json.loads((server.root / "gone.ipynb").read_text())["cells"][1]["outputs"]
    assert [one["data"] for one in outputs] == [{"text/plain": []}, {"text/plain": ["'Sure.'"]}]
