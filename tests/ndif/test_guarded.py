"""What a server does not let in: web pages, keys of accounts, and keys of models that it would load for a stranger."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import websocket
import zstandard

from steerlab import Lab
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.serving.server import Server

pytestmark = [pytest.mark.ndif, pytest.mark.usefixtures("jobs_folder")]

EVIL = "https://evil.example"
SECRET = "5f0c1d2e-aaaa-bbbb-cccc-0123456789ab"


def key_of(lab: Lab) -> str:
    assert isinstance(lab.backend, NdifBackend)
    return str(lab.backend._packer.envelope()["model_key"])


def ask(server: Server, method: str, path: str, **more: Any) -> httpx.Response:
    return httpx.request(method, server.url + path, timeout=30, trust_env=False, **more)


def post(
    server: Server, key: str, payload: bytes = b"", headers: dict[str, str] | None = None, **told: Any
) -> httpx.Response:
    """A job, as a form in a browser could send it, too. told: more of its envelope."""
    envelope = {"model_key": key, "session_id": "", "compress": True, "env": {}, **told}
    data, files = {"data": json.dumps(envelope)}, {"blob": ("request", zstandard.compress(payload))}
    return ask(server, "POST", "/request", data=data, files=files, headers=headers or {})


class Touch:
    """What makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return self.path.touch, ()


# ------------------------------------------------------------------------------------------------------------ web pages


def test_what_a_web_page_sends_is_not_run(ndif_server: Server, lab: Lab, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for origin in (EVIL, "null", ndif_server.url):
        answer = post(ndif_server, key_of(lab), pickle.dumps(Touch(run)), {"Origin": origin})
        assert answer.status_code == 403, origin
        assert "answers no web pages" in answer.text
    assert post(ndif_server, key_of(lab), pickle.dumps(Touch(run))).status_code == 200
    assert lab.generate("After it", max_new_tokens=2).finish
    assert run.exists(), "of a program it is"


def test_no_web_page_reads_an_answer(ndif_server: Server) -> None:
    wanted = {"Origin": EVIL, "Access-Control-Request-Method": "POST"}
    for answer in (
        ask(ndif_server, "OPTIONS", "/request", headers=wanted),
        ask(ndif_server, "GET", "/status", headers={"Origin": EVIL}),
        ask(ndif_server, "GET", "/status"),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origin", [EVIL, "null"])
def test_a_page_cannot_listen(ndif_server: Server, origin: str) -> None:
    address = ndif_server.url.replace("http", "ws") + "/subscribe"
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(address, timeout=10, origin=origin, http_no_proxy=["*"])
    own = websocket.create_connection(address, timeout=10, http_no_proxy=["*"])
    assert json.loads(own.recv())["session_id"]
    own.close()


def test_a_name_that_was_made_to_mean_this_machine_is_refused(ndif_server: Server) -> None:
    port = ndif_server.url.rpartition(":")[2]
    for name in (f"evil.example:{port}", "evil.example", "", "[", "localhost.evil.example"):
        answer = ask(ndif_server, "GET", "/ping", headers={"Host": name})
        assert answer.status_code == 421, name
        assert "called 127.0.0.1 or localhost" in answer.text
    for name in (f"localhost:{port}", "127.0.0.1:9001", "[::1]:5001", "192.168.1.7:5001"):  # through tunnels
        assert ask(ndif_server, "GET", "/ping", headers={"Host": name}).text == '"pong"', name


# --------------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("x", "'x' is no key of a model"),
        ("a:{}", "no key of a model"),
        ("a:[]", "no key of a model"),
        ('a:{"repo_id": 3}', "no key of a model"),
        ('a:{"repo_id": "m", "task": "summarization"}', "for text-generation, not for 'summarization'"),
    ],
)
def test_a_key_of_no_model_is_refused_and_ends_nothing(
    ndif_server: Server, lab: Lab, key: str, said: str
) -> None:
    worker = ndif_server.processes["worker"]
    answer = post(ndif_server, key)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert lab.generate(f"After {key}", max_new_tokens=2).finish
    assert worker.poll() is None


def test_no_client_chooses_how_a_model_is_loaded(ndif_server: Server, lab: Lab) -> None:
    def loaded() -> list[str]:
        time.sleep(1.1)  # what the server says of itself is a second old
        models = ask(ndif_server, "GET", "/status").json()["deployments"].values()
        return [one["model_key"] for one in models if one.get("application_state") == "RUNNING"]

    lab.generate("Load it", max_new_tokens=2)
    before = loaded()
    name = json.loads(key_of(lab).partition(":")[2])["repo_id"]
    other = f"subprocess.run:{json.dumps({'repo_id': name, 'args': ['touch', 'x'], 'revision': 'main'})}"
    assert post(ndif_server, other, id="mine", trusted=True, priority=True).json()["id"] != "mine"
    lab.generate("After it", max_new_tokens=2)
    assert loaded() == before
    assert before.count(key_of(lab)) == 1


# ---------------------------------------------------------------------------------------------------------------- keys


def test_a_key_that_somebody_sends_is_written_nowhere(ndif_server: Server, lab: Lab) -> None:
    for told in ({}, {"api_key": SECRET}):
        job = post(ndif_server, key_of(lab), b"", {"ndif-api-key": SECRET}, **told).json()["id"]
        assert ask(ndif_server, "GET", "/status", headers={"ndif-api-key": SECRET}).status_code == 200
        lab.generate(f"After {job}", max_new_tokens=2)
        logs = {path.name: path.read_text(errors="replace") for path in ndif_server.folder.glob("*.log")}
        assert job in logs["worker.log"], "it is told about there"
        assert not [name for name, text in logs.items() if SECRET in text]
