"""200 tokens a second written into each of three panes in real JupyterLab and Chromium, for 30 s, in two texts: whether
all arrive, and the longest time between two frames, in the browser's own clock.

A scripted model writes them on schedule, so that what is measured is the panel.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import Check, Figure, Options, Spread, main

sys.path.append(str(Path(__file__).parents[1] / "tests" / "e2e"))

import rig
import stress

RATE, SECONDS, TEXTS, FRAME_MS = 200, 30, 2, 50  # a text has at most 4096 tokens


def measure(options: Options) -> Iterator[Figure]:
    """One figure: two long texts, until all of each is there."""
    seconds = 4 if options.quick else SECONDS
    with (
        tempfile.TemporaryDirectory() as folder,
        rig.serve(Path(folder)) as server,
        rig.chromium() as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        seen = stress.stream(page, server, rate=RATE, tokens=RATE * seconds // TEXTS, prompts=TEXTS)
    gaps = sorted(seen.gaps)
    late = sum(gap > FRAME_MS for gap in gaps)
    yield Figure(
        f"{RATE} tokens a second into three panes for {seconds} s: the longest frame",
        f"{FRAME_MS} ms",
        "scripted",
        Spread(gaps[-1] / FRAME_MS, gaps[0] / FRAME_MS, gaps[-1] / FRAME_MS),
        "of that",
        1.0,
        "less",
        checks=(Check("every token of every pane is there", seen.texts == seen.wanted),),
        note=f"{len(gaps)} frames, median {gaps[len(gaps) // 2]:.1f} ms, 99th percentile "
        f"{gaps[int(0.99 * (len(gaps) - 1))]:.1f} ms, {late} over {FRAME_MS} ms; {len(seen.tasks)} tasks over 50 ms; "
        f"the last token was there after {seen.seconds:.1f} s",
    )


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
