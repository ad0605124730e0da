"""Where a server's jobs are, in the panel."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import scripted
from wires import Wire

from steerlab.backends.ndif.messages import JobStatus
from steerlab.ui.jobs import SHOWN, NewestJob
from steerlab.worker import LANES


def test_the_panel_follows_a_job_through_the_queue_and_forgets_it_at_its_end() -> None:
    lab = scripted.lab()
    watchers: list[Callable[[JobStatus], None]] = []
    lab.backend.watchers = watchers  # type: ignore[attr-defined]
    wire = Wire(lab)
    assert len(watchers) == 1
    for status in (
        JobStatus("queued", "a", 3, 0.1),
        JobStatus("queued", "a", 3, 0.9),
        JobStatus("queued", "a", 1, 1.2),
        JobStatus("running", "a", None, 2.0),
    ):
        watchers[0](status)
    told = [(m["stage"], m["position"]) for m in wire.kinds("job")]
    assert told == [("queued", 3), ("queued", 1), ("running", None)]
    wire.messages.clear()
    wire.say(kind="hello")  # a page that was reloaded hears of it, too
    assert [m["stage"] for m in wire.kinds("job")] == ["running"]
    for stage in ("completed", "cancelled", "failed"):
        watchers[0](JobStatus("sending", "", None, 0.0))
        watchers[0](JobStatus("queued", "b", 2, 0.0))
        assert wire.kinds("job")[-1]["stage"] == "queued"
        watchers[0](JobStatus(stage, "b", None, 0.1))
        assert wire.kinds("job")[-1]["stage"] == "running", "the first one still is"
    watchers[0](JobStatus("completed", "a", None, 9.0))
    assert wire.kinds("job")[-1]["stage"] == ""
    watchers[0](JobStatus("sending", "", None, 0.0))
    watchers[0](JobStatus("failed", "", None, 0.1))
    assert wire.kinds("job")[-1]["stage"] == ""


def test_threads_that_tell_of_their_jobs_at_once_leave_none_behind() -> None:
    before = sys.getswitchinterval()
    newest, raised = NewestJob(lambda _: None), []

    def tell(thread: int) -> None:
        try:
            for i in range(1000):
                for stage, job in (
                    ("sending", ""),
                    ("queued", f"{thread}-{i}"),
                    ("completed", f"{thread}-{i}"),
                ):
                    newest.follow(JobStatus(stage, job))
                newest.follow(JobStatus("sending"))
                newest.follow(JobStatus("failed"))
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=tell, args=[thread]) for thread in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not raised
    assert newest.told.stage == ""


def test_a_job_that_nobody_waits_for_any_more_is_told_of_no_longer() -> None:
    told: list[Any] = []
    newest = NewestJob(told.append)
    newest.follow(JobStatus("running", "left", left=True))
    newest.follow(JobStatus("running", "left", left=True, awaited=False))
    newest.follow(JobStatus("queued", "never followed", left=True, awaited=False))
    assert [one.stage for one in told] == ["running", ""]


def test_jobs_are_listed_and_ended_while_long_work_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = scripted.lab()
    ended: list[str] = []
    listed = [
        JobStatus("running", "here", None, 1.5, 3),
        *(JobStatus("completed", f"left{i}", None, 60.0, 70, left=True) for i in range(SHOWN)),
    ]
    monkeypatch.setattr(lab, "jobs", lambda: listed)
    monkeypatch.setattr(lab, "cancel", ended.append)
    wire, gate = Wire(lab), threading.Event()
    for lane in LANES:
        lab.worker.background(lambda _: gate.wait(10) and None, lane)
    try:
        answer = wire.ask("jobs", at=0)
        assert [job["id"] for job in answer["jobs"]] == ["here", *(f"left{i}" for i in range(SHOWN - 1))]
        assert answer["more"] == 1
        assert answer["jobs"][0] == {
            "id": "here",
            "stage": "running",
            "position": None,
            "seconds": 1.5,
            "rows": 3,
            "left": False,
            "over": False,
            "code": "",
        }
        assert answer["jobs"][1]["over"]
        assert answer["jobs"][1]["code"] == "lab.fetch('left0')"
        assert wire.ask("end-job", id="here") == {"id": "here"}
        assert ended == ["here"]
    finally:
        gate.set()


def test_a_model_that_is_here_has_no_jobs_in_words() -> None:
    wire = Wire(scripted.lab())
    assert "jobs are left with a server" in wire.ask("jobs", at=0)["what"]
