from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref

import pytest

from steerlab.backends.base import before_pass
from steerlab.backends.fake import FakeBackend
from steerlab.rows import Row
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
@pytest.mark.parametrize("fault", [RuntimeError, SystemExit, asyncio.CancelledError])
def test_a_job_that_raises_does_not_end_the_service(
    fault: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    worker, ran = Worker(), []

    def broken(_: threading.Event) -> None:
        raise fault("a fault in the job")

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


# --------------------------------------------------------------------------------------------------------- background


def wait(event: threading.Event) -> None:
    assert event.wait(5)


def test_background_work_waits_at_its_next_pass_while_the_foreground_is_busy() -> None:
    backend, worker, ran = FakeBackend(), Worker(), []
    first, go, foreground, release = (threading.Event() for _ in range(4))

    def sweep(_: threading.Event) -> None:
        backend.score([Row("a")])
        first.set()
        wait(go)
        backend.score([Row("b")])
        ran.append("sweep")

    def preview(_: threading.Event) -> None:
        foreground.set()
        wait(release)
        ran.append("preview")

    worker.background(sweep, "long")
    wait(first)
    worker.submit(preview)
    wait(foreground)
    go.set()
    assert not worker.join(0.1)
    assert ran == []
    release.set()
    assert worker.join(5)
    assert ran == ["preview", "sweep"]


def test_a_short_question_overtakes_long_work_that_runs() -> None:
    backend, worker, ran = FakeBackend(), Worker(), []
    began, asked = threading.Event(), threading.Event()

    def sweep(_: threading.Event) -> None:
        began.set()
        wait(asked)
        backend.score([Row("a")])
        ran.append("sweep")

    worker.background(sweep, "long")
    wait(began)
    worker.background(lambda _: ran.append("question"), "ask")
    asked.set()
    assert worker.join(5)
    assert ran == ["question", "sweep"]


def test_cancel_ends_background_work_at_its_next_pass_and_the_service_goes_on() -> None:
    backend, worker, ran = FakeBackend(), Worker(), []
    began, asked = threading.Event(), threading.Event()

    def sweep(cancel: threading.Event) -> None:
        began.set()
        wait(asked)
        try:
            backend.score([Row("a")])
        except Exception:
            ran.append("took it for a failure")
        ran.append("went on")

    task = worker.background(sweep, "long")
    waiting = worker.background(lambda _: ran.append("never"), "long")
    wait(began)
    task.cancel()
    waiting.cancel()
    asked.set()
    assert worker.join(5)
    assert ran == []
    worker.background(lambda _: ran.append("next"), "long")
    assert worker.join(5)
    assert ran == ["next"]


def test_cancel_reaches_background_work_that_waits_for_the_foreground() -> None:
    worker, release, foreground = Worker(), threading.Event(), threading.Event()

    def preview(_: threading.Event) -> None:
        foreground.set()
        wait(release)

    worker.submit(preview)
    wait(foreground)
    ran: list[str] = []
    task = worker.background(lambda _: ran.append("ran"))
    task.cancel()
    release.set()
    assert worker.join(5)
    assert ran == []


def test_idle_work_ends_where_something_is_asked() -> None:
    worker, began, ended = Worker(), threading.Event(), []

    def scrub(cancel: threading.Event) -> None:
        began.set()
        ended.append(cancel.wait(5))

    worker.background(scrub, "idle")
    wait(began)
    worker.background(lambda _: None, "ask")
    assert worker.join(5)
    assert ended == [True]


def test_the_foreground_does_not_wait_between_its_own_passes() -> None:
    backend, worker, ran = FakeBackend(), Worker(), []

    def preview(_: threading.Event) -> None:
        backend.score([Row("a")])
        ran.append("done")

    worker.submit(preview)
    assert worker.join(5)
    assert ran == ["done"]


def test_background_work_waits_for_what_runs_elsewhere_and_goes_first() -> None:
    backend, worker, ran = FakeBackend(), Worker(), []
    began, go = threading.Event(), threading.Event()

    def sweep(_: threading.Event) -> None:
        began.set()
        wait(go)
        backend.score([Row("a")])
        ran.append("sweep")

    worker.background(sweep, "long")
    wait(began)
    with worker.first():
        with worker.first():
            go.set()
            assert not worker.join(0.1)
        assert not worker.join(0.1)
        assert ran == []
    assert worker.join(5)
    assert ran == ["sweep"]


def test_a_short_question_is_answered_while_a_cell_runs_for_hours() -> None:
    backend, worker, ran = FakeBackend(), Worker(), []

    def question(_: threading.Event) -> None:
        backend.score([Row("a")])
        ran.append("question")

    with worker.first():
        worker.background(question, "ask")
        assert worker.join(5)
    assert ran == ["question"]


def test_a_cell_that_fails_holds_nothing_up_and_cancel_reaches_what_waits_for_it() -> None:
    backend, worker, ran = FakeBackend(), Worker(), []
    began, go = threading.Event(), threading.Event()

    def sweep(_: threading.Event) -> None:
        began.set()
        wait(go)
        backend.score([Row("a")])
        ran.append("sweep")

    task = worker.background(sweep, "long")
    wait(began)
    with worker.first():
        go.set()
        task.cancel()
        assert worker.join(5), "it ended while the cell still ran"
    with pytest.raises(KeyboardInterrupt), worker.first():
        raise KeyboardInterrupt
    worker.background(lambda _: ran.append("next"), "long")
    assert worker.join(5)
    assert ran == ["next"]


def test_work_of_the_worker_s_own_does_not_wait_for_itself() -> None:
    backend, worker, ran = FakeBackend(), Worker(), []

    def sweep(_: threading.Event) -> None:
        with worker.first():
            backend.score([Row("a")])
        ran.append("sweep")

    worker.background(sweep, "long")
    assert worker.join(5)
    assert ran == ["sweep"]


def test_a_closed_worker_ends_what_runs_and_takes_nothing_more() -> None:
    worker, ran, started = Worker(), [], threading.Event()

    def long(cancel: threading.Event) -> None:
        started.set()
        cancel.wait(10)
        ran.append("ended")
        worker.background(lambda _: ran.append("its own"))

    worker.submit(long)
    assert started.wait(5)
    worker.background(lambda _: ran.append("waiting"))
    worker.close()
    assert worker.join(5)
    assert worker.background(lambda _: ran.append("late")).cancelled
    assert worker.join(5)
    assert ran == ["ended"]


def threads_of(worker: Worker) -> list[threading.Thread]:
    threads: list[threading.Thread] = []
    worker.submit(lambda _: threads.append(threading.current_thread()))
    worker.background(lambda _: threads.append(threading.current_thread()), "long")
    assert worker.join(5)
    return threads


def ends(thread: threading.Thread) -> bool:
    thread.join(5)
    return not thread.is_alive()


def test_the_threads_of_a_closed_worker_end() -> None:
    worker, began, go = Worker(), threading.Event(), threading.Event()
    threads = threads_of(worker)

    def job(_: threading.Event) -> None:
        began.set()
        wait(go)

    worker.background(job, "long")
    wait(began)
    worker.close()
    assert ends(threads[0])
    assert threads[1].is_alive(), "it is in the middle of a job"
    go.set()
    assert ends(threads[1])
    worker.close()


def test_a_worker_that_nobody_has_any_more_is_freed_and_its_threads_end() -> None:
    worker = Worker()
    threads, freed = threads_of(worker), weakref.ref(worker)
    del worker
    gc.collect()
    assert freed() is None
    assert all(map(ends, threads))


AT_WORK = """
import faulthandler, threading, torch
faulthandler.dump_traceback_later(50)  # where each thread is, if it hangs
from steerlab.backends.base import before_pass
from steerlab.worker import Worker

def work(cancel):
    while not cancel.is_set():
        before_pass.get()()
        torch.softmax(torch.randn(300, 300), -1)
        started.set()

workers = [Worker() for _ in range(2)]
for worker in workers:
    started = threading.Event()
    worker.background(work, "idle")
    started.wait(10)
"""


def test_a_program_can_end_while_a_worker_works() -> None:
    program = subprocess.Popen([sys.executable, "-c", AT_WORK], stderr=subprocess.PIPE, text=True)
    try:
        _, said = program.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        program.kill()
        _, said = program.communicate()
    assert (program.returncode, said) == (0, "")


def test_what_a_background_job_submits_does_not_wait_for_itself() -> None:
    worker, ran = Worker(), []

    def first(_cancel: threading.Event) -> None:
        before_pass.get()()
        ran.append("first")

    worker.background(lambda _: worker.submit(first))
    assert worker.join(5)
    assert ran == ["first"]
