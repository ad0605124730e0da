"""What was asked of jobs that were left with a server: a small file each, so that a new kernel can fetch the answers.

Neither a key nor an answer is in them.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from steerlab.backends.base import ModelInfo
from steerlab.errors import FileError, ModelError
from steerlab.generations import Sampling
from steerlab.recipes import Recipe
from steerlab.rows import Row

FIELDS: dict[str, type | tuple[type, ...]] = {
    "model": str,
    "host": str,
    "left": (int, float),
    "stage": str,
    "parts": dict,
    "sampling": dict,
    "recipes": dict,
    "rows": list,
}


@dataclass(frozen=True)
class Kept:
    """A job that was left. id: what `lab.submit` returned. parts: the jobs on the server that it is, by their ids, and
    the numbers of the rows that each answers. stage: how it ended, where that is known. left: when, by `time.time`.
    """

    id: str
    parts: dict[str, list[int]]
    stage: str
    left: float

    @property
    def age(self) -> float:
        """Seconds since it was left."""
        return max(0.0, time.time() - self.left)

    @property
    def rows(self) -> int:
        """How many rows it answers."""
        return sum(map(len, self.parts.values()))


def folder() -> Path:
    """Where they are: in the person's data folder."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "steerlab" / "jobs"


def keep(
    parts: dict[str, list[int]], source: str, info: ModelInfo, rows: Sequence[Row], sampling: Sampling
) -> str:
    """Write down what a job was asked; its id is that of its first part. source: what opens its model."""
    folder().mkdir(parents=True, exist_ok=True)
    recipes = {row.recipe.fingerprint: row.recipe for row in rows}
    job_id = next(iter(parts))
    _write(
        job_id,
        {
            "model": info.name,
            "source": source,
            "host": info.device,
            "left": time.time(),
            "stage": "",
            "parts": parts,
            "sampling": asdict(sampling),
            "recipes": {name: json.loads(recipe.to_json()) for name, recipe in recipes.items()},
            "rows": [
                {
                    "prompt": row.prompt
                    if isinstance(row.prompt, str)
                    else [dict(turn) for turn in row.prompt],
                    "recipe": row.recipe.fingerprint,
                    "seed": row.seed,
                    "chat": row.chat,
                }
                for row in rows
            ],
        },
    )
    return job_id


def read(job_id: str, info: ModelInfo) -> tuple[Kept, list[Row], Sampling]:
    """What a job was asked. Raises FileError where it was not asked from here, or its file cannot be used; ModelError
    where it was asked of another model.
    """
    data = _data(job_id)
    if (data["model"], data["host"]) != (info.name, info.device):
        raise ModelError(
            f"the job {job_id!r} was left with {data['model']} at {data['host']}, and this is {info.name} at "
            f"{info.device}",
            f"Fetch it with Lab({data.get('source', data['model'])!r}, host={data['host']!r}).",
        )
    try:
        recipes = {name: Recipe.from_json(json.dumps(recipe)) for name, recipe in data["recipes"].items()}
        rows = [Row(row["prompt"], recipes[row["recipe"]], row["seed"], row["chat"]) for row in data["rows"]]
        return _kept(job_id, data), rows, Sampling(**data["sampling"])
    except (KeyError, TypeError, AttributeError) as error:
        raise FileError(
            f"{_file(job_id)} cannot be used here ({error})",
            "A newer steerlab may have written it: fetch it with that one, or submit the rows again.",
        ) from error


def listed(info: ModelInfo) -> list[Kept]:
    """The jobs that were left with a model from this machine, newest first. A file that is damaged is passed over."""
    found = []
    for path in folder().glob("*.json"):
        try:
            data = _data(path.stem)
        except FileError:
            continue
        if (data["model"], data["host"]) == (info.name, info.device):
            found.append(_kept(path.stem, data))
    return sorted(found, key=lambda job: -job.left)


def ended(job_id: str, stage: str) -> str:
    """Write down how a job ended; what is known of that from then on. One that was cancelled here stays so, even where
    the server, asked a moment before that was written down, says that it failed.
    """
    with FileLock(folder() / ".lock"):  # another kernel may note the same
        data = _data(job_id)
        if data["stage"] != "cancelled":
            _write(job_id, {**data, "stage": stage})
            return stage
        return "cancelled"


def _kept(job_id: str, data: dict[str, Any]) -> Kept:
    return Kept(job_id, data["parts"], data["stage"], data["left"])


def _data(job_id: str) -> dict[str, Any]:
    path = _file(job_id)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        wrong = [name for name, kind in FIELDS.items() if not isinstance(data.get(name), kind)]
    except FileNotFoundError:
        known = sorted(path.stem for path in folder().glob("*.json"))[-5:]
        raise FileError(
            f"no job {job_id!r} was left from this machine",
            f"Jobs that were: {', '.join(known) or 'none'}; what was asked is kept in {folder()}.",
        ) from None
    except (ValueError, AttributeError) as error:
        raise FileError(f"{path} is damaged ({error})", "Submit the rows again.") from error
    if wrong:
        raise FileError(
            f"{path} is damaged (its {', '.join(wrong)} cannot be used)", "Submit the rows again."
        )
    return dict(data)


def _write(job_id: str, data: dict[str, Any]) -> None:
    path = _file(job_id)
    fresh = path.with_suffix(f".{uuid.uuid4().hex}")  # so that nobody reads half of it
    fresh.write_text(json.dumps(data), encoding="utf-8")
    fresh.replace(path)


def _file(job_id: str) -> Path:
    if not re.fullmatch(r"[\w-]+", job_id):
        raise FileError(f"{job_id!r} is no id of a job", "It is what lab.submit returned.")
    return folder() / f"{job_id}.json"
