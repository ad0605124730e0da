"""The panel as a test sees it in the browser."""

from __future__ import annotations

import json
from pathlib import Path

import rig
from playwright.sync_api import Locator, Page, expect

from steerlab.demo import WEIGHTS

HERE = Path(__file__).parent
# What a person runs first, taken from the notebook itself.
FIRST_STEPS = json.loads((rig.REPOSITORY / "examples" / "01_first_steps.ipynb").read_text())
FIRST_CELL = "".join(next(cell["source"] for cell in FIRST_STEPS["cells"] if cell["cell_type"] == "code"))
# A lab with known words and any number of layers, for what does not depend on the model.
SCRIPTED = f"import sys; sys.path.insert(0, {str(HERE.parent / 'ui')!r})\nimport scripted\n"
if not (WEIGHTS / "config.json").is_file():
    FIRST_CELL = SCRIPTED + "lab = scripted.lab(delay=0.01)\nlab"


class PanelInPage:
    """One panel of a page."""

    def __init__(self, page: Page, index: int = 0) -> None:
        self.page = page
        self.root = page.locator(".sl-app").nth(index)

    @property
    def slider(self) -> Locator:
        return self.root.locator(".sl-slider input").first

    @property
    def prompt(self) -> Locator:
        return self.root.get_by_role("textbox", name="Prompt")

    def pane(self, name: str) -> Locator:
        return self.root.locator(f'.sl-pane[data-pane="{name}"]')

    def text(self, name: str) -> str:
        """A pane's text once it has ended."""
        expect(self.root.locator(".sl-status")).to_have_text("ready", timeout=30_000)
        expect(self.pane(name).locator(".sl-old")).to_have_count(0)
        return self.pane(name).locator(".sl-text").inner_text()

    def push(self, coefficient: float) -> str:
        """Move the slider; the steered text that comes of it."""
        rig.set_slider(self.slider, coefficient)
        expect(self.slider).to_have_value(str(coefficient))
        foot = "applied on" if coefficient else "not steered"
        expect(self.pane("steered").locator(".sl-foot")).to_contain_text(foot, timeout=30_000)
        return self.text("steered")


def open_panel(page: Page, server: rig.Server, notebook: str, *cells: str) -> PanelInPage:
    """A new notebook with these cells, its first one run to the end, and the panel with both texts."""
    server.write(notebook, *(cells or (FIRST_CELL,)))
    rig.open_notebook(page, server, notebook)
    rig.run_cell(page, 0)
    panel = PanelInPage(page)
    expect(panel.root).to_be_visible(timeout=60_000)
    for name in ("baseline", "steered"):
        expect(panel.pane(name).locator(".sl-text")).not_to_be_empty(timeout=60_000)
    panel.text("steered")
    return panel
