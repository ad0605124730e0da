"""Jobs that go on without a kernel, and every job's list and end: on a real server, and on one that ends none."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import models
import pytest
import torch
from filelock import FileLock
from misbehaving import Misbehaving, misbehave
from ndif_server import SERVED, far_lab

import steerlab as sl
from steerlab import Add, Direction, Generation, Lab, Recipe, Row, Sampling, Site, errors
from steerlab.backends.ndif import kept
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.backends.ndif.messages import Update
from steerlab.backends.ndif.travelling import MARK
from steerlab.backends.ndif.waiting import Stop
from steerlab.backends.ndif.wire import Wire
from steerlab.generations import Token
from steerlab.serving.server import Server

SLOW = Sampling(250)  # seconds for 64 rows, of which few end early
DIRECTION = Direction(torch.linspace(-1, 1, models.D_MODEL), Site(2, "resid_pre"))
EVERYWHERE = Recipe([Add(DIRECTION, 0.2, layers="all", sites=["resid_pre", "attn_out", "mlp_out"])])

pytestmark = pytest.mark.usefixtures("jobs_folder")


def said(status: str, description: str = "") -> str:
    return json.dumps({"id": "j", "status": status, "description": description, "data": None})


def slow_rows(n: int = 64) -> list[Row]:
    return [Row(f"Story {i:02}", EVERYWHERE) for i in range(n)]


def stages(lab: Lab) -> dict[str, str]:
    return {job.id: job.stage for job in lab.jobs()}


def wait_for(lab: Lab, job: str, stage: str) -> None:
    end = time.monotonic() + 30
    while stages(lab)[job] != stage:
        assert time.monotonic() < end, lab.jobs()
        time.sleep(0.05)


@pytest.mark.ndif
def test_more_rows_than_a_job_takes_are_one_id_with_answers_in_order(lab: Lab) -> None:
    lab.backend.batch_rows = 16  # type: ignore[attr-defined]
    rows = [Row(f"Number {i}", EVERYWHERE if i % 2 else sl.BASELINE) for i in range(40)]
    job = lab.submit(rows, Sampling(6))
    assert [(one.id, one.rows, one.left) for one in lab.jobs()] == [(job, 40, True)]
    assert len(kept.listed(lab.info)[0].parts) == 3
    answers = lab.fetch(job, timeout=60)
    assert answers is not None
    assert [a.token_ids for a in answers] == [a.token_ids for a in lab.run(rows, Sampling(6))]
    assert stages(lab) == {job: "completed"}


@pytest.mark.ndif
def test_jobs_are_known_to_another_lab_of_the_same_model_newest_first(
    lab: Lab, ndif_server: Server, model_folders: dict[str, Path]
) -> None:
    first = lab.submit([Row("One")], Sampling(2))
    time.sleep(0.05)
    second = lab.submit([Row("Two"), Row("Three")], Sampling(2))
    again = far_lab(ndif_server, model_folders[SERVED[0]])
    assert [(job.id, job.rows) for job in again.jobs()] == [(second, 2), (first, 1)]
    assert all(0 <= job.seconds < 60 for job in again.jobs())
    assert NdifBackend(model_folders[SERVED[-1]], host=ndif_server.url).jobs() == []


@pytest.mark.ndif
def test_a_queued_and_a_running_job_are_ended_on_the_server(lab: Lab) -> None:
    running = lab.submit(slow_rows(), SLOW)
    queued = lab.submit(slow_rows(), SLOW)
    wait_for(lab, running, "running")
    assert stages(lab)[queued] == "queued"
    lab.cancel(queued)
    lab.cancel(running)
    began = time.monotonic()
    assert lab.generate("And now?", max_new_tokens=2).finish == "length"
    assert time.monotonic() - began < 5, "nothing is before it any more"
    assert stages(lab) == {queued: "cancelled", running: "cancelled"}
    lab.cancel(queued)  # once more is no error
    with pytest.raises(errors.RemoteError, match="was cancelled"):
        lab.fetch(running)


@pytest.mark.ndif
def test_a_job_that_a_cell_waits_for_is_ended_by_its_id(lab: Lab) -> None:
    answers: list[Generation] = []
    came = threading.Event()

    def cell() -> None:
        answers.extend(lab.run(slow_rows(), SLOW, on_tokens=lambda _: came.set()))

    thread = threading.Thread(target=cell)
    thread.start()
    assert came.wait(30)
    [job] = lab.jobs()
    assert (job.stage, job.rows, job.left) == ("running", 64, False)
    assert job.seconds > 0
    lab.cancel(job.id)
    thread.join(2)
    assert not thread.is_alive()
    assert {a.finish for a in answers} == {"cancelled"}
    assert all(a.token_ids for a in answers), "the tokens that came stay"
    assert lab.jobs() == []


@pytest.mark.ndif
def test_a_job_without_tokens_that_is_ended_says_so(lab: Lab) -> None:
    raised: list[Exception] = []

    def cell() -> None:
        try:
            lab.backend.score([Row("word " * 40 + str(i), EVERYWHERE) for i in range(512)])
        except errors.RemoteError as error:
            raised.append(error)

    blocker = lab.submit(slow_rows(), SLOW)
    wait_for(lab, blocker, "running")
    thread = threading.Thread(target=cell)
    thread.start()
    end = time.monotonic() + 20
    while not (mine := [job for job in lab.jobs() if not job.left]):
        assert time.monotonic() < end
        time.sleep(0.05)
    lab.cancel(mine[0].id)
    thread.join(5)
    lab.cancel(blocker)
    assert "was cancelled" in str(raised[0])
    assert mine[0].id in str(raised[0])


def test_a_server_that_ends_no_jobs_is_said_in_words(model_folders: dict[str, Path]) -> None:
    """As the hosted NDIF: its operators alone end a job that was left."""
    waits = said("QUEUED", "Added to Queue at position 4.")
    with misbehave(Misbehaving(answers={"/response/j": [(200, waits)]})) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        job = there.left.submit([Row("Hi")], Sampling(3))
        with pytest.raises(errors.RemoteError, match="'j' goes on at .*nobody but its operators"):
            there.cancel(job)
        assert [(one.stage, one.position) for one in there.jobs()] == [("queued", 4)]


def test_a_job_on_its_way_to_the_queue_is_ended_there(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown, gone = (200, '{"status": "not_found"}'), (200, '{"status": "removed_from_queue"}')
    answers = {"/response/j": [(200, said("RECEIVED"))], "/request/j": [unknown, unknown, gone]}
    with misbehave(Misbehaving(answers=answers)) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        there.cancel(there.left.submit([Row("Hi")], Sampling(3)))
        assert [one.stage for one in there.jobs()] == ["cancelled"]
        assert sum(head.startswith("DELETE") for head in server.requests) == 3
    monkeypatch.setattr("steerlab.backends.ndif.left.ON_ITS_WAY", 0.2)
    answers = {"/response/j": [(200, said("RUNNING"))], "/request/j": [unknown]}
    with misbehave(Misbehaving(answers=answers)) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        job = there.left.submit([Row("Hi")], Sampling(3))
        with pytest.raises(errors.RemoteError, match="'j' is running at .*did not find it"):
            there.cancel(job)
        assert [one.stage for one in there.jobs()] == ["running"]


def test_a_part_that_cannot_be_ended_yet_keeps_no_other_from_it(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steerlab.backends.ndif.left.ON_ITS_WAY", 0.2)
    posted = [(200, said("RECEIVED").replace('"j"', f'"{name}"')) for name in "ab"]
    behaviour = Misbehaving(
        answers={
            "/request": posted,
            "/response/a": [(200, said("RUNNING")), (200, said("ERROR", "killed"))],
            "/response/b": [(200, said("QUEUED", "Added to Queue at position 1."))],
            "/request/a": [(200, '{"status": "cancelled_execution"}')],
            "/request/b": [(200, '{"status": "not_found"}')],
        }
    )
    with misbehave(behaviour) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url, batch_rows=1)
        job = there.left.submit([Row("a"), Row("b")], Sampling(3))
        with pytest.raises(errors.RemoteError, match="did not find it"):
            there.cancel(job)
        assert any(head.startswith("DELETE /request/a ") for head in server.requests)
        there.jobs()
        behaviour.answers["/request/b"] = [(200, '{"status": "removed_from_queue"}')]
        there.cancel(job)
        assert [one.stage for one in there.jobs()] == ["cancelled"]


def test_a_job_that_the_server_does_not_know_cannot_be_ended(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steerlab.backends.ndif.left.ON_ITS_WAY", 0.2)
    with misbehave(Misbehaving(answers={"/request/j": [(200, '{"status": "not_found"}')]})) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        job = there.left.submit([Row("Hi")], Sampling(3))
        with pytest.raises(errors.RemoteError, match="knows no job 'j' any more"):
            there.cancel(job)
        assert [one.stage for one in there.jobs()] == ["unknown"]


def test_a_job_that_ended_before_it_was_cancelled_says_how(model_folders: dict[str, Path]) -> None:
    word = [(200, said("RUNNING")), (200, said("COMPLETED"))]
    answers = {"/response/j": word, "/request/j": [(200, '{"status": "not_found"}')]}
    with misbehave(Misbehaving(answers=answers)) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        there.cancel(there.left.submit([Row("Hi")], Sampling(3)))
        assert [one.stage for one in there.jobs()] == ["completed"]


@pytest.fixture
def overtaken(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[NdifBackend, str]]:
    """A job that somebody else cancels once it is known that it goes on, and before the server is asked about it."""
    word = [(200, said("RUNNING")), (200, said("ERROR", "Request cancelled by operator."))]
    answers = {"/response/j": word, "/request/j": [(200, '{"status": "cancelled_execution"}')]}
    with misbehave(Misbehaving(answers=answers)) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        job = there.left.submit([Row("Hi")], Sampling(3))
        look = Wire.look

        def late(wire: Wire, job_id: str, stop: Stop | None = None) -> Update | None:
            monkeypatch.setattr(Wire, "look", look)
            there.cancel(job)
            return wire.look(job_id, stop)

        monkeypatch.setattr(Wire, "look", late)
        yield there, job


def test_a_job_that_is_cancelled_while_the_list_asks_about_it_was_cancelled(
    overtaken: tuple[NdifBackend, str],
) -> None:
    there, _ = overtaken
    assert [one.stage for one in there.jobs()] == ["cancelled"]
    assert [one.stage for one in there.jobs()] == ["cancelled"]


def test_who_waits_for_a_job_that_another_kernel_cancels_is_told(overtaken: tuple[NdifBackend, str]) -> None:
    there, job = overtaken
    with pytest.raises(errors.RemoteError, match="'j' at .* was cancelled"):
        there.left.fetch(job, timeout=3)


def test_kernels_that_note_an_end_at_once_do_so_in_turn(model_folders: dict[str, Path]) -> None:
    with misbehave(Misbehaving()) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        job = there.left.submit([Row("Hi")], Sampling(3))
    noted: list[str] = []
    thread = threading.Thread(target=lambda: noted.append(kept.ended(job, "failed")))
    with FileLock(kept.folder() / ".lock"):  # as another kernel holds it
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        data = json.loads((kept.folder() / "j.json").read_text())
        (kept.folder() / "j.json").write_text(json.dumps({**data, "stage": "cancelled"}))
    thread.join(10)
    assert noted == ["cancelled"]


def test_what_two_kernels_write_at_once_is_whole(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with misbehave(Misbehaving()) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        job = there.left.submit([Row("Hi")], Sampling(3))
    data, write = kept._data(job), Path.write_text

    def slow(path: Path, text: str, encoding: str | None = None) -> int:
        written = write(path, text, encoding=encoding)
        monkeypatch.setattr(Path, "write_text", write)
        kept._write(job, {**data, "stage": "completed"})
        return written

    monkeypatch.setattr(Path, "write_text", slow)
    kept._write(job, {**data, "stage": "failed"})
    assert kept._data(job)["stage"] == "failed", "the last one counts"
    assert [path.name for path in kept.folder().iterdir() if path.name != ".lock"] == ["j.json"]


def test_a_cell_that_is_interrupted_leaves_no_job(model_folders: dict[str, Path]) -> None:
    def interrupt(tokens: Sequence[Token]) -> None:
        raise KeyboardInterrupt

    frames = [said("RUNNING"), said("LOG", MARK + '["tokens", 0, 0, [72]]')]
    with misbehave(Misbehaving(frames=list(frames))) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        with pytest.raises(KeyboardInterrupt):
            there.generate([Row("Hi")], Sampling(3), on_tokens=interrupt)
        assert there.job.stage == "cancelled"
        assert there.jobs() == []
        end = time.monotonic() + 10
        while not any(head.startswith("DELETE /request/j ") for head in server.requests):
            assert time.monotonic() < end, "the server is told"
            time.sleep(0.02)


def test_what_a_server_has_forgotten_is_not_asked_about_for_ever(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with misbehave(Misbehaving()) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        job = there.left.submit([Row("Hi")], Sampling(3))
        assert [one.stage for one in there.jobs()] == ["unknown"]
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 7200)
        assert [one.stage for one in there.jobs()] == ["forgotten"]
        asked = len(server.requests)
        assert [one.stage for one in there.jobs()] == ["forgotten"]
        assert len(server.requests) == asked
        with pytest.raises(errors.RemoteError, match="knows no job 'j' any more"):
            there.left.fetch(job)


def test_no_rows_and_files_that_are_damaged(model_folders: dict[str, Path]) -> None:
    with misbehave(Misbehaving()) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url)
        with pytest.raises(errors.ModelError, match="a job without rows"):
            there.left.submit([], Sampling(3))
        job = there.left.submit([Row("Hi")], Sampling(3))
        (kept.folder() / "broken.json").write_text("{")
        assert [one.id for one in there.jobs()] == [job]
        with pytest.raises(errors.FileError, match="broken.json is damaged"):
            there.cancel("broken")
        with pytest.raises(errors.FileError, match="no job 'abc' was left"):
            there.cancel("abc")


def test_a_submit_that_fails_half_way_leaves_nothing(model_folders: dict[str, Path]) -> None:
    accepted = (200, said("RECEIVED"))
    full = (500, '{"detail": "no room"}')
    with misbehave(Misbehaving(answers={"/request": [accepted, full]})) as server:
        there = NdifBackend(model_folders[SERVED[0]], host=server.url, batch_rows=2)
        with pytest.raises(errors.RemoteError, match="no room"):
            there.left.submit([Row("a"), Row("b"), Row("c")], Sampling(3))
        assert any(head.startswith("DELETE /request/j ") for head in server.requests)
        assert there.jobs() == []
