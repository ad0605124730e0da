"""200 tokens a second written into each of three panes in real JupyterLab and Chromium, for 30 s, in two texts: whether
all arrive, and the longest time between two frames, in the browser's own clock.

A scripted model writes them on schedule, in paragraphs of 60 tokens, so that what is measured is the panel.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import Check, Figure, Options, main, spread

sys.path.append(str(Path(__file__).parents[1] / "tests" / "e2e"))

import rig
import stress
from playwright.sync_api import Browser

RATE, SECONDS, TEXTS, FRAME_MS = 200, 30, 2, 50  # a text has at most 4096 tokens


def measure(options: Options) -> Iterator[Figure]:
    """One figure: two long texts in every round, until all of each is there; a round gives its longest frame."""
    seconds = 4 if options.quick else SECONDS
    with (
        tempfile.TemporaryDirectory() as folder,
        rig.serve(Path(folder)) as server,
        rig.chromium() as browser,
    ):
        rounds = [streamed(browser, server, seconds) for _ in range(options.rounds)]
    # in whole milliseconds: three frames of 60 a second are 50.0 or 50.1 by the browser's clock
    gaps = [sorted(map(round, one.gaps)) for one in rounds]
    every = sorted(gap for one in gaps for gap in one)
    late = [sum(gap > FRAME_MS for gap in one) for one in gaps]
    yield Figure(
        f"{RATE} tokens a second into three panes for {seconds} s: the longest frame of a round",
        f"{FRAME_MS} ms",
        "scripted",
        spread([one[-1] / FRAME_MS for one in gaps]),
        "of that",
        1.0,
        "less",
        checks=(Check("every token of every pane is there", all(one.texts == one.wanted for one in rounds)),),
        note=f"{len(every)} frames in {len(rounds)} rounds, median {every[len(every) // 2]} ms, 99th percentile "
        f"{every[int(0.99 * (len(every) - 1))]} ms; over {FRAME_MS} ms in each round: {', '.join(map(str, late))}; "
        f"{sum(len(one.tasks) for one in rounds)} tasks over 50 ms; the last token was there after "
        f"{max(one.seconds for one in rounds):.1f} s at most",
    )


def streamed(browser: Browser, server: rig.Server, seconds: int) -> stress.Streamed:
    """One round, in a page of its own."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    seen = stress.stream(page, server, rate=RATE, tokens=RATE * seconds // TEXTS, prompts=TEXTS)
    page.close()
    server.end_kernels()
    return seen


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
