"""Three panes that are written at a steady rate in real JupyterLab, and what the browser makes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import rig
from panel import SCRIPTED, open_panel
from playwright.sync_api import Page, expect

PANES = ("baseline", "steered", "control")
# Notes the time between frames, and tasks of 50 ms and more, from here on.
WATCH = """() => {
    const seen = window.steerlabFrames = { gaps: [], tasks: [], on: true };
    new PerformanceObserver(list => {
        for (const { duration } of list.getEntries()) if (seen.on) seen.tasks.push(duration);
    }).observe({ type: "longtask" });
    let last = performance.now();
    const frame = now => {
        if (!seen.on) return;
        seen.gaps.push(now - last);
        last = now;
        requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
}"""


@dataclass(frozen=True)
class Streamed:
    """What was seen. texts: of every prompt by pane, as they stood at its end. wanted: the same as they were written.
    gaps: between frames; tasks: of the page's main thread, 50 and more; both in milliseconds.
    """

    seconds: float
    texts: list[dict[str, str]]
    wanted: list[dict[str, str]]
    gaps: list[float]
    tasks: list[float]


def stream(page: Page, server: rig.Server, *, rate: int, tokens: int, prompts: int = 1) -> Streamed:
    """Follow `tokens` tokens a pane to their end, for one prompt after the other."""
    cell = f"{SCRIPTED}lab = scripted.scheduled(rate=2000, tokens=1)\nlab"
    panel = open_panel(page, server, "stress.ipynb", cell)
    page.evaluate(WATCH)
    began = page.evaluate("performance.now()")
    shown = []
    for number in range(prompts):
        setting = f"lab.prompt = 'Prompt {number}'; lab.seed = {number}"
        if not number:
            setting = f"lab.backend.rate = {rate}; lab.sampling = type(lab.sampling)({tokens})"
        before = panel.run
        rig.execute(page, f"with lab.hold_trait_notifications(): {setting}")
        page.wait_for_function(
            "n => document.querySelector('.sl-app [data-run]').dataset.run > n", arg=before
        )
        expect(panel.root.locator(".sl-status")).to_have_text(
            "ready", timeout=1000 * (60 + 5 * tokens / rate)
        )
        shown.append({name: panel.pane(name).locator(".sl-text").text_content() or "" for name in PANES})
    seen = page.evaluate("() => { steerlabFrames.on = false; return steerlabFrames; }")
    seconds = (page.evaluate("performance.now()") - began) / 1000
    written = [wanted(page, tokens, seed) for seed in range(prompts)]
    return Streamed(seconds, shown, written, seen["gaps"], seen["tasks"])


def wanted(page: Page, tokens: int, seed: int) -> dict[str, str]:
    code = f"""
import json
from steerlab.ui.panes import rows_of
rows = rows_of(lab.prompt, lab.recipe, {seed}, control=True)
print(json.dumps({{name: "".join(scripted.scheduled_words(row, {tokens})) for name, row in rows.items()}}))
"""
    return dict(json.loads(rig.execute(page, code)))
