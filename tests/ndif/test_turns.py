"""Jobs run in turn, and none of them costs those who wait more than its own time."""

from __future__ import annotations

import re
import threading
import time

import httpx
import pytest

from steerlab import Lab, Row, Sampling
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.backends.ndif.jobs import Payload
from steerlab.backends.ndif.waiting import Cancelled, Stop
from steerlab.serving.server import Server

pytestmark = [pytest.mark.ndif, pytest.mark.usefixtures("jobs_folder")]


def sleeping(there: NdifBackend, seconds: float, times: int) -> bytes:
    """A job that sleeps some times, and is not ended in the middle of one."""
    payload = Payload()
    with there.model.trace(**there._packer.blank(), backend=payload):
        import time

        for _ in range(times):
            time.sleep(seconds)
    return payload.bytes


def test_jobs_that_were_left_cost_the_others_no_more_than_themselves(ndif_server: Server, lab: Lab) -> None:
    there, n = lab.backend, 24
    assert isinstance(there, NdifBackend)
    before = ndif_server.log("store").read_text()
    first = there._wire.submit(there._packer.envelope(), sleeping(there, 0.1, 500))
    there.batch_rows = 1
    many = lab.submit([Row(f"Number {i}") for i in range(n)], Sampling(2))
    assert there._wire.end(first), "they had to wait"
    assert len(lab.fetch(many, timeout=120) or []) == n
    written = re.findall('"PUT /ndif-results/', ndif_server.log("store").read_text()[len(before) :])
    assert 4 * n <= len(written) <= 9 * n  # of each its words and its result, and three places of others


def test_a_job_that_takes_its_time_to_end_keeps_no_question_waiting(ndif_server: Server, lab: Lab) -> None:
    there = lab.backend
    assert isinstance(there, NdifBackend)
    wanted = lab.generate("Hello", max_new_tokens=5).token_ids
    payload, stop, running = sleeping(there, 6.0, 1), Stop(), threading.Event()

    def run() -> None:
        with pytest.raises(Cancelled):
            there._wire.run(
                there._packer.envelope(),
                payload,
                on_status=lambda status: running.set() if status.stage == "running" else None,
                on_line=lambda line: None,
                stop=stop,
            )

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(30)
    time.sleep(0.5)
    stop.set()
    thread.join(5)
    asked = []
    for _ in range(3):
        time.sleep(1.1)  # what the server says of itself is a second old
        began = time.monotonic()
        assert httpx.get(f"{ndif_server.url}/status", timeout=30, trust_env=False).status_code == 200
        asked.append(time.monotonic() - began)
    assert max(asked) < 1
    assert lab.generate("Hello", max_new_tokens=6).token_ids[:5] == wanted, "the next one begins after it"
