"""Jobs on a server, in the panel: the one that its header tells of, and the list under it, where each can be ended.

Each answer of the list asks the server, and none runs the model: they wait for nothing but the network, on threads of
their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from steerlab.lab import Lab
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.protocol import Job, KernelMessage, Wire

if TYPE_CHECKING:
    from steerlab.backends.ndif.messages import JobStatus

NO_JOB = Job(stage="")
SHOWN = 20  # of the newest; `lab.jobs()` has them all


class NewestJob:
    """Follows what a server says of its jobs, and tells of the one that moved last, until it is over or nobody waits
    for it any more.
    """

    def __init__(self, tell: Callable[[KernelMessage], None]) -> None:
        self._tell = tell
        self._jobs: dict[str, Job] = {}  # by their ids, in the order in which they moved
        self._lock = threading.Lock()  # each thread that waits for a job tells of it
        self.told = NO_JOB

    def follow(self, status: JobStatus) -> None:
        """A server said where a job is, or that it still is there; one that has been sent has an id."""
        with self._lock:
            self._move(status)
            newest = next(reversed(self._jobs.values()), NO_JOB)
            if newest != self.told:
                self.told = newest
                self._tell(newest)

    def _move(self, status: JobStatus) -> None:
        gone = status.over or not status.awaited
        known = self._jobs.get(status.id)
        if known is None:
            self._jobs.pop("", None)  # it has an id now
        elif gone or (known.stage, known.position) != (status.stage, status.position):
            del self._jobs[status.id]
        if not gone:
            seconds = status.seconds if status.loading is None else status.loading
            self._jobs[status.id] = Job(
                stage=status.stage,
                position=status.position,
                seconds=int(seconds),
                usual=None if status.usual is None else round(status.usual),
            )


class JobsQuestion(Wire):
    """Where are this lab's jobs?"""

    kind: Literal["jobs"] = "jobs"
    at: int
    """How often it was asked: what has changed meanwhile is asked about anew."""


class ListedJob(Wire):
    """A job on the server."""

    id: str
    stage: str
    """NDIF's own in lower case, or "completed", "failed", "cancelled", "forgotten", "unknown"."""
    position: int | None
    """Its place in the queue, from 1, where the server said one."""
    seconds: float
    """Since it was sent."""
    rows: int | None
    left: bool
    """Whether it goes on without this kernel, and is fetched by its id."""
    over: bool
    code: str
    """That fetches its answers; empty where there are none to come."""


class JobsAnswer(Wire):
    """Those that run for this lab, then the newest that were left; and how many there are besides."""

    jobs: list[ListedJob]
    more: int


class EndJobQuestion(Wire):
    """End this job."""

    kind: Literal["end-job"] = "end-job"
    id: Annotated[str, Field(max_length=80)]


class EndJobAnswer(Wire):
    """It is ended, or soon will be."""

    id: str


def answer(lab: Lab, _question: JobsQuestion, _tell: Tell) -> JobsAnswer:
    """List the lab's jobs."""
    jobs = lab.jobs()
    return JobsAnswer(
        jobs=[
            ListedJob(
                id=job.id,
                stage=job.stage,
                position=job.position,
                seconds=job.seconds,
                rows=job.rows,
                left=job.left,
                over=job.over,
                code=_code(job),
            )
            for job in jobs[:SHOWN]
        ],
        more=len(jobs[SHOWN:]),
    )


def _code(job: JobStatus) -> str:
    lost = job.stage in ("cancelled", "failed", "forgotten")
    return f"lab.fetch({job.id!r})" if job.left and not lost else ""


def end(lab: Lab, question: EndJobQuestion, _tell: Tell) -> EndJobAnswer:
    """End one."""
    lab.cancel(question.id)
    return EndJobAnswer(id=question.id)


HANDLERS: list[Handler[Any, Any]] = [
    Handler(JobsQuestion, JobsAnswer, answer, lane="apart"),
    Handler(EndJobQuestion, EndJobAnswer, end, lane="apart"),
]
