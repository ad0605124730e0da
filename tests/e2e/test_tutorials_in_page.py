"""The exercises of the tutorials that are done in the panel, with the mouse, in a real JupyterLab."""

from __future__ import annotations

import shutil

import pytest
import rig
from panel import EMBEDDED, FIRST_CELL, PanelInPage, open_panel
from playwright.sync_api import Locator, Page, expect

from steerlab import cli

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not EMBEDDED, reason="the embedded model is not trained yet"),
]


def open_at(page: Page, server: rig.Server, check: str) -> tuple[PanelInPage, Locator]:
    """A panel with an exercise's cell below it, and what that cell shows."""
    module, call = check.split(".", 1)
    panel = open_panel(
        page,
        server,
        f"{module}.ipynb",
        FIRST_CELL,
        f"from steerlab.tutorials import {module} as check\n{call}",
    )
    return panel, page.locator(".jp-Notebook .jp-CodeCell").nth(1).locator(".jp-OutputArea-output p")


def test_a_student_reads_on_where_the_winner_of_a_search_stutters(server: rig.Server, page: Page) -> None:
    panel, says = open_at(page, server, "find_a_direction.check.refuses_in_whole_sentences(lab)")
    panel.root.get_by_role("button", name="+ find a new direction…").click()
    find = panel.root.get_by_role("region", name="Find a direction")
    find.get_by_role("button", name="Find", exact=True).click()
    cells = find.get_by_role("grid").get_by_role("gridcell")
    expect(cells.first).to_be_visible(timeout=120_000)

    for cell, words in (
        ("position −1, layer 7", "✗ The candidate at position -1 of layer 7 refuses, but in no sentence"),
        ("position −4, layer 5", "✗ The candidate at position -4 of layer 5 fell: induce"),
        ("position −4, layer 6", "✓ The candidate at position -4 of layer 6 refuses in sentences"),
    ):
        find.locator(f"[role=gridcell][aria-label*='{cell}']").click()
        expect(find.get_by_text(f"In use: {cell.replace(', ', ' of ')}")).to_be_visible()
        rig.run_cell(page, 1)
        expect(says).to_contain_text(words)


def test_a_student_fools_the_judge_with_a_number_beyond_the_slider(server: rig.Server, page: Page) -> None:
    panel, says = open_at(page, server, "measure_it.check.fooled_the_judge(lab)")
    number = panel.root.get_by_label("Coefficient of refusal, as a number")
    for coefficient, words in (("1", "✗ This text has a phrase of refusal"), ("3", "✓ “Sorry")):
        number.fill(coefficient)
        number.press("Enter")
        expect(panel.slider).to_have_value(coefficient)
        rig.run_cell(page, 1)
        expect(says).to_contain_text(words)
    expect(panel.pane("steered").get_by_role("button", name="answers")).to_be_visible()


def test_a_student_takes_few_layers_from_the_frontier(server: rig.Server, page: Page) -> None:
    panel, says = open_at(page, server, "look_inside.check.few_layers_suffice(lab)")
    panel.root.get_by_role("tab", name="Sweep").click()
    panel.root.get_by_role("radio", name="frontier").check()
    form = panel.root.get_by_role("form", name="Which subsets of layers")
    for field in form.get_by_role("spinbutton").all():
        field.fill("64")
    form.get_by_role("button", name="Measure").click()
    lowest = panel.root.locator("[role=option][data-kind=marked][aria-label*='still refused 0 %']")
    lowest.click(timeout=120_000)
    rig.until_prints(page, "print(lab.recipe.interventions[0].layers)", "(4, 6, 9)")
    rig.run_cell(page, 1)
    words = "✓ On fresh prompts ablation at layers 4, 6, 9 does what it does at every layer"
    expect(says).to_contain_text(words, timeout=60_000)


def test_a_student_turns_a_mood_with_a_direction_of_a_cell(server: rig.Server, page: Page) -> None:
    panel, says = open_at(page, server, "your_own_concept.check.turned_the_mood(lab)")
    make = "lab.prompt_pair('I am happy.', 'I am sad.', site=sl.Site(7, 'resid_pre'), name='happy')"
    rig.execute(page, f"lab.prompt, happy = 'Do you like winter?', {make}")
    rig.execute(page, "lab.directions = {**lab.directions, 'happy': happy}")
    expect(panel.prompt).to_have_value("Do you like winter?")
    slider = panel.root.get_by_role("slider", name="Coefficient of happy")
    for coefficient, words in (
        (0.5, "✗ It says “I think winter is terrible."),
        (1.3, "✓ From “I think winter"),
    ):
        rig.set_slider(slider, coefficient)
        rig.until_prints(page, "print(lab.recipe.interventions[0].coefficient)", str(coefficient))
        rig.run_cell(page, 1)
        expect(says).to_contain_text(words)


def test_a_hint_opens_and_an_answer_is_shown_as_code(server: rig.Server, page: Page) -> None:
    first = cli.tutorials()[0]
    shutil.copy(first, server.root)
    rig.open_notebook(page, server, first.name)
    page.evaluate("() => jupyterapp.shell.currentWidget.content.scrollToItem(3, 'start')")
    for summary, inside in (("Hint", "arrow keys"), ("One answer, in Python", "lab.recipe = sl.Recipe")):
        details = page.locator("details", has_text=summary).first
        expect(details).not_to_have_attribute("open", "")
        details.locator("summary").click()
        expect(details.get_by_text(inside).first).to_be_visible()
    expect(details.locator("pre code")).to_contain_text("check.made_it_refuse(lab)")
