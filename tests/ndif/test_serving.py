"""What is refused before a server is started, and where one can be reached."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ndif_server import SERVED, far_lab

from steerlab import Row, Sampling
from steerlab.errors import SteerlabError
from steerlab.serving import server
from steerlab.serving.server import Server, serve


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where folders are made meanwhile. Nothing is installed."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    monkeypatch.setattr(server, "environment", lambda *_, **__: Path(sys.executable))
    monkeypatch.setattr(server, "_redis", lambda _: "redis-server")
    return made


def started(*models: str | Path, host: str = "127.0.0.1", port: int = 0) -> None:
    with serve(models, host=host, port=port):
        raise AssertionError("it was started")


def test_two_models_of_one_name_are_refused(left: Path, tmp_path: Path) -> None:
    folders = [tmp_path / where / "mine" for where in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    with pytest.raises(SteerlabError, match="two of the models are called 'local/mine'"):
        started(*folders)
    with pytest.raises(SteerlabError, match="two of the models are called 'some/model'"):
        started("some/model", "some/model")
    assert not list(left.iterdir())


def test_a_model_that_cannot_be_had_leaves_no_folder(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise OSError("it is not there")

    monkeypatch.setattr("huggingface_hub.snapshot_download", missing)
    with pytest.raises(SteerlabError, match="the model 'nobody/nothing' cannot be had"):
        started("nobody/nothing")
    assert not list(left.iterdir())


def test_windows_is_told_where_a_server_runs(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "killpg")
    with pytest.raises(SteerlabError, match=r"runs on Linux or macOS.*on Windows in WSL"):
        started("some/model")
    assert not list(left.iterdir())


def test_a_port_in_use_is_told_at_once(left: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        with pytest.raises(SteerlabError, match=f"the server cannot listen at 127.0.0.1:{port}: "):
            started("some/model", port=port)
    with pytest.raises(SteerlabError, match=r"the server cannot listen at 192\.0\.2\.1:"):
        started("some/model", host="192.0.2.1")
    with pytest.raises(SteerlabError, match="the server cannot listen at 127.0.0.1:65536: "):
        started("some/model", port=65536)
    assert not list(left.iterdir())


@pytest.mark.ndif
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only 127.0.0.1 is an address of every machine")
def test_a_server_at_one_address_of_the_machine_answers_there(
    ndif_server: Server, model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.2")
    folder = model_folders[SERVED[0]]
    with serve([folder], threads=1, host="127.0.0.2") as own:
        assert own.url.startswith("http://127.0.0.2:")
        lab = far_lab(own, folder)
        job = lab.submit([Row("Hi")], Sampling(3))  # its answers come from an address that the server makes
        [answer] = lab.fetch(job, timeout=60) or []
        assert answer.finish


def test_a_proxy_is_not_asked_for_the_server_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody is
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    class Connected(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"deployments": {"a": {"repo_id": "m", "application_state": "RUNNING"}}}')

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Connected) as there:
        threading.Thread(target=there.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{there.server_port}"
        assert server._answers(url)
        assert server._loaded(url, ["m"])
        assert not server._loaded(url, ["m", "other"])
        there.shutdown()
    assert not server._answers(url)
