"""What JupyterLab's status bar says of the lab of a notebook, and where a click on it leads."""

from __future__ import annotations

import filled
import pytest
import rig
from panel import SCRIPTED, open_panel
from playwright.sync_api import Locator, Page, expect
from test_looks import AXE

pytestmark = pytest.mark.e2e


def item(page: Page) -> Locator:
    """What the status bar says of the lab."""
    return page.get_by_role("button", name="Steering lab:")


def test_the_status_bar_follows_the_lab_of_the_notebook_that_is_looked_at(
    server: rig.Server, page: Page
) -> None:
    server.write("none.ipynb", "1")
    panel = open_panel(page, server, "status.ipynb", SCRIPTED + "lab = scripted.lab(delay=0.05)\nlab", "1")
    expect(item(page)).to_have_text("tiny-chat · here · ready")
    rig.set_slider(panel.slider, 1)
    expect(item(page)).to_have_text("tiny-chat · here · generating")
    expect(item(page)).to_have_text("tiny-chat · here · ready")
    expect(item(page)).to_have_attribute("title", "tiny-chat on cpu: ready. Click to show its panel.")
    if AXE.is_file():
        page.add_script_tag(path=AXE)
        bar = '.jp-StatusBar-Widget button[aria-label^="Steering lab"]'
        report = page.evaluate("bar => axe.run(bar)", bar)
        assert report["passes"]
        assert [v["id"] for v in report["violations"]] == []
    item(page).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Steering lab", exact=True)).to_be_focused()
    page.keyboard.press("a")
    page.keyboard.press("Tab")
    expect(panel.root.locator(":focus")).to_have_count(1)
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(2)  # no key was the notebook's

    page.evaluate(
        "() => jupyterapp.commands.execute('docmanager:open', { path: 'none.ipynb' }).then(() => null)"
    )
    expect(item(page)).to_be_hidden()
    page.evaluate(
        "() => jupyterapp.commands.execute('docmanager:open', { path: 'status.ipynb' }).then(() => null)"
    )
    expect(item(page)).to_be_visible()
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown().then(() => null)")
    expect(item(page)).to_have_text("tiny-chat · here · kernel gone")
    rig.command(page, "notebook:clear-all-cell-outputs")
    expect(item(page)).to_be_hidden()


QUEUED = """
lab.backend.watchers = []
lab"""


def test_a_click_on_the_place_in_the_queue_leads_into_the_list_of_jobs(
    server: rig.Server, page: Page
) -> None:
    cell = SCRIPTED + "lab = scripted.lab(n_layers=4)" + filled.JOBS + QUEUED
    panel = open_panel(page, server, "queue.ipynb", cell, *map(str, range(30)))
    rig.execute(page, "lab.backend.watchers[0](JobStatus('queued', 'x', 3, 0.1))")
    expect(item(page)).to_have_text("tiny-chat · NDIF · queue 3")
    page.evaluate("() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 30; }")
    page.evaluate("jupyterapp.shell.currentWidget.content.scrollToItem(30)")
    header = panel.root.locator(".sl-header")
    expect(header).not_to_be_in_viewport()
    rig.command(page, "settingeditor:open")
    expect(panel.root).to_be_hidden()
    item(page).click()
    jobs = panel.root.get_by_role("region", name="Jobs on the server")
    expect(jobs).to_be_focused()
    expect(header).to_be_in_viewport()
    expect(jobs.get_by_role("button", name="Cancel job aaaaaaaa")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    rig.until_prints(page, "print(ended)", "['aaaaaaaa-1']")
    page.keyboard.press("Escape")
    expect(jobs).to_be_hidden()
    rig.execute(page, "lab.backend.watchers[0](JobStatus('completed', 'x', None, 1.0))")
    expect(item(page)).to_have_text("tiny-chat · NDIF · ready")
