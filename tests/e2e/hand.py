"""A hand that does anything a person can do in a panel, chosen by chance."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import rig
from panel import PanelInPage

# Chooses by a number from 0 to 1 among what can be seen and is not off; tells its place, for the mouse.
CHOOSE = """([selector, chance, act]) => {
    const all = [...document.querySelector(".sl-app").querySelectorAll(selector)].filter((el) =>
        el.checkVisibility() && !el.disabled && el.ariaDisabled !== "true");
    const el = all[Math.floor(chance * all.length)];
    if (!el) return null;
    el.scrollIntoView({ block: "nearest" });
    if (act !== "look") el.focus();  // as a mouse does that clicks
    if (act === "click") el.click();
    const { left, top, width, height } = el.getBoundingClientRect();
    const name = el.ariaLabel ?? el.labels?.[0]?.textContent ?? el.textContent;
    return { left, top, width, height, name: name.trim().slice(0, 40) };
}"""
# One click: what it is called, the tab that it is in, and where.
CLICKS = {
    "mode": ("", ".sl-rows .sl-segmented input"),
    "turn a row on or off": ("", ".sl-row input[type=checkbox]"),
    "tokens": ("", ".sl-tokens input"),
    "preset": ("", ".sl-presets button"),
    "undo": ("", "[aria-label=Undo]"),
    "redo": ("", "[aria-label=Redo]"),
    "run": ("", ".sl-prompt button"),
    "tab": ("", "[role=tab]"),
    "control": ("Preview", ".sl-bar:not(.sl-colours) > .sl-check input"),
    "stop": ("Preview", ".sl-stop"),
    "verdict": ("Preview", ".sl-verdict"),
    "measure": ("Sweep", "form[aria-label='What to sweep'] [type=submit]"),
    "set a cell": ("Sweep", ".sl-tabpanel:not([hidden]) .sl-heat-cell"),
    "lens": ("Lens", ".sl-lens .sl-heat-cell, .sl-lens .sl-segmented input"),
    "directions": ("Directions", ".sl-tabpanel:not([hidden]) .sl-segmented input"),
    "keep": ("Snapshots", ".sl-keep-name + button"),
    "restore": ("Snapshots", "[aria-label^=Restore]"),
    "compare": ("Snapshots", "[aria-label^=Compare]"),
    "delete": ("Snapshots", "[aria-label^=Delete]"),
    "bring back": ("Snapshots", ".sl-kept-lost button"),
}
ITEMS = {"Duplicate": 1, "Rename…": 2, "Move up": 3, "Move down": 4, "Remove": 8}  # and their places
MOST = 4  # rows
PROMPTS = ("Hi", "How do I bake bread?", "Why?", "<b>no</b> markup")
NUMBERS = {
    "New tokens": ("3", "12", "20"),
    "Temperature": ("0", "0.8"),
    "Seed": ("0", "7"),
    "as a number": ("1.5", "-0.3", "0"),
}
# What a cell, or a program, may set meanwhile.
CODE = (
    "lab.recipe = sl.BASELINE",
    "lab.recipe = sl.Recipe([sl.Add(first(), 0.5)])",
    "lab.recipe = sl.Recipe([sl.Ablate(first()), sl.Add(last(), -1.0, tokens='prompt')])",
    "lab.recipe = sl.Recipe([sl.Clamp(last(), 2.0, layers=[0, 2], sites=['resid_mid'])])",
    "lab.recipe = sl.Recipe([sl.Add(first(), 1.0, keep_norm=True), sl.Add(first(), 0.2, tokens=[-2, -1])])",
    "lab.recipe = sl.Recipe([sl.Add(first(), 1.0), sl.Ablate(first())])",
    "lab.prompt = 'Who are you?'",
    "lab.seed = 3",
    "lab.sampling = sl.Sampling(8, 0.5)",
    "lab.directions = dict(reversed(lab.directions.items()))",
    "lab.directions = made",
    "lab.snapshot('of a cell')",
)


class Hand:
    """Does one thing after the other, none of which waits for what came of the one before."""

    def __init__(self, panel: PanelInPage, chance: Random) -> None:
        self.panel, self.page, self.chance = panel, panel.page, chance
        self.done: list[str] = []

    def act(self) -> None:
        """Do something, and perhaps wait a moment."""
        by_hand = [name for name in dir(Hand) if name.startswith("do_")]
        what = self.chance.choice([*CLICKS, *by_hand, *by_hand])
        self.done.append(what.removeprefix("do_").replace("_", " "))
        if what in CLICKS:
            self.click(*CLICKS[what])
        else:
            getattr(self, what)()
        self.page.wait_for_timeout(self.chance.choice((0, 0, 10, 40, 120)))

    # ---------------------------------------------------------------------------------------------- with the mouse

    def do_drag_a_slider(self) -> None:
        if box := self.choose(".sl-slider input"):
            left, width, middle = box["left"], box["width"], box["top"] + box["height"] / 2
            self.drag(*((left + width * self.chance.uniform(0.02, 0.98), middle) for _ in range(2)))

    def do_put_a_slider_to_zero(self) -> None:
        if box := self.choose(".sl-slider input"):
            self.page.mouse.dblclick(*centre(box))

    def do_brush_cells(self) -> None:
        self.drag_between(".sl-grid [data-place]")

    def do_pick_tokens(self) -> None:
        self.drag_between(".sl-pick [role=option]")

    def do_drag_a_row(self) -> None:
        self.drag_between(".sl-grip")

    def drag_between(self, selector: str) -> None:
        start, end = (self.choose(selector) for _ in range(2))
        if start and end:
            self.drag(centre(start), centre(end))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=3)
        self.page.mouse.up()

    # ------------------------------------------------------------------------------------------------- with the keys

    def do_move_a_slider_by_keys(self) -> None:
        if self.choose(".sl-slider input", "focus"):
            self.keys(
                ("ArrowRight", "ArrowLeft", "PageUp", "PageDown", "Home", "End"), self.chance.randint(1, 4)
            )

    def do_walk_and_take_cells(self) -> None:
        if self.choose(".sl-grid [tabindex='0']", "focus"):
            self.keys(
                ("ArrowRight", "ArrowDown", "ArrowUp", "Space", "Shift+ArrowRight", "Shift+ArrowDown"), 4
            )

    def do_walk_and_take_tokens(self) -> None:
        if self.choose(".sl-pick [tabindex='0']", "focus"):
            self.keys(("ArrowLeft", "Shift+ArrowLeft", "Space", "Home"), 4)

    def do_undo_by_keys(self) -> None:
        inside = bool(self.page.evaluate("document.activeElement.closest('.sl-app') !== null"))
        if inside or self.choose(".sl-slider input, .sl-prompt textarea, [role=tab]", "focus"):
            self.keys(("Control+z", "Control+z", "Control+Shift+z"), self.chance.randint(1, 3))

    def do_ask(self) -> None:
        if self.choose(".sl-prompt textarea", "focus"):
            self.page.keyboard.press("Control+a")
            self.page.keyboard.type(self.chance.choice(PROMPTS))
            self.keys(("Enter", "Enter", "End"), 1)

    def do_type_a_number(self) -> None:
        name = self.chance.choice(list(NUMBERS))
        if self.choose(f"[aria-label*='{name}']", "focus"):
            self.page.keyboard.press("Control+a")
            self.page.keyboard.type(self.chance.choice(NUMBERS[name]))

    def do_take_an_example(self) -> None:
        self.panel.root.locator(".sl-examples").select_option(index=self.chance.randint(1, 4))

    def do_choose_in_a_menu(self) -> None:
        item = self.chance.choice(list(ITEMS))
        self.done[-1] = item
        if item == "Duplicate" and self.page.locator(".sl-row").count() >= MOST:
            return
        self.choose(".sl-more", "click")
        if self.choose(f"[role=menuitem]:nth-child({ITEMS[item]})", "click") and item == "Rename…":
            self.page.keyboard.type(self.chance.choice(("joy", "refusal", "a long name")))
            self.page.keyboard.press("Enter")

    def do_add_a_direction(self) -> None:
        if self.page.locator(".sl-row").count() < MOST:
            self.choose("[aria-label='Add a direction of the lab'][aria-haspopup]", "click")
            self.choose("[role=menuitem]", "click")

    def keys(self, among: Sequence[str], n: int) -> None:
        for _ in range(n):
            self.page.keyboard.press(self.chance.choice(among))

    def do_measure_and_cancel(self) -> None:
        self.click(*CLICKS["measure"])
        self.page.wait_for_timeout(50)
        self.choose(".sl-working button", "click")

    # -------------------------------------------------------------------------------------------------- from Python

    def do_set_in_a_cell(self) -> None:
        code = self.chance.choice(CODE)
        self.done[-1] = code
        self.page.evaluate(
            f"code => void {rig.SESSION}.session.kernel.requestExecute({{ code, store_history: false }})",
            code,
        )

    # ------------------------------------------------------------------------------------------------------------------

    def click(self, tab: str, selector: str) -> None:
        if tab:
            self.choose(f"[data-tab={tab.lower()}]", "click")
        chosen = self.choose(selector, "click")
        self.done[-1] += f": {chosen['name'] if chosen else 'nothing there'}"

    def choose(self, selector: str, act: str = "look") -> dict[str, Any] | None:
        chosen: dict[str, Any] | None = self.page.evaluate(CHOOSE, [selector, self.chance.random(), act])
        return chosen


def centre(box: dict[str, Any]) -> tuple[float, float]:
    return box["left"] + box["width"] / 2, box["top"] + box["height"] / 2
