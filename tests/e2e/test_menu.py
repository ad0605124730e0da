"""The menu Steering: what stands in it, and the tutorials."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import rig
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.e2e

EXAMPLES = rig.REPOSITORY / "examples"
TUTORIALS = sorted(path.name for path in EXAMPLES.glob("[0-9][0-9]_*.ipynb"))
OFF = re.compile("lm-mod-disabled")
INSERT = "Insert the Recipe as Code"


def menu(page: Page) -> Locator:
    """The menu, opened."""
    page.get_by_role("menuitem", name="Steering").click()
    opened = page.locator(".lm-Menu").first
    expect(opened).to_be_visible()
    return opened


def item(opened: Locator, name: str) -> Locator:
    return opened.locator(".lm-Menu-item").filter(has_text=name)


def test_the_menu_has_its_items_and_a_tutorial_is_opened_as_ones_own(server: rig.Server, page: Page) -> None:
    (server.root / "course").mkdir()
    server.write("course/plain.ipynb", "1")
    rig.open_notebook(page, server, "course/plain.ipynb")
    expect(page.locator(".jp-BreadCrumbs-item").filter(has_text="course")).to_be_visible()
    opened = menu(page)
    for name in ("New Steering Lab", "Show the Lab Beside the Notebook", "Tutorials"):
        expect(item(opened, name)).not_to_have_class(OFF)
    expect(item(opened, INSERT)).to_have_class(OFF)
    why = page.evaluate("jupyterapp.commands.caption('steerlab:insert-recipe')")
    assert why == "This notebook shows no panel whose recipe it could be: show the lab first"
    item(opened, "Tutorials").hover()
    items = page.locator(".lm-Menu").nth(1).locator(".lm-Menu-itemLabel")
    expect(items).to_have_text([f"{number} {title(file)}" for number, file in enumerate(TUTORIALS, start=1)])

    items.first.click()
    here = "jupyterapp.shell.currentWidget?.context?.path"
    page.wait_for_function(f"path => {here} === path", arg=f"course/{TUTORIALS[0]}")
    copy, original = server.root / "course" / TUTORIALS[0], EXAMPLES / TUTORIALS[0]
    assert sources(copy) == sources(original)
    mine = original.read_text().replace(title(TUTORIALS[0]), "Mine")
    copy.write_text(mine)
    open_it = "jupyterapp.commands.execute('steerlab:open-tutorial', { number: 1 }).then(() => null)"
    page.evaluate(open_it)
    assert copy.read_text() == mine

    copy.unlink()
    page.route("**/tutorials/*", lambda route: route.abort())
    page.evaluate(f"void {open_it}")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Tutorial 1 is not opened")
    expect(dialog).to_contain_text(f"{TUTORIALS[0]} cannot be fetched: the server does not answer.")
    assert not copy.exists()


def sources(notebook: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"]]


def title(tutorial: str) -> str:
    return sources(EXAMPLES / tutorial)[0].splitlines()[0].removeprefix("# ")
