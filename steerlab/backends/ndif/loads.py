"""How long a server takes to load a model: what jobs from this machine saw of it, kept in a small file."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from steerlab.backends.ndif import kept
from steerlab.backends.ndif.messages import JobStatus, RemoteModel

LOADING = ("provisioning", "deploying")
LOADED = ("queued", "dispatched", "running")  # it may wait for its turn once the model is there
SOON = 2.0  # seconds in which no model is loaded: it was there, and the server had only to find that
_WRITES = threading.Lock()


def file() -> Path:
    """Where it is kept: beside the jobs that were left."""
    return kept.folder().parent / "loads.json"


def took(host: str, model: str) -> float | None:
    """How many seconds a model took to be loaded at a host, the last time that a job from here waited for it."""
    return _read().get(_place(host, model))


def told(host: str, found: dict[str, RemoteModel]) -> dict[str, RemoteModel]:
    """A server's models, each with the time that it took to be loaded."""
    known = _read()
    return {name: one._replace(loads_in=known.get(_place(host, name))) for name, one in found.items()}


def watched(host: str, model: str) -> Callable[[JobStatus], JobStatus]:
    """A job's statuses, where its model is being loaded with how long it has been and the usual time; how long it takes
    this time is kept.
    """
    began: float | None = None

    def seen(status: JobStatus) -> JobStatus:
        nonlocal began
        if status.stage in LOADING:
            began = status.seconds if began is None else began
            return replace(status, loading=status.seconds - began, usual=took(host, model))
        if status.stage in LOADED and began is not None:
            if status.seconds - began > SOON:
                _keep(host, model, round(status.seconds - began, 1))
            began = None
        return status

    return seen


def _place(host: str, model: str) -> str:
    return f"{model} at {host}"


def _read() -> dict[str, float]:
    data: Any = None
    # there is none yet, it is damaged, or nobody has a home here: nothing is known
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        data = json.loads(file().read_text(encoding="utf-8"))
    known = data.items() if isinstance(data, dict) else ()
    return {place: float(seconds) for place, seconds in known if isinstance(seconds, int | float)}


def _keep(host: str, model: str, seconds: float) -> None:
    # a folder that cannot be written to costs the figure alone
    with _WRITES, contextlib.suppress(OSError, RuntimeError):
        file().parent.mkdir(parents=True, exist_ok=True)
        fresh = file().with_suffix(f".{os.getpid()}")  # another kernel may write, too
        fresh.write_text(json.dumps({**_read(), _place(host, model): seconds}, indent=1), encoding="utf-8")
        fresh.replace(file())
