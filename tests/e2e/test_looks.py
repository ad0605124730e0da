"""What can be measured of how the panel looks: themes, widths, many layers, strange texts, and what axe finds."""

from __future__ import annotations

from pathlib import Path

import filled
import pytest
import rig
from panel import SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e

AXE = rig.REPOSITORY / "js" / "node_modules" / "axe-core" / "axe.min.js"
CELL = SCRIPTED + "lab = scripted.lab(n_layers={layers})\nlab"


def findings(page: Page) -> list[str]:
    """What axe-core says of the panel. JupyterLab's body has no height and hides what overflows it: axe would take
    nearly every text in it for hidden, and measure no contrast.
    """
    page.evaluate("document.body.style.height = '100vh'")
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
    rig.fold_sidebar(page)
    assert fits(page)
    page.set_viewport_size({"width": 600, "height": 1000})
    page.wait_for_function("document.querySelector('.sl-app').getBoundingClientRect().width <= 500")
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


def test_ten_layers_of_a_sweep_fit_a_side_panel_and_what_does_not_fit_fades(
    server: rig.Server, page: Page
) -> None:
    panel = open_panel(page, server, "narrow.ipynb", CELL.format(layers=10))
    rig.fold_sidebar(page)
    page.set_viewport_size({"width": 592, "height": 1000})
    panel.root.get_by_role("tab", name="Sweep").click()
    panel.root.get_by_role("form", name="What to sweep").get_by_role("button", name="Measure").click()
    grid = panel.root.locator(".sl-tabs .sl-heat-grid")
    expect(grid.locator(".sl-heat-cell").last).not_to_have_attribute("data-empty", "true", timeout=30_000)
    expect(grid).to_have_attribute("data-more", "false")
    assert grid.evaluate(
        "el => [...el.querySelectorAll('.sl-heat-cell')].every(c => c.scrollWidth <= c.clientWidth)"
    )
    page.set_viewport_size({"width": 480, "height": 1000})
    expect(grid).to_have_attribute("data-more", "true")
    grid.locator(".sl-heat-cell").nth(9).focus()
    expect(grid).to_have_attribute("data-more", "false")


def test_the_facts_of_a_direction_stand_in_line(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "facts.ipynb", CELL.format(layers=10))
    rig.fold_sidebar(page)
    panel.root.get_by_role("tab", name="Directions").click()
    names = panel.root.locator(".sl-facts-list dt")
    expect(names.nth(2)).to_have_text("stream’s norm")
    for width in (600, 1280):
        page.set_viewport_size({"width": width, "height": 1000})
        boxes = [name.bounding_box() for name in names.all()]
        assert all(box and box["height"] < 24 for box in boxes), "a name takes one line"


def theme(panel: PanelInPage, name: str) -> None:
    full = f"JupyterLab {name.capitalize()}"
    panel.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", full)
    expect(panel.root).to_have_attribute("data-theme", name)
    panel.page.wait_for_load_state("networkidle")  # the theme's style sheet


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci in js/")
def test_axe_finds_nothing_in_what_opens_and_in_what_is_filled(
    server: rig.Server, page: Page, tmp_path: Path
) -> None:
    panel = open_panel(page, server, "opened.ipynb", filled.cell(layers=4))
    page.add_script_tag(path=AXE)
    filled.fill(panel, "Sweep", "Snapshots")
    filled.ask_of_a_file(panel, tmp_path / "calm.pt")
    root = panel.root
    button = root.get_by_role("button")
    jobs = root.get_by_role("group", name="Server").get_by_role("button").first
    opened = {
        "Snapshots": (root.get_by_label("More for refusal").first, button.and_(root.get_by_label("Help"))),
        "Sweep": (root.get_by_label("Add a direction of the lab").first, jobs),
    }
    for name in ("light", "dark"):
        theme(panel, name)
        for tab, openers in opened.items():
            root.get_by_role("tab", name=tab).click()
            for opener in openers:
                opener.evaluate("el => el.click()")  # a press of the mouse would close the other one
                expect(opener).to_have_attribute("aria-expanded", "true")
            assert findings(page) == [], f"{name}: {tab}, and what is open above it"
            for opener in openers:
                opener.evaluate("el => el.click()")
        root.get_by_role("tab", name="Preview").click()
        panel.pane("steered").locator(".sl-text > span").nth(1).hover()
        expect(root.locator(".sl-card")).to_contain_text("Baseline:")
        assert findings(page) == [], f"{name}: the card of a token"
        page.mouse.move(5, 5)
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown().then(() => null)")
    expect(root).to_contain_text("The kernel is gone.")
    for name in ("dark", "light"):
        theme(panel, name)
        assert findings(page) == [], f"{name}: without a kernel"


# Words that lie over words, and words and numbers that are cut off. What has to be scrolled to be seen is neither.
ILLEGIBLE = """() => {
    const root = document.querySelector(".sl-app");
    const clip = (box, by) => ({
        left: Math.max(box.left, by.left), right: Math.min(box.right, by.right),
        top: Math.max(box.top, by.top), bottom: Math.min(box.bottom, by.bottom),
    });
    const texts = [];
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const el = node.parentElement;
        if (!node.data.trim() || !el.checkVisibility({ visibilityProperty: true })) continue;
        if (el.closest(".sl-sr, option, style, textarea")) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        for (const whole of range.getClientRects()) {
            let box = clip(whole, root.getBoundingClientRect());
            for (let up = el; up !== root; up = up.parentElement)
                if (getComputedStyle(up).overflowX !== "visible") box = clip(box, up.getBoundingClientRect());
            const shown = box.right - box.left > 1 && box.bottom - box.top > 1;
            if (shown) texts.push({ el, words: node.data.trim(), ...box });
        }
    }
    const wrong = [];
    texts.sort((a, b) => a.top - b.top);
    texts.forEach((a, i) => {
        for (const b of texts.slice(i + 1)) {
            if (b.top > a.bottom) break;
            const both = clip(a, b);
            if (both.right - both.left > 2 && both.bottom - both.top > 4 && a.el !== b.el)
                wrong.push(`${a.words} | ${b.words}`);
        }
        if (parseFloat(getComputedStyle(a.el).fontSize) < 10) wrong.push(`small: ${a.words}`);
    });
    for (const el of root.querySelectorAll("*")) {
        const { overflowX, textOverflow } = getComputedStyle(el);
        const cut = overflowX === "hidden" && el.scrollWidth > el.clientWidth + 1 && el.checkVisibility();
        // a lens' cell is told whole below the maps
        const whole = el.closest("[title], .sl-maps .sl-heat-cell");
        const told = textOverflow === "ellipsis" && whole && !/^\\d+$/.test(el.textContent);
        if (cut && !told && !el.matches(".sl-sr")) wrong.push(`cut: ${el.className} ${el.textContent.slice(0, 60)}`);
    }
    return wrong;
}"""


def legible(page: Page) -> None:
    """Once JupyterLab has laid out anew, everything fits and can be read."""
    wrong: list[str] = []
    for _ in range(50):
        wrong = page.evaluate(ILLEGIBLE)
        if not wrong and fits(page):
            return
        page.wait_for_timeout(100)
    assert wrong == []
    assert fits(page)


def test_what_is_filled_is_legible_from_a_side_panel_to_a_full_screen_with_28_layers(
    server: rig.Server, page: Page
) -> None:
    panel = open_panel(page, server, "legible.ipynb", filled.cell(layers=28))
    rig.fold_sidebar(page)
    filled.fill(panel)
    for width in (592, 1920):
        page.set_viewport_size({"width": width, "height": 1000})
        for tab in ("Preview", *filled.TABS):
            panel.root.get_by_role("tab", name=tab).click()
            legible(page)


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
    """The words of a text say of which coefficient they are, and sixty texts in turn would take half a minute."""
    script = "lab = scripted.scheduled(rate=40, tokens=20)\nlab"
    panel = open_panel(page, server, "sixty.ipynb", SCRIPTED + script)
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
    expect(panel.pane("steered").locator(".sl-foot")).to_contain_text("applied on", timeout=3000)
    assert panel.text("steered").startswith("s2.0.0 ")
    run = panel.run
    page.wait_for_timeout(1500)
    assert panel.run == run, "a move was still to come"
    rig.until_prints(page, "print(lab.recipe.interventions[0].coefficient)", "2.0")
    assert PanelInPage(page).slider.input_value() == "2"
