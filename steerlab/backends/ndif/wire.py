"""Carries payloads to an NDIF server and brings back what it says: NDIF's protocol, with a limit on every wait.

The client of nnsight waits for ever on a server that is silent. Here each wait has a limit of our own, can be stopped
(`waiting`), and ends in an error in words (`troubles`). A job is sent once: only what comes before a server has
accepted it is tried again (`requests`).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import httpx
import websocket
from nnsight.schema.config import CONFIG
from nnsight.schema.response import Status

from steerlab.backends.ndif import loads, messages, troubles
from steerlab.backends.ndif.keys import find_key
from steerlab.backends.ndif.messages import JobStatus, Update
from steerlab.backends.ndif.requests import Requests
from steerlab.backends.ndif.travelling import MARK
from steerlab.backends.ndif.waiting import Frames, Patience, Stop
from steerlab.errors import RemoteError

NOT_OFFERED = (404, 405)  # what a server answers to a question that it does not have
PING = 5.0  # seconds of silence, after which the server is asked whether it is there

OnStatus = Callable[[JobStatus], None]
OnLine = Callable[[list[Any]], None]


class Wire(Requests):
    """The way to a server, and back. ends: whether it ends jobs for who sent them; None where that was not seen."""

    ends: bool | None = None

    # -------------------------------------------------------------------------------------------- jobs that we wait for

    def run(
        self,
        envelope: dict[str, Any],
        payload: bytes,
        *,
        on_status: OnStatus,
        on_line: OnLine,
        stop: Stop | None = None,
    ) -> dict[str, Any]:
        """Run a job to its end and return what it saved. on_line: receives each line that `travelling.tell` printed.
        Raises Cancelled where it was stopped. Of a job that nobody waits for any more the server is told, where it
        listens to that.
        """
        status, stop, ended = JobStatus("sending"), stop or Stop(), False
        started = time.monotonic()

        def now(**changes: Any) -> None:
            nonlocal status
            status = replace(status, seconds=time.monotonic() - started, **changes)
            on_status(status)

        now()
        try:
            with self._subscription(stop) as (session, frames):
                received = self._post({**envelope, "session_id": session}, payload, stop)
                now(stage="received", id=received.id)
                for update in self._updates(frames, stop, lambda: status.stage, now):
                    if update.status is Status.LOG:
                        if update.description.startswith(MARK):
                            on_line(self._json(update.description[len(MARK) :]))
                        continue
                    ended = update.status in (Status.ERROR, Status.COMPLETED)
                    if update.status is Status.ERROR:
                        raise self._failed(update.description)
                    if update.status is Status.COMPLETED:
                        now(stage="fetching", position=None)
                        saved = self._saved(update.data, stop)
                        now(stage="completed")
                        return saved
                    now(stage=update.stage, position=update.position)
            raise AssertionError("a job ends with COMPLETED or an error")
        except BaseException as error:  # a cell that is interrupted, too
            if status.id and not ended:
                threading.Thread(target=self._give_up, args=[status.id], daemon=True).start()
            now(stage="failed" if isinstance(error, RemoteError) else "cancelled")
            raise

    # ----------------------------------------------------------------------------------------------- jobs that are left

    def submit(self, envelope: dict[str, Any], payload: bytes) -> str:
        """Send a job and leave it there; returns its id."""
        return self._post(envelope, payload, Stop()).id

    def look(self, job_id: str, stop: Stop | None = None) -> Update | None:
        """The last word about a job that was left; None where the server has not said any yet, or does no more."""
        stop = stop or Stop()
        answer = self._again(lambda: self._send("GET", f"{self.host}/response/{job_id}"), stop)
        if answer.status_code == 404:
            return None
        self._check(answer)
        return self._read(messages.update, self._text(answer))

    def result(self, update: Update, stop: Stop | None = None) -> dict[str, Any]:
        """What a job saved, by its last word. Raises RemoteError where it failed."""
        if update.status is Status.ERROR:
            raise self._failed(update.description)
        return self._saved(update.data, stop or Stop())

    def end(self, job_id: str) -> bool | None:
        """End a job, queued or running; whether the server knew it. None where this server does not offer that: NDIF
        itself leaves it to its operators, `steerlab serve-ndif` to whoever knows the id.
        """
        answer = self._again(lambda: self._send("DELETE", self._place(job_id)), Stop())
        self.ends = answer.status_code not in NOT_OFFERED
        if not self.ends:
            return None
        self._check(answer)
        said = self._json(self._text(answer))
        return isinstance(said, dict) and said.get("status") in ("removed_from_queue", "cancelled_execution")

    def _give_up(self, job_id: str) -> None:
        """Tell the server that nobody waits for a job, unless it is known not to listen. Nobody waits for this."""
        with contextlib.suppress(httpx.HTTPError, OSError):
            if self.ends is not False:
                self.ends = self._send("DELETE", self._place(job_id)).status_code not in NOT_OFFERED

    def _forget(self, answer: httpx.Response) -> None:
        """End the job that an answer has accepted."""
        with contextlib.suppress(RemoteError):
            if answer.status_code == 200:
                self._give_up(self._read(messages.update, self._text(answer)).id)

    def _place(self, job_id: str) -> str:
        return f"{self.host}/request/{job_id}"

    # ----------------------------------------------------------------------------------------------------- the protocol

    @contextlib.contextmanager
    def _subscription(self, stop: Stop) -> Iterator[tuple[str, Frames]]:
        """A connection on which the server tells about one job: its session, and what is heard on it."""
        address = re.sub("^http", "ws", self.host) + "/subscribe"

        def connect() -> Any:
            return websocket.create_connection(
                address,
                timeout=self.patience.connect,
                header=self.key.headers(),
                http_no_proxy=["*"] if self._direct else None,
                redirect_limit=0,  # the key would go there, too
            )

        connection = self._again(connect, stop)
        frames = Frames(connection, self.key.hide)
        try:
            first = self._first(frames, stop)
            session = self._json(first).get("session_id") if isinstance(first, str) else None
            if not isinstance(session, str):
                raise troubles.not_ndif(self.host, first)
            yield session, frames
        finally:
            connection.abort()  # wakes the thread that listens, which would keep it open
            connection.shutdown()

    def _first(self, frames: Frames, stop: Stop) -> str | bytes:
        """The first message on a connection."""
        end = time.monotonic() + self.patience.answer
        while True:
            stop.check()
            try:
                kind, data = frames.get()
            except queue.Empty:
                if time.monotonic() > end:
                    raise troubles.silent(self.host, self.patience.answer, "its first word") from None
                continue
            if kind == "closed":
                raise troubles.lost(self.host)
            if kind == "data":
                return data

    def _updates(
        self, frames: Frames, stop: Stop, stage: Callable[[], str], waits: Callable[[], None]
    ) -> Iterator[Update]:
        """The messages about a job, until the connection ends or a limit passes. waits: called every second."""
        heard = spoke = pinged = told = time.monotonic()
        while True:
            stop.check()
            now = time.monotonic()
            if now - told > 1.0:
                waits()
                told = now
            try:
                kind, data = frames.get()
            except queue.Empty:
                limit = self.patience.of(stage())
                if now - heard > self.patience.silence:
                    raise troubles.silent(self.host, self.patience.silence, "a sign of life") from None
                if now - spoke > limit:
                    raise troubles.stuck(self.host, stage(), limit) from None
                if now - heard > min(PING, self.patience.silence / 3) and now - pinged > 1.0:
                    frames.ping()
                    pinged = now
                continue
            heard = time.monotonic()
            if kind == "closed":
                raise troubles.lost(self.host)
            if kind == "data":
                spoke = heard
                update = self._read(messages.update, data)
                yield update._replace(description=self.key.hide(update.description))

    def _post(self, envelope: dict[str, Any], payload: bytes, stop: Stop) -> Update:
        """Send a job; what the server says first. One that nobody waits for any more when it has arrived is ended."""
        came: list[httpx.Response] = []
        lock, given_up = threading.Lock(), False

        def post() -> httpx.Response:
            answer = self._send(
                "POST",
                f"{self.host}/request",
                data={"data": json.dumps(envelope)},
                files={"blob": ("request", payload, "application/octet-stream")},
                headers={
                    "ndif-timestamp": repr(time.time()),
                    "nnsight-version": version("nnsight"),
                    "python-version": sys.version,
                },
            )
            with lock:
                came.append(answer)
                late = given_up
            if late:
                self._forget(answer)
            return answer

        try:
            # a connection that fails after the request has left may have delivered it: that is not tried again
            answer = self._again(post, stop, also=())
        except BaseException:
            with lock:
                given_up = True
            for arrived in came:
                threading.Thread(target=self._forget, args=[arrived], daemon=True).start()
            raise
        self._check(answer)
        return self._read(messages.update, self._text(answer))

    def _saved(self, data: bytes | str | None, stop: Stop) -> dict[str, Any]:
        """What a job saved, from its bytes or from where they are."""
        if isinstance(data, str):
            url, longer = data, self.patience.result
            answer = self._again(
                lambda: self._send("GET", url, answer=longer),
                stop,
                limit=longer,
                say=lambda error: troubles.not_fetched(url, error, self.key, longer),
            )
            if answer.status_code != 200:
                raise troubles.no_result(self.host, answer.status_code)
            data = answer.content
        return self._read(messages.saved, data or b"")


def connect(host: str | None, patience: Patience | None = None) -> Wire:
    """A server: the one that is named, else NDIF_HOST, else nnsight's configured one. Nothing is sent yet."""
    where = host or os.environ.get("NDIF_HOST") or CONFIG.API.HOST
    if not where.startswith(("http://", "https://")):
        raise RemoteError(f"{where!r} is no address of a server", 'It begins with "http://" or "https://".')
    return Wire(where, find_key(where), patience)


def remote_models(host: str | None = None) -> dict[str, messages.RemoteModel]:
    """What a server has, by repository. Raises RemoteError where it cannot be reached."""
    wire = connect(host)
    return loads.told(wire.host, messages.models(wire.ask("/status")))
