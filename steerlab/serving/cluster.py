"""NDIF's whole stack with Ray, as `server.serve(ray=True)` starts it: a cluster of this one machine, NDIF's controller
and its dispatcher, in the place of the one worker.

Nothing is reached from outside the machine: Ray's own ports listen on loopback, and the API as before.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

MEMORY = 64_000_000_000  # of the GPU that Ray is told of where there is none: models are placed by it
STORE = 300_000_000  # bytes of Ray's object store; results go through NDIF's own


def key(name: str) -> str:
    """What NDIF knows a model by (`backends.ndif.distant.model_key`, which would import torch)."""
    data = {"repo_id": name, "revision": None, "task": "text-generation"}
    return f"nnsight.modeling.transformers.TransformersModel:{json.dumps(data)}"


def environ(
    ports: Sequence[int], inside: Path, names: Sequence[str], *, device: str, sandbox: bool, seconds: float
) -> dict[str, str]:
    """The environment variables that NDIF and Ray read. ports: of Ray's head and of its clients. inside: the folder
    with the actors. names: of the models that are loaded at once, and stay.
    """
    kind = "CpuSandboxActor" if sandbox else "CpuModelActor"
    settings = {
        "NDIF_RAY_ADDRESS": f"ray://127.0.0.1:{ports[1]}",
        "RAY_ADDRESS": f"127.0.0.1:{ports[0]}",
        "NDIF_CONTROLLER_IMPORT_PATH": "actors.Controller",
        "NDIF_DEPLOYMENTS": "|".join(map(key, names)),
        "NDIF_DEFAULT_EXECUTION_TIMEOUT_SECONDS": str(seconds),
        "NDIF_MINIMUM_DEPLOYMENT_TIME_SECONDS": "0",
        "NDIF_DEFAULT_PADDING_BIAS": "0",
        "PYTHONPATH": str(inside),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else 127.0.0.1 is taken for the address of a network card
        "RAY_AUTH_MODE": "disabled",  # a token of somebody's other cluster is not asked for
        "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
        "GRPC_ENABLE_FORK_SUPPORT": "0",  # as NDIF sets it: else some connections wait for 40 seconds
    }
    if device == "cpu":
        pretended = {"CPU": os.cpu_count() or 1, "GPU": 1, "cuda_memory_bytes": MEMORY}
        settings["NDIF_MODEL_IMPORT_PATH"] = f"actors.{kind}"
        settings["RAY_OVERRIDE_RESOURCES"] = json.dumps(pretended)
    elif sandbox:
        settings["NDIF_MODEL_IMPORT_PATH"] = "ndif.services.ray.sandbox.model.SandboxModelActor"
    return settings


def commands(python: str, inside: Path, folder: Path, ports: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """How its processes are started, in their order; the ports are those of the head, its clients and its dashboard."""
    head, clients, dashboard = map(str, ports)
    resources = json.dumps({"head": 10, "cuda_memory_bytes": MEMORY, "cpu_memory_bytes": MEMORY})
    return {
        "ray": (
            python, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
            "--node-ip-address=127.0.0.1", f"--resources={resources}", f"--port={head}",
            f"--ray-client-server-port={clients}", f"--object-store-memory={STORE}",
            "--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--temp-dir={folder / 'ray'}",
        ),
        "controller": (python, str(inside / "controller.py")),
        "dispatcher": (python, "-m", "ndif.services.api.queue.dispatcher"),
    }  # fmt: skip


def end_workers(folder: Path, seconds: float = 10.0) -> None:
    """Wait for the processes that Ray started, which end by themselves when it has; end those that do not in time.

    They are those that name the cluster's folder. Only where there is a /proc to see them in.
    """
    until = time.monotonic() + seconds
    while workers := _workers(folder):
        if time.monotonic() > until:
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _workers(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if bytes(folder) in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found
