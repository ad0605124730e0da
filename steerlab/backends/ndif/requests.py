"""Requests to an NDIF server over HTTP: tried again where that can do no harm, and refusals in words (`troubles`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import websocket

from steerlab.backends.ndif import messages, troubles
from steerlab.backends.ndif.keys import Key
from steerlab.backends.ndif.messages import Unreadable
from steerlab.backends.ndif.waiting import Patience, Stop, within
from steerlab.errors import RemoteError

T = TypeVar("T")

SILENCE = (TimeoutError, httpx.ReadTimeout, websocket.WebSocketTimeoutException)
PAUSES = (0.5, 1.0, 2.0)  # seconds before another try to reach a server


class Requests:
    """A server that is asked. host: "http://…" or "https://…"."""

    def __init__(self, host: str, key: Key, patience: Patience | None = None) -> None:
        self.host = host.rstrip("/")
        self.key = key
        self.patience = patience or Patience()
        # what is on this machine is never behind its proxy
        self._direct = urlsplit(host).hostname in ("127.0.0.1", "localhost", "::1")

    def ask(self, path: str, stop: Stop | None = None) -> Any:
        """What the server answers to GET, as JSON. Tried again where it cannot be reached or is not ready."""
        answer = self._again(lambda: self._send("GET", self.host + path), stop or Stop())
        self._check(answer)
        return self._json(self._text(answer))

    def versions(self) -> dict[str, str]:
        """The versions of what matters on the server; empty where it does not tell."""
        seconds = self.patience.connect + self.patience.answer
        answer, _ = within(seconds, Stop(), lambda: self._send("GET", self.host + "/env"))
        if answer is None:
            return {}
        try:
            there = self._json(self._text(answer))
            found = {
                name: str(there["packages"][name]) for name in troubles.MATTERS if name in there["packages"]
            }
            return {"Python": str(there["python_version"]).split()[0], **found}
        except (RemoteError, KeyError, TypeError, AttributeError):
            return {}

    def _send(self, method: str, url: str, *, answer: float | None = None, **more: Any) -> httpx.Response:
        """One request, with the key where it goes to the server itself. answer: how long to wait for one."""
        own = url.startswith(f"{self.host}/")
        return httpx.request(
            method,
            url,
            headers={**(self.key.headers() if own else {}), **more.pop("headers", {})},
            timeout=httpx.Timeout(answer or self.patience.answer, connect=self.patience.connect),
            trust_env=not self._direct,
            **more,
        )

    def _again(
        self,
        call: Callable[[], T],
        stop: Stop,
        *,
        also: tuple[type[Exception], ...] = (httpx.TransportError, websocket.WebSocketException, OSError),
        limit: float | None = None,
        say: Callable[[Exception], RemoteError] | None = None,
    ) -> T:
        """The result of a call, tried again with growing pauses where the server was not reached or not ready.

        also: errors after which another try can do no harm, besides those of a connection that was never made. limit:
        on one try, in seconds. say: words for the last error.
        """
        seconds = limit or self.patience.connect + self.patience.answer
        safe: tuple[type[Exception], ...] = (httpx.ConnectError, httpx.ConnectTimeout, *also)
        failure: Exception | None = None
        for pause in (*PAUSES, None):
            result, failure = within(seconds, stop, call)
            busy = isinstance(result, httpx.Response) and result.status_code == 503
            if (failure is None and not busy) or pause is None:
                break
            if failure is not None:
                refused = getattr(failure, "status_code", 503) != 503  # of a connection for a job
                silent = isinstance(failure, SILENCE)  # it will be, once more
                if refused or silent or not isinstance(failure, safe):
                    break
            stop.sleep(pause)
        if failure is not None:
            trouble = say(failure) if say else troubles.unreachable(self.host, failure, self.key)
            del failure  # its frames hold the headers
            raise trouble
        return result  # type: ignore[return-value]

    def _check(self, answer: httpx.Response) -> None:
        if answer.has_redirect_location:
            raise troubles.moved(self.host, self.key.hide(answer.headers["location"]))
        if answer.status_code >= 400:
            text = self._text(answer)
            try:
                detail, own = json.loads(text)["detail"], True
            except (ValueError, KeyError, TypeError):
                detail, own = " ".join(text.split())[:200], False
            detail = self.key.hide(str(detail))  # JSON may have written it otherwise
            raise troubles.refused(self.host, answer.status_code, detail, self.key, self.versions, own=own)

    def _text(self, answer: httpx.Response) -> str:
        """What came, without the key: a traceback may show it among the variables."""
        return self.key.hide(answer.text)

    def _failed(self, description: str) -> RemoteError:
        return troubles.failed(self.host, self.key.hide(description), self.versions, self._up)

    def _up(self) -> list[str]:
        try:
            found = messages.models(self.ask("/status"))
            return [name for name, one in found.items() if one.state == "running"]
        except RemoteError:
            return []

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise troubles.not_ndif(self.host, text) from None

    def _read(self, reader: Callable[[Any], T], what: Any) -> T:
        """What a reader of `messages` makes of something that came."""
        try:
            return reader(what)
        except Unreadable as error:
            came = error.args[0]
        raise troubles.not_ndif(self.host, came)
