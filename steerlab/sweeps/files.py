"""The file of a sweep: JSON lines that grow by a batch at a time, and that a killed process leaves readable.

The first line says what the rows have in common (model, metrics, sampling, judges); a file of another kind is refused.
Each further line is a row, found again by its recipe's fingerprint, its prompt, and which sample of the two it is.

Several processes may add to one file, each with what it was asked for: a lock beside it, `<path>.lock`, is held while a
batch is written. A row that two of them measure stands there twice, and is read as one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from steerlab.errors import FileError
from steerlab.prompts import json_of
from steerlab.rows import Row, same_model
from steerlab.sweeps.measuring import Measured

FAMILY = "steerlab.scores/"
FORMAT = f"{FAMILY}3"
# by how much numbers in the first line may differ: by the rounding of another device, of 32 bits or of 16
EXACT, LOOSE = 1e-3, 0.1


class Key(NamedTuple):
    """What a row is found by: its recipe's fingerprint, its prompt as JSON, and how many samples of it came before."""

    recipe: str
    prompt: str
    sample: int = 0


def check_folder(path: str | Path) -> None:
    """Raise FileError where there is no folder that a file could be written to."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileError(
            f"{path} cannot be written: there is no folder {folder}", "Make it, or give another path."
        )


class ScoresFile:
    """A file that `append` adds to and `read` reads. about: what its rows have in common, as JSON types. rounding: by
    how much lists of numbers in it may differ where they are the same.
    """

    def __init__(self, path: str | Path, about: dict[str, Any], *, rounding: float = EXACT) -> None:
        self.path, self._rounding = Path(path), rounding
        self._about = json.loads(json.dumps({"format": FORMAT, **about}))
        self._header = json.dumps(self._about) + "\n"

    def read(self) -> dict[Key, Measured]:
        """The rows that are there; none where there is no file. A last line that was cut off, or that another process
        writes just now, is left out.

        Raises FileError for a file of another kind, of another version, of another sweep, or with a damaged line.
        """
        try:
            with self.path.open("rb") as file:
                lines = file.readlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise FileError(f"{self.path} cannot be read ({error})") from error
        self._check(lines[0] if lines else b"")
        whole = (line for line in lines[1:] if line.endswith(b"\n"))
        return dict(self._row(number, line) for number, line in enumerate(whole, start=2))

    def append(self, rows: Sequence[tuple[Key, Row, Measured]]) -> None:
        """Add rows at the end: all, or none where it fails. Raises FileError, as `read` does where another process has
        made the file meanwhile.
        """
        lines = "".join(self._line(*row) for row in rows)
        try:
            with FileLock(f"{self.path}.lock"):
                size = self._end()
                try:
                    with self.path.open("ab") as file:
                        file.write((("" if size else self._header) + lines).encode())
                except BaseException:
                    os.truncate(self.path, size)  # half a line would spoil those that are added later
                    raise
        except (OSError, NotImplementedError) as error:  # the latter of a disk that has no locks
            raise FileError(f"{self.path} cannot be written ({error})", "Give another path.") from error

    def _end(self) -> int:
        """Where the file's whole lines end. What a process that was killed left behind them is cut off."""
        with self.path.open("a+b") as file:
            file.seek(0)
            self._check(file.readline())
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if file.read() not in (b"", b"\n"):
                file.seek(0)
                size = file.truncate(file.read().rfind(b"\n") + 1)
            return size

    def _line(self, key: Key, row: Row, measured: Measured) -> str:
        return (
            json.dumps(
                {
                    "recipe": key.recipe,
                    "prompt": json.loads(key.prompt),
                    "sample": key.sample,
                    "does": repr(row.recipe),
                    "values": {k: None if math.isnan(v) else v for k, v in measured.values.items()},
                    "why": measured.why,
                    "text": measured.text,
                }
            )
            + "\n"
        )

    def _row(self, number: int, line: bytes) -> tuple[Key, Measured]:
        try:
            row = json.loads(line)
            values = {name: math.nan if v is None else v for name, v in row["values"].items()}
            if set(values) != set(self._about["metrics"]):
                raise KeyError("metrics")
            key = Key(row["recipe"], json_of(row["prompt"]), row["sample"])
            return key, Measured(values, row["why"], row["text"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileError(
                f"{self.path}: line {number} is damaged ({type(error).__name__}: {error})",
                "Delete that line, and its row is computed again.",
            ) from error

    def _check(self, first: bytes) -> None:
        """Raise FileError where a file's first line says that it is not of this sweep; one that was cut off in the
        middle says nothing else.
        """
        if not first.endswith(b"\n") and self._header.encode().startswith(first):
            return
        try:
            about = json.loads(first)
        except ValueError:
            about = None
        kind = str(about.get("format")) if isinstance(about, dict) else ""
        if not kind.startswith(FAMILY):
            raise self._foreign()
        if kind != FORMAT:
            raise FileError(
                f"{self.path} was written by another version of steerlab ({kind}, here {FORMAT}), whose rows may be of "
                "other weights or other noise; it is left as it is",
                "Give another path: the rows are measured anew.",
            )
        differ = [name for name, here in self._about.items() if not self._same(name, about.get(name), here)]
        if differ:
            told = "; ".join(f"{n}: {about.get(n)!r} there, {self._about[n]!r} here" for n in differ)
            raise FileError(
                f"{self.path} holds the rows of another sweep: {told}",
                "Give the same again to go on with it, or another path.",
            )

    def _same(self, name: str, there: object, here: object) -> bool:
        """Whether the file says of its rows what is said here, as far as both know."""
        if name == "model":
            return same_model(str(there), str(here))
        if name in ("revision", "weights") and None in (there, here):
            return True
        if isinstance(here, list) and isinstance(there, list):
            return len(here) == len(there) and all(map(self._alike, there, here))
        return there == here

    def _alike(self, there: object, here: object) -> bool:
        """Whether two JSON values are the same, numbers with a fraction but for rounding."""
        if isinstance(here, float) and isinstance(there, float):
            return math.isclose(there, here, rel_tol=self._rounding / 5, abs_tol=self._rounding)
        return there == here

    def _foreign(self) -> FileError:
        return FileError(
            f"{self.path} is no file of a sweep ({FORMAT}), and it is left as it is", "Give another path."
        )
