"""Measuring and finding in the panel, in a real JupyterLab: the sweep, the frontier, and a new direction."""

from __future__ import annotations

import re

import pytest
import rig
from keys import Keys
from panel import SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Page, expect
from test_looks import AXE, findings, fits

pytestmark = pytest.mark.e2e

CELL = SCRIPTED + "lab = scripted.lab(n_layers={layers})\nlab"
# a model whose passes take a while, for what is called off
SLOW = (
    SCRIPTED
    + """import time
lab = scripted.lab(n_layers={layers})
at_once = lab.backend.score
lab.backend.score = lambda rows: (time.sleep(0.3), at_once(rows))[1]
lab"""
)
LONG = 120_000


def looks_right(page: Page, panel: PanelInPage) -> None:
    """axe-core finds nothing in light and dark, and everything fits at 480 pixels."""
    if AXE.is_file():
        assert findings(page) == []
        change = "jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })"
        page.evaluate(f"() => {change}.then(() => null)")
        expect(panel.root).to_have_attribute("data-theme", "dark")
        assert findings(page) == []
    page.set_viewport_size({"width": 600, "height": 1000})
    rig.fold_sidebar(page)
    assert fits(page)


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on what has this name."""
    for _ in range(80):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "() => (document.activeElement.closest('label') ?? document.activeElement).innerText"
        )
        if str(at).startswith(name):
            return
    raise AssertionError(f"Tab never came to {name}")


def test_a_sweep_by_keyboard_is_cancelled_goes_on_and_sets_the_panel(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "sweep.ipynb", SLOW.format(layers=28))
    if AXE.is_file():
        page.add_script_tag(path=AXE)
    panel.root.get_by_role("tab", name="Preview").focus()
    page.keyboard.press("ArrowRight")
    while panel.root.get_by_role("tab", name="Sweep").get_attribute("aria-selected") != "true":
        page.keyboard.press("ArrowRight")
    form = panel.root.get_by_role("form", name="What to sweep")
    tab_to(page, "prompts")
    page.keyboard.press("b")  # the first choice that begins so: the bundled harmful ones
    expect(form.get_by_text("113 recipes × 8 prompts")).to_be_visible()
    tab_to(page, "Measure")
    page.keyboard.press("Enter")
    working = panel.root.get_by_role("group", name="The sweep")
    expect(working).to_be_visible(timeout=LONG)
    cells = panel.root.locator(".sl-heat-cell")
    expect(cells).to_have_count(28 * 5, timeout=LONG)  # a part of it came
    working.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(panel.root.get_by_text("Cancelled at")).to_be_visible()
    kept = int(rig.execute(page, "lab.worker.join(20); print(lab.scores.done)"))
    assert 0 < kept < 113 * 8
    panel.root.get_by_role("button", name="Measure").first.click()
    expect(working).to_have_count(0, timeout=LONG)
    rig.until_prints(page, "print(lab.scores.finished, len(lab.scores.to_frame()))", f"True {140 * 8}")
    cells.first.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    expect(panel.root.locator(".sl-heat .sl-say").first).to_contain_text(
        "layer 27, coefficient +2: refusal score"
    )
    expect(panel.root.locator(".sl-heat .sl-say").first).to_contain_text("n = 8")
    page.keyboard.press("Enter")
    expect(panel.root.locator(".sl-texts dd").first).to_contain_text("I am sorry", timeout=LONG)
    rig.until_prints(
        page,
        "print(lab.recipe.interventions[0].layers, lab.recipe.interventions[0].coefficient)",
        "(27,) 2.0",
    )
    page.keyboard.press("Control+z")
    rig.until_prints(page, "print(len(lab.recipe))", "0")
    looks_right(page, panel)


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_map_and_its_legend_follow_the_metric(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "metric.ipynb", SLOW.format(layers=4))
    panel.root.get_by_role("tab", name="Sweep").click()
    form = panel.root.get_by_role("form", name="What to sweep")
    go = form.get_by_role("button", name="Measure")
    form.get_by_role("group", name="prompts").get_by_role("combobox").select_option(
        index=1
    )  # the bundled ones
    go.click()
    working = panel.root.get_by_role("group", name="The sweep")
    working.get_by_role("button", name="Cancel").click()
    expect(panel.root.get_by_text("Measure goes on from there")).to_be_visible()
    go.click()
    expect(working).to_have_count(0, timeout=LONG)

    def shows(metric: str, title: str, scale: float = 1, form: str = ".2f") -> None:
        """The map, its legend and what is said of a cell are of this metric, with the numbers of `lab.scores`."""
        grid = panel.root.get_by_role("grid", name=f"{title} of refusal by coefficient and layer")
        expect(grid).to_be_visible()
        expect(panel.root.locator(".sl-tabs .sl-legend-title:visible")).to_have_text(title)
        place = "{'layer': 3, 'coefficient': 4}"
        cell = f"next(c for c in lab.scores.cells if c.place == {place})"
        number = scale * float(rig.execute(page, f"print(lab.scores.estimate('{metric}', {cell}).value)"))
        words = f"layer 3, coefficient +4: {title} {format(number, form).replace('-', '−')}"
        last = grid.get_by_role("row").nth(1).get_by_role("gridcell").last
        expect(last).to_have_attribute("aria-label", re.compile(re.escape(words)))

    choice = form.get_by_label("metric")
    shows("refusal_score", "refusal score")
    choice.select_option("kl")
    shows("kl", "KL, nats")
    choice.select_option("refusal_rate")
    expect(panel.root.get_by_text("Measure again for refusal rate")).to_be_visible()
    form.get_by_label("layers").fill("3")
    go.click()
    expect(working).to_have_count(0, timeout=LONG)
    shows("refusal_rate", "refusal rate", 100, ".0f")
    choice.select_option("repetition")
    shows("repetition", "repetition", 100, ".0f")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_point_of_the_frontier_sets_the_ablation(server: rig.Server, page: Page) -> None:
    # the least that is confident takes seventy prompts and a model that refuses: here one layer always does
    enough = "\nfrom steerlab.surgical import Subset; Subset.keeps = lambda subset: subset.layers == (0,)\n"
    panel = open_panel(page, server, "frontier.ipynb", CELL.format(layers=4).replace("\n", enough, 1))
    panel.root.get_by_role("tab", name="Sweep").click()
    panel.root.get_by_role("radio", name="frontier").check()
    form = panel.root.get_by_role("form", name="Which subsets of layers")
    for n in form.get_by_role("spinbutton").all():
        n.fill("4")
    form.get_by_role("button", name="Measure").click()
    points = panel.root.get_by_role("listbox").get_by_role("option")
    expect(points).to_have_count(11, timeout=LONG)
    points.first.focus()
    page.keyboard.press("End")
    expect(panel.root.locator(".sl-scatter .sl-say")).to_contain_text("n = 2")
    one = panel.root.get_by_role("option", name="layer 2:")
    one.focus()
    page.keyboard.press("Enter")
    rig.until_prints(page, "print(lab.recipe.interventions[0].layers)", "(2,)")
    expect(panel.root.get_by_role("radio", name="ablate")).to_be_checked()
    keys, presets = Keys(page), panel.root.get_by_role("group", name="Presets")
    for name, cells in (("None", "[]"), ("Key layers", "[[0, 0, 0]]")):
        preset = presets.get_by_role("button", name=name)
        keys.reach(preset, back=name == "None")
        keys("Enter")
        expect(preset).to_have_attribute("aria-pressed", "true")
        where = "print([[site.layer for site in step.resolve(4)] for step in lab.recipe.interventions])"
        rig.until_prints(page, where, cells)
    if AXE.is_file():
        page.add_script_tag(path=AXE)
        assert findings(page) == []


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_direction_is_found_cancelled_used_and_kept(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "find.ipynb", SLOW.format(layers=4))
    if AXE.is_file():
        page.add_script_tag(path=AXE)
    opener = panel.root.get_by_role("button", name="+ find a new direction…")
    opener.focus()
    page.keyboard.press("Enter")
    find = panel.root.get_by_role("region", name="Find a direction")
    expect(find.get_by_label("name", exact=True)).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("refusing")
    for n in find.get_by_role("spinbutton").all()[:2]:
        n.fill("5")
    find.get_by_text("The filter").click()
    find.get_by_label("leave out prompts that the model takes the other way").uncheck()
    go = find.get_by_role("button", name="Find", exact=True)
    go.click()
    working = find.get_by_role("group", name="The search")
    expect(working).to_contain_text("asking the model without steering", timeout=LONG)
    working.get_by_role("button", name="Cancel").click()
    expect(find.get_by_text("Cancelled: nothing was changed")).to_be_visible()
    rig.until_prints(page, "lab.worker.join(20); print(list(lab.directions))", "['refusal']")
    find.get_by_label("The largest KL").fill("-1")
    go.click()
    expect(find.get_by_role("alert")).to_contain_text("candidates were rejected", timeout=LONG)
    assert find.locator('.sl-heat-cell[data-rejected="false"]').count() == 0
    if AXE.is_file():
        assert findings(page) == []
    find.get_by_role("button", name="Find again with").last.click()
    expect(find.get_by_text("is in the list")).to_be_visible(timeout=LONG)
    expect(panel.root.get_by_role("group", name="refusing", exact=True)).to_be_visible()
    passed = find.locator('.sl-heat-cell:not([data-empty="true"])')
    passed.last.focus()
    page.keyboard.press("Enter")
    expect(find.get_by_text("In use: position −1 of layer 3")).to_be_visible()
    where = "print(lab.recipe.interventions[0].direction.site.layer, list(lab.directions))"
    rig.until_prints(page, where, "3 ['refusal', 'refusing']")
    find.get_by_role("button", name="Keep it as refusing").click()
    rig.until_prints(page, "print(lab.directions['refusing'].site.layer)", "3")
    looks_right(page, panel)


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_what_was_measured_and_found_is_there_after_a_reload_and_in_a_second_view(
    server: rig.Server, page: Page
) -> None:
    panel = open_panel(page, server, "kept.ipynb", CELL.format(layers=4), "lab")
    panel.root.get_by_role("button", name="+ find a new direction…").click()
    find = panel.root.get_by_role("region", name="Find a direction")
    find.get_by_label("name", exact=True).fill("refusing")
    find.get_by_label("method").select_option("means")
    find.get_by_role("button", name="Find", exact=True).click()
    expect(find.get_by_text("is in the list")).to_be_visible(timeout=LONG)
    panel.root.get_by_role("tab", name="Sweep").click()
    panel.root.get_by_role("textbox", name="coefficients").fill("−2, 2")
    panel.root.get_by_role("button", name="Measure").click()
    cells = panel.root.locator(".sl-tabs .sl-heat-cell:not([data-empty='true'])")
    expect(cells).to_have_count(8, timeout=LONG)
    expect(panel.root.locator(".sl-working")).to_have_count(0, timeout=LONG)
    told = cells.first.get_attribute("aria-label")
    panel.root.get_by_role("radio", name="frontier").check()
    frontier = panel.root.get_by_role("form", name="Which subsets of layers")
    frontier.get_by_role("radio", name="windows").check()
    frontier.get_by_role("button", name="Measure").click()
    points = panel.root.get_by_role("listbox").get_by_role("option")
    expect(points).to_have_count(11, timeout=LONG)
    rig.command(page, "docmanager:save")

    def all_there(panel: PanelInPage) -> None:
        panel.root.get_by_role("tab", name="Sweep").click()
        cells = panel.root.locator(".sl-tabs .sl-heat-cell:not([data-empty='true'])")
        expect(cells).to_have_count(8)
        expect(cells.first).to_have_attribute("aria-label", str(told))
        expect(panel.root.get_by_role("textbox", name="coefficients")).to_have_value("−2, 2")
        panel.root.get_by_role("radio", name="frontier").check()
        expect(panel.root.get_by_role("listbox").get_by_role("option")).to_have_count(11)
        expect(panel.root.get_by_role("radio", name="windows")).to_be_checked()
        panel.root.get_by_role("button", name="+ find a new direction…").click()
        find = panel.root.get_by_role("region", name="Find a direction")
        expect(find.locator(".sl-heat-cell").first).to_be_visible(timeout=10_000)
        expect(find.get_by_label("name").first).to_have_value("refusing 2")  # which is free

    page.reload(wait_until="domcontentloaded")
    expect(panel.root).to_be_visible(timeout=60_000)
    scores = rig.execute(page, "print(id(lab.scores), id(lab.map))")
    all_there(panel)
    find = panel.root.get_by_role("region", name="Find a direction")
    find.locator(".sl-heat-cell:not([data-empty='true'])").last.click()
    expect(find.get_by_text("In use: position −1 of layer 3")).to_be_visible()
    rig.run_cell(page, 1)
    second = PanelInPage(page, 1)
    expect(second.root).to_be_visible(timeout=30_000)
    all_there(second)
    assert rig.execute(page, "print(id(lab.scores), id(lab.map))") == scores  # nothing was measured again


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_file_and_two_prompts_are_directions(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "pair.ipynb", CELL.format(layers=4))
    panel.root.get_by_role("button", name="+ from two prompts…").click()
    pair = panel.root.get_by_role("region", name="A direction from two prompts")
    pair.get_by_role("textbox", name="a text that shows it").fill("Love")
    pair.get_by_role("textbox", name="a text that lacks it").fill("Hate")
    pair.get_by_role("button", name="Find", exact=True).click()
    expect(pair.get_by_text("difference is in the list")).to_be_visible(timeout=LONG)
    pair.get_by_role("button", name="Use it").click()
    rig.until_prints(page, "print(lab.recipe.interventions[0].direction.name)", "difference")
    panel.root.get_by_role("button", name="+ find a new direction…").click()
    find = panel.root.get_by_role("region", name="Find a direction")
    find.get_by_label("method").select_option("means")
    shows = find.get_by_role("group", name="prompts that show it")
    shows.locator("select").select_option("file")
    shows.locator("[type=file]").set_input_files(
        {"name": "shows.csv", "mimeType": "text/csv", "buffer": b"id,goal\n1,Dance\n2,Sing\n"}
    )
    find.get_by_role("button", name="Find", exact=True).click()
    expect(find.get_by_text("2 prompts against 64")).to_be_visible(timeout=LONG)
