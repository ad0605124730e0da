"""A server that misbehaves on purpose: enough of HTTP and WebSocket to go wrong in every way that a server can."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

# How an answer begins that drips, to a request and to one for a connection: no end of it is ever seen.
DRIPS = {
    False: b"HTTP/1.1 200 X\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n",
    True: b"HTTP/1.1 101 S\r\nUpgrade: ",
}
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Misbehaving:
    """What it does. accept: whether it says anything at all. session: what it sends first on a connection for a job.
    frames: what follows once a job was posted, then `close`, or silence; "URL" in them is its own address. pongs:
    whether it answers pings. answers: by path, pairs of a status and a body; a list is gone through, its last one
    stays. hangs, drops: paths at which it takes a request, and then says nothing, or closes the connection. drips:
    paths at which an answer comes byte by byte, four a second, and does not end. breaks: paths at which an answer
    breaks off, once for each time that a path is named. late: seconds that pass before it answers, by path.
    redirects: where it sends on to, by path.
    """

    accept: bool = True
    session: str | None = '{"session_id": "s"}'
    frames: Iterable[str | bytes] = ()
    close: bool = False
    pongs: bool = True
    answers: dict[str, list[tuple[int, str | bytes]]] = field(default_factory=dict)
    hangs: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()
    drips: tuple[str, ...] = ()
    breaks: list[str] = field(default_factory=list)
    late: dict[str, float] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def asked(self) -> list[str]:
        """The paths of the requests that came, in order."""
        return [head.split()[1] for head in self.requests]

    def spoils(self, path: str) -> bool:
        """Whether a connection for a job gets no further than its request."""
        return path in (*self.hangs, *self.drops, *self.drips, *self.answers, *self.redirects)

    def answer(self, path: str) -> tuple[int, str | bytes]:
        listed = self.answers.get(path)
        if not listed:
            return {
                "/status": (200, '{"deployments": {}}'),
                "/request": (200, json.dumps({"id": "j", "status": "RECEIVED", "description": ""})),
            }.get(path, (404, '{"detail": "Not Found"}'))
        return listed.pop(0) if len(listed) > 1 else listed[0]


@contextlib.contextmanager
def misbehave(behaviour: Misbehaving) -> Iterator[Misbehaving]:
    """Run it on loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    behaviour.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    posted, ended = threading.Event(), threading.Event()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            if not behaviour.accept:
                posted.wait(60)
                return
            head, body = _read_head(connection)
            path = head.split()[1]
            behaviour.requests.append(head)
            upgrade = "upgrade: websocket" in head.lower()
            if upgrade and not behaviour.spoils(path):
                _talk(connection, head, behaviour, posted)
                return
            length = next(
                (int(x.split(":")[1]) for x in head.splitlines() if x.lower().startswith("content-length")), 0
            )
            while len(body) < length:
                body += connection.recv(65536)
            if path in behaviour.drops:
                return
            if path in behaviour.hangs:
                ended.wait(60)
                return
            if path in behaviour.drips:
                connection.sendall(DRIPS[upgrade])
                while not ended.wait(0.25):
                    connection.sendall(b"x")
                return
            if path in behaviour.redirects:
                to = f"HTTP/1.1 302 X\r\nLocation: {behaviour.redirects[path]}\r\nContent-Length: 0\r\n\r\n"
                connection.sendall(to.encode())
                return
            ended.wait(behaviour.late.get(path, 0))
            status, text = behaviour.answer(path)
            data = text if isinstance(text, bytes) else text.encode()
            told = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
            if path in behaviour.breaks:
                behaviour.breaks.remove(path)
                connection.sendall(told + data[: len(data) // 2])
                return
            connection.sendall(told + data)
            if path == "/request" and status == 200:
                posted.set()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield behaviour
    finally:
        posted.set()
        ended.set()
        listener.close()


def _read_head(connection: socket.socket) -> tuple[str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ValueError("closed")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body


def _field(head: str, name: str) -> str:
    lines = (line.partition(":") for line in head.splitlines())
    return next((value.strip() for field, _, value in lines if field.lower() == name), "")


def _talk(connection: socket.socket, head: str, behaviour: Misbehaving, posted: threading.Event) -> None:
    key = _field(head, "sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
    lines = ["HTTP/1.1 101 S", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
    connection.sendall("".join(line + "\r\n" for line in [*lines, ""]).encode())
    if behaviour.session is not None:
        _send(connection, behaviour.session)
        posted.wait(60)
        for frame in behaviour.frames:
            _send(connection, frame.replace("URL", behaviour.url) if isinstance(frame, str) else frame)
        if behaviour.close:
            return
    while data := connection.recv(65536):
        if behaviour.pongs and data[0] & 0x0F == 9:
            _send(connection, b"", opcode=10)


def _send(connection: socket.socket, what: str | bytes, opcode: int | None = None) -> None:
    data = what.encode() if isinstance(what, str) else what
    code = opcode if opcode is not None else 1 if isinstance(what, str) else 2
    size = struct.pack("!B", len(data)) if len(data) < 126 else struct.pack("!BH", 126, len(data))
    connection.sendall(bytes([0x80 | code]) + size + data)
