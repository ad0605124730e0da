"""Looking into the texts: colours, details of tokens, the lens, picked tokens; strange texts, keys, narrow widths."""

from __future__ import annotations

import sys

import pytest
import rig
from panel import FIRST_CELL, SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Locator, Page, expect
from test_looks import AXE, findings

sys.path.insert(0, str(rig.REPOSITORY / "tests" / "ui"))
import strange

pytestmark = pytest.mark.e2e

SLOW = 30_000
# how the tokens of strange.TOKENS begin where every character of theirs is spelled out
SPELLED = [
    "<script>document.title",
    "<img␣src=x",
    "x" * 20,
    "⟨U+202E⟩\u05e9\u05dc\u05d5\u05dd",
    "👩‍👩‍👧‍👦🇫🇷",
    "␇␛[31m␀",
]


def token(panel: PanelInPage, pane: str, index: int) -> Locator:
    return panel.pane(pane).locator(".sl-text > span").nth(index)


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_token_tells_what_is_behind_it_and_opens_the_lens(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "tokens.ipynb", FIRST_CELL)
    panel.push_to_refusal()
    colours = panel.root.get_by_label("colour tokens by")
    colours.select_option("change")
    shaded = panel.pane("steered").locator(".sl-shade")
    expect(shaded.first).to_be_visible(timeout=SLOW)
    expect(panel.root.locator(".sl-colours .sl-legend")).to_contain_text("in nats")

    # the mouse: over a token, and then into its card
    token(panel, "steered", 2).hover()
    card = panel.root.locator(".sl-card")
    expect(card).to_contain_text("Baseline:", timeout=SLOW)
    expect(card).to_contain_text("Steered:")
    expect(card.locator(".sl-spark")).to_have_count(1)
    box = card.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.wait_for_timeout(500)
    expect(card).to_be_visible()
    page.mouse.move(5, 5)
    expect(card).to_be_hidden()

    # keys alone
    panel.pane("steered").locator(".sl-scroll").focus()
    page.keyboard.press("Enter")
    expect(token(panel, "steered", 0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(token(panel, "steered", 1)).to_be_focused()
    expect(card).to_be_visible()
    described = rig.execute(page, "print(len(lab.generations['steered'].token_ids))").strip()
    assert int(described) == panel.pane("steered").locator(".sl-text > span").count()
    page.keyboard.press("Tab")
    expect(token(panel, "steered", 1)).not_to_be_focused()
    expect(card).to_be_hidden()
    page.keyboard.press("Shift+Tab")
    panel.pane("steered").locator(".sl-scroll").focus()
    page.keyboard.press("Enter")  # where it was left
    expect(token(panel, "steered", 1)).to_be_focused()
    page.keyboard.press("Enter")
    cell = panel.root.locator(".sl-lens .sl-heat-cell:focus")
    expect(cell).to_have_count(1, timeout=SLOW)
    n_prompt = rig.execute(page, "print(len(lab.tokens_of(lab.prompt)))").strip()
    expect(cell).to_have_attribute("data-place", f"0,{int(n_prompt) + 1}")
    first = panel.root.locator('.sl-lens [data-place="0,0"]')
    assert first.inner_text()
    # what the model says last is what the text goes on with
    last = panel.root.locator(f'.sl-lens [data-place="0,{int(n_prompt) - 1}"]')
    expect(last).to_have_text(token(panel, "steered", 0).inner_text())

    # a new run: old until it has ended, then read anew
    before = panel.run
    rig.set_slider(panel.slider, 0)
    page.wait_for_function("n => document.querySelector('.sl-app [data-run]').dataset.run > n", arg=before)
    expect(panel.root.locator('.sl-lens [data-stale="false"]')).to_be_visible(timeout=SLOW)
    expect(panel.root.locator(".sl-lens")).to_contain_text("Nothing is steered")
    panel.root.get_by_role("radio", name="projection").check()
    expect(panel.root.locator(".sl-lens .sl-legend")).to_contain_text("projection on refusal", timeout=SLOW)
    assert "Error" not in rig.execute(page, "import steerlab as sl")


def test_tokens_of_the_prompt_are_picked_by_keys_and_in_the_lab(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "pick.ipynb", SCRIPTED + "lab = scripted.lab()\nlab")
    panel.push(1.0)
    scope = panel.root.get_by_role("radio", name="pick")
    scope.focus()
    page.keyboard.press("Space")
    options = panel.root.locator(".sl-pick [role=option]")
    tokens = "print(lab.recipe.interventions[0].tokens)"
    rig.until_prints(page, tokens, "(-1,)")
    options.last.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    rig.until_prints(page, tokens, "(-3, -1)")
    options.last.click()
    rig.until_prints(page, tokens, "(-3,)")
    made = "lab.recipe = sl.Recipe([sl.Add(lab.directions['refusal'], 1.0, tokens=[-2, -4])])"
    assert "Error" not in rig.execute(page, f"import steerlab as sl; {made}")
    expect(panel.root.locator(".sl-pick [aria-selected=true]")).to_have_count(2)
    expect(options.nth(-2)).to_have_attribute("aria-selected", "true")
    panel.prompt.focus()
    page.keyboard.press("Control+z")
    rig.until_prints(page, tokens, "(-3,)")


def wide(page: Page) -> list[str]:
    """What sticks out of the panel, but for what scrolls inside."""
    return list(
        page.evaluate(
            """() => {
                const root = document.querySelector(".sl-app");
                const right = root.getBoundingClientRect().right;
                return [...root.querySelectorAll("*")].filter((el) =>
                    el.getBoundingClientRect().right > right + 1
                    && !el.closest(".sl-grid, .sl-heat-grid, .sl-sr, .sl-tablist, .sl-card, option, .sl-token"))
                    .map((el) => el.outerHTML.slice(0, 120));
            }"""
        )
    )


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci in js/")
def test_strange_tokens_are_text_everywhere_and_the_layout_holds(server: rig.Server, page: Page) -> None:
    script = SCRIPTED.replace("import scripted\n", "import strange\n") + "lab = strange.lab(n_layers=28)\nlab"
    panel = open_panel(page, server, "strange-tokens.ipynb", script)
    page.add_script_tag(path=AXE)
    rig.fold_sidebar(page)
    panel.push(1.0)
    text = panel.pane("steered").locator(".sl-text")
    assert text.evaluate("el => el.textContent") == "".join(strange.TOKENS.values())

    panel.root.get_by_label("colour tokens by").select_option(index=2)
    panel.root.get_by_label("show spaces").check()
    expect(panel.pane("steered").locator(".sl-shade").first).to_be_visible(timeout=SLOW)
    expect(panel.pane("steered").locator(".sl-special")).to_have_text("</turn>")
    card = panel.root.locator(".sl-card")
    panel.pane("steered").locator(".sl-scroll").focus()
    page.keyboard.press("Enter")
    for i, spelling in enumerate(SPELLED):
        expect(card.locator(".sl-card-head .sl-token")).to_contain_text(spelling, timeout=SLOW)
        if i < len(SPELLED) - 1:
            page.keyboard.press("ArrowRight")
    box, view = card.bounding_box(), page.viewport_size
    assert box is not None
    assert view is not None
    assert box["x"] + box["width"] <= view["width"]
    assert findings(page) == []
    page.mouse.move(5, 5)
    assert wide(page) == []

    panel.root.get_by_role("radio", name="pick").check()
    expect(panel.root.locator(".sl-pick [role=option]").first).to_be_visible()
    panel.root.get_by_role("tab", name="Lens").click()
    cells = panel.root.locator(".sl-lens .sl-heat-cell")
    expect(cells.first).to_be_visible(timeout=SLOW)
    expect(panel.root.locator('.sl-lens [data-stale="false"]')).to_be_visible(timeout=SLOW)
    said = cells.evaluate_all("all => all.map((el) => el.textContent)")
    heads = panel.root.locator(".sl-lens .sl-heat-column").evaluate_all(
        "all => all.map((el) => el.textContent)"
    )
    for spelling in SPELLED:
        assert any(spelling in one for one in said), spelling
        assert any(spelling in one for one in heads), spelling
    heights = cells.evaluate_all("all => [...new Set(all.map((el) => el.offsetHeight))]")
    assert heights == [22]
    assert findings(page) == []
    for width in (1280, 600):
        page.set_viewport_size({"width": width, "height": 1000})
        assert wide(page) == []
    cells.nth(40).focus()
    expect(panel.root.locator(".sl-cellfacts")).to_contain_text("Baseline")
    assert wide(page) == []
    # labels of rows and columns stay in sight
    grid = panel.root.locator(".sl-lens .sl-heat-grid")
    grid.evaluate("el => { el.scrollLeft = 900; el.scrollTop = 200; }")
    frame, label, head = (
        one.bounding_box()
        for one in (
            grid,
            panel.root.locator(".sl-lens .sl-heat-label").nth(15),
            grid.locator(".sl-heat-head"),
        )
    )
    assert frame is not None
    assert label is not None
    assert head is not None
    assert abs(label["x"] - frame["x"]) < 2
    assert abs(head["y"] - frame["y"]) < 2
    page.evaluate(
        "() => jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' }).then(() => null)"
    )
    expect(panel.root).to_have_attribute("data-theme", "dark")
    for view_name in ("difference", "projection"):
        panel.root.get_by_role("radio", name=view_name).check()
        expect(panel.root.locator('.sl-lens [data-stale="false"]')).to_be_visible(timeout=SLOW)
        assert findings(page) == []
    assert page.title() != "broken in"
    assert page.locator(".jp-Notebook img").count() == 0
