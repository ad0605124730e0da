"""What a person sets in the settings editor: in new labs, and in panels that are there."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rig
from panel import EMBEDDED, SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Locator, Page, expect
from test_keyboard import MOVES

from steerlab.demo import WEIGHTS

pytestmark = pytest.mark.e2e

PLUGIN = "@steerlab/lab:settings"
SCHEMA = json.loads((rig.REPOSITORY / "js" / "schema" / "settings.json").read_text())
QUICK = SCRIPTED + "lab = scripted.lab(n_layers=4)\nlab"

Setter = Callable[..., None]


@pytest.fixture
def set_on_server(server: rig.Server) -> Iterator[Setter]:
    """Sets what later pages find; what a test set, here or in the editor, is gone after it."""
    address = f"{server.url}/lab/api/settings/{PLUGIN}"

    def put(**settings: Any) -> None:
        body = json.dumps({"raw": json.dumps(settings)}).encode()
        urllib.request.urlopen(urllib.request.Request(address, body, method="PUT")).close()

    yield put
    put()


def on_server(server: rig.Server) -> dict[str, Any]:
    told = json.loads(urllib.request.urlopen(f"{server.url}/lab/api/settings/{PLUGIN}").read())
    settings: dict[str, Any] = told["settings"]
    return settings


def field(page: Page, name: str) -> Locator:
    """Of a setting, in JupyterLab's editor, which gives its fields no names that are read out."""
    return page.locator(f'[id="jp-SettingsEditor-{PLUGIN}_{name}"]')


def open_editor(page: Page) -> None:
    page.evaluate(
        """() => {
            window.heard = 0;
            document.addEventListener("steerlab:preferences-changed", () => window.heard++);
            return jupyterapp.commands.execute("settingeditor:open", { query: "Steering Lab" }).then(() => null);
        }"""
    )
    expect(field(page, "model")).to_be_visible()


def fill_in(page: Page, name: str, typed: str) -> None:
    """Until the editor has saved it, a moment after the last key, and the page has fetched what was saved."""
    before = page.evaluate("heard")
    field(page, name).fill(typed)
    page.wait_for_function("before => heard > before", arg=before)


@pytest.mark.skipif(not EMBEDDED, reason="the embedded model is not trained yet")
def test_a_new_lab_is_as_the_settings_editor_says(
    server: rig.Server, page: Page, set_on_server: Setter
) -> None:
    folder = server.root / 'Ada\'s "own" \\ model'
    folder.symlink_to(WEIGHTS, target_is_directory=True)
    page.goto(f"{server.url}/lab?reset", wait_until="domcontentloaded")
    expect(page.locator(".jp-LauncherCard", has_text="Steering Lab")).to_be_visible(timeout=60_000)
    open_editor(page)
    for words in SCHEMA["properties"].values():
        expect(page.get_by_text(words["title"], exact=True).last).to_be_visible()
        expect(page.get_by_text(words["description"], exact=True).last).to_be_visible()
    field(page, "ahead").fill("-1")
    expect(page.get_by_text("'Texts ahead' must be >= 0")).to_be_visible()
    assert on_server(server) == {}
    fill_in(page, "ahead", "5")
    assert on_server(server)["ahead"] == 5
    fill_in(page, "ahead", "")
    assert on_server(server).get("ahead") is None
    fill_in(page, "ahead", "8")
    fill_in(page, "model", str(folder))
    rig.command(page, "steerlab:new-lab")
    expect(PanelInPage(page).pane("baseline").locator(".sl-text")).not_to_be_empty(timeout=60_000)
    rig.until_prints(page, "print(lab.info.name, lab.ahead)", f"{WEIGHTS.name} 8")
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
    assert cell.inner_text().splitlines()[-2:] == ["lab.ahead = 8", "lab"]


def test_a_fresh_panel_follows_the_settings_and_a_touched_one_does_not(
    server: rig.Server, page: Page, set_on_server: Setter
) -> None:
    fresh = open_panel(page, server, "fresh.ipynb", QUICK, QUICK.replace("lab = ", "other = ")[:-3] + "other")
    rig.run_cell(page, 1)
    touched = PanelInPage(page, 1)
    expect(touched.pane("control")).to_be_visible()
    rig.set_slider(touched.slider, 1)
    expect(touched.pane("steered").locator(".sl-text")).to_contain_text("I am sorry")
    open_editor(page)
    field(page, "control").uncheck()
    field(page, "animation").select_option(label="Never")
    page.evaluate("() => jupyterapp.shell.activateById(jupyterapp.shell.widgets('main').next().value.id)")
    expect(fresh.pane("control")).to_have_count(0)
    assert fresh.text("steered")
    expect(fresh.root.get_by_role("button", name="Undo")).to_have_attribute("aria-disabled", "true")
    expect(touched.pane("control")).to_be_visible()
    for panel in (fresh, touched):
        expect(panel.root).to_have_attribute("data-motion", "off")
    fresh.root.get_by_role("checkbox", name="random control").check()
    expect(fresh.pane("control")).to_be_visible()
    fresh.root.get_by_role("button", name="Undo").click()
    expect(fresh.pane("control")).to_have_count(0)


@pytest.mark.parametrize("server", ["notebook"], indirect=True)
def test_notebook_7_has_the_settings_too_and_a_reload_keeps_what_a_person_set(
    server: rig.Server, page: Page, set_on_server: Setter
) -> None:
    set_on_server(control=False, animation="off")
    panel = open_panel(
        page, server, "set.ipynb", SCRIPTED + "lab = scripted.lab(n_layers=4, delay=0.05)\nlab"
    )
    expect(panel.pane("control")).to_have_count(0)
    rig.set_slider(panel.slider, 1)
    expect(panel.root.locator(".sl-status")).to_have_text("generating")
    assert page.evaluate(MOVES) == []
    panel.root.get_by_role("checkbox", name="random control").check()
    expect(panel.pane("control")).to_be_visible()
    panel.text("control")
    rig.command(page, "docmanager:save")
    page.reload(wait_until="domcontentloaded")
    expect(panel.pane("control")).to_be_visible(timeout=60_000)
    rig.until_prints(page, "print(lab.panel.state['control'])", "True")
