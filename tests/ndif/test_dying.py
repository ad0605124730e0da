"""A worker that dies: whose job it was is told, and everybody else is served by the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ndif_server import SERVED, far_lab, serve

from steerlab import Generation, Lab, Row, Sampling, errors
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.backends.ndif.jobs import Payload
from steerlab.backends.ndif.messages import JobStatus
from steerlab.backends.ndif.waiting import Patience
from steerlab.serving.server import Server

pytestmark = [pytest.mark.ndif, pytest.mark.slow]

SECONDS = 100  # more than a worker takes to start and to load a small model
SLOW = [Row(f"Story {i:02}") for i in range(64)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def server(ndif_server: Server, model_folders: dict[str, Path]) -> Iterator[Server]:
    with serve([model_folders[SERVED[0]]], threads=1, lazy=True, job_seconds=60) as own:
        yield own


@pytest.fixture
def lab(server: Server, model_folders: dict[str, Path]) -> Lab:
    lab = far_lab(server, model_folders[SERVED[0]])
    lab.backend.patience = Patience(queued=SECONDS, deploying=SECONDS)  # type: ignore[attr-defined]
    return lab


def die(server: Server) -> None:
    """End the worker, and start another."""
    server.processes["worker"].kill()
    server.processes["worker"].wait()
    assert server.revive()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def stages(lab: Lab) -> list[str]:
    """Of all jobs, the oldest last."""
    return [job.stage for job in lab.jobs()]


def test_whose_model_was_loaded_when_the_worker_died_is_told(server: Server, lab: Lab) -> None:
    die(server)  # the next one has no model yet
    deaths: list[JobStatus] = []

    def kill(status: JobStatus) -> None:
        if status.stage == "deploying" and not deaths:
            deaths.append(status)
            die(server)

    lab.backend.watchers.append(kill)  # type: ignore[attr-defined]
    with pytest.raises(errors.RemoteError, match="lost the job while it ran"):
        lab.generate("Hi", max_new_tokens=2)
    assert deaths
    assert lab.generate("Hi", max_new_tokens=2).finish != "cancelled"


def test_those_who_wait_are_served_in_turn_by_the_next_worker(server: Server, lab: Lab) -> None:
    running, first, second = (lab.submit(rows, Sampling(200)) for rows in (SLOW, SLOW, [Row("Two")]))
    answers: list[Generation] = []
    asks = threading.Thread(target=lambda: answers.extend(lab.run([Row("Three")], Sampling(3))))
    asks.start()
    until(lambda: stages(lab) == ["queued", "queued", "queued", "running"])
    die(server)
    with pytest.raises(errors.RemoteError, match="lost the job while it ran"):
        lab.fetch(running, timeout=SECONDS)
    assert lab.fetch(second, timeout=SECONDS)
    assert stages(lab)[-2:] == ["completed", "failed"], "what came before it was answered before it"
    assert len(lab.fetch(first, timeout=0) or []) == len(SLOW)
    asks.join(SECONDS)
    assert [len(answer.token_ids) > 0 for answer in answers] == [True]

    die(server)
    assert lab.generate("Four", max_new_tokens=3).finish != "cancelled"
    looks = [lab.backend._wire.look(job) for job in (running, first, second)]  # type: ignore[attr-defined]
    assert [look.stage for look in looks] == ["failed", "completed", "completed"], "none is run again"


def asserting(model: Any) -> bytes:
    """A job that fails as one does that breaks the CUDA context."""
    payload = Payload()
    with model.trace(input_ids=torch.ones(1, 1, dtype=torch.long), backend=payload):
        raise RuntimeError("CUDA error: device-side assert triggered")
    return payload.bytes


def test_a_broken_cuda_context_ends_the_worker_once_its_job_is_told(server: Server, lab: Lab) -> None:
    there = lab.backend
    assert isinstance(there, NdifBackend)
    job = there._wire.submit(there._packer.envelope(), asserting(there.model))
    assert server.processes["worker"].wait(SECONDS) == 70
    assert server.revive()
    assert lab.generate("And now?", max_new_tokens=3).finish != "cancelled"
    told = there._wire.look(job)
    assert told
    assert "device-side assert triggered" in told.description
