"""A panel on a server that fails: a message within the time-out, the last text kept, and all well when it is back."""

from __future__ import annotations

import itertools
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from misbehaving import Misbehaving, misbehave
from ndif_server import far_lab
from test_troubles import QUICK, result, said, token

from steerlab import Sampling
from steerlab.backends.fake import byte_tokenizer

sys.path.append(str(Path(__file__).parents[1] / "ui"))
from wires import Wire

TEXT = "Hi"
IDS = byte_tokenizer().encode(TEXT)
GOOD = [said("RUNNING"), *itertools.starmap(token, enumerate(IDS)), said("COMPLETED", data="URL/result")]
TROUBLES: dict[str, tuple[dict[str, Any], str]] = {
    "silent while it runs": ({"frames": GOOD[:1]}, "running for 1 seconds without a word"),
    "silent in the middle": ({"frames": GOOD[:2]}, "without a word"),
    "gone in the middle": ({"frames": GOOD[:2], "close": True}, "connection to .* was lost"),
    "rubbish": ({"frames": [GOOD[0], "<html>"]}, "not NDIF's protocol"),
    "rubbish as a result": ({"answers": {"/result": [(200, b"PK rubbish")]}}, "not NDIF's protocol|result"),
    "a page in the place of an answer": ({"answers": {"/request": [(200, "<p>Hello")]}}, "not NDIF"),
    "out of date": ({"answers": {"/request": [(400, '{"detail": "below version 9"}')]}}, "version"),
    "an error of its own": ({"answers": {"/request": [(500, "oops")]}}, "500"),
    "no answer": ({"hangs": ("/request",)}, "silent|answer"),
    "a connection that drips": ({"drips": ("/subscribe",)}, "silent|answer|word"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_last_text_is_kept_and_the_panel_goes_on_when_the_server_is_back(
    trouble: str, model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    changes, says = TROUBLES[trouble]
    whole = {"/result": [(200, result(*IDS))]}
    with misbehave(Misbehaving(frames=GOOD, answers=whole)) as server:
        lab = far_lab(server, model_folders["llama"])  # type: ignore[arg-type]
        lab.sampling = Sampling(len(TEXT))
        lab.backend.patience = QUICK  # type: ignore[attr-defined]
        wire = Wire(lab)
        wire.say(kind="hello")
        assert wire.finished()["status"] == "done"
        assert wire.text("steered") == wire.text("baseline") == TEXT
        well = {name: getattr(server, name) for name in changes}
        for name, value in changes.items():
            setattr(server, name, {**whole, **value} if name == "answers" else value)
        began = time.monotonic()
        wire.run(prompt="Another")
        end = wire.finished()
        assert time.monotonic() - began < 8
        assert end["status"] == "error"
        assert re.search(says, end["error"]["what"]), end["error"]
        left = TEXT[:1] if "in the middle" in trouble else TEXT  # what came of the new text, or the last one
        assert wire.text("steered") == wire.text("baseline") == left
        for name, value in well.items():
            setattr(server, name, value)
        wire.run(prompt="A third")
        assert wire.finished()["status"] == "done"
        assert wire.text("steered") == TEXT
        assert wire.panel.result["error"] is None
        lab.worker.close()
