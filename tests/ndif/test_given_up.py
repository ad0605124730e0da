"""A job that nobody waits for any more is ended on its server, and whoever listens to a job ends none."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
from misbehaving import Misbehaving, misbehave
from test_troubles import DONE, RUNNING, backend, result, said, token

from steerlab import Row, Sampling, errors
from steerlab.backends.ndif.messages import JobStatus


def ended(server: Misbehaving) -> bool:
    """Whether the server was told to end the job."""
    return any(head.startswith("DELETE /request/j ") for head in server.requests)


@pytest.mark.parametrize(
    "behaviour",
    [
        Misbehaving(frames=RUNNING[:1]),
        Misbehaving(frames=RUNNING),
        Misbehaving(frames=RUNNING, close=True),
        Misbehaving(frames=[*RUNNING, "rubbish"]),
        Misbehaving(frames=[*RUNNING, token(0, 72).replace("72", "x")]),
    ],
    ids=["queued for too long", "running for too long", "the connection is lost", "rubbish", "an odd line"],
)
def test_a_job_that_is_given_up_here_is_ended_there(
    behaviour: Misbehaving, model_folders: dict[str, Path]
) -> None:
    with misbehave(behaviour) as server:
        with pytest.raises(errors.RemoteError):
            backend(model_folders["llama"], server).generate([Row("Hi")], Sampling(3))
        end = time.monotonic() + 5  # a thread of its own tells the server
        while not ended(server):
            assert time.monotonic() < end, "it runs on there"
            time.sleep(0.02)


@pytest.mark.parametrize("last", [said("ERROR", "no"), said("COMPLETED", data="URL/gone")])
def test_a_job_that_has_ended_is_not_ended_again(last: str, model_folders: dict[str, Path]) -> None:
    with misbehave(Misbehaving(frames=[*RUNNING, last])) as server:
        with pytest.raises(errors.RemoteError):
            backend(model_folders["llama"], server).generate([Row("Hi")], Sampling(3))
        time.sleep(0.3)
        assert not ended(server)


def test_a_listener_that_raises_costs_no_job(
    model_folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    def listener(status: JobStatus) -> None:
        raise KeyError(status.id)

    heard: list[str] = []
    with misbehave(Misbehaving(frames=DONE, answers={"/result": [(200, result(72, 73))]})) as server:
        there = backend(model_folders["llama"], server)
        there.watchers += [listener, lambda status: heard.append(status.stage)]
        with caplog.at_level(logging.ERROR):
            [answer] = there.generate([Row("Hi")], Sampling(2))
        assert answer.token_ids == (72, 73)
        assert heard[-1] == "completed", "the others are told"
        assert not ended(server)
    assert "listener" in caplog.text
    assert "KeyError" in caplog.text
