"""Jobs that are left with a server: they go on without this kernel, and any kernel on this machine can fetch them.

More rows than one job takes are several jobs there and one here, named by the id of the first.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from steerlab.backends.ndif import kept, troubles
from steerlab.backends.ndif.kept import Kept
from steerlab.backends.ndif.messages import OVER, JobStatus, Update
from steerlab.backends.ndif.packing import Packer
from steerlab.backends.ndif.texts import Heard
from steerlab.backends.ndif.waiting import Cancelled, Stop
from steerlab.backends.ndif.wire import Wire
from steerlab.errors import ModelError, RemoteError
from steerlab.generations import Generation, Sampling
from steerlab.rows import Row

FORGOTTEN = 3600.0  # seconds after which a job that the server knows nothing of is not asked about any more
PAUSE = 1.0  # seconds between two looks at a job that is waited for
ON_ITS_WAY = 5.0  # seconds that a job may take into the server's queue
RETRY = 0.1  # seconds between two tries to end one that is on its way there


class Left:
    """The jobs that were left with a server for one model. tell: is told where one is that is fetched."""

    def __init__(self, wire: Wire, packer: Packer, tell: Callable[[JobStatus], None]) -> None:
        self._wire, self._packer, self._tell = wire, packer, tell

    def submit(self, rows: Sequence[Row], sampling: Sampling) -> str:
        """Leave rows with the server to be answered, and return the job's id at once. What was asked is kept on this
        machine (`kept`), so that another kernel can fetch the answers. A job on the server has `batch_rows` rows.
        """
        if not rows:
            raise ModelError("a job without rows was to be submitted", "Give one Row or more.")
        encoded = self._packer.encode(rows)
        self._packer.plan([row.recipe for row in rows])
        parts: dict[str, list[int]] = {}
        try:
            for batch in self._packer.batches(encoded, sampling):
                heard = self._heard(batch, rows, encoded, sampling)
                parts[self._wire.submit(self._packer.envelope(), heard.payload())] = batch
            return kept.keep(parts, self._packer.there.source, self._packer.info, rows, sampling)
        except BaseException:
            self._drop(parts)  # half a job, or one whose id is not kept, is of no use
            raise

    def fetch(
        self, job_id: str, *, timeout: float | None = None, cancel: threading.Event | None = None
    ) -> list[Generation] | None:
        """The answers of a job that was left, waiting for them at most `timeout` seconds (None for as long as it takes,
        0 for a look); None where they are not there yet. Raises RemoteError where it was cancelled, or a part of it
        failed: with the answers of the others that are there in its `generations`.
        """
        job, rows, sampling = kept.read(job_id, self._packer.info)
        if job.stage == "cancelled":
            raise troubles.ended(self._wire.host, job.id)
        end = time.monotonic() + timeout if timeout is not None else None
        stop, status = Stop(cancel), None
        try:
            while True:
                said = self._said(job, stop, over=True)
                status = self._status(job, said)
                self._tell(replace(status, awaited=True))
                if status.stage == "cancelled":  # since it was read what is known of it
                    raise troubles.ended(self._wire.host, job.id)
                lost = status.stage == "unknown" and job.age > self._wire.patience.answer
                if lost or status.over:
                    return self._fetched(job, said, rows, sampling, stop)
                left = PAUSE if end is None else end - time.monotonic()
                if left <= 0:
                    return None
                stop.sleep(min(PAUSE, max(0.05, left)))
        except Cancelled:
            return None
        finally:
            if status:
                self._tell(status)  # nobody waits for it here any more

    def _fetched(
        self,
        job: Kept,
        said: dict[str, Update | None],
        rows: Sequence[Row],
        sampling: Sampling,
        stop: Stop,
    ) -> list[Generation]:
        """The answers of a job's parts, by the last words about them."""
        encoded = self._packer.encode(rows)
        answers: dict[int, Generation] = {}
        trouble: RemoteError | None = None
        for part, batch in job.parts.items():
            last = said[part]
            if last and last.stage in OVER:
                try:
                    answers |= self._answers(self._heard(batch, rows, encoded, sampling), last, stop)
                except RemoteError as error:  # the others' answers are wanted all the same
                    trouble = trouble or error
        if len(answers) < len(rows):
            trouble = trouble or troubles.unknown_job(self._wire.host, job.id)
            trouble.generations = [answers[i] for i in sorted(answers)]
            raise trouble
        return [answers[i] for i in range(len(rows))]

    def listed(self) -> list[JobStatus]:
        """Where they all are, newest first; the server is asked about those that are not known to be over."""
        return [self._status(job, self._said(job, Stop())) for job in kept.listed(self._packer.info)]

    def cancel(self, job_id: str) -> None:
        """End a job on the server, all of it. Raises RemoteError where that is not offered, or a part is not found."""
        job, _, _ = kept.read(job_id, self._packer.info)
        said = self._said(job, Stop())
        going = [part for part, last in said.items() if not (last and last.stage in OVER)]
        until, ended, trouble = time.monotonic() + ON_ITS_WAY, [], None
        for part in going:
            try:
                ended.append(self._end(job, part, until))
            except RemoteError as error:  # the others are to be ended all the same
                trouble = trouble or error
        if trouble:
            raise trouble
        if any(ended):
            kept.ended(job_id, "cancelled")
            status = self._status(replace(job, stage="cancelled"), {})
        else:  # all of it had ended by itself
            status = self._status(job, self._said(job, Stop()))
        self._tell(status)

    def _end(self, job: Kept, part: str, until: float) -> bool:
        """End a part of a job on the server; whether it had not ended by itself. One that is on its way from the
        server's door to its queue cannot be ended yet.
        """
        while not (ended := self._wire.end(part)):
            if ended is None:
                raise troubles.goes_on(self._wire.host, job.id)
            last = self._wire.look(part)
            if last and last.stage in OVER:
                return False
            if time.monotonic() > until:
                if last:
                    raise troubles.not_ended(self._wire.host, job.id, last.stage)
                raise troubles.unknown_job(self._wire.host, job.id)
            time.sleep(RETRY)
        return True

    def _heard(
        self, batch: list[int], rows: Sequence[Row], encoded: Sequence[list[int]], sampling: Sampling
    ) -> Heard:
        return Heard(self._packer, {i: rows[i] for i in batch}, [encoded[i] for i in batch], sampling)

    def _answers(self, heard: Heard, last: Update, stop: Stop) -> dict[int, Generation]:
        saved = self._wire.result(last, stop)
        for step in heard.heard(saved):
            if not heard.done:
                heard.hear(*step)
        return heard.answers()

    def _drop(self, parts: dict[str, list[int]]) -> None:
        """End jobs on the server, where it can be reached and offers that."""
        for part in parts:
            with contextlib.suppress(RemoteError):
                self._wire.end(part)

    def _said(self, job: Kept, stop: Stop, *, over: bool = False) -> dict[str, Update | None]:
        """The server's last words about the parts of a job. over: ask also where it is known to be over."""
        if job.stage and not over:
            return {}
        return {part: self._wire.look(part, stop) for part in job.parts}

    def _status(self, job: Kept, said: dict[str, Update | None]) -> JobStatus:
        """Where a job is, by the part that is least far; that it is over is written down."""
        stage, position = job.stage, None
        if said:
            found = [(one.stage if one else "unknown", one and one.position) for one in said.values()]
            waiting = [one for one in found if one[0] not in OVER]
            failed = [one for one in found if one[0] == "failed"]
            stage, position = (failed or waiting or found)[0]
            if stage == "unknown" and job.age > FORGOTTEN:
                stage = "forgotten"
            if stage in OVER and not (failed and waiting) and not job.stage:
                stage = kept.ended(job.id, stage)
        return JobStatus(stage, job.id, position, job.age, job.rows, left=True, awaited=False)
