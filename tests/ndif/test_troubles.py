"""Everything that can go wrong with a server ends in an error in words, within the time-out, and nothing is lost."""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import zstandard
from misbehaving import Misbehaving, misbehave
from ndif_server import serve

import steerlab as sl
from steerlab import Row, Sampling, errors
from steerlab.backends.ndif import requests
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.backends.ndif.messages import JobStatus
from steerlab.backends.ndif.requests import PAUSES
from steerlab.backends.ndif.travelling import MARK
from steerlab.backends.ndif.waiting import Patience, Stop
from steerlab.generations import Token
from steerlab.worker import Worker

SECRET = "5f0c1d2e-aaaa-bbbb-cccc-0123456789ab"
QUICK = Patience(connect=2.0, answer=1.0, silence=1.5, queued=1.0, deploying=1.0, running=1.0, result=1.0)


def said(status: str, description: str = "", data: Any = None) -> str:
    return json.dumps({"id": "j", "status": status, "description": description, "data": data})


def token(step: int, *ids: int) -> str:
    return said("LOG", MARK + json.dumps(["tokens", step, 0, list(ids)]))


def backend(folder: Path, server: Misbehaving) -> NdifBackend:
    return NdifBackend(folder, host=server.url, patience=QUICK)


RUNNING = [said("QUEUED", "Added to Queue at position 2."), said("DISPATCHED"), said("RUNNING")]


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (Misbehaving(session=None), "fallen silent: its first word did not come within 1 seconds"),
        (Misbehaving(session="<html>"), "not NDIF's protocol: '<html>'"),
        (Misbehaving(session='{"hello": 1}'), "not NDIF's protocol"),
        (Misbehaving(frames=RUNNING), "has been running for 1 seconds without a word.*lab.backend.patience"),
        (Misbehaving(frames=RUNNING[:1]), "has been queued for 1 seconds without a word"),
        (Misbehaving(frames=[said("DEPLOYING")]), "has been deploying for 1 seconds"),
        (Misbehaving(frames=[*RUNNING, "rubbish"]), "not NDIF's protocol: 'rubbish'"),
        (Misbehaving(frames=[*RUNNING, b"PK rubbish"]), "not NDIF's protocol"),
        (Misbehaving(frames=[*RUNNING, said("DANCING")]), "not NDIF's protocol"),
        (Misbehaving(frames=RUNNING, close=True), "connection to .* was lost.*kept, and is incomplete"),
        (Misbehaving(frames=[*RUNNING, said("COMPLETED", data=None)]), "not NDIF's protocol"),
        (
            Misbehaving(frames=[said("ERROR", "Could not deploy this model. It is gated.")]),
            "cannot load this model .*It is gated.* up there now: none",
        ),
        (
            Misbehaving(
                frames=[
                    said(
                        "ERROR",
                        "Could not deploy this model. No tokenizer.\nTraceback (most …):\n  nnsight/x…",
                    )
                ]
            ),
            "cannot load this model .*No tokenizer.* up there now: none",
        ),
        (
            Misbehaving(
                frames=[*RUNNING, said("ERROR", "Replica was evicted while processing your request.")]
            ),
            "lost the job while it ran .*kept, and is incomplete",
        ),
        (
            Misbehaving(
                frames=[*RUNNING, said("ERROR", "Error submitting request to model deployment. Try later.")]
            ),
            "lost the job while it ran .*kept, and is incomplete",
        ),
        (
            Misbehaving(frames=[said("ERROR", "Error starting model. Please try again later.")]),
            "cannot load this model .* up there now: none",
        ),
        (
            Misbehaving(frames=[*RUNNING, said("ERROR", "Your job exceeded the execution timeout of 60s.")]),
            "took longer than .* allows .*fewer tokens at a time",
        ),
        (
            Misbehaving(
                frames=[*RUNNING, said("ERROR", "Traceback …\ntorch.OutOfMemoryError: CUDA out of memory.")]
            ),
            "ran out of memory .*lab.backend.batch_rows",
        ),
        (
            Misbehaving(
                frames=[*RUNNING, said("ERROR", "Traceback (most recent call last):\nValueError: odd")]
            ),
            "the job failed at .*: ValueError: odd",
        ),
        (
            Misbehaving(
                frames=[*RUNNING, said("ERROR", "Your request payload could not be read (EOFError).")],
                answers={
                    "/env": [(200, '{"python_version": "3.12.1 (main)", "packages": {"nnsight": "0.8.0"}}')]
                },
            ),
            "nnsight 0.8.1 here, 0.8.0 there.*pip install nnsight==0.8.0",
        ),
        (
            Misbehaving(
                answers={"/request": [(400, '{"detail": "Client nnsight version 0.8.1 is below 0.9"}')]}
            ),
            "does not understand this client .*below 0.9.*here are Python .*nnsight 0.8.1.*pip install -U nnsight",
        ),
        (
            Misbehaving(answers={"/request": [(401, '{"detail": "Missing or invalid API key."}')]}),
            "wants a key, and no key was given.*login.ndif.us.*NDIF_API_KEY",
        ),
        (Misbehaving(answers={"/request": [(500, "oops")]}), "failed .HTTP 500.: oops"),
        (Misbehaving(answers={"/request": [(404, "")]}), "has no NDIF"),
        (Misbehaving(answers={"/request": [(200, "<html>")]}), "not NDIF's protocol: '<html>'"),
    ],
    ids=lambda value: value.replace(" ", "-")[:40] if isinstance(value, str) else "",
)
def test_what_goes_wrong_is_said_in_time(
    behaviour: Misbehaving, says: str, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    with misbehave(behaviour) as server:
        there = backend(model_folders["llama"], server)
        began = time.monotonic()
        with pytest.raises(errors.RemoteError, match=f"(?s){says}"):
            there.generate([Row("Hi")], Sampling(3))
        assert time.monotonic() - began < 12
        assert there.job.stage == "failed"


def test_the_tokens_that_came_stay_and_are_marked_incomplete(model_folders: dict[str, Path]) -> None:
    seen: list[Token] = []
    with misbehave(Misbehaving(frames=[*RUNNING, token(0, 72, 87), token(1, 73, 88)], close=True)) as server:
        there = backend(model_folders["llama"], server)
        with pytest.raises(errors.RemoteError, match="incomplete") as caught:
            there.generate([Row("One"), Row("Two")], Sampling(9), on_tokens=seen.extend)
    assert [t.id for t in seen] == [72, 87, 73, 88]
    made = caught.value.generations
    assert [(a.token_ids, a.finish) for a in made] == [((72, 73), "cancelled"), ((87, 88), "cancelled")]  # type: ignore[attr-defined]


def test_a_job_that_a_server_begins_again_is_heard_once(model_folders: dict[str, Path]) -> None:
    """As NDIF does where a model was moved away while a job ran on it."""
    seen: list[Token] = []
    again = [said("QUEUED", "Added to Queue at position 1."), said("DISPATCHED"), said("RUNNING")]
    frames = [*RUNNING, token(0, 72), token(1, 73), *again, token(0, 72), token(1, 73), token(2, 74)]
    with misbehave(Misbehaving(frames=frames, close=True)) as server:
        there = backend(model_folders["llama"], server)
        with pytest.raises(errors.RemoteError, match="incomplete") as caught:
            there.generate([Row("One")], Sampling(9), on_tokens=seen.extend)
    assert [t.id for t in seen] == [72, 73, 74]
    assert [a.token_ids for a in caught.value.generations] == [(72, 73, 74)]  # type: ignore[attr-defined]


def test_a_wrong_key_is_not_repeated(model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDIF_API_KEY", SECRET)
    detail = json.dumps({"detail": f"Invalid API key format: '{SECRET}'."})
    with misbehave(Misbehaving(answers={"/request": [(400, detail)]})) as server:
        monkeypatch.setenv("NDIF_HOST", server.url)
        there = backend(model_folders["llama"], server)
        with pytest.raises(errors.RemoteError, match="the key is not known there") as caught:
            there.generate([Row("Hi")], Sampling(3))
    assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.__dict__}"


def test_a_server_that_does_not_tell_its_versions_is_not_waited_for(model_folders: dict[str, Path]) -> None:
    old = {"/request": [(400, '{"detail": "Client nnsight version 0.8.1 is below 0.9"}')]}
    with misbehave(Misbehaving(answers=old, drips=("/env",))) as server:  # type: ignore[arg-type]
        there = backend(model_folders["llama"], server)
        began = time.monotonic()
        with pytest.raises(errors.RemoteError, match="below 0.9.*does not tell its own"):
            there.generate([Row("Hi")], Sampling(3))
        assert time.monotonic() - began < QUICK.connect + QUICK.answer + 2


def test_a_server_that_accepts_and_says_nothing(model_folders: dict[str, Path]) -> None:
    with misbehave(Misbehaving(accept=False)) as server:
        began = time.monotonic()
        with pytest.raises(errors.RemoteError, match="does not answer"):
            backend(model_folders["llama"], server)
        assert time.monotonic() - began < 15


def test_nobody_there_and_no_such_name(model_folders: dict[str, Path]) -> None:
    with pytest.raises(errors.RemoteError, match="127.0.0.1:9 cannot be reached: .*refused.*host="):
        NdifBackend(model_folders["llama"], host="http://127.0.0.1:9", patience=QUICK)
    with pytest.raises(
        errors.RemoteError, match="no-such-name.invalid.*(name is not known|cannot be reached)"
    ):
        NdifBackend(model_folders["llama"], host="http://no-such-name.invalid", patience=QUICK)
    with pytest.raises(errors.RemoteError, match="'localhost:5001' is no address of a server"):
        NdifBackend(model_folders["llama"], host="localhost:5001")


def test_a_busy_server_is_tried_again_and_a_job_is_sent_once(model_folders: dict[str, Path]) -> None:
    busy = (503, '{"detail": "compute backend is reconnecting"}')
    with misbehave(
        Misbehaving(answers={"/status": [busy, busy, (200, "{}")]}, frames=RUNNING, close=True)
    ) as server:
        there = backend(model_folders["llama"], server)
        with pytest.raises(errors.RemoteError, match="lost"):
            there.generate([Row("Hi")], Sampling(3))
        asked = [head.split()[1] for head in server.requests]
        assert asked.count("/status") == 3
        assert asked.count("/request") == 1
    with misbehave(Misbehaving(answers={"/status": [busy]})) as server:
        with pytest.raises(errors.RemoteError, match="is not ready: compute backend"):
            backend(model_folders["llama"], server)
        assert len(server.requests) == len(PAUSES) + 1


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of every pause from now on, none of which takes any."""
    seconds: list[float] = []
    monkeypatch.setattr(Stop, "sleep", lambda _, pause: seconds.append(pause))
    return seconds


def test_pauses_between_tries_grow_and_have_a_bound(
    pauses: list[float], model_folders: dict[str, Path]
) -> None:
    busy = (503, '{"detail": "compute backend is reconnecting"}')
    with misbehave(Misbehaving(answers={"/status": [busy]})) as server:
        with pytest.raises(errors.RemoteError, match="is not ready"):
            backend(model_folders["llama"], server)
        assert len(server.requests) == len(pauses) + 1, "a pause before every other try, none after the last"
    assert len(pauses) >= 3
    assert all(later >= 1.5 * earlier for earlier, later in itertools.pairwise(pauses))
    assert pauses[0] >= 0.25, "a server that is not ready is not pressed"
    assert sum(pauses) <= 5, "and nobody waits for long"
    tried = pauses.copy()
    pauses.clear()
    with pytest.raises(errors.RemoteError, match="cannot be reached"):
        NdifBackend(model_folders["llama"], host="http://127.0.0.1:9", patience=QUICK)
    assert pauses == tried, "as where nobody is there"


NEVER_SENT = (httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"))
PERHAPS_SENT = (
    httpx.ReadError("reset"),
    httpx.ReadTimeout("slow"),
    httpx.WriteError("reset"),
    httpx.WriteTimeout("slow"),
    httpx.RemoteProtocolError("broke off"),
    httpx.ProxyError("gone"),
    ConnectionResetError("reset"),
    BrokenPipeError("gone"),
    TimeoutError("slow"),
)


@pytest.mark.parametrize("failure", [*NEVER_SENT, *PERHAPS_SENT], ids=lambda failure: type(failure).__name__)
def test_only_a_job_that_never_left_is_sent_again(
    failure: Exception, pauses: list[float], model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    request, posted = httpx.request, []

    def fail(method: str, url: str, **more: Any) -> httpx.Response:
        if method == "POST":
            posted.append(url)
            raise failure
        return request(method, url, **more)

    monkeypatch.setattr(httpx, "request", fail)
    with misbehave(Misbehaving()) as server:
        there = backend(model_folders["llama"], server)
        for ask in (lambda: there.score([Row("Hi")]), lambda: there.left.submit([Row("Hi")], Sampling(3))):
            posted.clear()
            pauses.clear()
            with pytest.raises(errors.RemoteError):
                ask()
            again = len(PAUSES) if failure in NEVER_SENT else 0
            assert (len(posted), len(pauses)) == (1 + again, again)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_job_whose_answer_is_an_error_is_not_sent_again(
    status: int, pauses: list[float], model_folders: dict[str, Path]
) -> None:
    """It may have been accepted, by who stands behind the one that answers."""
    with misbehave(Misbehaving(answers={"/request": [(status, "gateway")]})) as server:
        with pytest.raises(errors.RemoteError):
            backend(model_folders["llama"], server).score([Row("Hi")])
        assert server.asked().count("/request") == 1
    assert not pauses


@pytest.mark.parametrize(
    "behaviour",
    [Misbehaving(breaks=["/request"]), Misbehaving(answers={"/request": [(200, "rubbish")]})],
    ids=["broke off", "not understood"],
)
def test_a_job_whose_answer_is_not_understood_is_not_sent_again(
    behaviour: Misbehaving, pauses: list[float], model_folders: dict[str, Path]
) -> None:
    with misbehave(behaviour) as server:
        with pytest.raises(errors.RemoteError):
            backend(model_folders["llama"], server).score([Row("Hi")])
        assert server.asked().count("/request") == 1
    assert not pauses


@pytest.mark.parametrize(
    ("pongs", "says"),
    [
        (False, "a sign of life did not come within 2 seconds"),
        (True, "received for 4 seconds without a word"),
    ],
)
def test_a_server_that_answers_pings_is_not_silent(
    pongs: bool, says: str, model_folders: dict[str, Path]
) -> None:
    patience = replace(QUICK, silence=2.0, queued=4.0)
    with misbehave(Misbehaving(pongs=pongs)) as server:
        there = NdifBackend(model_folders["llama"], host=server.url, patience=patience)
        with pytest.raises(errors.RemoteError, match=says):
            there.generate([Row("Hi")], Sampling(3))


def test_a_request_that_was_read_and_not_answered_is_not_sent_again(model_folders: dict[str, Path]) -> None:
    with misbehave(Misbehaving(drops=("/request",))) as server:
        there = backend(model_folders["llama"], server)
        with pytest.raises(errors.RemoteError, match="cannot be reached"):
            there.generate([Row("Hi")], Sampling(3))
        assert [head.split()[1] for head in server.requests].count("/request") == 1


@pytest.mark.parametrize("path", ["/request", "/response/j", "/request/j"])
def test_a_request_without_an_answer_ends_in_time(path: str, model_folders: dict[str, Path]) -> None:
    answers = {"/response/j": [(200, said("RUNNING"))], "/request/j": [(200, '{"status": "not_found"}')]}
    with misbehave(Misbehaving(hangs=(path,), answers=answers)) as server:
        there = backend(model_folders["llama"], server)
        began = time.monotonic()
        job = "" if path == "/request" else there.left.submit([Row("Hi")], Sampling(3))
        ask = partial(there.cancel, job) if job else partial(there.generate, [Row("Hi")], Sampling(3))
        with pytest.raises(errors.RemoteError, match="does not answer: timed out"):
            ask()
        assert time.monotonic() - began < QUICK.connect + QUICK.answer + 2
        assert [head.split()[1] for head in server.requests].count(path) == 1


DONE = [*RUNNING, token(0, 72), said("COMPLETED", data="URL/result")]


def result(*ids: int) -> bytes:
    """What a job of one row saved that made these tokens, as it lies in the server's store."""
    made = io.BytesIO()
    torch.save({"edited": [0] * len(ids), "tokens": [[i] for i in ids]}, made)
    return zstandard.ZstdCompressor().compress(made.getvalue())


@pytest.mark.parametrize(
    ("behaviour", "says", "tries"),
    [
        (Misbehaving(hangs=("/result",)), "did not come from URL within 1 seconds", 1),
        (Misbehaving(drips=("/result",)), "did not come from URL within 1 seconds", 1),
        (Misbehaving(breaks=["/result"] * 9), "could not be fetched from URL: peer closed", len(PAUSES) + 1),
        (
            Misbehaving(drops=("/result",)),
            "could not be fetched from URL: Server .* response",
            len(PAUSES) + 1,
        ),
    ],
    ids=["hangs", "drips", "breaks off", "has no beginning"],
)
def test_a_result_that_does_not_arrive_is_said_in_time_and_its_job_is_sent_once(
    behaviour: Misbehaving,
    says: str,
    tries: int,
    model_folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "PAUSES", (0.05,) * len(PAUSES))
    behaviour = replace(behaviour, frames=DONE, answers={"/result": [(200, result(72, 73))]})
    with misbehave(behaviour) as server:
        there = backend(model_folders["llama"], server)
        began = time.monotonic()
        says = rf"the job's result {says.replace('URL', server.url)}[^.]*\. Of a text the tokens that had come are kept"
        with pytest.raises(errors.RemoteError, match=says) as caught:
            there.generate([Row("Hi")], Sampling(3))
        assert time.monotonic() - began < QUICK.result + 2
        assert [(a.token_ids, a.finish) for a in caught.value.generations] == [((72,), "cancelled")]  # type: ignore[attr-defined]
        assert there.job.stage == "failed"
        assert (server.asked().count("/request"), server.asked().count("/result")) == (1, tries)


def test_a_result_that_broke_off_once_is_fetched_again_and_its_job_is_not_sent_again(
    model_folders: dict[str, Path],
) -> None:
    answers = {"/result": [(200, result(72, 73))]}
    with misbehave(Misbehaving(frames=DONE, answers=answers, breaks=["/result"])) as server:
        answer = backend(model_folders["llama"], server).generate([Row("Hi")], Sampling(2))[0]
        assert (answer.token_ids, answer.finish) == ((72, 73), "length")
        assert (server.asked().count("/request"), server.asked().count("/result")) == (1, 2)


@pytest.mark.parametrize("how", ["hangs", "drips"])
def test_a_connection_for_a_job_that_is_never_made_is_said_in_time_and_no_job_is_sent(
    how: str, model_folders: dict[str, Path]
) -> None:
    with misbehave(replace(Misbehaving(), **{how: ("/subscribe",)})) as server:
        there = backend(model_folders["llama"], server)
        began = time.monotonic()
        with pytest.raises(errors.RemoteError, match="does not answer: .*(timed out|within 3 seconds)"):
            there.generate([Row("Hi")], Sampling(3))
        assert time.monotonic() - began < QUICK.connect + QUICK.answer + 1
        assert there.job.stage == "failed"
        assert server.asked() == ["/status", "/subscribe"]


@pytest.mark.parametrize(
    "behaviour",
    [
        Misbehaving(hangs=("/subscribe",)),
        Misbehaving(session=None),
        Misbehaving(frames=RUNNING[:1]),
        Misbehaving(frames=DONE[-1:], drips=("/result",)),
    ],
    ids=["connecting", "first word", "queued", "fetching"],
)
def test_cancel_works_at_every_stage(behaviour: Misbehaving, model_folders: dict[str, Path]) -> None:
    cancel = threading.Event()
    with misbehave(behaviour) as server:
        there = NdifBackend(model_folders["llama"], host=server.url)  # with all of its patience
        threading.Timer(0.5, cancel.set).start()
        began = time.monotonic()
        answer = there.generate([Row("Hi")], Sampling(3), cancel=cancel)[0]
        assert (answer.finish, answer.token_ids, there.job.stage) == ("cancelled", (), "cancelled")
        assert time.monotonic() - began < 3


def test_a_job_that_is_cancelled_while_it_is_sent_is_ended_once_it_has_arrived(
    model_folders: dict[str, Path],
) -> None:
    """As each text of a slider that moves on: on a slow line a job is on its way for long."""
    cancel = threading.Event()
    with misbehave(Misbehaving(frames=RUNNING, late={"/request": 1.5})) as server:
        there = NdifBackend(model_folders["llama"], host=server.url)
        threading.Timer(0.7, cancel.set).start()
        began = time.monotonic()
        answer = there.generate([Row("Hi")], Sampling(3), cancel=cancel)[0]
        assert (answer.finish, answer.token_ids) == ("cancelled", ())
        assert time.monotonic() - began < 1.4
        assert "/request" in server.asked()
        end = time.monotonic() + 10
        while not any(head.startswith("DELETE /request/j ") for head in server.requests):
            assert time.monotonic() < end, "the job is left with the server"
            time.sleep(0.05)


@pytest.mark.parametrize(
    "behaviour", [Misbehaving(session=None), Misbehaving(frames=RUNNING[:1]), Misbehaving(frames=RUNNING)]
)
def test_work_of_the_panel_that_is_cancelled_leaves_no_job(
    behaviour: Misbehaving, model_folders: dict[str, Path]
) -> None:
    """Also where the verb itself takes no cancel."""
    worker, ended = Worker(), threading.Event()
    with misbehave(behaviour) as server:
        there = NdifBackend(model_folders["llama"], host=server.url)  # with all of its patience

        def ask(_: threading.Event) -> None:
            try:
                there.score([Row("Hi")])
            finally:
                ended.set()

        task = worker.background(ask)
        end = time.monotonic() + 10
        while behaviour.session and there.job.stage in ("none", "sending"):
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)
        task.cancel()
        assert ended.wait(2), "it waits on"
        assert worker.join(2)
        assert there.job.stage == "cancelled"
        end = time.monotonic() + 5  # the server is told by a thread of its own
        while behaviour.session and not any(head.startswith("DELETE") for head in server.requests):
            assert time.monotonic() < end
            time.sleep(0.05)
    worker.close()


def test_a_connection_is_closed_once_its_job_is_over(model_folders: dict[str, Path]) -> None:
    """The server leaves it open: neither its thread nor the one that listens here may wait for the other."""
    with misbehave(Misbehaving(frames=[*RUNNING, said("ERROR", "no")])) as server:
        there = backend(model_folders["llama"], server)
        before = threading.active_count()
        for _ in range(5):
            with pytest.raises(errors.RemoteError):
                there.generate([Row("Hi")], Sampling(3))
        end = time.monotonic() + 5
        while threading.active_count() > before:
            assert time.monotonic() < end, threading.enumerate()
            time.sleep(0.02)


def test_the_place_in_the_queue_is_told(model_folders: dict[str, Path]) -> None:
    told: list[JobStatus] = []
    with misbehave(Misbehaving(frames=RUNNING, close=True)) as server:
        there = backend(model_folders["llama"], server)
        there.watchers.append(told.append)
        with pytest.raises(errors.RemoteError):
            there.generate([Row("Hi")], Sampling(3))
    assert [s.stage for s in told] == ["sending", "received", "queued", "dispatched", "running", "failed"]
    assert told[2].position == 2
    assert str(told[2]).startswith("queued at position 2")
    assert told[-1].id == "j"


def test_a_pickle_of_the_server_runs_nothing_here(model_folders: dict[str, Path], tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    torch.save({"id": "j", "status": "COMPLETED", "data": Evil()}, tmp_path / "frame")
    evil = Misbehaving(frames=[*RUNNING, (tmp_path / "frame").read_bytes()])
    with misbehave(evil) as server, pytest.raises(errors.RemoteError, match="not NDIF's protocol"):
        backend(model_folders["llama"], server).generate([Row("Hi")], Sampling(3))
    assert not (tmp_path / "ran").exists()


@pytest.mark.ndif
@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back(model_folders: dict[str, Path], ndif_server: object) -> None:
    """Its worker in the middle of a job, then its API: an error in words each time, and the same lab works on."""
    with serve([model_folders["llama"]], threads=1) as server:
        lab = sl.Lab(model_folders["llama"], host=server.url)
        before = lab.generate("Hi", max_new_tokens=5)
        seen: list[Token] = []

        def kill(tokens: list[Token]) -> None:
            if not seen:
                server.processes["worker"].kill()
                server.processes["worker"].wait()
                assert server.revive()
            seen.extend(tokens)

        with pytest.raises(errors.RemoteError, match="lost the job while it ran"):
            lab.run([Row("Another")], Sampling(200), on_tokens=kill)
        assert seen
        assert lab.generate("Third", max_new_tokens=5).finish
        server.kill("api")
        with pytest.raises(errors.RemoteError, match="cannot be reached"):
            lab.generate("Fourth", max_new_tokens=5)
        assert lab.generate("Hi", max_new_tokens=5) is before, "what was answered is kept"
        server.start("api")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                assert lab.generate("Fourth", max_new_tokens=5).finish
                break
            except errors.RemoteError:
                time.sleep(1)
        assert lab.generate("Fourth", max_new_tokens=5).finish
