"""What was asked of jobs that were left with a server: a small file each, so that a new kernel can fetch the answers.

Neither a key nor an answer is in them.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from steerlab.backends.base import ModelInfo
from steerlab.errors import FileError, ModelError
from steerlab.generations import Sampling
from steerlab.recipes import Recipe
from steerlab.rows import Row


def folder() -> Path:
    """Where they are: in the person's data folder."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "steerlab" / "jobs"


def keep(job_id: str, info: ModelInfo, rows: Sequence[Row], sampling: Sampling) -> None:
    """Write down what a job was asked."""
    folder().mkdir(parents=True, exist_ok=True)
    recipes = {row.recipe.fingerprint: row.recipe for row in rows}
    data = {
        "model": info.name,
        "host": info.device,
        "sampling": asdict(sampling),
        "recipes": {name: json.loads(recipe.to_json()) for name, recipe in recipes.items()},
        "rows": [
            {
                "prompt": row.prompt if isinstance(row.prompt, str) else [dict(turn) for turn in row.prompt],
                "recipe": row.recipe.fingerprint,
                "seed": row.seed,
                "chat": row.chat,
            }
            for row in rows
        ],
    }
    _file(job_id).write_text(json.dumps(data), encoding="utf-8")


def read(job_id: str, info: ModelInfo) -> tuple[list[Row], Sampling]:
    """What a job was asked. Raises FileError where it was not asked from here, ModelError where of another model."""
    try:
        data = json.loads(_file(job_id).read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(path.stem for path in folder().glob("*.json"))[-5:]
        raise FileError(
            f"no job {job_id!r} was left from this machine",
            f"Jobs that were: {', '.join(known) or 'none'}; what was asked is kept in {folder()}.",
        ) from None
    except ValueError as error:
        raise FileError(f"{_file(job_id)} is damaged ({error})", "Submit the rows again.") from error
    if (data["model"], data["host"]) != (info.name, info.device):
        raise ModelError(
            f"the job {job_id!r} was left with {data['model']} at {data['host']}, and this is {info.name} at "
            f"{info.device}",
            f"Fetch it with Lab({data['model']!r}, host={data['host']!r}).",
        )
    recipes = {name: Recipe.from_json(json.dumps(recipe)) for name, recipe in data["recipes"].items()}
    rows = [Row(row["prompt"], recipes[row["recipe"]], row["seed"], row["chat"]) for row in data["rows"]]
    return rows, Sampling(**data["sampling"])


def age(job_id: str) -> float:
    """The seconds since a job was left."""
    return time.time() - _file(job_id).stat().st_mtime


def _file(job_id: str) -> Path:
    if not re.fullmatch(r"[\w-]+", job_id):
        raise FileError(f"{job_id!r} is no id of a job", "It is what lab.submit returned.")
    return folder() / f"{job_id}.json"
