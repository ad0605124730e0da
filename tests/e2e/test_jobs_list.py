"""The list of jobs under the panel's header, against a real NDIF server: seen, cancelled, and read by axe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import rig
from panel import PanelInPage, open_panel
from playwright.sync_api import Page, expect
from test_looks import AXE, findings, fits

from steerlab.serving.server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.ndif]

CELL = """
import os
os.environ["XDG_DATA_HOME"] = {data!r}
import steerlab as sl
lab = sl.Lab(host={url!r})
lab"""
SUBMIT = """
noise = sl.estimators.random_like(lab.directions["refusal"], seed=1)
endless = sl.Recipe([sl.Add(noise, 4.0, layers="all")])  # its texts do not come to an end
rows = [sl.Row(f"Tell me about {10 + i} cats.", endless) for i in range(64)]
print(*[lab.submit(rows, sl.Sampling(400)) for _ in range(3)])"""


def picture(page: Page, name: str) -> None:
    """Where STEERLAB_PICTURES names a folder, a picture for somebody to judge."""
    if folder := os.environ.get("STEERLAB_PICTURES"):
        page.locator(".sl-app").first.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")


def test_jobs_are_seen_and_cancelled_in_the_panel(
    server: rig.Server, page: Page, ndif_server: Server, tmp_path: Path
) -> None:
    panel = open_panel(page, server, "jobs.ipynb", CELL.format(data=str(tmp_path), url=ndif_server.url))
    panel.root.get_by_role("group", name="Server").get_by_role("button").first.click()
    jobs = panel.root.get_by_role("region", name="Jobs on the server")
    expect(jobs).to_contain_text("No jobs now.", timeout=20_000)
    ids = rig.execute(page, SUBMIT).split()
    listed = jobs.get_by_role("listitem").filter(has_text="64 rows")  # the panel has its own, for a while
    expect(listed).to_have_count(3, timeout=10_000)
    expect(listed.first).to_contain_text("in the queue, number")
    expect(listed.last).to_contain_text("running on the server", timeout=20_000)
    looks(panel)
    for one in (listed.first, listed.last):
        one.get_by_role("button", name="Cancel job").click()
        expect(one).to_contain_text("cancelled", timeout=10_000)
        expect(one.get_by_role("button")).to_have_count(0)
    expect(listed.nth(1).get_by_role("button", name="Copy the code that fetches")).to_be_visible()
    page.keyboard.press("Escape")
    expect(jobs).to_be_hidden()
    rig.execute(page, f"lab.cancel({ids[1]!r})")
    told = rig.execute(page, "print([job.stage for job in lab.jobs() if job.left])")
    assert told.strip() == "['cancelled', 'cancelled', 'cancelled']"
    panel.push(1)  # nothing is before the panel's own job any more


def looks(panel: PanelInPage) -> None:
    """In both themes and when narrow it fits, and axe finds nothing."""
    page = panel.page
    rig.command(page, "application:toggle-left-area")
    if AXE.is_file():
        page.add_script_tag(path=AXE)
    for theme in ("light", "dark"):
        full = f"JupyterLab {theme.capitalize()}"
        page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", full)
        expect(panel.root).to_have_attribute("data-theme", theme)
        page.wait_for_load_state("networkidle")
        for width in (1280, 592):
            page.set_viewport_size({"width": width, "height": 1000})
            for _ in range(50):  # JupyterLab lays out anew, a moment later
                if fits(page):
                    break
                page.wait_for_timeout(100)
            assert fits(page)
            list_, whole = (one.bounding_box() for one in (panel.root.locator(".sl-jobs-list"), panel.root))
            assert list_ is not None
            assert whole is not None
            assert whole["x"] <= list_["x"]
            assert list_["x"] + list_["width"] <= whole["x"] + whole["width"]
            picture(page, f"jobs-{theme}-{width}")
        if AXE.is_file():
            assert findings(page) == []
    page.set_viewport_size({"width": 1280, "height": 1000})
