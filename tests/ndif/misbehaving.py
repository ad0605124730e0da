"""A server that misbehaves on purpose: enough of HTTP and WebSocket to go wrong in every way that a server can."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Misbehaving:
    """What it does. accept: whether it says anything at all. session: what it sends first on a connection for a job.
    frames: what follows once a job was posted, then `close`, or silence. pongs: whether it answers pings. answers: by
    path, pairs of a status and a body; a list is gone through, its last one stays.
    """

    accept: bool = True
    session: str | None = '{"session_id": "s"}'
    frames: list[str | bytes] = field(default_factory=list)
    close: bool = False
    pongs: bool = True
    answers: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str) -> tuple[int, str]:
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
    posted = threading.Event()

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
            if "upgrade: websocket" in head.lower():
                _talk(connection, head, behaviour, posted)
                return
            length = next(
                (int(x.split(":")[1]) for x in head.splitlines() if x.lower().startswith("content-length")), 0
            )
            while len(body) < length:
                body += connection.recv(65536)
            status, text = behaviour.answer(path)
            data = text.encode()
            connection.sendall(
                f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
                + data
            )
            if path == "/request" and status == 200:
                posted.set()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield behaviour
    finally:
        posted.set()
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
            _send(connection, frame)
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
