"""The verbs of a Lab whose model is on a server: its jobs, and what else is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from steerlab.errors import ModelError
from steerlab.generations import Generation, Sampling
from steerlab.measuring import Measuring
from steerlab.progress import DELAY, InCell
from steerlab.rows import Row, checked_rows
from steerlab.worker import goes_first, on_a_worker

if TYPE_CHECKING:
    from steerlab.backends.ndif.backend import NdifBackend
    from steerlab.backends.ndif.messages import JobStatus, RemoteModel


class JobLines:
    """Shows in a cell where its jobs on a server are, once they have taken a second: a line each, gone when it is
    over. What a panel asks, the panel shows.
    """

    def __init__(self) -> None:
        self._lines: dict[str, InCell] = {}

    def __call__(self, status: JobStatus) -> None:
        """A job has moved, or goes on as it was."""
        if on_a_worker() or status.left:
            return
        line = self._lines.get(status.id)
        if status.over:
            if line is not None:
                self._lines.pop(status.id).close()
        elif line is None and status.id and status.seconds > DELAY:
            self._lines[status.id] = line = InCell(bar_format="{desc}")
        if line is not None and not status.over:
            line.bar.set_description_str(f"job {status.id[:8]}: {status}")


class Remote(Measuring):
    """What a Lab has of `backends.ndif`."""

    @property
    def job(self) -> JobStatus | None:
        """Where the latest job on a server is: its stage, place in the queue and id. None for a model that is here."""
        return getattr(self.backend, "job", None)

    def remote_models(self) -> dict[str, RemoteModel]:
        """What the server has, by repository: the state of each model, its replicas, parameters and dtype. For a model
        that is here, what the configured server has.
        """
        from steerlab.backends.ndif.backend import NdifBackend
        from steerlab.backends.ndif.wire import remote_models

        return self.backend.models() if isinstance(self.backend, NdifBackend) else remote_models()

    @goes_first
    def submit(self, rows: Sequence[Row], sampling: Sampling | None = None) -> str:
        """Leave rows with the server to be answered, and return the job's id at once. The kernel may be ended
        meanwhile: `fetch` takes the id from any kernel on this machine, and `jobs` has it. More than 64 rows are
        several jobs on the server, under one id. sampling: by default `lab.sampling`, which the panel sets, too.
        """
        rows = checked_rows(rows)
        self._tell_conflicts(row.recipe for row in rows)
        return self._server().left.submit(rows, sampling or self.sampling)

    def fetch(self, job_id: str, *, timeout: float | None = None) -> list[Generation] | None:
        """The answers of a job that `submit` left, in the order of its rows. Waits for them, at most `timeout` seconds
        (0 is a look); None where they are not there yet. `lab.job` says where the job is. Where a part of it failed,
        the RemoteError has the answers of the others in its `generations`.
        """
        return self._server().left.fetch(job_id, timeout=timeout)

    def jobs(self) -> list[JobStatus]:
        """This lab's jobs on its server, each with its id, stage, place in the queue, seconds since it was sent, and
        rows: those that run for it now, then those that `submit` left for its model from this machine, newest first.
        """
        return self._server().jobs()

    def cancel(self, job_id: str) -> None:
        """End a job of `jobs`. One that runs for this lab ends here within a twentieth of a second, and keeps the
        tokens that came. One that was left ends where the server offers that: `steerlab serve-ndif` does, the hosted
        NDIF does not, which is an error that says so.
        """
        self._server().cancel(job_id)

    def _server(self) -> NdifBackend:
        from steerlab.backends.ndif.backend import NdifBackend

        if not isinstance(self.backend, NdifBackend):
            raise ModelError(
                f"{self.backend.info.name} is in this kernel, and jobs are left with a server",
                "Use lab.run here, or connect: Lab(model, remote=True).",
            )
        return self.backend
