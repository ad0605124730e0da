"""A stand-in for the Hugging Face hub on loopback: what it says of a model, and the model's files, from folders. What
it is asked can be looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0" * 39 + "1"


@contextlib.contextmanager
def hub(folders: Mapping[str, Path], heard: list[str] | None = None) -> Iterator[str]:
    """The address of a hub that has these folders, by "org/name". heard: is given the path of every request."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def reply(self, code: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            if heard is not None:
                heard.append(self.path)
            parts = [unquote(part) for part in urlparse(self.path).path.strip("/").split("/")]
            asked = parts[:2] == ["api", "models"]
            name = "/".join(parts[2:4] if asked else parts[:2])
            folder = folders.get(name)
            if folder and asked and len(parts) == 4:
                files = [{"rfilename": file.name} for file in folder.iterdir()]
                about = {"_id": "1", "id": name, "modelId": name, "sha": COMMIT, "siblings": files}
                self.reply(200, json.dumps(about).encode(), Content_Type="application/json")
                return
            file = folder.joinpath(*parts[4:]) if folder and parts[2:3] == ["resolve"] else None
            if file is None or not file.is_file():
                self.reply(404, X_Error_Code="EntryNotFound" if folder else "RepoNotFound")
                return
            body = file.read_bytes()
            self.reply(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"')

        do_HEAD = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
