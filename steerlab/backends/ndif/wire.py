"""Carries payloads to an NDIF server and brings back what it says: NDIF's protocol, with a limit on every wait.

The client of nnsight waits for ever on a server that is silent. Here each wait has a limit of our own, can be
cancelled within a twentieth of a second, and ends in an error in words (`troubles`). A job is sent once: only what
comes before a server has accepted it is tried again.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import queue
import re
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx
import torch
import websocket
import zstandard
from nnsight.schema.response import Status

from steerlab.backends.ndif import troubles
from steerlab.backends.ndif.keys import Key
from steerlab.backends.ndif.travelling import MARK
from steerlab.errors import RemoteError

T = TypeVar("T")

LOOK = 0.05  # seconds between two looks at the cancel event
PAUSES = (0.5, 1.0, 2.0)  # seconds before another try to reach a server
PING = 5.0  # seconds of silence, after which the server is asked whether it is there


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds. connect: for a connection. answer: for the answer to a request. silence: for any
    sign of life on an open connection. The others without a word about the job, while it waits for its turn, for its
    model to be loaded, for its next token, and for its result.
    """

    connect: float = 10.0
    answer: float = 30.0
    silence: float = 30.0
    queued: float = 600.0
    deploying: float = 1800.0
    running: float = 300.0
    result: float = 300.0

    def of(self, stage: str) -> float:
        """The limit for a stage of a job."""
        if stage in ("provisioning", "deploying"):
            return self.deploying
        return self.running if stage in ("dispatched", "running") else self.queued


@dataclass(frozen=True)
class JobStatus:
    """Where a job is: "sending", NDIF's own stages in lower case, "fetching" its result, "completed", "cancelled" or
    "failed". position: its place in the queue, from 1, where the server said one. seconds: since it was sent.
    """

    stage: str
    id: str = ""
    position: int | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        place = f" at position {self.position}" if self.position else ""
        return f"{self.stage}{place}, {self.seconds:.0f} s"


class Update(NamedTuple):
    """One message of the server about a job. data: a result's bytes, or where to fetch it."""

    id: str
    status: Status
    description: str
    data: bytes | str | None


STATES = ("running", "deploying", "unhealthy", "not loaded")


class RemoteModel(NamedTuple):
    """A model on a server. state: one of STATES; "not loaded" ones are loaded when they are first asked for."""

    state: str
    replicas: int
    parameters: int | None
    dtype: str | None


class Cancelled(Exception):  # noqa: N818
    """Somebody set the cancel event; never seen outside this package."""


OnStatus = Callable[[JobStatus], None]
OnLine = Callable[[list[Any]], None]


class Wire:
    """A server. host: "http://…" or "https://…"."""

    def __init__(self, host: str, key: Key, patience: Patience | None = None) -> None:
        self.host = host.rstrip("/")
        self.key = key
        self.patience = patience or Patience()
        # what is on this machine is never behind its proxy
        self._direct = urlsplit(host).hostname in ("127.0.0.1", "localhost", "::1")

    # ----------------------------------------------------------------------------------------------------- questions

    def ask(self, path: str, cancel: threading.Event | None = None) -> Any:
        """What the server answers to GET, as JSON. Tried again where it cannot be reached or is not ready."""
        answer = self._again(lambda: self._get(self.host + path), cancel)
        self._check(answer)
        return self._json(answer.text)

    def versions(self) -> dict[str, str]:
        """The versions of what matters on the server; empty where it does not tell."""
        try:
            there = self._json(self._get(self.host + "/env").text)
            found = {
                name: str(there["packages"][name]) for name in troubles.MATTERS if name in there["packages"]
            }
            return {"Python": str(there["python_version"]).split()[0], **found}
        except (RemoteError, KeyError, TypeError, AttributeError, httpx.HTTPError):
            return {}

    # ---------------------------------------------------------------------------------------------------------- jobs

    def run(
        self,
        envelope: dict[str, Any],
        payload: bytes,
        *,
        on_status: OnStatus,
        on_line: OnLine,
        cancel: threading.Event | None = None,
    ) -> dict[str, Any]:
        """Run a job to its end and return what it saved. on_line: receives each line that `travelling.tell` printed."""
        status = JobStatus("sending")
        started = time.monotonic()

        def now(**changes: Any) -> None:
            nonlocal status
            status = replace(status, seconds=time.monotonic() - started, **changes)
            on_status(status)

        now()
        try:
            with self._subscription(cancel) as (session, frames):
                received = self._post({**envelope, "session_id": session}, payload, cancel)
                now(stage="received", id=received.id)
                for update in self._updates(frames, cancel, lambda: status.stage):
                    if update.status is Status.LOG:
                        if update.description.startswith(MARK):
                            on_line(self._json(update.description[len(MARK) :]))
                        continue
                    place = re.search(r"position (\d+)", update.description)
                    now(stage=update.status.value.lower(), position=int(place[1]) if place else None)
                    if update.status is Status.ERROR:
                        raise self._failed(update.description)
                    if update.status is Status.COMPLETED:
                        now(stage="fetching")
                        saved = self._saved(update.data, cancel)
                        now(stage="completed")
                        return saved
            raise AssertionError("a job ends with COMPLETED or an error")
        except Cancelled:
            now(stage="cancelled")
            raise
        except RemoteError:
            now(stage="failed")
            raise

    def submit(self, envelope: dict[str, Any], payload: bytes) -> str:
        """Send a job and leave it there; returns its id."""
        return self._post(envelope, payload, None).id

    def look(
        self, job_id: str, cancel: threading.Event | None = None
    ) -> tuple[JobStatus, dict[str, Any] | None]:
        """Where a job that was left is, and what it saved once it is done; "unknown" is one of which the server has not
        said anything yet, or any more. Raises RemoteError where it failed.
        """
        answer = self._again(lambda: self._get(f"{self.host}/response/{job_id}"), cancel)
        if answer.status_code == 404:
            return JobStatus("unknown", job_id), None
        self._check(answer)
        update = self._update(answer.text)
        if update.status is Status.ERROR:
            raise self._failed(update.description)
        place = re.search(r"position (\d+)", update.description)
        status = JobStatus(update.status.value.lower(), job_id, int(place[1]) if place else None)
        return status, self._saved(update.data, cancel) if update.status is Status.COMPLETED else None

    # -------------------------------------------------------------------------------------------------- the protocol

    @contextlib.contextmanager
    def _subscription(self, cancel: threading.Event | None) -> Iterator[tuple[str, Heard]]:
        """A connection on which the server tells about one job: its session, and what is heard on it."""
        address = re.sub("^http", "ws", self.host) + "/subscribe"

        def connect() -> Any:
            return websocket.create_connection(
                address,
                timeout=self.patience.connect,
                header=self.key.headers(),
                http_no_proxy=["*"] if self._direct else None,
            )

        connection = self._again(connect, cancel)
        frames = Heard(connection)
        try:
            first = self._next(frames, cancel, self.patience.answer)
            session = self._json(first).get("session_id") if isinstance(first, str) else None
            if not isinstance(session, str):
                raise troubles.not_ndif(self.host, first)
            yield session, frames
        finally:
            connection.shutdown()

    def _next(self, frames: Heard, cancel: threading.Event | None, seconds: float) -> str | bytes:
        """The next message. Raises RemoteError after `seconds`, or where the connection ends."""
        end = time.monotonic() + seconds
        while True:
            if cancel and cancel.is_set():
                raise Cancelled
            try:
                kind, data = frames.get()
            except queue.Empty:
                if time.monotonic() > end:
                    raise troubles.silent(self.host, seconds, "its first word") from None
                continue
            if kind == "closed":
                raise troubles.lost(self.host)
            if kind == "data":
                return data

    def _updates(
        self, frames: Heard, cancel: threading.Event | None, stage: Callable[[], str]
    ) -> Iterator[Update]:
        """The messages about a job, until the connection ends or a limit passes."""
        heard = spoke = pinged = time.monotonic()
        while True:
            if cancel and cancel.is_set():
                raise Cancelled
            now = time.monotonic()
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
                yield self._update(data)

    def _post(self, envelope: dict[str, Any], payload: bytes, cancel: threading.Event | None) -> Update:
        def post() -> httpx.Response:
            return httpx.post(
                f"{self.host}/request",
                data={"data": json.dumps(envelope)},
                files={"blob": ("request", payload, "application/octet-stream")},
                headers={
                    **self.key.headers(),
                    "ndif-timestamp": repr(time.time()),
                    "nnsight-version": version("nnsight"),
                    "python-version": sys.version,
                },
                timeout=httpx.Timeout(self.patience.answer, connect=self.patience.connect),
                trust_env=not self._direct,
            )

        # a connection that fails after the request has left may have delivered it: that is not tried again
        answer = self._again(post, cancel, also=())
        self._check(answer)
        return self._update(answer.text)

    def _get(self, url: str) -> httpx.Response:
        return httpx.get(
            url,
            headers=self.key.headers() if url.startswith(self.host) else {},
            timeout=httpx.Timeout(self.patience.answer, connect=self.patience.connect),
            trust_env=not self._direct,
        )

    def _saved(self, data: bytes | str | None, cancel: threading.Event | None) -> dict[str, Any]:
        """What a job saved, from its bytes or from where they are."""
        if isinstance(data, str):
            url, longer = data, httpx.Timeout(self.patience.result, connect=self.patience.connect)

            def fetch() -> httpx.Response:
                return httpx.get(url, timeout=longer, trust_env=not self._direct)

            answer = self._again(fetch, cancel, limit=self.patience.result)
            if answer.status_code != 200:
                raise troubles.no_result(self.host, answer.status_code)
            data = answer.content
        problem = ""
        saved: Any = None
        try:
            # tensors, numbers and lists alone: nothing that a server sends is run here
            saved = torch.load(io.BytesIO(_decompressed(data or b"")), map_location="cpu", weights_only=True)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if not isinstance(saved, dict):
            raise troubles.not_ndif(self.host, problem or repr(saved))
        return saved

    # -------------------------------------------------------------------------------------------------------- helpers

    def _again(
        self,
        call: Callable[[], T],
        cancel: threading.Event | None,
        *,
        also: tuple[type[Exception], ...] = (httpx.TransportError,),
        limit: float | None = None,
    ) -> T:
        """The result of a call, tried again with growing pauses where the server was not reached or not ready.

        also: further errors after which another try can do no harm. limit: on one try, in seconds.
        """
        seconds = limit or self.patience.connect + self.patience.answer
        safe = (
            ConnectionError,
            OSError,
            httpx.ConnectError,
            httpx.ConnectTimeout,
            websocket.WebSocketException,
            *also,
        )
        failure: Exception | None = None
        for pause in (*PAUSES, None):
            result, failure = _within(seconds, cancel, call)
            busy = isinstance(result, httpx.Response) and result.status_code == 503
            if (failure is None and not busy) or pause is None:
                break
            if failure is not None:
                refused = getattr(failure, "status_code", 503) != 503  # of a connection for a job
                if refused or isinstance(failure, TimeoutError) or not isinstance(failure, safe):
                    break
            if cancel and cancel.wait(pause):
                raise Cancelled
            if not cancel:
                time.sleep(pause)
        if failure is not None:
            trouble = troubles.unreachable(self.host, failure, self.key)
            del failure  # its frames hold the headers
            raise trouble
        return result  # type: ignore[return-value]

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code >= 400:
            try:
                detail = json.loads(answer.text)["detail"]
            except (ValueError, KeyError, TypeError):
                detail = answer.text[:200]
            raise troubles.refused(
                self.host, answer.status_code, self.key.hide(str(detail)), self.key, self.versions
            )

    def _failed(self, description: str) -> RemoteError:
        return troubles.failed(self.host, self.key.hide(description), self.versions, self._up)

    def _up(self) -> list[str]:
        try:
            return [name for name, one in models(self.ask("/status")).items() if one.state == "running"]
        except RemoteError:
            return []

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise troubles.not_ndif(self.host, text) from None

    def _update(self, message: str | bytes) -> Update:
        """A message about a job; one with a result comes as torch's bytes."""
        found: Any = None
        try:
            found = _opened(message) if isinstance(message, bytes) else json.loads(message)
            return Update(
                str(found["id"]),
                Status(found["status"]),
                str(found.get("description", "")),
                found.get("data"),
            )
        except Exception:
            pass
        raise troubles.not_ndif(self.host, message if found is None else found)


class Heard:
    """What comes on a connection, in order: pairs of a kind ("data", "sign" for a sign of life, "closed") and data."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._frames: queue.SimpleQueue[tuple[str, str | bytes]] = queue.SimpleQueue()
        connection.settimeout(None)
        threading.Thread(target=self._listen, daemon=True).start()

    def get(self) -> tuple[str, str | bytes]:
        """The next one. Raises queue.Empty where none comes at once."""
        return self._frames.get(timeout=LOOK)

    def ping(self) -> None:
        """Ask the server whether it is there: "sign" is its answer."""
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self._connection.ping()

    def _listen(self) -> None:
        with contextlib.suppress(Exception):
            while True:
                opcode, frame = self._connection.recv_data_frame(True)
                if opcode == websocket.ABNF.OPCODE_TEXT:
                    self._frames.put(("data", frame.data.decode("utf-8", "replace")))
                elif opcode == websocket.ABNF.OPCODE_BINARY:
                    self._frames.put(("data", bytes(frame.data)))
                elif opcode == websocket.ABNF.OPCODE_CLOSE:
                    break
                else:
                    self._frames.put(("sign", ""))
        self._frames.put(("closed", ""))


def _within(
    seconds: float, cancel: threading.Event | None, call: Callable[[], T]
) -> tuple[T | None, Exception | None]:
    """The result of a call or its error; a TimeoutError after `seconds`, whatever the call waits for."""
    done: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((call(), None))
        except Exception as error:
            done.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if cancel and cancel.is_set():
            raise Cancelled
        with contextlib.suppress(queue.Empty):
            return done.get(timeout=LOOK)
    return None, TimeoutError(f"no answer within {seconds:.0f} seconds")


class _Plain(pickle.Unpickler):
    """Reads plain values and NDIF's status, and refuses what a pickle could run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("nnsight.schema.response", "Status"):
            return Status
        raise pickle.UnpicklingError(f"{module}.{name} is not expected here")


def _opened(message: bytes) -> Any:
    """A message in the bytes of `torch.save`, which is a zip archive with a pickle; it has no tensors."""
    with zipfile.ZipFile(io.BytesIO(message)) as archive:
        [name] = [n for n in archive.namelist() if n.endswith("/data.pkl")]
        return _Plain(io.BytesIO(archive.read(name))).load()


def _decompressed(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def models(status: Any) -> dict[str, RemoteModel]:
    """The models of a `/status` answer, by repository. The best of a model's replicas counts."""
    found: dict[str, RemoteModel] = {}
    deployments = status.get("deployments", {}) if isinstance(status, dict) else {}
    for one in deployments.values() if isinstance(deployments, dict) else ():
        name = one.get("repo_id") if isinstance(one, dict) else None
        if not name:
            continue
        state = str(one.get("application_state") or "not loaded").lower()
        if state == "running" and one.get("deployment_level") not in ("HOT", "WARM"):
            state = "not loaded"
        known = found.get(name, RemoteModel(state, 0, one.get("n_params"), one.get("dtype")))
        best = min(known.state, state, key=lambda s: STATES.index(s) if s in STATES else len(STATES))
        found[name] = known._replace(state=best, replicas=known.replicas + (state == "running"))
    return found
