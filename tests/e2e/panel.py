"""The panel as a test sees it in the browser."""

from __future__ import annotations

import json
from pathlib import Path

import rig
from playwright.sync_api import Locator, Page, expect

from steerlab.demo import WEIGHTS
from steerlab.demo.world import is_refusal

HERE = Path(__file__).parent
# What a person runs first, taken from the notebook itself.
FIRST_STEPS = json.loads((rig.REPOSITORY / "examples" / "01_first_steps.ipynb").read_text())
FIRST_CELL = "".join(next(cell["source"] for cell in FIRST_STEPS["cells"] if cell["cell_type"] == "code"))
# A lab with known words and any number of layers, for what does not depend on the model.
SCRIPTED = f"import sys; sys.path.insert(0, {str(HERE.parent / 'ui')!r})\nimport scripted\n"
EMBEDDED = (WEIGHTS / "config.json").is_file()
if not EMBEDDED:  # a checkout in which the model is still to be trained
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

    @property
    def run(self) -> int:
        """The newest run that the panel shows."""
        return int(self.root.locator("[data-run]").get_attribute("data-run") or 0)

    def pane(self, name: str) -> Locator:
        return self.root.locator(f'.sl-pane[data-pane="{name}"]')

    def text(self, name: str) -> str:
        """A pane's text once it has ended."""
        expect(self.root.locator(".sl-status")).to_have_text("ready", timeout=30_000)
        # texts are painted once a frame, a moment after the state is
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(null))))"
        )
        expect(self.pane(name).locator(".sl-old")).to_have_count(0)
        return self.pane(name).locator(".sl-text").inner_text()

    def push(self, coefficient: float) -> str:
        """Move the slider; the steered text that comes of it."""
        # a page that was loaded anew shows the kept texts, as run 0, until the kernel has told of its own
        expect(self.root.locator("[data-run]")).not_to_have_attribute("data-run", "0")
        before = self.run
        rig.set_slider(self.slider, coefficient)
        self.page.wait_for_function(
            "before => document.querySelector('.sl-app [data-run]').dataset.run > before", arg=before
        )
        return self.text("steered")

    def push_to_refusal(self) -> str:
        """Drag the slider on, as a person does, until the text is a refusal."""
        for coefficient in (1, 1.5, 2, 3):
            if is_refusal(text := self.push(coefficient)):
                return text
        raise AssertionError(f"no refusal, but {text!r}")


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
