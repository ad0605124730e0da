"""Files of recipes in a real JupyterLab: what their viewer says of them, and how it gives one to a lab."""

from __future__ import annotations

import re

import pytest
import rig
from panel import EMBEDDED, SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Locator, Page, Route, expect
from test_looks import AXE

from steerlab import Ablate, Add, Clamp, Direction, Gate, Recipe, Site
from steerlab.directions import bundled
from steerlab.recipes import describe

pytestmark = pytest.mark.e2e

CELL = SCRIPTED + "lab = scripted.lab(n_layers=10)\nlab"
FOUND = {"method": "prompt pair", "shows": "<b>Love</b>", "position": -1, "kept": {"harmful": "127 of 128"}}
HAPPY = Direction(
    range(1, 17), Site(4, "resid_post"), name="happy", model="tiny-chat", residual_norm=80.0, provenance=FOUND
)
CALM = Direction([1.0] * 16, Site(0, "resid_pre"), name="calm")
RECIPE = Recipe(
    [
        Add(HAPPY, -0.5, keep_norm=True, tokens="generated", gate=Gate(CALM, 0.25)),
        Ablate([HAPPY, CALM], layers=range(4, 9), sites=["resid_pre"], strength=0.5),
        Ablate(CALM, one_sided=True),
        Clamp(CALM, 3, tokens=[-1]),
    ]
)
NOW = "print(lab.recipe.fingerprint)"


def bring(page: Page, path: str) -> None:
    """Open a file as the file browser does, or bring it to the front."""
    page.evaluate("path => jupyterapp.commands.execute('docmanager:open', { path }).then(() => null)", path)


def view(page: Page, path: str) -> Locator:
    """The viewer of a file, opened or brought to the front."""
    bring(page, path)
    viewer = page.get_by_role("region", name=f"The recipe {path.rpartition('/')[2]}")
    expect(viewer).to_be_visible()
    return viewer


def findings(page: Page) -> list[str]:
    """What axe-core says of the viewers."""
    page.evaluate("document.body.style.height = '100vh'")  # see test_looks
    report = page.evaluate("axe.run('.sl-recipe')")
    return [f"{v['id']}: {node['html'][:120]}" for v in report["violations"] for node in v["nodes"]]


def test_a_recipe_is_told_in_words_used_in_the_current_lab_and_taken_back(
    server: rig.Server, page: Page
) -> None:
    RECIPE.save(server.root / "calm.steer.json")
    server.write("second.ipynb", CELL)
    panel = open_panel(page, server, "first.ipynb", CELL)
    before = rig.execute(page, NOW).strip()
    page.locator(".jp-DirListing-item", has_text="calm.steer.json").dblclick()
    viewer = page.get_by_role("region", name="The recipe calm.steer.json")
    lines = viewer.locator(".sl-recipe-line")
    expect(lines).to_have_count(4)
    for shown, step in zip(lines.all(), RECIPE.interventions, strict=True):
        python = re.sub(r"\((-\d+),\)", r"\1", describe(step).replace("'", ""))
        expect(shown).to_have_text(python.replace(" -", " −"))
    expect(viewer).to_contain_text("inputs of blocks 4 to 8 = outputs of blocks 3 to 7")
    happy = viewer.get_by_role("article", name="happy")
    assert HAPPY.site is not None
    for name, value in {
        "site": f"{HAPPY.site}, the {HAPPY.site.describe()}",
        "norm": f"{HAPPY.norm:.4g}, 0.48 × the stream’s",
        "model": "tiny-chat",
        "method": "prompt pair",
        "shows": "<b>Love</b>",  # a text, never HTML
        "position": "−1",
        "kept": "harmful127 of 128",
    }.items():
        expect(happy.locator("dt", has_text=re.compile(f"^{name}$")).locator("+ dd")).to_have_text(value)
    expect(viewer).to_contain_text(RECIPE.fingerprint)

    where = viewer.get_by_role("status")
    expect(where).to_have_text("in first.ipynb")
    bring(page, "second.ipynb")
    page.wait_for_function(f"{rig.SESSION}?.session?.kernel?.status === 'idle'")
    rig.run_cell(page, 0)
    expect(page.locator(".sl-app:visible")).to_have_count(1)
    view(page, "calm.steer.json")
    expect(where).to_have_text("in second.ipynb")
    bring(page, "first.ipynb")
    view(page, "calm.steer.json")
    expect(where).to_have_text("in first.ipynb")
    viewer.get_by_role("button", name="Use in the current lab").press("Enter")
    expect(panel.root.get_by_role("region", name="Directions")).to_be_focused()
    assert rig.execute(page, NOW).strip() == RECIPE.fingerprint
    page.keyboard.press("Control+z")
    rig.until_prints(page, NOW, before)
    view(page, "calm.steer.json")
    expect(where).to_have_text("first.ipynb is set to it now.")


def test_what_is_wrong_is_said_and_changes_nothing(server: rig.Server, page: Page) -> None:
    file = RECIPE.save(server.root / "mine.steer.json")
    wide = Direction(range(1, 33), Site(4, "resid_pre"), name="wide")
    Recipe([Add(wide)]).save(server.root / "wide.steer.json")
    (server.root / "broken.steer.json").write_text(file.read_text()[:300])
    file.write_text(file.read_text().replace("0.25", "0.75"))
    panel = open_panel(page, server, "third.ipynb", CELL)
    before = rig.execute(page, NOW)

    viewer = view(page, "wide.steer.json")
    viewer.get_by_role("button", name="Use in the current lab").click()
    trouble = viewer.get_by_role("alert")
    expect(trouble).to_contain_text("The direction 'wide' has d_model 32, and the model has 16.")
    assert page.evaluate("jupyterapp.shell.currentWidget.title.label") == "wide.steer.json"

    viewer = view(page, "mine.steer.json")
    expect(viewer.get_by_role("alert")).to_contain_text("does not match its own fingerprint")
    expect(viewer).to_contain_text("calm > 0.75")
    expect(viewer.get_by_role("button", name="Use")).to_have_count(0)
    # the viewer follows what another program writes
    Recipe([Ablate(CALM)]).save(file)
    expect(viewer.locator(".sl-recipe-line")).to_have_text(
        ["ablate calm strength 1 at resid_pre, attn_out, mlp_out of all layers"]
    )

    viewer = view(page, "broken.steer.json")
    expect(viewer.get_by_role("alert")).to_contain_text("The recipe is no complete JSON text")
    if AXE.is_file():
        page.add_script_tag(path=AXE)
        assert findings(page) == []
        theme = "jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })"
        page.evaluate(f"() => {theme}.then(() => null)")
        expect(view(page, "wide.steer.json")).to_have_attribute("data-theme", "dark")
        assert findings(page) == []
    rig.fold_sidebar(page)
    page.set_viewport_size({"width": 560, "height": 900})
    viewer = view(page, "mine.steer.json")
    page.wait_for_function("document.querySelector('.sl-recipe').clientWidth <= 480")
    assert viewer.evaluate("el => el.scrollWidth <= el.clientWidth")
    viewer.get_by_role("button", name="Open as text").click()
    expect(page.locator(".jp-FileEditor:visible")).to_contain_text('"format"')
    bring(page, "third.ipynb")
    assert rig.execute(page, NOW) == before
    expect(panel.root.get_by_role("alert")).to_have_count(0)


@pytest.mark.skipif(not EMBEDDED, reason="the embedded model is not trained yet")
def test_without_a_panel_a_new_lab_is_opened_with_the_recipe(server: rig.Server, page: Page) -> None:
    def warm(route: Route) -> None:
        asked = route.request.post_data or ""
        route.continue_(post_data=asked.replace('"python3"', f'"{server.kernel}"'))

    page.route("**/api/sessions*", warm)
    (server.root / "sub").mkdir()
    recipe = Recipe([Ablate(bundled()["refusal"])])
    recipe.save(server.root / "sub" / "drop.steer.json")
    page.goto(f"{server.url}/lab/tree/sub/drop.steer.json?reset", wait_until="domcontentloaded")
    viewer = page.get_by_role("region", name="The recipe drop.steer.json")
    expect(viewer.get_by_role("status")).to_have_text("No panel is open here.", timeout=60_000)
    viewer.get_by_role("button", name="Open a new lab with it").click()
    panel = PanelInPage(page)
    expect(panel.root.get_by_role("region", name="Directions")).to_be_focused(timeout=60_000)
    assert rig.execute(page, NOW).strip() == recipe.fingerprint
    (notebook,) = (server.root / "sub").glob("*.ipynb")
    # a page that is loaded anew draws a notebook when it is first looked at, and the viewer comes back before that
    page.evaluate(
        "jupyterapp.shell.currentWidget.context.save().then(() => null)"
    )  # the command asks for a name
    Recipe().save(server.root / "sub" / "drop.steer.json")
    view(page, "sub/drop.steer.json")
    page.reload(wait_until="domcontentloaded")
    expect(viewer.get_by_role("status")).to_have_text(f"in {notebook.name}", timeout=60_000)
    expect(viewer).to_contain_text("the baseline")
    viewer.get_by_role("button", name="Use in the current lab").click()
    expect(panel.root.get_by_role("region", name="Directions")).to_be_focused()
    assert rig.execute(page, NOW).strip() == Recipe().fingerprint


@pytest.mark.parametrize("server", ["notebook"], indirect=True)
def test_notebook_7_shows_it_and_says_where_it_can_be_loaded(server: rig.Server, page: Page) -> None:
    RECIPE.save(server.root / "calm.steer.json")
    page.goto(f"{server.url}/edit/calm.steer.json", wait_until="domcontentloaded")
    viewer = page.get_by_role("region", name="The recipe calm.steer.json")
    expect(viewer.locator(".sl-recipe-line")).to_have_count(4, timeout=60_000)
    expect(viewer.get_by_role("status")).to_have_text("No panel is open here.")
    expect(viewer).to_contain_text("In a notebook with a panel, its “+ load a file…” reads this file.")
    expect(viewer.get_by_role("button", name="lab")).to_have_count(0)
