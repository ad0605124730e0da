"""The panel on a real NDIF server: the list of jobs under its header is seen, cancelled from, and read by axe; and the
tokens of a job are on the screen while it runs.
"""

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
    expect(listed.nth(1).get_by_role("button", name="Copy code that fetches")).to_be_visible()
    page.keyboard.press("Escape")
    expect(jobs).to_be_hidden()
    rig.execute(page, f"lab.cancel({ids[1]!r})")
    told = rig.execute(page, "print([job.stage for job in lab.jobs() if job.left])")
    assert told.strip() == "['cancelled', 'cancelled', 'cancelled']"
    panel.push(1)  # nothing is before the panel's own job any more


def looks(panel: PanelInPage) -> None:
    """In both themes and when narrow it fits, and axe finds nothing."""
    page = panel.page
    rig.fold_sidebar(page)
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


ENDLESS = """
noise = sl.estimators.random_like(lab.directions["refusal"], seed=1)
lab.sampling = sl.Sampling(120)
lab.recipe = sl.Recipe([sl.Add(noise, 4.0, layers="all")])  # its texts do not come to an end"""
# From the Enter in the prompt on: when the steered text grew, and how long it was; and what the header said when.
WATCH = """() => {
    const text = document.querySelector('[data-pane="steered"] .sl-text');
    const word = document.querySelector(".sl-jobs-word");
    const seen = window.seen = { grew: [], said: [] };
    let began = null;
    document.addEventListener("keydown", () => { began ??= performance.now(); }, { capture: true });
    new MutationObserver(() => {
        const left = text.querySelector(".sl-old"); // of the text before, behind the new one
        if (began === null || !text.firstElementChild || text.firstElementChild === left) return;
        const length = text.textContent.length - (left?.textContent.length ?? 0);
        seen.grew.push([performance.now() - began, length, word.textContent]);
    }).observe(text, { childList: true, subtree: true, characterData: true });
    new MutationObserver(() => {
        if (began !== null) seen.said.push([performance.now() - began, word.textContent]);
    }).observe(word, { childList: true, subtree: true, characterData: true });
}"""


def test_the_first_token_is_on_the_screen_before_half_of_its_job(
    server: rig.Server, page: Page, ndif_server: Server, tmp_path: Path
) -> None:
    panel = open_panel(page, server, "half.ipynb", CELL.format(data=str(tmp_path), url=ndif_server.url))
    rig.execute(page, ENDLESS)
    foot = panel.pane("steered").locator(".sl-foot")
    expect(foot).to_contain_text("cut at 120 tokens", timeout=30_000)
    panel.text("steered")
    page.evaluate(WATCH)
    panel.prompt.fill("Tell me about ten cats.")
    panel.prompt.press("Enter")
    page.wait_for_function("seen.grew.length")
    expect(foot).to_contain_text("cut at 120 tokens", timeout=30_000)
    whole = panel.text("steered")
    grew, said = (page.evaluate(f"seen.{name}") for name in ("grew", "said"))
    first, _, word = grew[0]
    assert word == "running on the server"
    ended = next(moment for moment, told in said if moment > first and told != word)
    assert first < 0.5 * ended, f"the first token came after {first:.0f} ms of {ended:.0f}"
    lengths = {length for moment, length, _ in grew if moment < ended}
    assert len(lengths) > 5, "they come one by one, not all at the end"
    assert max(lengths) > len(whole) / 2
