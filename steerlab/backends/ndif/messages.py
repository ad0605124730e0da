"""What a server says, read and checked: messages about a job, a job's result, and which models there are.

Nothing that a server sends is run here: of pickles only plain values and tensors are read. What cannot be read raises
`Unreadable`, which the wire puts in words.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import zstandard
from nnsight.schema.response import Status

OVER = ("completed", "cancelled", "failed", "forgotten")  # stages in which a job is over
STATES = ("running", "deploying", "unhealthy", "not loaded")


@dataclass(frozen=True)
class JobStatus:
    """Where a job is: "sending", NDIF's own stages in lower case, "fetching" its result, "completed", "cancelled" or
    "failed"; "unknown" where the server does not say, "forgotten" where it will not any more. position: its place in
    the queue, from 1, where the server said one. seconds: since it was sent. rows: how many it answers, where that is
    known. left: whether it goes on without this kernel (`lab.submit`), and is fetched by its id. loading: while its
    model is being loaded, the seconds since that began; usual: those that it took the last time that it was seen from
    this machine. awaited: whether somebody here waits for it.
    """

    stage: str
    id: str = ""
    position: int | None = None
    seconds: float = 0.0
    rows: int | None = None
    left: bool = False
    loading: float | None = None
    usual: float | None = None
    awaited: bool = True

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.stage in OVER

    def __str__(self) -> str:
        place = f" at position {self.position}" if self.position else ""
        before = f", the last time it took {self.usual:.0f} s" if self.usual is not None else ""
        seconds = self.seconds if self.loading is None else self.loading
        return f"{self.stage}{place}, {seconds:.0f} s{before}"


class RemoteModel(NamedTuple):
    """A model on a server. state: one of STATES; "not loaded" ones are loaded when they are first asked for. loads_in:
    the seconds that this took the last time that a job from this machine waited for it, None where none did.
    """

    state: str
    replicas: int
    parameters: int | None
    dtype: str | None
    loads_in: float | None = None


class Update(NamedTuple):
    """One message of the server about a job. data: a result's bytes, or where to fetch it."""

    id: str
    status: Status
    description: str
    data: bytes | str | None

    @property
    def stage(self) -> str:
        """NDIF's stage, in lower case; "failed" for its "error"."""
        return "failed" if self.status is Status.ERROR else str(self.status.value).lower()

    @property
    def position(self) -> int | None:
        """The place in the queue, where the message has one."""
        place = re.search(r"position (\d+)", self.description)
        return int(place[1]) if place else None


class Unreadable(ValueError):  # noqa: N818
    """Not NDIF's protocol; the argument is what came."""


def update(message: str | bytes) -> Update:
    """A message about a job; one with a result comes as torch's bytes."""
    found: Any = None
    try:
        found = _opened(message) if isinstance(message, bytes) else json.loads(message)
        return Update(
            str(found["id"]), Status(found["status"]), str(found.get("description", "")), found.get("data")
        )
    except Exception:
        pass
    raise Unreadable(message if found is None else found)


def saved(data: bytes) -> dict[str, Any]:
    """What a job saved, by name: tensors, numbers and lists alone."""
    found: Any = None
    problem = ""
    try:
        found = torch.load(io.BytesIO(_decompressed(data)), map_location="cpu", weights_only=True)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    if not isinstance(found, dict):
        raise Unreadable(problem or repr(found))
    return found


def models(status: Any) -> dict[str, RemoteModel]:
    """The models of a `/status` answer, by repository. The best of a model's replicas counts."""
    found: dict[str, RemoteModel] = {}
    deployments = status.get("deployments", {}) if isinstance(status, dict) else {}
    for one in deployments.values() if isinstance(deployments, dict) else ():
        name = one.get("repo_id") if isinstance(one, dict) else None
        if not name:
            continue
        state = str(one.get("application_state") or "not loaded").lower()
        if state == "running" and one.get("deployment_level") not in ("HOT", "WARM"):
            state = "not loaded"
        known = found.get(name, RemoteModel(state, 0, one.get("n_params"), one.get("dtype")))
        best = min(known.state, state, key=lambda s: STATES.index(s) if s in STATES else len(STATES))
        found[name] = known._replace(state=best, replicas=known.replicas + (state == "running"))
    return found


class _Plain(pickle.Unpickler):
    """Reads plain values and NDIF's status, and refuses what a pickle could run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("nnsight.schema.response", "Status"):
            return Status
        if (module, name) == ("builtins", "getattr"):
            return _member  # so Python 3.11.0 to 3.11.3 pickle the member of an enum
        raise pickle.UnpicklingError(f"{module}.{name} is not expected here")


def _member(enum: Any, name: str) -> Any:
    if enum is not Status:
        raise pickle.UnpicklingError(f"the {name} of {enum!r} is not expected here")
    return Status[name]


def _opened(message: bytes) -> Any:
    """A message in the bytes of `torch.save`, which is a zip archive with a pickle; it has no tensors."""
    with zipfile.ZipFile(io.BytesIO(message)) as archive:
        [name] = [n for n in archive.namelist() if n.endswith("/data.pkl")]
        return _Plain(io.BytesIO(archive.read(name))).load()


def _decompressed(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)
