"""A model that a server has to load first: the panel follows its job through every stage, to the text."""

from __future__ import annotations

import contextlib
import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from misbehaving import Misbehaving, misbehave
from ndif_server import far_lab
from test_troubles import QUICK, result, said, token

from steerlab import Lab, Row, Sampling
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.ndif import loads

sys.path.append(str(Path(__file__).parents[1] / "ui"))
from wires import Wire

# what the server says, then the stage and the place in the queue that the panel is told, and the words in its header
STAGES = [
    (said("QUEUED", "Added to Queue at position 3."), ("queued", 3), "in the queue, number 3"),
    (said("QUEUED", "Moved to position 1 in Queue."), ("queued", 1), "in the queue, number 1"),
    (said("PROVISIONING", "Model Provisioning..."), ("provisioning", None), "making room for the model"),
    (said("DEPLOYING", "Model Deploying..."), ("deploying", None), "loading the model"),
    (said("DISPATCHED", "Sent to the model deployment."), ("dispatched", None), "about to run"),
    (said("RUNNING"), ("running", None), "running on the server"),
]
TEXT = "Hi"
IDS = byte_tokenizer().encode(TEXT)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@contextlib.contextmanager
def deploying(folder: Path) -> Iterator[tuple[Lab, Callable[[str], None]]]:
    """A lab whose model is not loaded on its server, and what makes that server say the next thing."""
    frames: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    answers = {"/result": [(200, result(*IDS))]}
    behaviour = Misbehaving(frames=iter(frames.get, None), answers=answers)  # type: ignore[arg-type]
    with misbehave(behaviour) as server:
        lab = far_lab(server, folder)  # type: ignore[arg-type]
        lab.sampling = Sampling(len(TEXT))
        lab.backend.patience = replace(QUICK, silence=30, queued=5, deploying=60, running=30)  # type: ignore[attr-defined]
        try:
            yield lab, frames.put
        finally:
            lab.worker.close()
            frames.put(None)


def test_the_panel_follows_a_model_that_is_loaded_first(model_folders: dict[str, Path]) -> None:
    with deploying(model_folders["llama"]) as (lab, say):
        wire = Wire(lab)

        def now() -> tuple[str, int | None]:
            last = wire.kinds("job")[-1]
            return last["stage"], last["position"]

        wire.say(kind="hello")
        wire.until(lambda: wire.kinds("job") and now() == ("received", None))
        for frame, stage, _ in STAGES:
            assert now() != stage
            say(frame)
            wire.until(lambda stage=stage: now() == stage)
            assert not wire.text("steered")
        say(token(0, IDS[0]))
        wire.until(lambda: wire.streamed("steered", wire.panel._preview.run) == TEXT[0])
        assert now()[0] == "running", "its tokens come before its end"
        say(token(1, IDS[1]))
        say(said("COMPLETED", data="URL/result"))
        wire.finished()
        assert wire.text("steered") == TEXT
        told = [(m["stage"], m["position"]) for m in wire.kinds("job")]
        told = [one for one, _ in itertools.groupby(told)]  # how long it takes is told every second
        order = [stage for _, stage, _ in STAGES]
        assert told == [("sending", None), ("received", None), *order, ("fetching", None), ("", None)]


def test_a_model_may_take_longer_to_load_than_a_job_may_wait(model_folders: dict[str, Path]) -> None:
    with deploying(model_folders["llama"]) as (lab, say):
        lab.backend.patience = replace(lab.backend.patience, queued=0.5, running=0.5)  # type: ignore[attr-defined]
        wire = Wire(lab)
        wire.say(kind="hello")
        for stage in ("PROVISIONING", "DEPLOYING"):
            say(said(stage))
            time.sleep(0.8)
        for i, one in enumerate(IDS):
            say(token(i, one))
        say(said("COMPLETED", data="URL/result"))
        wire.finished()
        assert wire.text("steered") == TEXT


@contextlib.contextmanager
def running(lab: Lab) -> Iterator[list[int]]:
    """Within it a thread waits for a text of the lab's, as a cell does; the ids of the tokens that it has heard."""
    heard: list[int] = []
    rows, sampling = [Row("Hi")], Sampling(len(TEXT))
    hear = lambda tokens: heard.extend(token.id for token in tokens)  # noqa: E731
    cell = threading.Thread(target=lambda: lab.run(rows, sampling, on_tokens=hear))
    cell.start()
    yield heard
    cell.join(20)
    assert not cell.is_alive()


def test_tokens_that_take_longer_than_a_second_are_all_heard_as_they_come(
    model_folders: dict[str, Path],
) -> None:
    with deploying(model_folders["llama"]) as (lab, say), running(lab) as heard:
        say(said("RUNNING"))
        for i, one in enumerate(IDS):
            time.sleep(1.3)
            say(token(i, one))
            end = time.monotonic() + 5
            while len(heard) <= i:
                assert time.monotonic() < end, f"after {i + 1} tokens {heard} were heard"
                time.sleep(0.01)
        assert heard == IDS
        say(said("COMPLETED", data="URL/result"))


def test_while_a_model_is_loaded_the_seconds_are_told_in_a_cell_and_kept_for_the_next_time(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    open_lines = []

    class Line:
        def __init__(self, **_: object) -> None:
            self.bar = self
            open_lines.append(self)

        def set_description_str(self, words: str) -> None:
            lines.append(words)

        def close(self) -> None:
            open_lines.remove(self)

    monkeypatch.setattr("steerlab.remote.InCell", Line)
    told: list[tuple[str, float | None]] = []
    with deploying(model_folders["llama"]) as (lab, say):
        backend: Any = lab.backend
        backend.watchers.append(lambda status: told.append((status.stage, status.loading)))
        with running(lab):
            say(said("DEPLOYING"))
            time.sleep(3.4)
            assert len(open_lines) == 1
            say(said("RUNNING"))
            for i, one in enumerate(IDS):
                say(token(i, one))
            say(said("COMPLETED", data="URL/result"))
        seconds = [loading for stage, loading in told if stage == "deploying"]
        assert len(seconds) >= 4
        assert seconds == sorted(seconds)
        assert 3 < loads.took(backend.server, backend._repository) < 6
        assert any("deploying, 2 s" in line for line in lines)
        assert open_lines == []
