"""Prompts in people's own files: CSV, JSON, JSON lines, plain text, or a data set of the Hugging Face hub.

Nothing is guessed: a file that can be read in two ways is an error that names them, and no line is dropped but a blank
one.
"""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from steerlab.errors import FileError, PromptError, SteerlabError

# What a person typed, or a conversation as chat templates take it: [{"role": "user", "content": "…"}, …]. One that ends
# with the assistant's words is gone on with from there.
Prompt = str | Sequence[Mapping[str, str]]

COLUMNS = (
    "prompt",
    "instruction",
    "text",
    "goal",
    "question",
    "messages",
)  # usual names, in any case of letters

_limit = threading.Lock()


class Record(NamedTuple):
    """One line of a table, or one item that is a prompt by itself, and where it stands: "line 3"."""

    where: str
    value: Any


def read(
    source: str | Path, column: str | None = None, *, split: str | None = None, subset: str | None = None
) -> list[Prompt]:
    """The prompts of a file, in order: `.csv` or `.tsv` with a header, `.json`, `.jsonl`, or `.txt` with one a line.

    column: of a table; by default the one with a usual name (`COLUMNS`), else the only one that holds text. A cell is a
    text, or in JSON a conversation `[{"role": …, "content": …}, …]`. A JSON item may also be the prompt itself. Blank
    lines and white space around a prompt are dropped. With split, source names a data set for the `datasets` package,
    as in `read("owner/name", "goal", split="train[:160]")`; subset is its configuration, where it has several.

    Raises FileError for what cannot be read or is not clear, and PromptError where prompts are empty.
    """
    if split is None and subset is not None:
        raise PromptError(
            f"subset={subset!r} is of a data set, and no split was given", 'Add one: split="train".'
        )
    records = _records(Path(source)) if split is None else _data_set(str(source), subset, split)
    return _prompts(source, records, column)


def parse(text: str, name: str, column: str | None = None) -> list[Prompt]:
    """The prompts of a file's text, as `read` takes them; its name says by its ending of what kind it is."""
    return _prompts(name, _reader(Path(name))(Path(name), text.removeprefix("\ufeff")), column)


def _prompts(source: object, records: list[Record], column: str | None) -> list[Prompt]:
    if not records:
        raise FileError(f"{source} has no prompts", "It is empty, or only a header.")
    tables = [isinstance(record.value, dict) for record in records]
    if all(tables):
        column = _column(source, [record.value for record in records], column)
        records = [Record(where, row.get(column)) for where, row in records]
    elif any(tables) or column is not None:
        first = records[tables.index(False)].where
        raise FileError(
            f"{source} has no columns at {first}",
            "Give every prompt there a name, or none of them." if any(tables) else "Leave column= out.",
        )
    empty = [where for where, value in records if _is_empty(value)]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        raise PromptError(
            f"{source} has empty prompts: {', '.join(empty[:5])}{more}", "Fill these in or delete them."
        )
    prompts = [_prompt(source, *record) for record in records]
    for prompt, (where, _) in zip(prompts, records, strict=True):
        if half := half_a_character(prompt):
            raise FileError(
                f"{source}, {where}: the prompt has half of a character in it, {half}",
                "Write the whole character, or take it out.",
            )
    return prompts


def half_a_character(prompt: Prompt) -> str | None:
    """The first lone surrogate of a prompt, as "\\ud800", which no tokenizer takes; None where there is none."""
    texts = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt]
    found = re.search("[\ud800-\udfff]", "".join(texts))
    return found and ascii(found[0])[1:-1]


def _is_empty(value: Any) -> bool:
    """Whether nothing is there: no value, a blank text, or a conversation whose last words are missing."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1].get("content", "")
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _prompt(source: object, where: str, value: Any) -> Prompt:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
        for turn in value
    ):
        return [{"role": turn["role"], "content": turn["content"]} for turn in value]
    raise FileError(
        f"{source}, {where}: {json.dumps(value, default=str)[:60]} is no prompt",
        'A prompt is a text, or a conversation [{"role": "user", "content": "…"}, …].',
    )


def _column(source: object, rows: Sequence[dict[str, Any]], column: str | None) -> str:
    """The column of the prompts."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    listed = f"Its columns are {', '.join(map(repr, names))}"
    if column is not None:
        if column not in names:
            raise FileError(f"{source} has no column {column!r}", f"{listed}.")
        return column
    usual = [name for name in names if name.lower() in COLUMNS]
    found = usual or [name for name in names if any(_is_text(row.get(name)) for row in rows)]
    if len(found) != 1:
        many = f"{len(found)} columns may be" if found else "no column of text is"
        raise FileError(
            f"{source} does not say which column has the prompts: {many} it", f"{listed}: say column=…."
        )
    if not usual and (len(found[0].split()) > 4 or found[0].rstrip().endswith((".", "?", "!"))):
        raise FileError(
            f"{source} begins with {found[0]!r}, which looks like a prompt and not like the name of a column",
            "Put a line with names first, or give the file the ending .txt; column= takes it as it is.",
        )
    return found[0]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and any(letter.isalpha() for letter in value)


# --------------------------------------------------------------------------------------------------------------- kinds


def _reader(path: Path) -> Callable[[Path, str], list[Record]]:
    readers = {
        ".csv": _table,
        ".tsv": _table,
        ".json": _json,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".txt": _lines,
    }
    if path.suffix.lower() not in readers:
        raise FileError(
            f"{path.name} is of no kind that is known here", f"Save it as one of {', '.join(readers)}."
        )
    return readers[path.suffix.lower()]


def _records(path: Path) -> list[Record]:
    if not path.is_file():
        raise FileError(
            f"there is no file {path}",
            'Look at the path; of a data set of the hub, say the split: read("owner/name", split="train").',
        )
    reader = _reader(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # a byte-order mark is dropped, where there is one
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise FileError(
            f"{path} is not UTF-8 text: byte {error.start} cannot be read", "Save it as UTF-8."
        ) from error
    return reader(path, text)


def _lines(_path: Path, text: str) -> list[Record]:
    # not splitlines, for which some characters inside a line end it too
    lines = enumerate(io.StringIO(text, newline=None), 1)
    return [Record(f"line {i}", line) for i, line in lines if line.strip()]


def _json_lines(path: Path, text: str) -> list[Record]:
    return [Record(where, _parse(path, line, where)) for where, line in _lines(path, text)]


def _json(path: Path, text: str) -> list[Record]:
    if not text.strip():
        return []
    value = _parse(path, text, "the file")
    if not isinstance(value, list):
        raise FileError(
            f"{path} holds one JSON {'object' if isinstance(value, dict) else 'value'}, not a list of prompts",
            'Write [{"prompt": "…"}, …].',
        )
    return [Record(f"item {i}", item) for i, item in enumerate(value, 1)]


def _parse(path: Path, text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = (
            "Each line is one JSON value." if where != "the file" else "JSON lines have the ending .jsonl."
        )
        raise FileError(f"{path}: {where} is no JSON ({error})", lines) from error


def _table(path: Path, text: str) -> list[Record]:
    lines = list(io.StringIO(text, newline=""))
    said = re.fullmatch(r'sep=([^"])', lines[0].strip("\r\n "), re.IGNORECASE) if lines else None
    first = text.lstrip().partition("\n")[0]
    # Excel's own first line, else what there is most of: a comma where there is none of them
    delimiter = said[1] if said else max(",;\t", key=first.count)
    if said:
        lines[0] = ""
    names: list[str] = []
    records, start = [], 1
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        with _cells_of(len(text)):
            for cells in reader:
                where, whole, start = f"line {start}", lines[start - 1], reader.line_num + 1
                if not cells or (len(cells) == 1 and not whole.strip()):
                    continue
                if not names:
                    names = [cell.strip() for cell in cells]
                    if len(set(names)) < len(names):
                        raise FileError(
                            f"{path} has two columns of one name: {', '.join(map(repr, names))}",
                            "Rename one.",
                        )
                elif len(cells) != len(names):
                    raise FileError(
                        f"{path}, {where}: {len(cells)} cells under {len(names)} columns",
                        f'A cell with {delimiter!r}, a quote or a new line in it stands in "…".',
                    )
                else:
                    records.append(Record(where, dict(zip(names, cells, strict=True))))
    except csv.Error as error:
        raise FileError(
            f"{path}, line {start}: no CSV ({error})", 'A quote inside a cell is written "".'
        ) from error
    return records


@contextmanager
def _cells_of(length: int) -> Iterator[None]:
    """While open, a cell may be so long; csv knows one limit for the whole process."""
    with _limit:
        before = csv.field_size_limit(length + 1)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _data_set(name: str, subset: str | None, split: str) -> list[Record]:
    try:
        from datasets import load_dataset  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise SteerlabError(
            f"reading the data set {name!r} needs the package datasets, which is not installed",
            "Install it: pip install datasets. A file is read without split=.",
        ) from error
    try:
        rows = [dict(row) for row in load_dataset(name, subset, split=split)]
    except Exception as error:  # the hub's client has errors of several libraries, all with a reason to read
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FileError(
            f"the data set {name!r}, split {split!r}, could not be loaded ({reason})",
            "Look at its page on the hub for its splits and subsets.",
        ) from error
    return [Record(f"row {i}", row) for i, row in enumerate(rows, 1)]
