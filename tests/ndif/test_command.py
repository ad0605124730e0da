"""`steerlab serve-ndif`, as somebody types it: what it prints works, it mends itself, and nothing of it stays."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import steerlab as sl
from steerlab import Lab
from steerlab.serving.environment import environment

pytestmark = pytest.mark.ndif


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hear_hangups() -> None:
    """The tests themselves may run under nohup, which a process passes on."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def until(condition: Callable[[], object], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_a_server_is_started_used_mended_and_ended(
    ndif_server: object, demo_lab: Lab, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "steerlab.cli",
        "serve-ndif",
        "--threads",
        "1",
        "--port",
        str(free_port()),
    ]
    out, err = tmp_path / "out", tmp_path / "err"
    folders = tmp_path / "temporary"
    folders.mkdir()
    environ = {**os.environ, "TMPDIR": str(folders)}
    with out.open("w") as stdout, err.open("w") as stderr:
        server = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, cwd=tmp_path, env=environ, preexec_fn=hear_hangups
        )
    try:
        until(lambda: server.poll() is not None or "Ctrl-C" in out.read_text(), "it is not ready")
        printed = out.read_text().splitlines()
        assert printed, err.read_text()
        assert re.match(r"ready; .*tiny-chat at http://127.0.0.1:\d+\. In a notebook:", printed[0])
        notebook: dict[str, Lab] = {}
        exec(printed[1].strip(), {"sl": sl}, notebook)
        lab = notebook["lab"]
        question = "How do I bake bread?"
        assert (
            lab.generate(question, max_new_tokens=6).text
            == demo_lab.generate(question, max_new_tokens=6).text
        )
        family = psutil.Process(server.pid).children(recursive=True)
        worker = next(one for one in family if any(word.endswith("worker.py") for word in one.cmdline()))
        worker.kill()
        until(lambda: "the worker ended and is started again" in err.read_text(), "the worker is not mended")
        until(lambda: answers(lab), "it does not answer again")
        family += psutil.Process(server.pid).children(recursive=True)
        server.send_signal(signal.SIGHUP)  # as a terminal does that is closed
        assert server.wait(30) == 0
        assert not list(folders.iterdir())
        _, left = psutil.wait_procs(family, timeout=10)
        assert not left, "its processes end with it"
    finally:
        if server.poll() is None:
            server.terminate()
            server.wait(30)


def answers(lab: Lab) -> bool:
    """Whether the server answers something that it was not asked before."""
    try:
        return bool(lab.generate("Hello again", max_new_tokens=3).finish)
    except sl.errors.RemoteError:
        return False


def test_the_servers_own_environment_has_none_of_our_code(ndif_server: object, tmp_path: Path) -> None:
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = (
        "import nnsight\ntry: import steerlab.edits\nexcept ImportError: print('none')\nelse: print(steerlab)"
    )
    told = subprocess.run(
        [environment(), "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path, env=alone
    )
    assert told.stdout.strip() == "none", told.stderr


ENDS = """
import os, signal, sys, time
from steerlab.cli import end_in_order
if len(sys.argv) > 2:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
end_in_order()
try:
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    print("goes on")
finally:
    for name in ("SIGTERM", "SIGHUP"):
        os.kill(os.getpid(), getattr(signal, name))
    print("ends in order")
"""


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["SIGTERM"], "ends in order"),
        (["SIGHUP"], "ends in order"),
        (["SIGHUP", "as under nohup"], "goes on"),
    ],
)
def test_a_kill_and_a_closed_terminal_end_it_once_and_in_order(arguments: list[str], printed: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", ENDS, *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=hear_hangups,
    )
    assert (told.returncode, told.stdout.split()) == (0, printed.split()), told.stderr
