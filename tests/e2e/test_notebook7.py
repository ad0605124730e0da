"""What is tested one by one in JupyterLab, once through in Notebook 7."""

from __future__ import annotations

import filled
import pytest
import rig
from panel import SCRIPTED, open_panel
from playwright.sync_api import Page, expect
from test_looks import fits

pytestmark = pytest.mark.e2e

CELL = SCRIPTED + "lab = scripted.lab(n_layers=4)\nlab"
LONG = 20_000


@pytest.mark.parametrize("server", ["notebook"], indirect=True)
def test_steering_sweep_search_lens_and_code_in_one_notebook(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "through.ipynb", CELL)
    root = panel.root
    assert panel.push(1.5).startswith("I am sorry")

    root.get_by_role("tab", name="Lens").click()
    lens = root.locator(".sl-lens .sl-heat-cell")
    expect(lens.first).to_be_visible(timeout=LONG)
    lens.first.click()
    expect(root.locator(".sl-lens .sl-say").first).to_contain_text("layer 3, after <user> (token 1)")

    root.get_by_role("tab", name="Sweep").click()
    form = root.get_by_role("form", name="What to sweep")
    form.get_by_role("button", name="Measure").click()
    cells = root.get_by_role("tabpanel", name="Sweep").locator(".sl-heat-cell")
    expect(root.get_by_role("group", name="The sweep")).to_have_count(0, timeout=LONG)
    expect(cells).to_have_count(4 * 5, timeout=LONG)
    cells.last.click()
    where = "print(lab.recipe.interventions[0].layers, lab.recipe.interventions[0].coefficient)"
    rig.until_prints(page, where, "(3,) -4.0")

    root.get_by_role("button", name="+ find a new direction…").click()
    find = root.get_by_role("region", name="Find a direction")
    find.get_by_label("name", exact=True).fill("refusing")
    find.get_by_label("method").select_option("means")
    find.get_by_role("button", name="Find", exact=True).click()
    expect(find.get_by_text("is in the list")).to_be_visible(timeout=LONG)
    find.get_by_role("button", name="Use it").click()
    rig.until_prints(
        page, "print([s.direction.name for s in lab.recipe.interventions])", "['refusal', 'refusing']"
    )

    root.get_by_role("tab", name="Code").click()
    expect(root.locator(".sl-code")).to_contain_text("refusing")
    page.set_viewport_size({"width": 600, "height": 1000})
    assert fits(page)


@pytest.mark.parametrize("server", ["notebook"], indirect=True)
def test_tokens_are_picked_spaces_are_shown_and_jobs_are_cancelled(server: rig.Server, page: Page) -> None:
    cell = SCRIPTED + "lab = scripted.lab(n_layers=4)" + filled.JOBS + "lab"
    panel = open_panel(page, server, "more.ipynb", cell)
    root = panel.root
    panel.push(1.0)
    scope = root.get_by_role("radio", name="pick")
    scope.focus()
    page.keyboard.press("Space")
    tokens = "print(lab.recipe.interventions[0].tokens)"
    rig.until_prints(page, tokens, "(-1,)")
    options = root.locator(".sl-pick [role=option]")
    options.last.focus()
    for key in ("ArrowLeft", "Shift+ArrowLeft", "Space"):
        page.keyboard.press(key)
    rig.until_prints(page, tokens, "(-1,)")
    options.nth(-2).click()
    rig.until_prints(page, tokens, "(-2, -1)")

    root.get_by_role("checkbox", name="show spaces").check()
    expect(panel.pane("baseline").locator(".sl-text")).to_contain_text("␣")
    root.get_by_label("colour tokens by").select_option("change")
    panel.pane("steered").locator(".sl-text > span").nth(1).hover()
    expect(root.locator(".sl-card")).to_contain_text("Baseline:", timeout=LONG)
    page.mouse.move(5, 5)

    root.get_by_role("group", name="Server").get_by_role("button").first.click()
    jobs = root.get_by_role("region", name="Jobs on the server")
    jobs.get_by_role("button", name="Cancel job bbbbbbbb").click()
    rig.until_prints(page, "print(ended)", "['bbbbbbbb-2']")
    page.keyboard.press("Escape")
    expect(jobs).to_be_hidden()
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(1)  # no key was the notebook's
