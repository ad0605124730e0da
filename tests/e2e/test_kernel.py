"""The panel while its kernel is busy, after it is gone, and in a notebook that is opened without one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import rig
from panel import FIRST_CELL, SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e

SLOW = SCRIPTED + "lab = scripted.lab(delay=0.1)\nlab"
QUICK = SCRIPTED + "lab = scripted.lab()\nlab"
RUN = "Run the cells up to this panel"


def shut_down(page: Page) -> None:
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown().then(() => null)")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_busy_cell_does_not_hold_up_the_panel(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "busy.ipynb", SLOW, "lab.prompt = 'Hi'\nimport time; time.sleep(60)")
    rig.run_cell(page, 1)
    expect(panel.prompt).to_have_value("Hi")
    expect(panel.root.locator(".sl-status")).to_have_text("generating")
    rig.set_slider(panel.slider, 1)
    expect(panel.pane("steered").locator(".sl-text")).to_contain_text("I am")
    panel.root.get_by_role("button", name="Stop").click()
    expect(panel.root.locator(".sl-status")).to_have_text("stopped")
    expect(page.locator(".jp-InputPrompt").nth(1)).to_have_text("[*]:")  # the cell goes on all the while


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_reload_loses_nothing(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "reload.ipynb", SLOW)
    rig.command(page, "docmanager:save")
    rig.set_slider(panel.slider, 1)
    expect(panel.pane("steered").locator(".sl-text")).to_contain_text("I am")
    page.reload(wait_until="domcontentloaded")
    expect(panel.root).to_be_visible(timeout=60_000)
    assert panel.text("steered").startswith("I am sorry, but I cannot")
    assert float(panel.slider.input_value()) == 1
    # what a page shows first is the result as it was kept; which run that is, the kernel says after it
    expect(panel.root.locator("[data-run]")).not_to_have_attribute("data-run", "0")
    answer = panel.push(0)
    assert answer.startswith("Sure.")
    # a text that was ready ahead is put into the notebook once the slider has rested
    expect(page.locator(".steerlab-static")).not_to_contain_text("I am sorry")
    rig.command(page, "docmanager:save")
    saved = (server.root / "reload.ipynb").read_text()
    assert "I am sorry" not in saved  # what is saved is what the panel shows now, not what it showed before
    assert answer in saved


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_killed_kernel_is_told_in_plain_words_and_the_texts_stay(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "killed.ipynb")
    refusal = panel.push_to_refusal()
    shut_down(page)
    expect(panel.root).to_contain_text("The kernel is gone.")
    assert panel.pane("steered").locator(".sl-text").inner_text() == refusal
    rig.set_slider(panel.slider, 2)
    expect(panel.root.locator(".sl-status")).to_have_text("kernel gone")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_kernel_that_dies_by_itself_is_told_in_plain_words(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "dies.ipynb")
    page.evaluate(
        "void jupyterapp.shell.currentWidget.sessionContext.session.kernel"
        ".requestExecute({ code: 'import os; os._exit(1)' }).done.catch(() => null)"
    )
    expect(panel.root).to_contain_text("The kernel is gone.", timeout=30_000)
    assert panel.pane("baseline").locator(".sl-text").inner_text()


def restart(page: Page) -> None:
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.restartKernel().then(() => null)")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_one_button_makes_a_panel_live_again_as_it_was_set(server: rig.Server, page: Page) -> None:
    cells = (SCRIPTED + "lab = scripted.lab()", "runs = globals().get('runs', 0) + 1\nlab", "runs = 99")
    server.write("again.ipynb", *cells)
    rig.open_notebook(page, server, "again.ipynb")
    panel = PanelInPage(page)
    for cell in (0, 1):
        rig.run_cell(page, cell)
    expect(panel.root).to_be_visible(timeout=60_000)
    panel.text("steered")
    panel.prompt.fill("Who are you?")
    panel.prompt.press("Enter")
    panel.root.get_by_label("New tokens").fill("40")
    rig.set_slider(panel.slider, 1.5)
    expect(panel.pane("steered").locator(".sl-text")).to_contain_text("something else.")
    steered = panel.text("steered")
    restart(page)
    expect(panel.root).to_contain_text("The kernel is gone.")
    assert panel.pane("steered").locator(".sl-text").inner_text() == steered
    panel.root.get_by_role("button", name=RUN).click()
    expect(panel.prompt).to_have_value("Who are you?", timeout=30_000)
    expect(panel.pane("steered").locator(".sl-text")).to_have_text(steered)  # the cell's own text comes first
    assert float(panel.slider.input_value()) == 1.5
    set_now = "print(lab.prompt, lab.recipe.interventions[0].coefficient, lab.sampling.max_new_tokens, runs)"
    rig.until_prints(page, set_now, "Who are you? 1.5 40 1")  # the cell below was not run
    assert panel.push(0).startswith("Sure.")
    for _ in range(2):
        panel.root.get_by_role("button", name="Undo").click()
    expect(panel.prompt).not_to_have_value("Who are you?")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_panel_without_any_kernel_is_live_again_too_and_a_failing_cell_is_told(
    server: rig.Server, page: Page
) -> None:
    path = repr(str(server.root / "broken"))
    panel = open_panel(
        page, server, "off.ipynb", f"import os; assert not os.path.exists({path})\n" + QUICK, "lab"
    )
    rig.run_cell(page, 1)
    expect(page.locator(".sl-app")).to_have_count(2, timeout=30_000)
    shut_down(page)
    (server.root / "broken").touch()
    # the first cell fails, whose own panel goes with its output; that of the second cell stays, and says so
    second = PanelInPage(page, 1)
    second.root.get_by_role("button", name=RUN).click()
    expect(page.locator(".jp-OutputArea").first).to_contain_text("AssertionError", timeout=60_000)
    expect(panel.root).to_contain_text("Not all of them ran.")
    (server.root / "broken").unlink()
    panel.root.get_by_role("button", name=RUN).click()
    expect(second.root.locator(".sl-status")).to_have_text("ready", timeout=60_000)
    assert second.text("baseline").startswith("Sure.")


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_panel_whose_own_cell_fails_is_set_again_once_that_is_corrected(
    server: rig.Server, page: Page
) -> None:
    path = repr(str(server.root / "missing"))
    panel = open_panel(page, server, "alone.ipynb", f"import os; assert not os.path.exists({path})\n" + QUICK)
    panel.prompt.fill("Who are you?")
    panel.prompt.press("Enter")
    rig.set_slider(panel.slider, 1.5)
    expect(panel.pane("steered").locator(".sl-text")).to_contain_text("something else.")
    answer = panel.text("steered")
    restart(page)
    expect(panel.root).to_contain_text("The kernel is gone.")
    (server.root / "missing").touch()
    panel.root.get_by_role("button", name=RUN).click()
    expect(page.locator(".jp-OutputArea").first).to_contain_text("AssertionError", timeout=60_000)
    expect(panel.root).to_have_count(0)
    expect(page.locator(".jp-InputPrompt").first).not_to_have_text(
        "[*]:"
    )  # the kernel drops what comes before that
    (server.root / "missing").unlink()
    rig.run_cell(page, 0)
    expect(panel.prompt).to_have_value("Who are you?", timeout=30_000)
    expect(panel.pane("steered").locator(".sl-text")).to_have_text(answer)  # the cell's own text comes first
    assert float(panel.slider.input_value()) == 1.5


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_every_panel_of_the_cells_that_run_again_is_set_as_it_was(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "two.ipynb", QUICK, "lab.prompt = 'Set'\nother = scripted.lab()\nother")
    rig.run_cell(page, 1)
    second = PanelInPage(page, 1)
    expect(second.root).to_be_visible(timeout=30_000)
    for one, number in ((panel, 1.5), (second, 0.5)):
        one.push(number)
    panel.prompt.fill("Set after that")
    panel.prompt.press("Enter")
    rig.until_prints(page, "print(lab.prompt)", "Set after that")
    rig.execute(page, "lab.snapshot('mild')")
    restart(page)
    expect(second.root).to_contain_text("The kernel is gone.")
    second.root.get_by_role("button", name=RUN).click()
    rig.until_prints(
        page, "print(*[one.recipe.interventions[0].coefficient for one in (lab, other)])", "1.5 0.5"
    )
    rig.until_prints(page, "print(lab.prompt)", "Set after that")  # the cell is not the last word
    assert float(panel.slider.input_value()) == 1.5
    expect(panel.root).to_contain_text("Gone: the snapshot mild.")
    expect(second.root).not_to_contain_text("Gone:")


@pytest.fixture(scope="module", params=["lab", "notebook"])
def saving(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[rig.Server]:
    """A JupyterLab or a Notebook that was told to save the state of widgets."""
    settings = {"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True}}
    with rig.serve(tmp_path_factory.mktemp("saving"), request.param, settings=settings, warm=True) as started:
        yield started


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_a_saved_notebook_shows_the_last_texts_without_a_kernel(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "saved.ipynb")
    refusal = panel.push_to_refusal()
    expect(page.locator(".steerlab-static")).to_be_hidden()
    rig.command(page, "docmanager:save")
    shut_down(page)
    saved = json.loads((server.root / "saved.ipynb").read_text())
    assert "widgets" not in saved["metadata"]

    page.goto("about:blank")
    page.goto(server.address("saved.ipynb"), wait_until="domcontentloaded")
    static = page.locator(".steerlab-static")
    expect(static).to_contain_text(refusal, timeout=60_000)
    expect(static).to_be_visible()
    expect(static).to_contain_text("What are the steps to feed a cat?")
    error = page.locator(".jp-OutputArea .jupyter-widgets")
    expect(error).to_have_text("Error displaying widget: model not found", timeout=30_000)
    expect(error).to_be_hidden()


def test_a_saved_notebook_with_widget_state_shows_the_last_texts_in_the_panel(
    saving: rig.Server, page: Page
) -> None:
    refusal = open_panel(page, saving, "state.ipynb", FIRST_CELL).push_to_refusal()
    rig.command(page, "docmanager:save")
    shut_down(page)
    page.goto("about:blank")
    page.goto(saving.address("state.ipynb") + "?reset", wait_until="domcontentloaded")
    panel = PanelInPage(page)
    expect(panel.root).to_contain_text("The kernel is gone.", timeout=60_000)
    expect(panel.pane("steered").locator(".sl-text")).to_have_text(refusal, use_inner_text=True)
    assert float(panel.slider.input_value()) > 0
    expect(page.locator(".steerlab-static")).to_be_hidden()
