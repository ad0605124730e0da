"""Random sequences of what a person does in a real panel, and of what a cell does meanwhile. Each has to end at rest,
on the page as in the kernel, and without an error in either.

A failure says what was done, and of which seed; `STEERLAB_SEED=7 pytest tests/e2e/test_sequences_in_page.py` does it
again, and with STEERLAB_SEQUENCES=100 there are as many.
"""

from __future__ import annotations

import json
import os
import time
from random import Random
from typing import Any

import pytest
import rig
from hand import Hand
from panel import SCRIPTED, PanelInPage, open_panel
from playwright.sync_api import Page

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SEED = int(os.environ.get("STEERLAB_SEED", "1"))
SEQUENCES = int(os.environ.get("STEERLAB_SEQUENCES", "20"))
EACH = 25  # at most, in one notebook
CELL = (
    SCRIPTED
    + """import json
import steerlab as sl
import telling
wrong = telling.listen()
lab = telling.lab()
made = lab.directions
first, last = (lambda i=i: list(lab.directions.values())[i] for i in (0, -1))
lab"""
)
TOLD = """
try:
    assert not wrong
    print(json.dumps(telling.told(lab)))
except AssertionError as error:
    print(json.dumps({"wrong": str(error)}))
"""
# Notes when kernel and page spoke last, and the errors that the kernel told anybody of.
LISTEN = f"""() => {{
    window.heard = {{ at: 0, errors: [] }};
    {rig.SESSION}.session.kernel.anyMessage.connect((_, {{ msg: {{ header, content }} }}) => {{
        if (header.msg_type === "comm_msg") heard.at = performance.now();
        if (header.msg_type === "error") heard.errors.push(`${{content.ename}}: ${{content.evalue}}`);
        if (content.name === "stderr") heard.errors.push(content.text);
    }});
}}"""
# Waits until nothing is under way, and nobody has spoken for a moment.
REST = """() => new Promise((done) => {
    const began = performance.now();
    const look = () => {
        const word = document.querySelector(".sl-status").textContent;
        const works = [...document.querySelectorAll(".sl-working, .sl-old")].some((el) => el.checkVisibility());
        const quiet = performance.now() - Math.max(heard.at, began) > 150;
        if (quiet && !works && ["ready", "stopped", "error"].includes(word)) done();
        else if (performance.now() - began > 20_000) done();
        else setTimeout(look, 20);
    };
    look();
})"""
# What the panel shows; null for what is not in sight.
SHOWN = """() => {
    const root = document.querySelector(".sl-app");
    const all = (selector, within = root) => [...within.querySelectorAll(selector)];
    const one = (selector, within = root) => within.querySelector(selector);
    const words = (el) => el?.textContent.trim() ?? null;
    const field = (name) => Number(one(`[aria-label^="${name}"]`).value);
    const rows = all(".sl-row").map((row) => ({
        direction: words(one(".sl-name", row)),
        enabled: one("input[type=checkbox]", row)?.checked,
        mode: words(one(".sl-segmented input:checked", row)?.parentElement),
        number: Number(one(".sl-number", row).value),
        slider: Number(one(".sl-slider input", row).value),
        step: Number(one(".sl-slider input", row).step),
    }));
    const selected = Math.max(0, all(".sl-row").findIndex((row) => row.dataset.selected === "true"));
    const scope = words(one(".sl-tokens input:checked")?.parentElement);
    const parts = all(".sl-pick [role=option]");
    const picked = parts.flatMap((el, i) => (el.ariaSelected === "true" ? [i - parts.length] : []));
    if (rows[selected]) {
        rows[selected].cells = all(".sl-cell[aria-selected=true]").map((el) => el.ariaLabel.split(":")[0]).sort();
        rows[selected].tokens = scope === "pick" ? picked : scope === "response" ? "generated" : scope;
    }
    const code = one(".sl-code");
    return {
        status: words(one(".sl-status")),
        alerts: all("[role=alert]").map(words),
        prompt: one(".sl-prompt textarea").value,
        tokens: field("New tokens"),
        temperature: field("Temperature"),
        seed: field("Seed of"),
        control: one(".sl-bar:not(.sl-colours) > .sl-check input").checked,
        rows,
        beyond: all(".sl-beyond code").map(words),
        conflicts: all(".sl-conflicts p").length,
        undoable: one("[aria-label=Undo]").ariaDisabled === "false",
        redoable: one("[aria-label=Redo]").ariaDisabled === "false",
        snapshots: one(".sl-keep-name") && all(".sl-kept .sl-name").map(words),
        texts: Object.fromEntries(all("[data-pane]").map((el) => [el.dataset.pane, one(".sl-text", el).textContent])),
        code: code?.checkVisibility() && code.ariaLabel === "The recipe as steerlab" ? code.textContent : null,
        heard: heard.errors,
    };
}"""


@pytest.mark.parametrize("part", range(-(-SEQUENCES // EACH)))
def test_any_sequence_of_actions_ends_in_what_the_kernel_has(
    server: rig.Server, page: Page, part: int
) -> None:
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(f"{error}\n{error.stack}"))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.set_viewport_size({"width": 1280, "height": 1600})
    panel = open_panel(page, server, f"sequences-{part}.ipynb", CELL)
    rig.fold_sidebar(page)
    page.evaluate(LISTEN)
    said.clear()  # what JupyterLab says while it starts
    for n in range(part * EACH, min((part + 1) * EACH, SEQUENCES)):
        chance = Random(f"{SEED} {n}")
        hand = Hand(panel, chance)
        for _ in range(chance.randint(6, 10)):
            hand.act()
        differs = difference(panel)
        assert not differs + said, f"sequence {n} of seed {SEED}: {hand.done}: {differs + said}"


def difference(panel: PanelInPage) -> list[str]:
    """In what the page and the kernel differ once both have come to rest; and what went wrong in the kernel."""
    end = time.monotonic() + 10
    while True:
        panel.page.evaluate(REST)
        shown: dict[str, Any] = panel.page.evaluate(SHOWN)
        printed = rig.execute(panel.page, TOLD)
        told = json.loads(printed) if printed.startswith("{") else {"wrong": printed}
        differs = [told["wrong"]] if "wrong" in told else list(compared(shown, told))
        if not differs or time.monotonic() > end:
            return differs
        panel.page.wait_for_timeout(100)


def compared(shown: dict[str, Any], told: dict[str, Any]) -> list[str]:
    """Where what is shown is not what the kernel tells."""
    rows = shown.pop("rows")
    wanted = told.pop("rows")
    differs = []
    if len(rows) != len(wanted):
        differs.append(f"{len(rows)} rows for {len(wanted)}")
    for one, want in zip(rows, wanted, strict=False):
        slider, step = one.pop("slider"), one.pop("step")
        if abs(slider - want["number"]) > step:
            differs.append(f"the slider of {one} stands at {slider}")
        if any(one[name] != want[name] for name in one):
            differs.append(f"a row shows {one}, and is {want}")
    for name, want in told.items():
        if shown[name] is not None and shown[name] != want:
            differs.append(f"{name} shows {shown[name]!r}, and is {want!r}")
    if shown["heard"]:
        differs.append(f"the kernel told of {shown['heard']}")
    unforeseen = [one for one in shown["alerts"] if "does not understand" in one or "last_exception" in one]
    return differs + unforeseen
