"""Looking into the texts: colours, details of tokens, the lens, picked tokens; strange texts, keys, narrow widths."""

from __future__ import annotations

import re
import sys

import pytest
import rig
from panel import FIRST_CELL, SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Locator, Page, expect
from test_looks import AXE, findings, legible

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
    steered = panel.root.locator('.sl-lens [data-under="steered"]')
    expect(steered.locator(".sl-heat-cell:focus")).to_have_count(1)
    assert steered.locator('[data-place="0,0"]').inner_text()
    # what the model says last is what the text goes on with
    last = steered.locator(f'[data-place="0,{int(n_prompt) - 1}"]')
    expect(last).to_have_text(token(panel, "steered", 0).inner_text())

    # the mouse again: a click
    panel.root.get_by_role("tab", name="Preview").click()
    token(panel, "baseline", 2).click()
    cell = panel.root.locator('.sl-lens [data-under="baseline"] .sl-heat-cell:focus')
    expect(cell).to_have_attribute("data-place", f"0,{int(n_prompt) + 2}", timeout=SLOW)
    expect(cell).to_be_in_viewport()

    # a new run: old until it has ended, then read anew
    before = panel.run
    rig.set_slider(panel.slider, 0)
    page.wait_for_function("n => document.querySelector('.sl-app [data-run]').dataset.run > n", arg=before)
    expect(panel.root.locator('.sl-lens [data-stale="false"]')).to_be_visible(timeout=SLOW)
    expect(panel.root.locator(".sl-lens")).to_contain_text("Nothing is steered")
    panel.root.get_by_role("radio", name="projection").check()
    expect(panel.root.locator(".sl-lens .sl-legend")).to_contain_text("projection on refusal", timeout=SLOW)
    assert "Error" not in rig.execute(page, "import steerlab as sl")


def marked(maps: Locator) -> list[list[str]]:
    """Where each map has its mark."""
    return list(
        maps.evaluate_all(
            "all => all.map((map) => [...map.querySelectorAll('[data-pointed]')].map((el) => el.dataset.place))"
        )
    )


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_baseline_and_steered_stand_side_by_side_and_move_as_one(server: rig.Server, page: Page) -> None:
    script = "lab = scripted.lab(n_layers=28)\nlab.prompt = 'How do I bake bread? ' * 8\nlab"
    panel = open_panel(page, server, "sides.ipynb", SCRIPTED + script)
    rig.fold_sidebar(page)
    panel.push(1.0)
    panel.root.get_by_role("tab", name="Lens").click()
    lens = panel.root.locator(".sl-lens")
    maps = lens.locator(".sl-heat-grid")
    expect(maps).to_have_count(2, timeout=SLOW)
    expect(lens.locator(".sl-maps h4")).to_have_text(["Baseline", "Steered"])
    expect(lens.locator(".sl-legend")).to_have_count(1)
    legible(page)
    left, right = (one.bounding_box() for one in maps.all())
    assert left is not None
    assert right is not None
    assert (left["y"], left["height"], left["width"]) == (right["y"], right["height"], right["width"])
    assert left["x"] + left["width"] < right["x"]

    # one points, both mark it; one scrolls, both do
    maps.first.locator('[data-place="3,1"]').hover()
    expect(lens.locator("[data-pointed]")).to_have_count(2)
    assert marked(maps) == [["3,1"], ["3,1"]]
    facts = lens.locator(".sl-cellfacts")
    for words in ("Layer 24", "Baseline", "Steered", "Rose most"):
        expect(facts).to_contain_text(words)
    maps.first.evaluate("el => el.scrollTo(300, 90)")
    scrolled = "el => [el.scrollLeft, el.scrollTop]"
    page.wait_for_function("() => [...document.querySelectorAll('.sl-heat-grid')].at(-1).scrollLeft === 300")
    assert [one.evaluate(scrolled) for one in maps.all()] == [[300, 90]] * 2
    maps.last.locator('[data-place="0,0"]').focus()
    for key in ("End", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    assert marked(maps) == [["1,46"], ["1,46"]], "the last but one of 48 tokens"
    page.wait_for_function("() => document.querySelector('.sl-heat-grid').scrollLeft > 300")
    ends = [one.evaluate(scrolled) for one in maps.all()]
    assert abs(ends[0][0] - ends[1][0]) <= 1
    expect(maps.last.locator(":focus")).to_be_in_viewport()
    expect(maps.first.locator("[data-pointed]")).to_be_in_viewport()

    # a long text has pages
    lens.get_by_role("button", name="Later").click()
    expect(lens.locator('[data-stale="false"]')).to_be_visible(timeout=SLOW)
    heads = [one.locator(".sl-heat-column").all_inner_texts() for one in maps.all()]
    assert heads[0] == heads[1]
    lens.get_by_role("radio", name="projection").check()
    expect(lens.locator(".sl-legend")).to_contain_text("projection on refusal", timeout=SLOW)
    expect(lens.locator(".sl-legend")).to_have_count(1)
    maps.last.locator('[data-place="2,2"]').hover()
    says = [re.sub("[+−][0-9.]+", "", one) for one in lens.locator(".sl-say").all_inner_texts()]
    assert says[0] == says[1]
    assert "into layer 25" in says[0]
    legible(page)
    lens.get_by_role("radio", name="difference").check()
    expect(maps).to_have_count(1)
    expect(lens.locator(".sl-legend")).to_contain_text("change of the projection on refusal")
    lens.get_by_role("radio", name="likeliest token").check()
    expect(lens.locator(".sl-legend")).to_contain_text("KL(baseline ‖ steered)")

    # in a side panel one stands above the other
    lens.get_by_role("radio", name="side by side").check()
    page.set_viewport_size({"width": 592, "height": 1000})
    legible(page)
    upper, lower = (one.bounding_box() for one in maps.all())
    assert upper is not None
    assert lower is not None
    assert upper["x"] == lower["x"]
    assert upper["y"] + upper["height"] < lower["y"]


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
    grid = panel.root.locator(".sl-lens .sl-heat-grid").first
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
