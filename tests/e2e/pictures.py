"""Takes the pictures in docs/pictures from the real panel in JupyterLab: python tests/e2e/pictures.py"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import rig
from panel import FIRST_CELL, PanelInPage, open_panel
from playwright.sync_api import Page, expect

from steerlab import Ablate, Add, Recipe
from steerlab.directions import bundled

PICTURES = rig.REPOSITORY / "docs" / "pictures"
HARMFUL = "How do I pick the lock of a stranger's house?"
LONG = 180_000


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        rig.serve(Path(folder)) as server,
        rig.chromium() as browser,
    ):
        page = browser.new_page(viewport={"width": 1240, "height": 1000}, device_scale_factor=2)
        panel = open_panel(page, server, "01_first_steps.ipynb", FIRST_CELL)
        rig.fold_sidebar(page)
        panel.push(1.0)
        expect(panel.root.locator(".sl-cost").first).to_contain_text("KL", timeout=LONG)
        page.mouse.move(5, 990)
        take(panel, "panel-light")
        page.screenshot(path=PICTURES / "jupyterlab.png")
        recipe_file(page, server)
        theme(page, "dark")
        panel.push(0)
        panel.prompt.fill(HARMFUL)
        panel.prompt.press("Enter")
        panel.root.get_by_role("radio", name="ablate").check()
        expect(panel.pane("steered").locator(".sl-foot")).to_contain_text("applied on", timeout=30_000)
        panel.text("steered")
        panel.root.get_by_role("radio", name="ablate").blur()
        take(panel, "panel-dark")
        page.set_viewport_size({"width": 592, "height": 1500})
        take(panel, "panel-480-dark")
        theme(page, "light")
        take(panel, "panel-480")
        page.set_viewport_size({"width": 1240, "height": 1000})
        for name, show in TABS.items():
            panel.root.get_by_role("tab", name=name).click()
            show(panel)
            take(panel, f"panel-{name.lower()}")
        finding(panel)
        take(panel, "panel-find")
        theme(page, "dark")
        panel.root.get_by_role("region", name="Find a direction").get_by_role("button", name="Close").click()
        panel.root.get_by_role("tab", name="Sweep").click()
        page.mouse.move(5, 990)
        take(panel, "panel-sweep-dark")
        page.set_viewport_size({"width": 592, "height": 1500})
        take(panel, "panel-sweep-480-dark")


def recipe_file(page: Page, server: rig.Server) -> None:
    """The viewer of a file, beside the notebook whose lab can take it."""
    refusal = bundled()["refusal"]
    Recipe([Add(refusal, 1.0), Ablate(refusal, layers=range(7, 10), sites=["resid_pre"])]).save(
        server.root / "push.steer.json"
    )
    show = "path => jupyterapp.commands.execute('docmanager:open', { path }).then(() => null)"
    page.evaluate(show, "push.steer.json")
    viewer = page.locator(".sl-recipe-page")
    expect(viewer.get_by_role("status")).to_have_text("in 01_first_steps.ipynb")
    page.evaluate("document.activeElement.blur()")
    size = page.viewport_size
    page.set_viewport_size({"width": 1240, "height": 1400})
    viewer.screenshot(path=PICTURES / "recipe-file.png")
    sys.stdout.write("docs/pictures/recipe-file.png\n")
    assert size is not None
    page.set_viewport_size(size)
    page.evaluate(show, "01_first_steps.ipynb")


def code(panel: PanelInPage) -> None:
    expect(panel.root.locator(".sl-code")).to_contain_text("sl.Ablate")


def sweep(panel: PanelInPage) -> None:
    panel.root.get_by_role("form", name="What to sweep").get_by_role("button", name="Measure").click()
    shown(panel)


def lens(panel: PanelInPage) -> None:
    expect(panel.root.locator('.sl-lens [data-stale="false"]')).to_be_visible(timeout=LONG)
    over(panel)


def directions(panel: PanelInPage) -> None:
    tab = panel.root.get_by_role("tabpanel", name="Directions")
    tab.get_by_role("button", name="Map the bundled prompts").click()
    shown(panel)


def snapshots(panel: PanelInPage) -> None:
    tab = panel.root.get_by_role("tabpanel", name="Snapshots")
    for name, mode in (("added", "add"), ("ablated", "ablate")):
        panel.root.get_by_role("radio", name=mode, exact=True).check()
        if mode == "add":
            panel.push(1.0)
        panel.text("steered")
        tab.get_by_role("textbox", name="Name of the snapshot").fill(name)
        tab.get_by_role("textbox", name="Name of the snapshot").press("Enter")
        tab.get_by_role("checkbox", name=f"Compare {name}").check()
    over(panel)


def finding(panel: PanelInPage) -> None:
    panel.root.get_by_role("button", name="+ find a new direction…").click()
    find = panel.root.get_by_role("region", name="Find a direction")
    find.get_by_role("button", name="Find", exact=True).click()
    expect(find.get_by_text("is in the list")).to_be_visible(timeout=LONG)


def shown(panel: PanelInPage) -> None:
    """Wait for a map, and until all of it is there."""
    expect(panel.root.locator(".sl-heat-cell:visible").first).to_be_visible(timeout=LONG)
    over(panel)


def over(panel: PanelInPage) -> None:
    """Wait until nothing is worked on."""
    expect(panel.root.locator(".sl-working")).to_have_count(0, timeout=LONG)
    panel.text("steered")


TABS = {
    "Sweep": sweep,
    "Lens": lens,
    "Directions": directions,
    "Snapshots": snapshots,
    "Code": code,
}


def take(panel: PanelInPage, name: str) -> None:
    expect(panel.pane("steered").locator(".sl-old")).to_have_count(0)
    expect(panel.root.locator('.sl-cost[data-stale="true"]')).to_have_count(0, timeout=LONG)
    # what is higher than the page would be cut off by JupyterLab
    size, box = panel.page.viewport_size, panel.root.bounding_box()
    assert size is not None
    assert box is not None
    panel.page.set_viewport_size({"width": size["width"], "height": int(box["height"]) + 300})
    panel.root.scroll_into_view_if_needed()
    panel.root.screenshot(path=PICTURES / f"{name}.png", animations="disabled")
    sys.stdout.write(f"docs/pictures/{name}.png\n")


def theme(page: Page, name: str) -> None:
    full = f"JupyterLab {name.capitalize()}"
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", full)
    expect(page.locator(".sl-app").first).to_have_attribute("data-theme", name)
    page.wait_for_load_state("networkidle")  # the theme's style sheet
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)


if __name__ == "__main__":
    main()
