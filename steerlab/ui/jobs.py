"""The list of jobs under the panel's header: where each of this lab's jobs on its server is, and how to end one.

Each answer asks the server, and none runs the model: they wait for nothing but the network, on threads of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from steerlab.lab import Lab
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.protocol import Wire

if TYPE_CHECKING:
    from steerlab.backends.ndif.messages import JobStatus

SHOWN = 20  # of the newest; `lab.jobs()` has them all


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
