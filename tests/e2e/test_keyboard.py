"""The panel without a mouse: every tab and every action by Tab, arrows, Enter and space; and without motion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import filled
import pytest
import rig
import torch
from keys import Keys
from panel import SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Browser, Locator, Page, expect

pytestmark = pytest.mark.e2e

# each pass takes a while, so that there is something to call off
CELL = (
    SCRIPTED
    + """import time
lab = scripted.lab(n_layers=4)
at_once = lab.backend.score
lab.backend.score = lambda rows: (time.sleep(0.25), at_once(rows))[1]
lab"""
)
LONG = 60_000


@pytest.mark.parametrize("server", ["lab", "notebook"], indirect=True)
def test_everything_is_reached_and_done_by_keyboard_alone(server: rig.Server, page: Page) -> None:
    panel = open_panel(page, server, "keyboard.ipynb", CELL)
    root, keys = panel.root, Keys(page)
    step = "lab.recipe.interventions[0]"
    panel.prompt.focus()

    keys("Control+a")
    page.keyboard.type("How do I pick a lock?")
    keys("Enter")
    expect(panel.pane("baseline").locator(".sl-text")).to_contain_text("I am sorry", timeout=LONG)

    keys.reach(root.get_by_role("radio", name="add"))
    keys("ArrowRight")
    rig.until_prints(page, f"print(type({step}).__name__)", "Ablate")
    assert panel.text("steered").startswith("Sure.")
    keys("ArrowLeft")
    keys.reach(panel.slider)
    keys(*["ArrowRight"] * 3)
    rig.until_prints(page, f"print({step}.coefficient > 0)", "True")
    keys.reach(root.get_by_role("button", name="More for refusal"))
    keys("Enter", "ArrowDown", "Escape")
    expect(root.get_by_role("button", name="More for refusal")).to_be_focused()
    keys("Enter", "Tab")  # out of the list, and on
    expect(root.get_by_role("button", name="Add a direction")).to_be_focused()

    keys.reach(root.get_by_role("radio", name="all"))
    keys("ArrowRight")
    rig.until_prints(page, f"print({step}.tokens)", "prompt")
    keys("ArrowLeft")
    keys.reach(root.get_by_role("button", name="Own layer"))
    keys.reach(root.locator(".sl-grid [tabindex='0']"))
    keys("ArrowDown", "Space", "Shift+ArrowRight")
    sites = f"print(len({step}.sites))"
    rig.until_prints(page, sites, "3")
    keys("Control+z")
    rig.until_prints(page, f"print(len({step}.sites) < 3)", "True")
    keys("Control+Shift+z")
    rig.until_prints(page, sites, "3")

    by_tabs(keys, root)
    sweep_by_keys(keys, panel)
    find_by_keys(keys, panel)
    snapshot_and_code_by_keys(keys, panel)


def by_tabs(keys: Keys, root: Locator) -> None:
    """Every tab by the arrows, round to the first again."""
    keys.reach(root.get_by_role("tab", name="Preview"))
    for name in ("Sweep", "Lens", "Directions", "Snapshots", "Code", "Preview"):
        keys("ArrowRight")
        expect(root.get_by_role("tab", name=name)).to_be_focused()
        expect(root.get_by_role("tabpanel", name=name)).to_be_visible()


def sweep_by_keys(keys: Keys, panel: PanelInPage) -> None:
    root = panel.root
    keys("ArrowRight")
    form = root.get_by_role("form", name="What to sweep")
    keys.reach(form.get_by_role("textbox", name="coefficients"))
    keys("Control+a")
    keys.page.keyboard.type("-2, 0, 2")
    keys.reach(form.get_by_role("button", name="Measure"))
    keys("Enter")
    keys.reach(root.get_by_role("group", name="The sweep").get_by_role("button", name="Cancel"))
    keys("Enter")
    expect(root.get_by_text("was measured is kept")).to_be_visible()
    keys.reach(form.get_by_role("button", name="Measure"), back=True)
    keys("Enter")
    expect(root.locator(".sl-working")).to_have_count(0, timeout=LONG)
    keys.reach(root.get_by_role("tabpanel", name="Sweep").locator('.sl-heat-cell[tabindex="0"]'))
    keys("Home", "ArrowUp", "ArrowRight", "Enter")
    rig.until_prints(
        keys.page, "print([(s.layers, s.coefficient) for s in lab.recipe.interventions])", "[((1,), 2.0)]"
    )
    expect(root.locator(".sl-texts dd").first).to_contain_text("I am sorry", timeout=LONG)


def find_by_keys(keys: Keys, panel: PanelInPage) -> None:
    root = panel.root
    keys.reach(root.get_by_role("button", name="+ find a new direction…"), back=True)
    keys("Enter")
    find = root.get_by_role("region", name="Find a direction")
    expect(find.get_by_label("name", exact=True)).to_be_focused()
    keys("Control+a")
    keys.page.keyboard.type("refusing")
    keys.reach(find.get_by_label("method"))
    keys("ArrowDown")
    keys.reach(find.get_by_role("button", name="Find", exact=True))
    keys("Enter")
    expect(find.get_by_text("is in the list")).to_be_visible(timeout=LONG)
    keys.reach(find.locator('.sl-heat-cell[tabindex="0"]'))
    keys("End", "Enter")
    expect(find.get_by_text("In use: position −1 of layer 3")).to_be_visible()
    keys.reach(find.get_by_role("button", name="Keep it as refusing"))
    keys("Enter")
    rig.until_prints(keys.page, "print(lab.directions['refusing'].site.layer)", "3")
    keys.reach(find.get_by_role("button", name="Close"), back=True)
    keys("Enter")
    expect(root.get_by_role("button", name="+ find a new direction…")).to_be_focused()


def snapshot_and_code_by_keys(keys: Keys, panel: PanelInPage) -> None:
    root = panel.root
    keys.reach(root.get_by_role("tab", name="Sweep"))
    keys("End", "ArrowLeft")
    keys.reach(root.get_by_role("textbox", name="Name of the snapshot"))
    keys.page.keyboard.type("mine")
    keys("Enter")
    expect(root.get_by_role("button", name="Restore mine")).to_be_visible()
    rig.until_prints(keys.page, "print(list(lab.snapshots))", "['mine']")
    keys.reach(root.get_by_role("tab", name="Snapshots"), back=True)
    keys("End")
    keys.reach(root.get_by_role("button", name="Copy"))
    keys("Enter")
    expect(root.get_by_text("Copied", exact=True)).to_be_visible()


# words by the clock, which say of which seed they are: a long text can be stopped, a short one has ended soon
WORDS = (
    SCRIPTED + "lab = scripted.scheduled(rate=100, tokens=40)" + filled.JOBS + filled.TWO_DIRECTIONS + "lab"
)


def test_every_other_control_is_worked_by_keyboard_alone(
    server: rig.Server, page: Page, tmp_path: Path
) -> None:
    panel = open_panel(page, server, "every.ipynb", WORDS)
    keys = Keys(page)
    panel.prompt.focus()
    prompt_and_header_by_keys(keys, panel)
    rows_by_keys(keys, panel, tmp_path)
    new_directions_by_keys(keys, panel, tmp_path)
    where_by_keys(keys, panel)
    preview_by_keys(keys, panel)
    lens_and_directions_by_keys(keys, panel)
    snapshots_by_keys(keys, panel)
    code_by_keys(keys, panel)
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown().then(() => null)")
    expect(panel.root).to_contain_text("The kernel is gone.")
    keys.reach(panel.prompt)
    keys.reach(panel.root.get_by_role("button", name="Run the cells up to this panel"))
    keys("Enter")
    expect(panel.root.locator(".sl-status")).to_have_text("ready", timeout=LONG)


def prompt_and_header_by_keys(keys: Keys, panel: PanelInPage) -> None:
    root, page = panel.root, keys.page
    asked = panel.prompt.input_value()
    examples = root.get_by_role("combobox", name="Examples")
    second = str(examples.locator("option").nth(2).text_content())
    keys.reach(examples)
    keys("ArrowDown", "ArrowDown", "ArrowDown", "Enter")  # the first opens the list
    expect(panel.prompt).to_have_value(second)
    keys.reach(root.get_by_role("button", name="Run"))
    before = panel.run
    keys("Enter")
    page.wait_for_function("n => document.querySelector('.sl-app [data-run]').dataset.run > n", arg=before)
    for name, prompt in (("Undo", asked), ("Redo", second)):
        keys.reach(root.get_by_role("button", name=name), back=name == "Undo")
        keys("Enter")
        expect(panel.prompt).to_have_value(prompt)
    button, words = (root.get_by_role(role, name="Help") for role in ("button", "region"))
    keys.reach(button)
    keys("Enter", "Tab")
    expect(words).to_be_focused()
    keys("Escape")
    expect(words).to_be_hidden()
    expect(button).to_be_focused()
    jobs = root.get_by_role("region", name="Jobs on the server")
    keys.reach(root.get_by_role("group", name="Server").get_by_role("button").first, back=True)
    keys("Enter")
    keys.reach(jobs.get_by_role("button", name="Copy code that fetches job bbbbbbbb"))
    keys("Enter")
    expect(jobs.get_by_text("Copied")).to_be_visible()
    keys("Tab", "Enter")  # cancel the same one
    rig.until_prints(page, "print(ended)", "['bbbbbbbb-2']")
    keys("Escape")
    expect(jobs).to_be_hidden()


def rows_by_keys(keys: Keys, panel: PanelInPage, tmp_path: Path) -> None:
    root, page = panel.root, keys.page
    pushes = "print([step.coefficient for step in lab.recipe.interventions])"
    keys.reach(root.get_by_role("spinbutton", name="Coefficient of refusal"))
    keys.write("1.5")
    rig.until_prints(page, pushes, "[1.5]")
    on = root.get_by_role("checkbox", name="refusal", exact=True)
    keys.reach(on, back=True)
    keys("Space")
    rig.until_prints(page, pushes, "[]")
    keys("Space")
    rig.until_prints(page, pushes, "[1.5]")
    keys.reach(root.get_by_role("button", name="More for refusal"))
    with page.expect_download() as download:
        keys("Enter", *["ArrowDown"] * 4, "Enter")
    assert download.value.suggested_filename == "refusal.safetensors"
    keys.reach(root.get_by_role("button", name="Save the recipe"))
    with page.expect_download() as download:
        keys("Enter")
    assert download.value.suggested_filename == "recipe.steer.json"
    torch.save(torch.arange(1.0, 17.0), tmp_path / "calm.pt")
    keys.reach(root.get_by_role("button", name="load a file"), back=True)
    with page.expect_file_chooser() as dialog:
        keys("Enter")
    dialog.value.set_files(tmp_path / "calm.pt")
    question = root.get_by_role("form", name="What the file does not say")
    keys.reach(question.get_by_label("layer"))
    page.keyboard.type("3")
    keys.reach(question.get_by_role("button", name="Use it"))
    keys("Enter")
    rig.until_prints(page, "print(lab.directions['calm'].site.layer)", "3")


def new_directions_by_keys(keys: Keys, panel: PanelInPage, tmp_path: Path) -> None:
    root, page = panel.root, keys.page
    opener = root.get_by_role("button", name="+ from two prompts…")
    keys.reach(opener)
    keys("Enter")
    pair = root.get_by_role("region", name="A direction from two prompts")
    expect(pair.get_by_label("name", exact=True)).to_be_focused()
    keys.write("love")
    for side, text in (("a text that shows it", "Love"), ("a text that lacks it", "Hate")):
        keys.reach(pair.get_by_role("textbox", name=side))
        keys.write(text)
    keys.reach(pair.get_by_role("button", name="Find", exact=True))
    keys("Enter")
    keys.reach(pair.get_by_role("button", name="Use it"))
    keys("Enter")
    rig.until_prints(page, "print(lab.recipe.interventions[-1].direction.name)", "love")
    keys("Control+z")
    rig.until_prints(page, "print(lab.recipe.interventions[-1].direction.name)", "refusal")
    keys.reach(pair.get_by_role("button", name="Close"))
    keys("Enter")
    expect(opener).to_be_focused()
    keys.reach(root.get_by_role("button", name="+ find a new direction…"), back=True)
    keys("Enter")
    found = root.get_by_role("region", name="Find a direction")
    shows = found.get_by_role("group", name="prompts that are refused")
    keys.reach(shows.get_by_role("combobox"))
    page.keyboard.type("a file")
    (tmp_path / "shows.csv").write_text("id,goal\n1,Dance\n2,Sing\n")
    keys.reach(shows.locator("[type=file]"))
    with page.expect_file_chooser() as dialog:
        keys("Enter")
    dialog.value.set_files(tmp_path / "shows.csv")
    keys.reach(found.locator("summary"))
    keys("Enter")
    keys.reach(found.get_by_role("checkbox", name="leave out prompts"))
    keys("Space")
    keys.reach(found.get_by_role("button", name="Close"))
    keys("Enter")


def where_by_keys(keys: Keys, panel: PanelInPage) -> None:
    root = panel.root
    keys.reach(root.get_by_role("slider", name="Coefficient of refusal"), back=True)
    keys("Enter")  # the row that Where is about, also when Tab has gone through the others
    keys.reach(root.get_by_role("button", name="Where refusal"))
    for there in (0, 1):
        keys("Enter")
        expect(root.get_by_role("grid", name="Layers and points")).to_have_count(there)
    presets = root.get_by_role("group", name="Presets").get_by_role("button")
    assert presets.all_inner_texts() == ["Paper’s ablation", "Own layer", "None"]
    for preset in presets.all():
        keys.reach(preset)
        keys("Enter")
        expect(preset).to_have_attribute("aria-pressed", "true")
    keys("Control+z")
    expect(presets.nth(1)).to_have_attribute("aria-pressed", "true")
    keys("Control+Shift+z")
    expect(presets.nth(2)).to_have_attribute("aria-pressed", "true")
    keys("Control+z")  # and on at once


def preview_by_keys(keys: Keys, panel: PanelInPage) -> None:
    root, page = panel.root, keys.page
    control = root.get_by_role("checkbox", name="random control")
    keys.reach(control)
    for there in (0, 1):
        keys("Space")
        expect(panel.pane("control")).to_have_count(there)
    for name, number in (("New tokens", "4000"), ("Temperature", "0.7"), ("Seed", "5")):
        keys.reach(root.get_by_role("spinbutton", name=name))
        keys.write(number)
    rig.until_prints(
        page, "print(lab.sampling.max_new_tokens, lab.sampling.temperature, lab.seed)", "4000 0.7 5"
    )
    stop = root.get_by_role("button", name="Stop", exact=True)
    keys.reach(stop)
    keys("Enter")
    expect(root.locator(".sl-status")).to_have_text("stopped")
    expect(stop).to_be_focused()  # though it is off now
    keys.reach(root.get_by_role("spinbutton", name="New tokens"), back=True)
    keys.write("40")
    expect(panel.pane("steered").locator(".sl-foot")).to_contain_text("applied on 40 of 40 steps")
    assert re.match(r"s[\d.]+\.5\.0 ", panel.text("steered")), "not of this seed"
    verdict = panel.pane("steered").locator(".sl-verdict")
    keys.reach(verdict)
    keys("Enter")
    expect(panel.pane("steered").locator(".sl-rule")).to_contain_text("None of these phrases")
    keys("Enter")
    expect(panel.pane("steered").locator(".sl-rule")).to_be_hidden()
    keys.reach(root.get_by_role("combobox", name="colour tokens by"))
    page.keyboard.type("projection on h")
    expect(root.locator(".sl-colours .sl-legend")).to_contain_text("projection on happy")
    keys.reach(root.get_by_role("checkbox", name="show spaces"))
    keys("Space")
    expect(panel.pane("baseline").locator(".sl-text")).to_contain_text("␣")


def lens_and_directions_by_keys(keys: Keys, panel: PanelInPage) -> None:
    root = panel.root
    keys.reach(root.get_by_role("tab", name="Preview"), back=True)
    keys("ArrowRight", "ArrowRight")
    lens = root.get_by_role("tabpanel", name="Lens")
    keys.reach(lens.get_by_role("radio", name="likeliest token"))
    keys("ArrowRight")
    expect(lens.get_by_role("radio", name="projection")).to_be_checked()
    keys.reach(lens.get_by_role("radio", name="side by side"))
    keys("ArrowRight")
    expect(lens.get_by_role("radio", name="difference")).to_be_checked()
    keys.reach(lens.get_by_role("combobox", name="text"))
    page_of = lens.get_by_role("group", name="Part of the text")
    for name, shown in (("Later", r"^(?!1–)"), ("Earlier", "^1–")):
        keys.reach(page_of.get_by_role("button", name=name), back=name == "Earlier")
        keys("Enter")
        expect(page_of.locator("span")).to_have_text(re.compile(shown))
    keys.reach(root.get_by_role("tab", name="Lens"), back=True)
    keys("ArrowRight")
    tab = root.get_by_role("tabpanel", name="Directions")
    hint = tab.get_by_role("region", name="Tokens nearest to").locator(".sl-hint")
    expect(hint).to_be_visible(timeout=LONG)
    before = hint.inner_text()
    keys.reach(tab.get_by_role("radio", name="unembedding"))
    keys("ArrowRight")
    expect(tab.get_by_role("radio", name="embedding", exact=True)).to_be_checked()
    expect(hint).not_to_have_text(before)
    layers = tab.get_by_role("listbox", name="Norm of the direction").get_by_role("option")
    keys.reach(layers.and_(tab.locator("[tabindex='0']")))
    keys("End")
    expect(layers.last).to_be_focused()


def snapshots_by_keys(keys: Keys, panel: PanelInPage) -> None:
    root, page = panel.root, keys.page
    keys.reach(root.get_by_role("tab", name="Directions"), back=True)
    keys("ArrowRight")
    tab = root.get_by_role("tabpanel", name="Snapshots")
    for name in ("one", "two"):
        keys.reach(tab.get_by_role("textbox", name="Name of the snapshot"), back=name == "two")
        keys.write(name)
        keys.reach(tab.get_by_role("button", name="Keep what is set"))
        keys("Enter")
        keys.reach(tab.get_by_role("checkbox", name=f"Compare {name}"))
        keys("Space")
    expect(tab.get_by_role("region", name="two text")).to_be_visible(timeout=LONG)
    keys.reach(tab.get_by_role("button", name="Share what is set"))
    keys("Enter")
    text = tab.get_by_role("textbox", name="Shared text", exact=True)
    keys.reach(text)
    shared = text.input_value()
    assert shared.startswith("steerlab1-")
    keys.reach(panel.slider, back=True)
    keys("Home")
    rig.until_prints(page, "print(lab.recipe.interventions[0].coefficient < 0)", "True")
    keys.reach(tab.get_by_role("button", name="Restore one"))
    keys("Enter")
    first = "print(lab.recipe.interventions[0].coefficient)"
    rig.until_prints(page, first, "1.5")
    keys("Control+z")
    rig.until_prints(page, "print(lab.recipe.interventions[0].coefficient < 0)", "True")
    keys.reach(tab.get_by_role("textbox", name="A shared text to open"))
    page.keyboard.insert_text(shared)
    keys("Tab", "Enter")
    rig.until_prints(page, first, "1.5")
    keys.reach(tab.get_by_role("button", name="Delete two"), back=True)
    keys("Enter")
    rig.until_prints(page, "print(list(lab.snapshots))", "['one']")


def code_by_keys(keys: Keys, panel: PanelInPage) -> None:
    root, page = panel.root, keys.page
    keys.reach(root.get_by_role("tab", name="Snapshots"), back=True)
    keys("End")
    keys.reach(root.get_by_role("radio", name="steerlab", exact=True))
    for written in ("The recipe as nnsight", "The recipe as JSON"):
        keys("ArrowRight")
        expect(root.get_by_role("tabpanel", name="Code")).to_contain_text(
            written.removeprefix("The recipe as ")
        )
    keys("ArrowRight")
    keys.reach(root.get_by_role("button", name="Insert a cell below"))
    keys("Enter")
    expect(page.locator(".jp-Notebook .jp-CodeCell")).to_have_count(2)


# marks what listens to a mouse, whatever it calls itself
LISTENING = """(() => {
    const listen = EventTarget.prototype.addEventListener;
    EventTarget.prototype.addEventListener = function (type, ...rest) {
        if (/^(click|dblclick|mousedown|pointerdown)$/.test(type) && this instanceof Element) this.takesMouse = true;
        return listen.call(this, type, ...rest);
    };
})()"""
# of what can be seen and is not disabled, what a mouse or a key can operate
OPERABLE = """() => {
    const CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex], [contenteditable], [role=slider], "
        + "[role=tab], [role=option], [role=gridcell], [role=menuitem]";
    return [...document.querySelectorAll(".sl-app > [data-run] *")].filter((el) =>
        el.checkVisibility({ visibilityProperty: true }) && !el.matches(":disabled")
            && (el.takesMouse || el.matches(CONTROLS)));
}"""
# goes on from the focus by arrows to all that its grid or list holds, and back
BY_ARROWS = """async () => {
    const start = document.activeElement;
    const box = start.closest("[role=grid], [role=listbox]");
    if (!box) return [start];
    const { port1, port2 } = new MessageChannel();
    const drawn = () => new Promise((then) => { port1.onmessage = then; port2.postMessage(0); });
    const all = box.querySelectorAll("[tabindex]").length;
    const reached = new Set([start]);
    const way = [start];
    const step = async (key) => {
        way.at(-1).focus();
        await drawn();
        way.at(-1).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
        const to = document.activeElement;
        if (!box.contains(to)) throw Error(`${key} leaves ${box.ariaLabel}`);
        if (reached.has(to)) return false;
        reached.add(to);
        way.push(to);
        return true;
    };
    const keys = ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"];
    while (way.length && reached.size < all) {
        let went = false;
        for (const key of keys) if ((went = await step(key))) break;
        if (!went) way.pop();
    }
    start.focus();
    return [...reached];
}"""

# how Tab went: on in the panel's order, past the rest of a group that is walked with arrows
WENT = """() => {
    const at = document.activeElement;
    const group = before.closest("[role=grid], [role=listbox], [role=tablist], [role=radiogroup], [role=menu]");
    if (!at.closest(".sl-app")) return "out";
    if (group?.contains(at)) return "to the next of a group";
    if (!before.isConnected) return "on";  // it was closed behind the focus
    return before.compareDocumentPosition(at) & Node.DOCUMENT_POSITION_FOLLOWING ? "on" : "back";
}"""


def at_rest(panel: PanelInPage) -> None:
    """Wait until nothing of a panel has changed for a while, and nothing is under way."""
    expect(panel.root.locator(".sl-working, [data-stale='true']").filter(visible=True)).to_have_count(0)
    panel.root.evaluate(
        """root => new Promise((done) => {
            let timer;
            const again = () => {
                clearTimeout(timer);
                timer = setTimeout(() => (watch.disconnect(), done(null)), 1200);
            };
            const watch = new MutationObserver(again);
            watch.observe(root, { childList: true, subtree: true, characterData: true });
            again();
        })"""
    )


class Walk:
    """Tab by Tab through a panel: each stop has a name, shows the focus, and is in sight."""

    def __init__(self, keys: Keys) -> None:
        self.keys, self.page = keys, keys.page
        self.accessible = self.page.context.new_cdp_session(self.page)
        self.stops: list[tuple[str, str]] = []
        self.page.evaluate("() => { window.reached = new Set(); }")

    def through(self, first: Locator) -> None:
        """From a stop to the panel's end."""
        first.focus()
        for _ in range(200):
            role, name = self.name()
            assert name, f"a {role} has no name: {self.html()}"
            assert self.keys.seen(), f"the focus is not seen on {role} {name}"
            assert self.in_sight(), f"{role} {name} has the focus and is covered"
            self.stops.append((role, name))
            self.page.evaluate(f"async () => {{ for (const el of await ({BY_ARROWS})()) reached.add(el); }}")
            self.page.evaluate("() => { window.before = document.activeElement; }")
            self.keys("Tab")
            went = self.page.evaluate(WENT)
            if went == "out":
                return
            assert went == "on", f"Tab went {went}, from {role} {name} to {self.html()}"
        raise AssertionError(f"Tab does not leave the panel: {self.stops[-10:]}")

    def name(self) -> tuple[str, str]:
        """What a screen reader says of what has the focus: its role and its name."""
        at = self.accessible.send("Runtime.evaluate", {"expression": "document.activeElement"})["result"]
        tree = self.accessible.send(
            "Accessibility.getPartialAXTree", {"objectId": at["objectId"], "fetchRelatives": False}
        )
        node = tree["nodes"][0]
        return node["role"]["value"], node.get("name", {}).get("value", "").strip()

    def html(self) -> str:
        return str(self.page.evaluate("() => document.activeElement.outerHTML.slice(0, 200)"))

    def in_sight(self) -> bool:
        """Whether nothing lies over what has the focus."""
        return bool(
            self.page.evaluate(
                """() => {
                    const at = document.activeElement;
                    const whole = at.closest("[role=listbox]") ?? at;  // dots of a chart may lie over each other
                    const { left, right, top, bottom } = at.getBoundingClientRect();
                    const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
                    return whole.contains(over) || over?.closest("label")?.control === at || over?.contains(at);
                }"""
            )
        )

    def out_of_reach(self) -> list[str]:
        """What a mouse can operate and no key came to."""
        return list(
            self.page.evaluate(
                f"""() => {{
                    const near = (el) => {{
                        if (reached.has(el)) return true;
                        if (el.matches("[type=radio]"))  // its group is one stop, and arrows go on in it
                            return [...reached].some((one) => one.name === el.name && one.type === "radio");
                        if (el.localName === "label") return el.control && near(el.control);
                        if (el.matches("[role=tab]"))
                            return [...reached].some((one) => one.parentElement === el.parentElement);
                        if (el.matches(".sl-text")) return reached.has(el.parentElement);  // Enter goes in
                        return el.takesMouse && el.matches("[role=grid], [role=listbox], .sl-row");  // of these
                    }};
                    return ({OPERABLE})().filter((el) => !near(el)).map((el) => el.outerHTML.slice(0, 200));
                }}"""
            )
        )


def test_tab_and_arrows_come_to_everything_that_a_mouse_can_operate(
    server: rig.Server, page: Page, tmp_path: Path
) -> None:
    page.add_init_script(LISTENING)
    panel = open_panel(page, server, "walk.ipynb", filled.cell(layers=4))
    filled.fill(panel)
    filled.ask_of_a_file(panel, tmp_path / "calm.pt")
    root, keys = panel.root, Keys(page)
    keys_of_all = Walk(keys)
    root.get_by_role("group", name="Server").get_by_role("button").first.focus()
    keys("Enter")
    keys_of_all.through(root.get_by_role("group", name="Server").get_by_role("button").first)
    assert keys_of_all.out_of_reach() == []
    for tab in ("Sweep", "Lens", "Directions", "Snapshots", "Code"):
        root.get_by_role("tab", selected=True).focus()
        keys("ArrowRight")
        expect(root.get_by_role("tab", name=tab)).to_be_focused()
        at_rest(panel)  # what has changed since it was filled is asked anew
        keys_of_all.through(root.get_by_role("tab", name=tab))
        assert keys_of_all.out_of_reach() == [], tab


@pytest.fixture
def still(browser: Browser) -> Iterator[Page]:
    """A page of someone who wants no motion."""
    opened = rig.new_page(browser, viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
    yield opened
    opened.close()


MOVES = """() => {
    const moves = [];
    for (const el of document.querySelectorAll(".sl-app, .sl-app *"))
        for (const part of [null, "::before", "::after"]) {
            const { animationName, transitionDuration } = getComputedStyle(el, part);
            if (animationName !== "none" || transitionDuration.split(", ").some((time) => parseFloat(time) > 0))
                moves.push(el.className);
        }
    return moves;
}"""


def test_nothing_moves_for_someone_who_wants_no_motion(server: rig.Server, page: Page, still: Page) -> None:
    slow = SCRIPTED + "lab = scripted.lab(delay=0.1)\nlab"
    moving = {}
    for one, name in ((page, "moves.ipynb"), (still, "still.ipynb")):
        panel = open_panel(one, server, name, slow)
        rig.set_slider(panel.slider, 1)
        expect(panel.root.locator(".sl-status")).to_have_text("generating")
        moving[name] = one.evaluate(MOVES)
        assert panel.text("steered").startswith("I am sorry")
    assert moving["moves.ipynb"]
    assert moving["still.ipynb"] == []
