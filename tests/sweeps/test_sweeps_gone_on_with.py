"""Sweeps that are stopped, killed or changed, and gone on with from their file."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import models
import pytest
import torch
from counting import PROMPTS, SHORT, Counting, V, direction, length, long, the_same
from torch import Tensor

from steerlab import (
    BASELINE,
    Generation,
    Lab,
    Row,
    Sampling,
    errors,
)
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.judges import code_hash
from steerlab.sweeps import Scores


class Stopping:
    """A judge that lets an exception out once, at its n-th answer."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.__name__ = "stopping"
        self.asked: list[tuple[str, Any]] = []
        self._at, self._error = at, error

    def __call__(self, answer: Generation) -> int:
        self.asked.append((answer.recipe.fingerprint, answer.prompt))
        if len(self.asked) == self._at:
            raise self._error
        return len(answer.text)


@pytest.mark.parametrize("on_disk", [False, True])
def test_after_ctrl_c_no_more_than_the_batch_in_hand_is_repeated(
    lab: Lab, tmp_path: Path, on_disk: bool
) -> None:
    path = tmp_path / "sweep.jsonl" if on_disk else None
    judge = Stopping(10, KeyboardInterrupt())
    options: dict[str, Any] = {
        "prompts": PROMPTS,
        "metrics": [judge, "kl"],
        "sampling": SHORT,
        "batch_rows": 4,
    }
    with pytest.raises(KeyboardInterrupt) as caught:
        lab.sweep(V, path=path, **options)
    assert lab.scores is not None
    assert (lab.scores.done, lab.scores.total) == (8, 39)
    assert "8 of 39 rows are measured and kept" in caught.value.__notes__[0]
    assert len(lab.scores.to_frame()) >= 8
    assert lab.scores.summary().iloc[-1].why == "stopping: not measured yet; kl: not measured yet"
    whole = lab.sweep(V, path=path, **options) if on_disk else lab.scores.resume()
    assert whole.finished
    assert len(judge.asked) == 39 + 2, "two of the batch in hand were asked twice"
    assert len(set(judge.asked)) == 39
    assert the_same(whole, lab.sweep(V, **options))


def test_a_kill_loses_at_most_the_batch_in_hand(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, signal, sys
        import torch
        from steerlab import Direction, Lab, Sampling, Site
        from steerlab.backends.fake import FakeBackend

        def logged(answer):
            with open("asked", "a") as file:
                file.write(answer.recipe.fingerprint + str(answer.prompt) + "\\n")
            if "kill" in sys.argv and len(open("asked").readlines()) == 10:
                os.kill(os.getpid(), signal.SIGKILL)
            return len(answer.text)

        v = Direction(torch.arange(16.0), Site(1, "resid_pre"))
        sweep = Lab(FakeBackend()).sweep(
            v, coefficients=[0, 1, 2], prompts=["One", "Two"], metrics=[logged, "kl"],
            sampling=Sampling(3), batch_rows=4, path="sweep.jsonl",
        )
        assert sweep.finished
    """)
    root = Path(__file__).parents[2]

    def run(*arguments: str) -> int:
        command = [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(root)!r})\n{program}",
            *arguments,
        ]
        return subprocess.run(command, cwd=tmp_path, timeout=120, capture_output=True).returncode

    assert run("kill") == -signal.SIGKILL
    lines = (tmp_path / "sweep.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 8, "the header and two whole batches"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 10
    assert run() == 0
    again = (tmp_path / "asked").read_text().splitlines()
    assert len(set(again)) == 2 * 9
    assert len(again) == len(set(again)) + 2, "only what the kill interrupted was asked twice"
    assert len((tmp_path / "sweep.jsonl").read_text().splitlines()) == 1 + 2 * 9


def test_a_set_event_ends_a_sweep_that_can_be_gone_on_with(lab: Lab, backend: Counting) -> None:
    cancel, told = threading.Event(), []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if done >= 8:
            cancel.set()

    options: dict[str, Any] = {"prompts": PROMPTS, "metrics": ["kl"], "batch_rows": 4}
    sweep = lab.sweep(V, cancel=cancel, progress=progress, **options)
    assert told == [(4, 39), (8, 39)]
    assert (sweep.done, sweep.finished) == (8, False)
    assert the_same(sweep.resume(), lab.sweep(V, **options))
    assert sweep.finished
    calls = len(backend.scored)
    sweep.resume()
    assert len(backend.scored) == calls, "nothing was left to do"


def test_answers_that_were_cut_off_are_not_kept(
    lab: Lab, backend: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = threading.Event()
    generate = backend.generate

    def cut_off(rows: Sequence[Row], sampling: Sampling, **options: Any) -> list[Generation]:
        if len(backend.generated) == 1:
            cancel.set()
        return generate(rows, sampling, **options)

    monkeypatch.setattr(backend, "generate", cut_off)
    sweep = lab.sweep(V, prompts=PROMPTS, metrics=[length], batch_rows=4, cancel=cancel, sampling=SHORT)
    assert sweep.done == 4


def test_a_file_is_gone_on_with_and_grows(lab: Lab, backend: Counting, tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    chat = [{"role": "user", "content": "Hi ☺"}]
    options: dict[str, Any] = {"metrics": ["kl", long], "sampling": SHORT, "path": path, "batch_rows": 5}
    first = lab.sweep(V, prompts=["Hi", chat], **options)
    size = len(path.read_text().splitlines())
    assert size == 1 + first.total
    backend.scored.clear()
    assert the_same(lab.sweep(V, prompts=["Hi", chat], **options), first)
    assert [row.prompt for batch in backend.scored for row in batch] == ["Hello"], (
        "only: is it the same model?"
    )
    more = lab.sweep(V, prompts=["Hi", chat, "New"], coefficients=[0, 1], **options)
    assert len(path.read_text().splitlines()) == size + 4, "the new prompt's rows, and no other"
    assert more.finished


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_torn_last_line_is_computed_again(lab: Lab, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "sweep.jsonl"
    whole = lab.sweep(V, prompts=PROMPTS, metrics=["kl"], path=path)
    data = path.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(data[: last + cut] if cut > 0 else data[:-1])
    assert the_same(lab.sweep(V, prompts=PROMPTS, metrics=["kl"], path=path), whole)
    assert path.read_bytes().count(b"\n") == data.count(b"\n")
    path.write_bytes(data[:30])  # killed while the first line was written
    assert the_same(lab.sweep(V, prompts=PROMPTS, metrics=["kl"], path=path), whole)


def test_files_of_something_else_are_refused_and_left_as_they_are(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    options: dict[str, Any] = {"prompts": PROMPTS, "metrics": [length], "path": path, "coefficients": [1]}
    lab.sweep(V, sampling=SHORT, **options)
    kept = path.read_text()
    with pytest.raises(errors.FileError, match=r"rows of another sweep: sampling: .*6.* there, .*7.* here"):
        lab.sweep(V, sampling=Sampling(7), **options)
    with pytest.raises(errors.FileError, match=r"metrics: \['length'\] there, \['kl'\] here"):
        lab.sweep(V, **{**options, "metrics": ["kl"]})
    other = Lab((models.build("llama"), byte_tokenizer()))
    with pytest.raises(errors.FileError, match=r"model: 'fake' there"):
        other.sweep(direction(models.D_MODEL), sampling=SHORT, **options)
    retrained = Lab(FakeBackend(n_layers=3, seed=1))
    with pytest.raises(errors.FileError, match=r"another sweep: logits after 'Hello': \["):
        retrained.sweep(V, sampling=SHORT, **options)
    assert path.read_text() == kept
    lines = kept.splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "{}\n", *lines[3:]]))
    with pytest.raises(errors.FileError, match=r"line 3 is damaged"):
        lab.sweep(V, sampling=SHORT, **options)
    for text in ("my notes", "my notes\nmore\n", '{"format": "other"}\n'):
        path.write_text(text)
        with pytest.raises(errors.FileError, match="is no file of a sweep"):
            lab.sweep(V, sampling=SHORT, **options)
        assert path.read_text() == text


def test_a_folder_that_is_not_there_is_noticed_before_any_row_runs(tmp_path: Path) -> None:
    backend = Counting()
    with pytest.raises(errors.FileError, match=r"s\.jsonl cannot be written: there is no folder .*no"):
        Lab(backend).sweep(V, prompts=PROMPTS, path=tmp_path / "no" / "s.jsonl")
    assert not backend.scored


@pytest.mark.parametrize("name", ["recipe", "prompt", "text", "why"])
def test_a_judge_named_as_a_column_is_refused_before_any_row_runs(name: str) -> None:
    def judge(answer: Generation) -> bool:
        return True

    judge.__name__, backend = name, Counting()
    with pytest.raises(errors.PromptError, match=f"a metric is named '{name}', as a column of the table"):
        Lab(backend).score(PROMPTS, [BASELINE], ["refusal_score", judge])
    assert not backend.scored


def test_rows_of_other_weights_are_not_gone_on_with(tmp_path: Path) -> None:
    """Though the two say nearly the same."""
    hf = models.build("llama")
    v, path = direction(models.D_MODEL), tmp_path / "s.jsonl"

    def swept() -> Scores:
        lab = Lab((hf, byte_tokenizer()))
        return lab.sweep(v, prompts=["Hi"], coefficients=[1], metrics=["kl"], path=path)

    first = swept()
    assert the_same(swept(), first)
    with torch.no_grad():
        hf.model.layers[2].mlp.down_proj.weight.mul_(1 + 1e-6)
    with pytest.raises(errors.FileError, match=r"another sweep: weights: '\w{16}' there, '\w{16}' here"):
        swept()


def test_rows_of_another_revision_are_not_gone_on_with(tmp_path: Path) -> None:
    def swept(revision: str | None) -> Scores:
        backend = FakeBackend(n_layers=3)
        backend.info = dataclasses.replace(backend.info, revision=revision)
        return Lab(backend).sweep(V, prompts=["Hi"], metrics=["kl"], path=tmp_path / "s.jsonl")

    assert the_same(swept("one"), swept(None)), "where it is not known, the logits tell"
    with pytest.raises(errors.FileError, match="another sweep: revision: 'one' there, 'two' here"):
        swept("two")


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_another_device_may_round_as_its_numbers_do(tmp_path: Path, dtype: str, rounding: float) -> None:
    class Rounding(FakeBackend):
        def __init__(self, by: float) -> None:
            super().__init__(n_layers=3)
            self.info, self.by = dataclasses.replace(self.info, dtype=dtype), by

        def score(self, rows: Sequence[Row]) -> Tensor:
            return super().score(rows) + self.by

    def swept(by: float) -> Scores:
        options: dict[str, Any] = {"prompts": ["Hi"], "metrics": ["kl"], "path": tmp_path / "s.jsonl"}
        return Lab(Rounding(by)).sweep(V, **options)

    assert the_same(swept(0.0), swept(rounding))
    with pytest.raises(errors.FileError, match="another sweep: logits after 'Hello'"):
        swept(100 * rounding)


def test_rows_of_another_version_of_the_format_are_not_gone_on_with(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    lab.sweep(V, prompts=["Hi"], metrics=["kl"], path=path)
    earlier = path.read_text().replace("steerlab.scores/3", "steerlab.scores/2")
    path.write_text(earlier)
    with pytest.raises(
        errors.FileError, match=r"another version of steerlab \(steerlab.scores/2, here .*3\)"
    ):
        lab.sweep(V, prompts=["Hi"], metrics=["kl"], path=path)
    assert path.read_text() == earlier


def test_rows_of_another_template_are_not_gone_on_with(lab: Lab, tmp_path: Path) -> None:
    options: dict[str, Any] = {"prompts": PROMPTS, "metrics": ["kl"], "path": tmp_path / "s.jsonl"}
    lab.sweep(V, **options)
    other = FakeBackend(n_layers=3)
    other.tokenizer = copy.deepcopy(other.tokenizer)
    other.tokenizer.chat_template = "{{ messages[0]['content'] }}!"
    with pytest.raises(errors.FileError, match="another sweep: chat template hash: '.*' there, '.*' here"):
        Lab(other).sweep(V, **options)


def test_rows_of_a_judge_that_was_written_anew_are_not_gone_on_with(lab: Lab, tmp_path: Path) -> None:
    def judged(judge: Callable[[Generation], Any]) -> Scores:
        judge.__name__ = "judge"
        return lab.score(["Hi"], [BASELINE], [judge], sampling=SHORT, path=tmp_path / "j.jsonl")

    first = judged(lambda answer: len(answer.text) > 5)
    assert the_same(judged(lambda answer: len(answer.text) > 5), first), "the same lines in another place"
    for other in (
        lambda answer: len(answer.text) > 6,
        lambda answer: len(answer.text) < 5,
        lambda answer: len(answer.pieces) > 5,
    ):
        with pytest.raises(errors.FileError, match="another sweep: judges' code: {'judge': '.*'} there"):
            judged(other)


def longer(answer: Generation, than: int) -> bool:
    return len(answer.text) > than


class Longer:
    def __init__(self, than: int) -> None:
        self.than = than

    def __call__(self, answer: Generation) -> bool:
        return longer(answer, self.than)


def test_a_table_of_a_judge_without_a_name_is_gone_on_with(lab: Lab, tmp_path: Path) -> None:
    def scored(*judges: Any) -> Scores:
        path = tmp_path / f"{len(judges)}.jsonl"
        return lab.score(["Hi"], [BASELINE], judges, sampling=SHORT, path=path)

    first = scored(Longer(3), functools.partial(longer, than=3))
    assert first.metrics == ("Longer", "longer")
    again = scored(Longer(3), functools.partial(longer, than=3))
    assert the_same(again, first)
    with pytest.raises(errors.FileError, match="another sweep: judges' code"):
        scored(Longer(3), functools.partial(longer, than=4))
    for two in ((Longer(3), Longer(4)), (longer, functools.partial(longer, than=3))):
        with pytest.raises(errors.PromptError, match="two metrics are named '[lL]onger'"):
            scored(*two)


def test_the_values_that_a_judge_was_made_with_are_part_of_its_hash() -> None:
    class Client:
        pass

    def defaults(n: Any) -> Callable[..., Any]:
        def judge(answer: Generation, limit: Any = n) -> bool:
            return len(answer.text) > limit

        return judge

    def keywords(n: Any) -> Callable[..., Any]:
        def judge(answer: Generation, *, limit: Any = n) -> bool:
            return len(answer.text) > limit

        return judge

    def around(n: Any) -> Callable[..., Any]:
        def judge(answer: Generation) -> Any:
            return len(answer.text) > n or judge

        return judge

    for make in (defaults, keywords, around):
        for one, other in [(5, 6), (1, 1.0), ((1, frozenset("a")), (1, frozenset("b"))), (long, length)]:
            assert code_hash(make(one)) == code_hash(make(copy.deepcopy(one))) != code_hash(make(other))
        for one, other in [(Client(), Client()), ([], ["noted"]), ({}, {"kept": 1})]:
            assert code_hash(make(one)) == code_hash(make(other)) != code_hash(make(None))


def test_the_hash_of_a_judge_is_the_same_in_every_process() -> None:
    lines = """
        from functools import partial

        from steerlab.judges import code_hash, name_of

        def judge(answer, words=frozenset({"no", "never", "not"})):
            return any(word in {"no", "never", "not"} for word in answer.text.split())

        class Judge:
            def __call__(self, answer):
                return judge(answer)

        more = partial(judge, object()), Judge()
        print(*map(code_hash, more), *map(name_of, more), code_hash(judge), code_hash(print), code_hash(len))
    """
    runs = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(lines)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].split()[2:4] == ["judge", "Judge"]
    assert runs[0].split()[5:] == ["None", "None"]


def test_a_full_disk_leaves_no_half_line(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    options: dict[str, Any] = {"prompts": PROMPTS, "metrics": ["kl"], "batch_rows": 4, "path": path}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(*_: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))

    try:
        with pytest.raises(errors.FileError, match="cannot be written"):
            lab.sweep(V, progress=fill, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert lab.scores is not None
    assert lab.scores.done == 4
    assert path.read_bytes().count(b"\n") == 1 + 4
    assert path.read_bytes().endswith(b"\n")
    assert lab.scores.resume().finished
    assert the_same(lab.scores, lab.sweep(V, **options))
