"""The panel without a mouse: every tab and every action by Tab, arrows, Enter and space; and without motion."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rig
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


class Keys:
    """A person at the keyboard: what is wanted is reached by Tab, and the focus is seen all the way."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def __call__(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def reach(self, wanted: Locator, *, back: bool = False) -> None:
        """Tab to it, back with Shift."""
        expect(wanted).to_be_visible(timeout=LONG)
        for _ in range(150):
            self("Shift+Tab" if back else "Tab")
            if wanted.evaluate("el => el === document.activeElement"):
                assert self.seen(), f"the focus is not seen on {wanted}"
                return
        raise AssertionError(f"Tab never came to {wanted}")

    def seen(self) -> bool:
        """Whether what has the focus, or what stands for it, looks otherwise than without."""
        return bool(
            self.page.evaluate(
                """() => {
                    const at = document.activeElement;
                    const near = [at, at.parentElement, ...at.children, at.nextElementSibling].filter(Boolean);
                    const look = () => near.map((el) => {
                        const { outline, boxShadow, borderColor, stroke } = getComputedStyle(el);
                        return [outline, boxShadow, borderColor, stroke].join();
                    }).join();
                    const focused = look();
                    at.blur();
                    const without = look();
                    at.focus({ focusVisible: true });
                    return focused !== without;
                }"""
            )
        )


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


@pytest.fixture
def still(browser: Browser) -> Iterator[Page]:
    """A page of someone who wants no motion."""
    opened = browser.new_page(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
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
