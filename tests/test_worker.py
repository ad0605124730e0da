from __future__ import annotations

import threading

import pytest

from steerlab.worker import Worker


def test_the_newest_job_wins_and_the_running_one_is_told_to_end() -> None:
    worker, ran, started = Worker(), [], threading.Event()

    def long(cancel: threading.Event) -> None:
        started.set()
        ran.append(("long", cancel.wait(10)))

    worker.submit(long)
    assert started.wait(5)
    for i in range(5):
        worker.submit(lambda _, i=i: ran.append(("job", i)))  # type: ignore[misc]
    assert worker.join(5)
    assert ran[0] == ("long", True)
    assert ran[-1] == ("job", 4)
    assert len(ran) == 2, "jobs that were overtaken before they began never ran"


def test_cancel_ends_the_running_job_and_forgets_the_waiting_one() -> None:
    worker, ran, started = Worker(), [], threading.Event()

    def long(cancel: threading.Event) -> None:
        started.set()
        cancel.wait(10)
        ran.append("ended")

    worker.submit(long)
    assert started.wait(5)
    worker.submit(lambda _: ran.append("waiting"))
    worker.cancel()
    assert worker.join(5)
    assert ran == ["ended"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_job_that_raises_does_not_end_the_service() -> None:
    worker, ran = Worker(), []

    def broken(_: threading.Event) -> None:
        raise RuntimeError("a fault in the job")

    worker.submit(broken)
    assert worker.join(5)
    worker.submit(lambda _: ran.append("next"))
    assert worker.join(5)
    assert ran == ["next"]


def test_jobs_run_on_one_daemon_thread() -> None:
    worker, threads = Worker(), []
    for _ in range(3):
        worker.submit(lambda _: threads.append(threading.current_thread()))
        assert worker.join(5)
    assert len(set(threads)) == 1
    assert threads[0].daemon
    assert threads[0] is not threading.current_thread()
