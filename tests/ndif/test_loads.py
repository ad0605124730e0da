"""How long a server takes to load a model, as jobs from here saw it."""

from __future__ import annotations

from pathlib import Path

import pytest

from steerlab.backends.ndif import loads
from steerlab.backends.ndif.messages import JobStatus, RemoteModel

HOST, MODEL = "http://127.0.0.1:5001", "meta/one"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def load(seconds: float, *, host: str = HOST, ends: str = "running") -> list[float | None]:
    """What a job's statuses say of the usual time, from when its model begins to be loaded."""
    seen = loads.watched(host, MODEL)
    stages = [("queued", 1.0), ("provisioning", 2.0), ("deploying", 2.5), (ends, 2.0 + seconds)]
    return [seen(JobStatus(stage, "id", None, when)).usual for stage, when in stages]


def test_a_job_is_told_how_long_the_one_before_waited_for_its_model() -> None:
    assert load(12.4) == [None, None, None, None]  # it is the first
    assert load(3.0) == [None, 12.4, 12.4, None]
    assert loads.took(HOST, MODEL) == 3.0
    assert loads.took("http://elsewhere", MODEL) is None
    models = {MODEL: RemoteModel("not loaded", 0, None, None), "other": RemoteModel("running", 1, 7, None)}
    assert [one.loads_in for one in loads.told(HOST, models).values()] == [3.0, None]


def test_a_model_that_then_waits_for_its_turn_is_loaded_and_one_that_was_there_says_nothing() -> None:
    seen = loads.watched(HOST, MODEL)
    stages = [
        ("deploying", 60.0),
        ("deploying", 65.0),
        ("queued", 72.0),
        ("dispatched", 672.0),
        ("running", 672.5),
    ]
    told = [seen(JobStatus(stage, "id", None, when)).loading for stage, when in stages]
    assert told == [0.0, 5.0, None, None, None]
    assert loads.took(HOST, MODEL) == 12.0
    load(0.6)  # the server had only to find that it is there
    assert loads.took(HOST, MODEL) == 12.0


def test_a_job_that_ended_while_it_waited_says_nothing_of_the_time() -> None:
    load(5.0, ends="cancelled")
    load(6.0, ends="failed")
    assert loads.took(HOST, MODEL) is None


def test_a_job_whose_model_is_there_says_nothing_of_the_time() -> None:
    seen = loads.watched(HOST, MODEL)
    for stage, when in (("queued", 1.0), ("dispatched", 9.0), ("running", 9.5)):
        seen(JobStatus(stage, "id", None, when))
    assert loads.took(HOST, MODEL) is None


@pytest.mark.parametrize("content", ["", "[1]", '{"meta/one at http://127.0.0.1:5001": "soon"}'])
def test_a_damaged_file_is_no_knowledge_and_is_written_anew(content: str) -> None:
    loads.file().parent.mkdir(parents=True)
    loads.file().write_text(content)
    assert loads.took(HOST, MODEL) is None
    load(7.0)
    assert loads.took(HOST, MODEL) == 7.0


def test_a_folder_that_cannot_be_written_to_costs_the_figure_alone() -> None:
    loads.file().parent.parent.mkdir(parents=True, exist_ok=True)
    loads.file().parent.write_text("no folder")
    assert load(7.0) == [None, None, None, None]


def test_the_status_says_it_in_words() -> None:
    assert (
        str(JobStatus("deploying", "id", None, 4.2, usual=12.4))
        == "deploying, 4 s, the last time it took 12 s"
    )
