"""What can be measured of how the panel looks: themes, widths, many layers, strange texts, and what axe finds."""

from __future__ import annotations

import pytest
import rig
from panel import SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e

AXE = rig.REPOSITORY / "js" / "node_modules" / "axe-core" / "axe.min.js"
CELL = SCRIPTED + "lab = scripted.lab(n_layers={layers})\nlab"


def findings(page: Page) -> list[str]:
    """What axe-core says of the panel."""
    report = page.evaluate("axe.run('.sl-app')")
    return [f"{v['id']}: {node['html'][:120]}" for v in report["violations"] for node in v["nodes"]]


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci in js/")
def test_axe_finds_nothing_in_light_and_dark(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "axe.ipynb", CELL.format(layers=10))
    page.add_script_tag(path=AXE)
    panel.push(1)
    panel.pane("steered").locator(".sl-verdict").click()
    assert in_every_tab(panel) == []
    panel.root.get_by_role("tab", name="Preview").click()
    panel.root.get_by_role("button", name="Help").click()
    expect(panel.root.get_by_text("activation addition")).to_be_visible()
    assert findings(page) == []
    panel.prompt.fill(" ")
    panel.prompt.press("Enter")
    expect(panel.root.get_by_role("alert")).to_contain_text("The prompt is empty")
    assert findings(page) == []
    page.evaluate(
        "() => jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' }).then(() => null)"
    )
    expect(panel.root).to_have_attribute("data-theme", "dark")
    assert in_every_tab(panel) == []


def in_every_tab(panel: PanelInPage) -> list[str]:
    """What axe-core says of each tab, once what it asked for is answered."""
    found = []
    for tab in panel.root.get_by_role("tab").all():
        tab.click()
        expect(panel.root.locator(".sl-working")).to_have_count(0, timeout=30_000)
        found += [f"{tab.inner_text()}: {finding}" for finding in findings(panel.page)]
    return found


def fits(page: Page) -> bool:
    """Nothing of the panel is wider than the panel, but the maps, which scroll inside themselves."""
    return bool(
        page.evaluate(
            """() => {
                const root = document.querySelector(".sl-app");
                const right = root.getBoundingClientRect().right;
                const wide = [...root.querySelectorAll("*")].filter(
                    (el) => el.getBoundingClientRect().right > right + 1
                        && !el.closest(".sl-grid, .sl-heat-grid, .sl-sr"));
                return wide.length === 0 && root.scrollWidth <= root.clientWidth;
            }"""
        )
    )


def test_it_fits_from_480_pixels_to_full_width_with_28_layers(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "wide.ipynb", CELL.format(layers=28))
    rig.command(page, "application:toggle-left-area")
    assert fits(page)
    page.set_viewport_size({"width": 600, "height": 1000})
    box = panel.root.bounding_box()
    assert box is not None
    assert box["width"] <= 500
    assert fits(page)
    baseline, steered = (panel.pane(name).bounding_box() for name in ("baseline", "steered"))
    assert baseline is not None
    assert steered is not None
    assert steered["y"] > baseline["y"] + baseline["height"]
    control = panel.pane("control").bounding_box()
    assert control is not None
    assert control["y"] > steered["y"] + steered["height"]
    last = panel.root.get_by_role("gridcell", name="resid_post[27]:")
    last.focus()
    expect(last).to_be_in_viewport()
    expect(panel.root.locator(".sl-say")).to_contain_text("resid_post[27]: output of block 27")


def test_the_facts_of_a_direction_stand_in_line(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "facts.ipynb", CELL.format(layers=10))
    rig.command(page, "application:toggle-left-area")
    panel.root.get_by_role("tab", name="Directions").click()
    names = panel.root.locator(".sl-facts-list dt")
    expect(names.nth(2)).to_have_text("stream's norm")
    for width in (600, 1280):
        page.set_viewport_size({"width": width, "height": 1000})
        boxes = [name.bounding_box() for name in names.all()]
        assert all(box and box["height"] < 24 for box in boxes), "a name takes one line"


STRANGE = {
    "one long word": "x" * 10_000,
    "right to left": "\u202eabc \u05e9\u05dc\u05d5\u05dd",
    "emoji": "👩‍👩‍👧‍👦 ok 🇫🇷",
    "markup": "<script>alert(1)</script>",
}


def test_strange_texts_are_shown_as_text_and_the_layout_holds(server: rig.Server, page: Page) -> None:
    answer = repr(" ".join(STRANGE.values()))
    script = f"scripted.ANSWER = {answer}\nlab = scripted.lab()\nlab.prompt = {answer}[-25:]\nlab"
    panel = open_panel(page, server, "strange.ipynb", SCRIPTED + script)
    text = panel.pane("baseline").locator(".sl-text").evaluate("el => el.textContent")
    for words in STRANGE.values():
        assert words in text
    assert fits(page)


def test_sixty_moves_in_three_seconds_end_in_the_last_one(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "sixty.ipynb", SCRIPTED + "lab = scripted.lab(delay=0.01)\nlab")
    page.evaluate(
        """async () => {
            const slider = document.querySelector(".sl-slider input");
            for (let i = 0; i < 60; i++) {
                slider.value = String(i === 59 ? 2 : (i % 20) / 10 - 1);
                slider.dispatchEvent(new Event("input", { bubbles: true }));
                await new Promise((resolve) => setTimeout(resolve, 50));
            }
        }"""
    )
    expect(panel.pane("steered").locator(".sl-foot")).to_contain_text("applied on", timeout=5000)
    assert panel.text("steered").startswith("I am sorry")
    rig.until_prints(page, "print(lab.recipe.interventions[0].coefficient)", "2.0")
    assert PanelInPage(page).slider.input_value() == "2"
