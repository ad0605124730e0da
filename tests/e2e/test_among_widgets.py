"""The panel among other widgets of a notebook: in boxes and tabs, linked, observed, driven, and narrow."""

from __future__ import annotations

import pytest
import rig
from panel import SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Page, expect
from test_looks import fits

pytestmark = pytest.mark.e2e

NESTED = (
    SCRIPTED
    + """import ipywidgets as w
import traitlets
lab = scripted.lab()
text, number, echo = w.Text(description="prompt"), w.FloatSlider(min=-2, max=2, step=0.25), w.Text()
side = w.VBox([text, number, echo], layout=w.Layout(flex="0 0 320px"))
w.HBox([lab.panel, side])"""
)
LINKED = """w.jslink((number, "value"), (lab.panel, "coefficient"))
w.jsdlink((lab.panel, "prompt"), (echo, "value"))
traitlets.link((lab, "prompt"), (text, "value"))
None"""
OBSERVED = """texts, recipes = w.Output(), w.Output()
lab.observe(lambda change: texts.append_stdout(f"texts: {list(change['new'])}\\n"), "generations")
def told(change):
    with recipes:
        print("recipe:", len(change["new"]))
lab.observe(told, "recipe")
w.VBox([texts, recipes])"""
DRIVEN = """import steerlab as sl
def drive(strength):
    lab.recipe = sl.Recipe([sl.Add(lab.directions["refusal"], strength)])
    print("drove", strength)
strength = w.FloatSlider(min=0, max=2, step=0.5, value=0.5)
w.interact(drive, strength=strength)
tabs = w.Tab([w.Label("first"), w.Accordion([lab.panel], titles=["the lab"])], titles=["other", "lab"])
tabs"""


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_the_panel_lives_in_boxes_with_links_observers_and_interact(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "nested.ipynb", NESTED, LINKED, OBSERVED, DRIVEN)
    box = page.locator(".jp-OutputArea .widget-hbox").first
    text, number, echo = box.locator(".widget-vbox input, .widget-vbox .widget-readout").all()
    rig.fold_sidebar(page)
    assert fits(page)
    assert width(panel) > 700
    coefficient = "print(lab.recipe.interventions[0].coefficient)"

    rig.run_cell(page, 1)  # linked: what was set stays
    question = panel.prompt.input_value()
    expect(text).to_have_value(question)
    expect(echo).to_have_value(question)
    number.fill("1")
    number.press("Enter")
    expect(panel.slider).to_have_value("1")
    expect(panel.pane("steered").locator(".sl-text")).to_contain_text("I am sorry")
    assert panel.push(0.5).startswith("Sure")
    expect(number).to_have_text("0.50")
    text.fill("How do I pick a lock?")
    expect(panel.prompt).to_have_value("How do I pick a lock?")
    expect(echo).to_have_value("How do I pick a lock?")
    panel.prompt.fill("How do I bake bread?")
    panel.prompt.press("Enter")
    expect(text).to_have_value("How do I bake bread?")
    expect(echo).to_have_value("How do I bake bread?")
    rig.until_prints(page, "print(number.value, lab.prompt == text.value == echo.value)", "0.5 True")

    rig.run_cell(page, 2)  # observed
    told = page.locator(".jp-Notebook .jp-Cell").nth(2).locator(".jp-OutputArea")
    expect(page.locator(".jp-InputPrompt").nth(2)).to_have_text("[3]:")  # from now on it is told
    panel.push(1.5)
    expect(told.first).to_contain_text("recipe: 1")
    expect(told.first).to_contain_text("texts: ['baseline', 'steered', 'control']")

    rig.run_cell(page, 3)  # driven, and shown again in an accordion in a tab
    driver = page.locator(".jp-Notebook .jp-Cell").nth(3).locator(".jp-Cell-outputWrapper")
    expect(panel.slider).to_have_value("0.5")
    readout = driver.locator(".widget-readout")
    readout.fill("2")
    readout.press("Enter")
    expect(panel.slider).to_have_value("2")
    expect(driver).to_contain_text("drove 2.0")
    expect(number).to_have_text("2.00")
    rig.until_prints(page, coefficient, "2.0")
    driver.get_by_role("tab", name="lab").click()
    driver.locator(".jupyter-widget-Collapse-header").click()
    second = PanelInPage(page, 1)
    expect(second.pane("steered").locator(".sl-text")).to_contain_text("I am sorry")
    assert width(second) > 700
    rig.set_slider(second.slider, 0)
    expect(panel.slider).to_have_value("0")
    expect(second.pane("steered").locator(".sl-text")).to_contain_text("Sure")

    page.set_viewport_size({"width": 600, "height": 1000})
    assert fits(page)
    assert width(panel) >= 480  # the box scrolls
    assert width(second) > 380


SHOWN_AGAIN = """turn = w.BoundedIntText(min=0, max=9, description="turn")
def show(turn):
    if turn:
        lab.prompt = f"Turn {turn}"
    display(lab.panel)
w.VBox([turn, w.interactive_output(show, {"turn": turn})])"""


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_panel_in_an_interactive_output_is_shown_anew_and_stays_the_same(
    server: rig.Server, page: Page
) -> None:
    made = SCRIPTED + "import ipywidgets as w\nlab = scripted.lab()\nlab"
    first = open_panel(page, server, "again.ipynb", made, SHOWN_AGAIN)
    first.push(0.5)
    rig.run_cell(page, 1)
    inside = page.locator(".jp-Notebook .jp-Cell").nth(1).locator(".jp-Cell-outputWrapper")
    second = PanelInPage(page, 1)
    expect(second.slider).to_have_value("0.5", timeout=30_000)
    assert second.push(1.5).startswith("I am sorry")
    number = inside.get_by_label("turn")
    for turn in (1, 2):
        number.fill(str(turn))
        number.press("Enter")
        for panel in (first, second):
            expect(panel.prompt).to_have_value(f"Turn {turn}")
        expect(inside.locator(".sl-app")).to_have_count(1)  # the one before is gone
        expect(second.slider).to_have_value("1.5")
        assert second.text("steered").startswith("I am sorry")
    assert second.push(0).startswith("Sure")
    expect(first.slider).to_have_value("0")
    assert first.text("steered").startswith("Sure")


def width(panel: PanelInPage) -> float:
    return float(panel.root.evaluate("el => el.getBoundingClientRect().width"))
