"""The file of a sweep, which several processes may write to."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from steerlab import Direction, Row, Site, errors
from steerlab.backends.fake import FakeBackend
from steerlab.prompts import json_of
from steerlab.sweeps import Scores, grid
from steerlab.sweeps.files import Key, ScoresFile
from steerlab.sweeps.measuring import Measured

ABOUT = {"model": "fake", "metrics": ["kl"]}
V = Direction(torch.ones(16), Site(1, "resid_pre"))


def row(prompt: str) -> tuple[Key, Row, Measured]:
    return Key("0" * 16, json_of(prompt)), Row(prompt), Measured({"kl": 0.5}, {}, None)


def prompts_of(path: Path) -> list[str]:
    return sorted(key.prompt.strip('"') for key in ScoresFile(path, ABOUT).read())


def swept(path: Path, layer: int, *metrics: str) -> Scores:
    cells = grid(V, n_layers=3, layers=layer, coefficients=[1, 2])
    return Scores(FakeBackend(n_layers=3), cells, ["Hi", "Ho"], metrics=metrics, path=path, batch_rows=2)


def test_two_tables_that_were_begun_together_make_one_file(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    tables = [swept(path, layer, "kl") for layer in (0, 1)]
    stop = threading.Event()
    tables[0].resume(cancel=stop, progress=lambda done, total: stop.set())
    tables[1].resume()
    tables[0].resume()
    lines = path.read_text().splitlines()
    assert len(lines) == 1 + 8
    assert [i for i, line in enumerate(lines) if '"format"' in line] == [0]
    assert all(swept(path, layer, "kl").finished for layer in (0, 1))


def test_a_file_that_another_sweep_has_made_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    first, other = swept(path, 0, "kl"), swept(path, 0, "refusal_score", "kl")
    first.resume()
    kept = path.read_bytes()
    with pytest.raises(errors.FileError, match=r"rows of another sweep: metrics: \['kl'\] there"):
        other.resume()
    assert path.read_bytes() == kept


def test_rows_that_two_processes_write_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    lines = """
        import sys

        sys.path.insert(0, sys.argv[1])
        from pathlib import Path

        from test_sweep_files import ABOUT, ScoresFile, row

        file = ScoresFile(Path(sys.argv[2]), ABOUT)
        for i in range(100):
            file.append([row(f"{sys.argv[3]} {i} {k} {'long ' * 2000}") for k in range(3)])
    """
    here = str(Path(__file__).parent)
    run = [sys.executable, "-c", textwrap.dedent(lines), here, str(path)]
    both = [subprocess.Popen([*run, name]) for name in ("a", "b")]
    assert [one.wait() for one in both] == [0, 0]
    assert len(prompts_of(path)) == 600
    assert path.read_bytes().count(b'"format"') == 1


def test_a_writer_that_is_interrupted_takes_back_its_own_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.jsonl"
    ScoresFile(path, ABOUT).append([row("before")])
    beside = threading.Thread(target=lambda: ScoresFile(path, ABOUT).append([row("beside")]))
    opened = Path.open

    def interrupted(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if mode == "ab" and threading.current_thread() is not beside:
            beside.start()
            beside.join(0.3)
            with opened(self, mode) as file:
                file.write(b'{"half a li')
            raise KeyboardInterrupt
        return opened(self, mode, *args, **options)

    monkeypatch.setattr(Path, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ScoresFile(path, ABOUT).append([row("mine")])
    beside.join()
    assert prompts_of(path) == ["before", "beside"]


def test_half_a_line_of_a_killed_writer_is_cut_off_before_more_is_added(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    file = ScoresFile(path, ABOUT)
    file.append([row("one"), row("two")])
    data = path.read_bytes()
    path.write_bytes(data[:-9])
    assert prompts_of(path) == ["one"]
    assert path.read_bytes() == data[:-9], "another process may be writing it: only who writes cuts"
    file.append([row("three")])
    assert prompts_of(path) == ["one", "three"]


def unlocked(*_: object) -> None:
    raise NotImplementedError("FileSystem does not appear to support flock")


def refused(*_: object) -> None:
    raise PermissionError("read-only")


@pytest.mark.parametrize("fails", [unlocked, refused])
def test_where_nothing_can_be_locked_the_error_is_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., None]
) -> None:
    path = tmp_path / "s.jsonl"
    monkeypatch.setattr("steerlab.sweeps.files.FileLock.acquire", fails)
    with pytest.raises(errors.FileError, match=r"s\.jsonl cannot be written \(.*Give another path"):
        ScoresFile(path, ABOUT).append([row("one")])


def test_a_whole_table_is_read_from_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.jsonl"
    first = swept(path, 0, "kl").resume()
    monkeypatch.setattr("steerlab.sweeps.files.FileLock.acquire", refused)
    again = swept(path, 0, "kl").resume()
    assert again.to_frame().equals(first.to_frame())


def test_a_row_knows_which_sample_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    key, of, measured = row("Hi")
    both = [(key._replace(sample=i), of, measured._replace(text=str(i))) for i in (0, 1)]
    ScoresFile(path, ABOUT).append(both)
    assert ScoresFile(path, ABOUT).read() == {k: m for k, _, m in both}
