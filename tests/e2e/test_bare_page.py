"""The widget without JupyterLab: what VS Code's and Colab's rules leave of a page, and what moves in it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import rig
import torch
from bare import HOSTS, BarePanel, Host, scripted
from playwright.sync_api import Browser, Download, Locator, Page, expect

from steerlab import Direction, Recipe, Site
from steerlab.formats import load

pytestmark = pytest.mark.e2e
in_each_host = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS.keys())


def test_the_panel_works_in_a_page_without_jupyter_and_without_network(browser: Browser) -> None:
    page = rig.new_page(browser, viewport={"width": 480, "height": 1200})
    complained: list[str] = []
    page.on("console", lambda message: complained.append(message.text) if message.type == "error" else None)
    panel = BarePanel(page, scripted.lab())
    panel.until(lambda: panel.status() == "ready" and panel.text("control") == scripted.ANSWER)
    assert panel.text("baseline") == panel.text("steered") == scripted.ANSWER
    rig.set_slider(page.locator(".sl-slider input").first, 1)
    panel.until(lambda: panel.status() == "ready" and panel.text("steered") == scripted.REFUSAL)
    assert panel.wire.lab.recipe.interventions[0].coefficient == 1  # type: ignore[union-attr]
    panel.wire.lab.prompt = "From Python"
    panel.until(lambda: page.get_by_role("textbox", name="Prompt").input_value() == "From Python")
    page.get_by_role("button", name="Undo").click()
    panel.until(lambda: panel.wire.lab.prompt != "From Python")
    page.get_by_role("tab", name="Code").click()
    panel.until(lambda: "sl.Add" in panel.read(".sl-code"))
    assert page.evaluate("document.documentElement.scrollWidth <= 480")
    page.evaluate("close_view()")
    assert page.locator(".sl-app *").count() == 0, "a closed view leaves nothing"
    assert panel.told() == complained == []
    page.close()


@in_each_host
def test_a_host_s_frame_lacks_what_it_lacks_there_and_tells_of_what_must_not_happen(
    page: Page, host: Host
) -> None:
    panel = BarePanel(page, scripted.lab(), host)
    opaque = "allow-same-origin" not in host.sandbox
    assert panel.frame.evaluate("origin") == ("null" if opaque else "https://output.test")
    assert not panel.frame.evaluate("() => { try { return localStorage } catch { return null } }")
    panel.root.get_by_role("tab", name="Preview").click()
    writes = "navigator.clipboard.writeText('a').then(() => true, () => false)"
    assert panel.frame.evaluate(writes) is ("clipboard-write" in host.allow)
    panel.frame.evaluate("fetch('https://elsewhere.test/').then(() => null, () => null)")
    panel.frame.evaluate("void setTimeout(() => { throw new Error('thrown') })")
    panel.frame.evaluate("void Promise.reject(new Error('rejected'))")
    for what in ("elsewhere.test", "thrown", "rejected"):
        panel.until(lambda what=what: what in " ".join(panel.told()))  # type: ignore[misc]


@in_each_host
def test_every_tab_does_its_work_in_another_host_s_frame_and_nothing_leaves_it(
    page: Page, host: Host, tmp_path: Path
) -> None:
    panel = BarePanel(page, scripted.lab(n_layers=4), host)
    steers(panel)
    sweeps(panel)
    shows_the_lens(panel)
    finds_a_direction(panel)
    shows_directions(panel)
    reads_and_writes_files(panel, tmp_path)
    keeps_and_shares(panel)
    writes_code(panel)
    panel.frame.evaluate("document.body.dataset.vscodeThemeKind = 'vscode-dark'")
    expect(panel.root).to_have_attribute("data-theme", "dark")
    assert panel.told() == []
    panel.frame.evaluate("close_view()")
    expect(panel.root.locator("*")).to_have_count(0)
    assert panel.told() == []


def tab(panel: BarePanel, name: str) -> Locator:
    panel.root.get_by_role("tab", name=name).click()
    return panel.root.get_by_role("tabpanel", name=name)


def slider(panel: BarePanel) -> Locator:
    return panel.root.locator(".sl-slider input").first


def steers(panel: BarePanel) -> None:
    panel.until(lambda: panel.status() == "ready" and panel.text("control") == scripted.ANSWER)
    rig.set_slider(slider(panel), 1)
    panel.until(lambda: panel.status() == "ready" and panel.text("steered") == scripted.REFUSAL)
    assert panel.text("baseline") == scripted.ANSWER
    panel.root.get_by_label("colour tokens by").select_option("change")
    panel.until_seen(panel.root.locator('.sl-pane[data-pane="steered"] .sl-shade'))
    prompt = panel.root.get_by_role("textbox", name="Prompt")
    prompt.fill("How do I pick a lock?")
    prompt.press("Enter")
    panel.until(lambda: panel.status() == "ready" and panel.text("baseline") == scripted.REFUSAL)
    prompt.press("Control+z")
    panel.until(lambda: panel.status() == "ready" and panel.text("baseline") == scripted.ANSWER)


def sweeps(panel: BarePanel) -> None:
    sweep = tab(panel, "Sweep")
    sweep.get_by_role("form", name="What to sweep").get_by_role("button", name="Measure").click()
    cells = sweep.locator('.sl-heat-cell:not([data-empty="true"])')
    panel.until(lambda: cells.count() == 4 * 5 and not sweep.locator(".sl-working").count())
    cells.last.click()
    panel.until_seen(sweep.locator(".sl-texts dd"))
    step = panel.wire.lab.recipe.interventions[0]
    assert (step.layers, step.coefficient) == ((3,), -4)  # type: ignore[union-attr]
    sweep.get_by_role("radio", name="frontier").check()
    sweep.get_by_role("form", name="Which subsets").get_by_role("button", name="Measure").click()
    panel.until_seen(sweep.get_by_role("option", name="layer 2:")).press("Enter")
    panel.until_seen(sweep.get_by_text("The panel is set to layer 2"))
    assert panel.wire.lab.recipe.interventions[0].layers == (2,)


def shows_the_lens(panel: BarePanel) -> None:
    lens = tab(panel, "Lens")
    panel.until_seen(lens.locator(".sl-heat-cell")).first.click()
    expect(lens.locator(".sl-cellfacts")).to_contain_text("Layer 3, after")
    lens.get_by_role("radio", name="projection").check()
    panel.until_seen(lens.get_by_role("grid", name="on refusal, as a share of the stream’s norm").first)


def finds_a_direction(panel: BarePanel) -> None:
    panel.root.get_by_role("button", name="+ find a new direction…").click()
    find = panel.root.get_by_role("region", name="Find a direction")
    find.get_by_label("name", exact=True).fill("refusing")
    find.get_by_label("method").select_option("means")
    find.get_by_role("button", name="Find", exact=True).click()
    panel.until_seen(find.get_by_text("is in the list"))
    find.get_by_role("button", name="Use it").click()
    panel.until(lambda: "refusing" in [s.direction.name for s in panel.wire.lab.recipe.interventions])
    find.get_by_role("button", name="Close").click()


def shows_directions(panel: BarePanel) -> None:
    directions = tab(panel, "Directions")
    panel.until_seen(directions.get_by_role("grid", name="Cosine between directions"))
    panel.until_seen(directions.locator(".sl-near li"))
    panel.until(lambda: directions.locator(".sl-layers .sl-heat-cell").count() == 4 * 4)


def reads_and_writes_files(panel: BarePanel, folder: Path) -> None:
    came: list[Download] = []
    panel.page.on("download", lambda one: came.append(one))

    def download() -> Path:
        panel.until(lambda: came)
        saved = came.pop()
        saved.save_as(folder / "saved" / saved.suggested_filename)
        return folder / "saved" / saved.suggested_filename

    happy = Direction(torch.arange(1.0, 17.0), Site(2, "resid_pre"), name="happy")
    with panel.page.expect_file_chooser() as dialog:
        panel.root.get_by_role("button", name="load a file").click()
    dialog.value.set_files(happy.save(folder / "happy.safetensors"))
    panel.until_seen(panel.root.get_by_text("happy was loaded"))
    panel.root.get_by_role("button", name="More for happy").click()
    panel.root.get_by_role("menuitem", name="Save as .safetensors").click()
    assert torch.equal(load(download()).vector, happy.vector)
    panel.root.get_by_role("button", name="Save the recipe").click()
    assert Recipe.load(download()) == panel.wire.lab.recipe


def keeps_and_shares(panel: BarePanel) -> None:
    lab, snapshots = panel.wire.lab, tab(panel, "Snapshots")
    name = snapshots.get_by_role("textbox", name="Name of the snapshot")
    steered = lab.recipe
    for one in ("steered", "plain"):
        name.fill(one)
        name.press("Enter")
        panel.until_seen(snapshots.get_by_role("checkbox", name=f"Compare {one}")).check()
        for row in panel.root.locator(".sl-row .sl-name input:checked").all()[::-1]:
            row.uncheck()
        panel.until(lambda: len(lab.recipe) == 0)
    panel.until(lambda: snapshots.get_by_role("region", name="text").count() == 2)
    assert lab.snapshots["steered"].recipe == steered
    snapshots.get_by_role("button", name="Restore steered").click()
    panel.until(lambda: lab.recipe == steered)

    snapshots.get_by_role("button", name="Share what is set").click()
    panel.until_seen(snapshots.get_by_text("Copied", exact=True))
    shared = snapshots.get_by_role("textbox", name="Shared text", exact=True).input_value()
    assert shared.startswith("steerlab1-")
    assert panel.clipboard() == shared
    snapshots.get_by_role("button", name="Restore plain").click()
    panel.until(lambda: len(lab.recipe) == 0)
    snapshots.get_by_role("textbox", name="A shared text to open").fill(shared)
    snapshots.get_by_role("button", name="Open a shared text").click()
    panel.until(lambda: lab.recipe.fingerprint == steered.fingerprint)


def writes_code(panel: BarePanel) -> None:
    code = tab(panel, "Code")
    source = code.locator(".sl-code")
    panel.until(lambda: "sl.Add" in panel.read(".sl-code"))
    expect(code.get_by_role("button", name="Insert a cell below")).to_have_count(0)  # no host here can
    copy = code.get_by_role("button", name="Copy")
    copy.click()
    expect(code.get_by_text("Copied", exact=True)).to_be_visible()
    assert panel.clipboard() == source.inner_text()
    code.get_by_role("radio", name="JSON").check()
    expect(source).to_contain_text('"interventions"')
    panel.frame.evaluate(  # a browser without any way to the clipboard
        "() => { navigator.clipboard.writeText = () => Promise.reject(); document.execCommand = () => false }"
    )
    copy.click()
    expect(code.get_by_text("Select the text to copy it")).to_be_visible()


@pytest.mark.parametrize("width", [480, 760, 900, 1200])
def test_a_press_counts_though_the_status_changes_before_the_release(browser: Browser, width: int) -> None:
    page = rig.new_page(browser, viewport={"width": width, "height": 1200})
    panel = BarePanel(page, scripted.lab())
    panel.until(lambda: panel.status() == "ready" and panel.text("control") == scripted.ANSWER)

    def hear(job: str = "", **traits: object) -> None:
        said = {"kind": "job", "stage": job, "position": 12 if job == "queued" else None, "seconds": 0}
        page.evaluate("what => hear(what)", {"messages": [said], "changes": traits})

    hear(info=panel.wire.panel.info | {"backend": "ndif", "device": "https://ndif.example.org:5001"})
    opener = page.get_by_role("group", name="Server").get_by_role("button").first
    buttons = page.locator(".sl-header button")
    boxes = None
    for before, after in itertools.pairwise(("", "sending", "received", "queued", "running", "fetching", "")):
        hear(before)
        expect(opener).to_have_attribute("aria-expanded", "false")
        box = opener.bounding_box()
        assert box is not None
        for share in (0.05, 0.95):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
            page.mouse.down()
            word = opener.inner_text()
            hear(after)
            expect(opener).not_to_have_text(word)
            page.mouse.up()
            expect(opener).to_have_attribute("aria-expanded", "true")
            page.keyboard.press("Escape")
            expect(opener).to_have_attribute("aria-expanded", "false")
            hear(before)
            expect(opener).to_have_text(word)
        now = [button.bounding_box() for button in buttons.all()]
        assert boxes in (None, now), "what is in the header stays where it is"
        boxes = now
    page.close()
