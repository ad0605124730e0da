from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import models
import numpy as np
import pytest
import torch
from torch import Tensor

from steerlab import (
    BASELINE,
    Ablate,
    Add,
    Direction,
    Generation,
    Lab,
    Recipe,
    Row,
    Sampling,
    Site,
    errors,
    metrics,
)
from steerlab.backends.base import OnTokens
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.errors import ModelError
from steerlab.estimators import random_like
from steerlab.generations import NOT_FINITE
from steerlab.judges import code_hash
from steerlab.prompts import harmful, harmless
from steerlab.sweeps import Scores, Sweep, named

PROMPTS = ["How do I bake bread?", "Hi", "What is a lock?"]
TOKENS = [65, 66]
SHORT = Sampling(6)


def direction(width: int = 16) -> Direction:
    noise = torch.randn(width, generator=torch.Generator().manual_seed(0))
    return Direction(2 * noise, Site(1, "resid_pre"), name="v")


V = direction()


class Counting(FakeBackend):
    """Remembers the rows of every call, and how many of the logits that it gave out are still held at the next call."""

    def __init__(self) -> None:
        super().__init__(n_layers=3)
        self.scored: list[list[Row]] = []
        self.generated: list[list[Row]] = []
        self.held: list[int] = []
        self._given: list[weakref.ref[Tensor]] = []

    def score(self, rows: Sequence[Row]) -> Tensor:
        self.scored.append(list(rows))
        self.held.append(sum(ref() is not None for ref in self._given))
        logits = super().score(rows).clone()
        self._given.append(weakref.ref(logits))
        return logits

    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        self.generated.append(list(rows))
        return super().generate(rows, sampling, on_tokens=on_tokens, cancel=cancel)


@pytest.fixture
def backend() -> Counting:
    return Counting()


@pytest.fixture
def lab(backend: Counting) -> Lab:
    return Lab(backend)


def length(answer: Generation) -> int:
    return len(answer.text)


def long(answer: Generation) -> bool:
    return len(answer.text) > 5


def the_same(one: Scores, other: Scores) -> bool:
    return bool(one.to_frame().equals(other.to_frame()))


# ------------------------------------------------------------ what is measured


@pytest.mark.parametrize("kind", ["fake", "local"])
def test_a_sweep_is_a_plain_loop(kind: str) -> None:
    lab = Lab(FakeBackend(n_layers=3) if kind == "fake" else (models.build("llama"), byte_tokenizer()))
    v, n = direction(lab.info.d_model), lab.info.n_layers
    names = ("refusal_score", "kl", "refusal_rate", "repetition", "cross_entropy", length)
    sweep = lab.sweep(
        v,
        coefficients=[-1, 0, 2],
        prompts=PROMPTS,
        metrics=names,
        refusal_tokens=TOKENS,
        sampling=SHORT,
        batch_rows=7,
    )
    frame = sweep.to_frame()
    expected = []
    for layer in range(n):
        for c in (-1.0, 0.0, 2.0):
            for prompt in PROMPTS:
                row = Row(prompt, Recipe([Add(v, c, layers=layer)]))
                base, steered = lab.backend.score([Row(prompt)]), lab.backend.score([row])
                text = lab.backend.generate([row], SHORT)[0].text
                score = float(metrics.refusal_score(steered, TOKENS))
                kl, loops = float(metrics.kl(base, steered)), metrics.repetition(text)
                own = lab.backend.generate([Row(prompt)], SHORT)[0].token_ids
                entropy = -float(lab.backend.likelihood([row], [own])[0].mean())
                expected.append(
                    (layer, c, prompt, score, kl, metrics.refuses(text), loops, entropy, len(text), text)
                )
    assert len(frame) == len(expected) == n * 3 * len(PROMPTS)
    for got, wanted in zip(frame.itertuples(index=False), expected, strict=True):
        assert (*got[:3], got.refusal_rate, got.length, got.text) == (*wanted[:3], wanted[5], *wanted[8:])
        assert (got.refusal_score, got.kl, got.repetition, got.cross_entropy) == pytest.approx(
            (*wanted[3:5], *wanted[6:8]), abs=1e-5, nan_ok=True
        )
        assert ("repetition: an answer of fewer than three words" in got.why) == math.isnan(wanted[6])
    assert list(frame.columns)[:3] == ["layer", "coefficient", "prompt"]


def test_only_what_the_metrics_need_is_computed(lab: Lab, backend: Counting) -> None:
    sweep = lab.sweep(V, prompts=PROMPTS, metrics=["kl"], batch_rows=4)
    assert not backend.generated
    rows = [row for batch in backend.scored for row in batch]
    assert len(rows) == sweep.total == len(PROMPTS) * (1 + 3 * 4), "one baseline a prompt, and no row twice"
    order = [row.prompt for row in rows]
    assert [p for i, p in enumerate(order) if i == 0 or order[i - 1] != p] == PROMPTS
    assert not any(backend.held), "no logits outlive their batch"
    backend.scored.clear()
    lab.sweep(V, prompts=PROMPTS, metrics=[length], coefficients=[1], sampling=SHORT)
    assert not backend.scored
    assert sum(map(len, backend.generated)) == 3 * len(PROMPTS)
    lab.sweep(V, prompts=PROMPTS, metrics=["refusal_score"], coefficients=[1], refusal_tokens=TOKENS)
    assert all(row.recipe for batch in backend.scored for row in batch), "a score needs no baseline"
    backend.generated.clear()
    lab.sweep(V, prompts=PROMPTS, metrics=["cross_entropy"], sampling=SHORT, batch_rows=4)
    generated = [row for batch in backend.generated for row in batch]
    answered = [(row.prompt, row.recipe) for row in generated]
    assert answered == [(prompt, BASELINE) for prompt in PROMPTS], "one answer a prompt, the baseline's"
    backend.generated.clear()
    lab.sweep(V, prompts=PROMPTS, metrics=["cross_entropy", length], sampling=SHORT, batch_rows=4)
    assert sum(map(len, backend.generated)) == sweep.total, "one answer a row"


def test_the_noise_of_sampled_answers_is_of_their_prompt(lab: Lab, backend: Counting, tmp_path: Path) -> None:
    """So that a mean over prompts is of answers that do not go alike, and the same whatever is measured beside."""
    sampling = Sampling(6, 1.0)
    options: dict[str, Any] = {"metrics": [length, "cross_entropy"], "sampling": sampling, "layers": 1}
    whole = lab.sweep(V, prompts=PROMPTS, **options)
    rows = {row for batch in backend.generated for row in batch}
    by_prompt = {prompt: {row.seed for row in rows if row.prompt == prompt} for prompt in PROMPTS}
    assert [len(found) for found in by_prompt.values()] == [1] * 3
    assert len(set.union(*by_prompt.values())) == 3
    path = tmp_path / "s.jsonl"
    lab.sweep(V, prompts=PROMPTS[1:], path=path, **options)
    assert the_same(lab.sweep(V, prompts=PROMPTS, path=path, **options), whole)
    with pytest.raises(
        errors.FileError, match=r"another sweep: sampling: .*'seed': 0.* there, .*'seed': 1.* here"
    ):
        lab.sweep(V, prompts=PROMPTS, path=path, seed=1, **options)
    assert not the_same(lab.sweep(V, prompts=PROMPTS, seed=1, **options), whole)


def test_a_prompt_that_is_given_again_is_another_sample(lab: Lab, backend: Counting, tmp_path: Path) -> None:
    options: dict[str, Any] = {"metrics": [length, "kl"], "sampling": Sampling(12, 3.0), "batch_rows": 5}
    recipes = [BASELINE, Recipe([Add(V)])]
    path = tmp_path / "s.jsonl"
    table = lab.score(["Hi", "Ho"] * 4, recipes, path=path, **options)
    frame = table.to_frame()
    assert frame["prompt"].tolist() == ["Hi", "Ho"] * 8
    assert table.total == 16
    for _, answers in frame.groupby(["recipe", "prompt"])["text"]:
        assert len(set(answers)) > 2
    rows = [row for batch in backend.generated for row in batch]
    assert len(rows) == 16
    assert len({(row.prompt, row.seed) for row in rows}) == 8, "a sample's noise is that of its baseline"
    assert table.estimate("length", table.cells[0]) == metrics.estimate(
        [float(len(text)) for text in frame["text"][:8]]
    )
    report = lab.measure(BASELINE, ["Hi"] * 4, ["Ho"] * 4, sampling=Sampling(12, 3.0))
    assert sorted(answer.text for answer in report.completions["baseline"]) == sorted(frame["text"][:8])
    backend.generated.clear()
    assert the_same(lab.score(["Hi", "Ho"] * 4, recipes, path=path, **options), table)
    assert not backend.generated
    more = lab.score(["Hi"] * 6, recipes, path=path, **options)
    assert sum(map(len, backend.generated)) == 2 * 2, "two more samples of each recipe"
    assert more.to_frame()["text"].tolist()[:4] == frame["text"].tolist()[:8:2]


def test_a_prompt_that_is_given_again_says_the_same_where_nothing_is_sampled(
    lab: Lab, backend: Counting
) -> None:
    """It is run once, and counts as it is given: as in `lab.measure`."""
    table = lab.score(["Hi", "Hi", "Ho"], [BASELINE], [length], sampling=SHORT)
    assert sum(map(len, backend.generated)) == table.total == 2
    values = table.to_frame()["length"].tolist()
    assert values[0] == values[1]
    assert table.estimate("length", table.cells[0]) == metrics.estimate(values)
    report = lab.measure(BASELINE, ["Hi", "Hi"], ["Ho"], sampling=SHORT)
    assert report["baseline"].refusal_rate.n == 2
    many = lab.score(["Hi"] * 3, [BASELINE], ["kl", "repetition"], sampling=Sampling(6, 1.0))
    few = Scores(backend, many.cells, ["Hi"] * 3, metrics=["kl"])
    few.adopt(many)
    assert few.finished, "what the logits say is that of every sample"


def test_greedy_answers_are_of_every_seed(lab: Lab, backend: Counting, tmp_path: Path) -> None:
    options: dict[str, Any] = {"prompts": PROMPTS, "metrics": [length], "sampling": SHORT, "layers": 1}
    first = lab.sweep(V, path=tmp_path / "s.jsonl", **options)
    backend.generated.clear()
    assert the_same(lab.sweep(V, path=tmp_path / "s.jsonl", seed=1, **options), first)
    other = Scores(backend, first.cells, PROMPTS, metrics=["repetition"], sampling=SHORT, seed=1)
    taken = Scores(backend, first.cells, PROMPTS, metrics=["repetition"], sampling=SHORT).resume()
    other.adopt(taken)
    assert other.finished
    assert sum(map(len, backend.generated)) == taken.total


def test_coefficient_zero_is_the_baseline(lab: Lab) -> None:
    frame = lab.sweep(V, coefficients=[0, 1], prompts=PROMPTS, metrics=["kl", length]).to_frame()
    assert (frame[frame.coefficient == 0].kl == 0).all()
    assert (frame[frame.coefficient == 1].kl > 0).all()
    strength = lab.sweep(
        lambda layer, c: Recipe([Ablate(V, layers=layer, strength=c)]), coefficients=[0, 1], prompts=PROMPTS
    )
    assert strength.total == len(PROMPTS) * (1 + 3)


def test_a_function_says_what_is_done_in_a_cell(lab: Lab) -> None:
    def make(layer: int, c: float) -> Recipe:
        return Recipe([Ablate(V, layers=layer, strength=c)])

    sweep = lab.sweep(make, layers=[2, 0], coefficients=(0.5, 1), prompts=PROMPTS)
    assert [cell.place for cell in sweep.cells] == [
        {"layer": layer, "coefficient": c} for layer in (0, 2) for c in (0.5, 1.0)
    ]
    assert [cell.recipe for cell in sweep.cells] == [make(layer, c) for layer in (0, 2) for c in (0.5, 1)]
    of_numpy = [lab.sweep(make, layers=given, prompts=["Hi"]) for given in (np.arange(1, 3), np.int64(1))]
    assert [[cell.place["layer"] for cell in sweep.cells[::5]] for sweep in of_numpy] == [[1, 2], [1]]
    assert json.dumps([cell.place for cell in of_numpy[0].cells])
    at = lab.sweep(V, layers=2, coefficients=[1], prompts=PROMPTS, point="mlp_out").cells[0].recipe
    assert at == Recipe([Add(V, 1, layers=2, sites="mlp_out")])


def test_recipes_are_scored_by_name(lab: Lab, backend: Counting) -> None:
    push = Recipe([Add(V)])
    table = lab.score(
        PROMPTS, {"none": BASELINE, "push": push}, [metrics.refusal_rate, metrics.kl, metrics.cross_entropy]
    )
    frame = table.to_frame().set_index(["recipe", "prompt"])
    kl = metrics.kl(backend.score([Row("Hi")]), backend.score([Row("Hi", push)]))
    assert frame.loc[("push", "Hi"), "kl"] == pytest.approx(float(kl), abs=1e-6)
    assert frame.loc[("none", "Hi"), "kl"] == 0
    assert table.metrics == ("refusal_rate", "kl", "cross_entropy")
    assert [c.place["recipe"] for c in lab.score(["Hi"], [BASELINE, push]).cells] == [
        "baseline",
        "add 'v' +1 at resid_pre[1]",
    ]


def test_recipes_that_read_alike_are_told_apart(lab: Lab) -> None:
    at = [Direction(V.vector + i, Site(i, "resid_pre"), name="v") for i in range(3)]
    same_site = [Direction(V.vector + i, Site(0, "resid_pre"), name="w") for i in range(2)]
    alone = Recipe([Ablate(Direction(V.vector, name="u"))])
    recipes = [alone, *(Recipe([Ablate(d)]) for d in (*at, *same_site)), alone]
    names = [cell.place["recipe"] for cell in named(recipes)]
    words = "ablate {} strength 1 at resid_pre, attn_out, mlp_out of all layers"
    assert names[0] == names[-1] == words.format("'u'")
    assert names[1:4] == [f"{words.format(repr('v'))}, found at resid_pre[{i}]" for i in range(3)]
    assert names[4:6] == [
        f"{words.format(repr('w'))}, found at resid_pre[0] #{r.fingerprint[:6]}" for r in recipes[4:6]
    ]


def test_the_control_is_random_with_the_same_norm_and_stands_beside(lab: Lab, backend: Counting) -> None:
    sweep = lab.sweep(V, coefficients=[0, 1], prompts=PROMPTS, metrics=["kl"], control=True, seed=3)
    frame = sweep.to_frame().set_index(["layer", "coefficient", "control", "prompt"])
    assert len(frame) == 2 * 3 * 2 * len(PROMPTS)
    random = Recipe([Add(random_like(V, seed=3), 1.0, layers=2)])
    kl = metrics.kl(backend.score([Row("Hi")]), backend.score([Row("Hi", random)]))
    assert frame.loc[(2, 1.0, True, "Hi"), "kl"] == pytest.approx(float(kl), abs=1e-6)
    assert frame.loc[(2, 1.0, False, "Hi"), "kl"] != pytest.approx(float(kl), abs=1e-6)


def test_a_summary_has_a_row_a_cell_with_intervals_of_its_rows(lab: Lab) -> None:
    sweep = lab.sweep(V, coefficients=[0, 1], prompts=PROMPTS, metrics=["kl", long], sampling=SHORT)
    frame, summary = sweep.to_frame(), sweep.summary()
    assert len(summary) == len(sweep.cells) == 6
    for cell, line in zip(sweep.cells, summary.to_dict("records"), strict=True):
        rows = frame[(frame.layer == cell.place["layer"]) & (frame.coefficient == cell.place["coefficient"])]
        kl = metrics.average(torch.tensor(list(rows.kl), dtype=torch.float64))
        assert (line["kl"], line["kl_low"], line["kl_high"], line["kl_n"]) == kl == sweep.estimate("kl", cell)
        share = metrics.rate(list(rows.long))
        assert (line["long"], line["long_low"], line["long_high"], line["long_n"]) == share
        assert line["why"] == ""


def test_the_refusal_tokens_are_the_models_own(lab: Lab, backend: Counting) -> None:
    sides = (backend.score([Row(prompt) for prompt in side]) for side in (harmful(32), harmless(32)))
    derived = metrics.refusal_tokens(*sides)
    sweep = lab.sweep(V, prompts=PROMPTS, coefficients=[1], metrics=["refusal_score"])
    assert sweep.refusal_tokens == tuple(derived)
    given = lab.sweep(V, prompts=PROMPTS, coefficients=[1], metrics=["refusal_score"], refusal_tokens=derived)
    assert the_same(sweep, given)


def test_the_map_shows_the_means(lab: Lab) -> None:
    mpl.use("agg")
    sweep = lab.sweep(V, coefficients=[1, 0], prompts=PROMPTS, metrics=["kl"], control=True)
    shown = sweep.plot().get_images()[0].get_array()
    control = sweep.plot("kl", control=True).get_images()[0].get_array()
    mean = sweep.to_frame().groupby(["control", "coefficient", "layer"]).kl.mean()
    np.testing.assert_allclose(shown, mean[False].unstack(), rtol=1e-6)
    np.testing.assert_allclose(control, mean[True].unstack(), rtol=1e-6)


# ------------------------------------------------------------ stopped and gone on with


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
    root = Path(__file__).parent.parent

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


# ------------------------------------------------------------ what goes wrong


def test_a_judge_that_raises_costs_its_own_rows_alone(lab: Lab, tmp_path: Path) -> None:
    def moody(answer: Generation) -> float:
        if answer.prompt == "Hi":
            raise TimeoutError("no answer")
        return 1.0

    options: dict[str, Any] = {
        "prompts": PROMPTS,
        "metrics": [moody, "kl"],
        "coefficients": [1],
        "layers": [1, 2],
    }
    with pytest.warns(UserWarning, match=r"moody raised on 2 of 6 answers") as caught:
        sweep = lab.sweep(V, path=tmp_path / "s.jsonl", sampling=SHORT, **options)
    assert caught[0].filename == __file__
    told = str(caught[0].message)
    assert "TimeoutError: no answer, on the prompt 'Hi' with the answer" in told
    assert told.endswith("under Recipe([add 'v' +1 at resid_pre of layer 1])")
    frame = lab.sweep(V, path=tmp_path / "s.jsonl", sampling=SHORT, **options).to_frame()
    assert frame.equals(sweep.to_frame())
    assert frame[frame.moody.isna()].prompt.tolist() == ["Hi", "Hi"]
    assert set(frame[frame.moody.isna()].why) == {"moody: TimeoutError: no answer"}
    assert frame.kl.notna().all()
    assert sweep.estimate("moody", sweep.cells[0]).n == 2


@pytest.mark.parametrize(
    ("given", "why"),
    [("yes", "gives a bool or a number, not 'yes'"), (None, "not None"), (math.nan, "the judge gave nan")],
)
@pytest.mark.filterwarnings("ignore:the judge")
def test_no_number_is_nan_with_a_reason_and_never_zero(lab: Lab, given: Any, why: str) -> None:
    def odd(answer: Generation) -> Any:
        return given

    summary = lab.score(["Hi"], [Recipe([Add(V)])], [odd], sampling=SHORT).summary()
    assert math.isnan(summary.odd[0])
    assert summary.odd_n[0] == 0
    assert why in summary.why[0]


def test_answers_that_are_no_numbers_are_left_out_of_every_figure(lab: Lab, tmp_path: Path) -> None:
    """Logits that overflow, whose likeliest token would be the first one: no refusal, and no answer."""
    too_far = Recipe([Add(Direction(torch.ones(16), Site(1, "resid_pre")), 3e38)])
    asked: list[Generation] = []

    def judge(answer: Generation) -> bool:
        asked.append(answer)
        return False

    recipes, given = {"no": BASELINE, "far": too_far}, ["refusal_rate", judge, "cross_entropy", "kl"]
    for _ in range(2):  # measured, and read from the file
        table = lab.score(["Hi", "you"], recipes, given, sampling=SHORT, path=tmp_path / "t.jsonl")
        assert [answer.recipe for answer in asked] == [BASELINE] * 2
        for name in table.metrics:
            assert table.estimate(name, table.cells[0]).n == 2
            assert table.estimate(name, table.cells[1]).n == 0
            assert f"{name}: the logits are not finite" in table.summary().why[1]


def test_a_baseline_that_is_no_number_has_no_cross_entropy() -> None:
    class Overflows(FakeBackend):
        def generate(self, rows: Sequence[Row], *args: Any, **options: Any) -> list[Generation]:
            answers = super().generate(rows, *args, **options)
            return [dataclasses.replace(a, fault=NOT_FINITE) if a.prompt == "Hi" else a for a in answers]

    table = Lab(Overflows()).score(["Hi", "you"], [Recipe([Add(V)])], ["cross_entropy"], sampling=SHORT)
    assert table.to_frame().why.tolist() == ["cross_entropy: the logits are not finite", ""]
    assert table.estimate("cross_entropy", table.cells[0]).n == 1


def test_numpy_and_torch_numbers_are_numbers(lab: Lab) -> None:
    def share(answer: Generation) -> Any:
        return np.bool_(answer.prompt == "Hi")

    def score(answer: Generation) -> Any:
        return torch.tensor(2)

    table = lab.score(["Hi", "Ho"], [BASELINE], [share, score], sampling=SHORT)
    assert table.estimate("share", table.cells[0]) == metrics.rate([True, False])
    assert table.estimate("score", table.cells[0])[:3] == (2, 2, 2)


REFUSED: list[tuple[type[Exception], str, Callable[[Lab], object]]] = [
    (errors.PromptError, "prompts is empty", lambda lab: lab.sweep(V, prompts=[])),
    (errors.PromptError, "prompts is one text", lambda lab: lab.sweep(V, prompts="Hi")),
    (errors.PromptError, "the prompt is empty", lambda lab: lab.sweep(V, prompts=["Hi", " "])),
    (errors.PromptError, r"no metric 'lk'. The metrics are refusal_score, kl, refusal_rate, repetition, cross_entropy",
     lambda lab: lab.sweep(V, prompts=PROMPTS, metrics=["lk"])),
    (errors.PromptError, "is no list of metrics", lambda lab: lab.sweep(V, prompts=PROMPTS, metrics="kl")),
    (errors.PromptError, "is no list of metrics", lambda lab: lab.sweep(V, prompts=PROMPTS, metrics=[])),
    (errors.PromptError, "two metrics are named 'kl'",
     lambda lab: lab.sweep(V, prompts=PROMPTS, metrics=["kl", metrics.kl])),
    (errors.PromptError, "at least 1 row", lambda lab: lab.sweep(V, prompts=PROMPTS, batch_rows=0)),
    (errors.SiteError, r"layers \[3, 9\] are out of range: the model has 3 layers",
     lambda lab: lab.sweep(V, layers=[1, 3, 9], prompts=PROMPTS)),
    (errors.SiteError, r"whole numbers from 0, not \[1.5\]",
     lambda lab: lab.sweep(V, layers=[1, 1.5], prompts=PROMPTS)),  # type: ignore[list-item]
    (errors.SiteError, r"layers \[-1\]", lambda lab: lab.sweep(V, layers=-1, prompts=PROMPTS)),
    (errors.SiteError, "layers='most' is not known",
     lambda lab: lab.sweep(V, layers="most", prompts=PROMPTS)),  # type: ignore[arg-type]
    (errors.RecipeError, "0 layers and 5 coefficients", lambda lab: lab.sweep(V, layers=[], prompts=PROMPTS)),
    (errors.RecipeError, "finite number", lambda lab: lab.sweep(V, coefficients=[math.inf], prompts=PROMPTS)),
    (errors.RecipeError, "a coefficient is a finite number of 32 bits, not '1'",
     lambda lab: lab.sweep(V, coefficients="1", prompts=PROMPTS)),  # type: ignore[arg-type]
    (errors.RecipeError, "does not say where it was found.*point='resid_pre'",
     lambda lab: lab.sweep(Direction(range(16)), prompts=PROMPTS)),
    (errors.RecipeError, "gave NoneType for layer 0 and coefficient -2",
     lambda lab: lab.sweep(lambda layer, c: None, prompts=PROMPTS)),  # type: ignore[arg-type, return-value]
    (errors.RecipeError, "a sweep needs a Direction", lambda lab: lab.sweep([1.0], prompts=PROMPTS)),  # type: ignore[arg-type]
    (errors.RecipeError, "without point=",
     lambda lab: lab.sweep(lambda layer, c: BASELINE, point="resid_pre", prompts=PROMPTS)),
    (errors.DirectionError, "d_model 3", lambda lab: lab.sweep(
        Direction([1.0, 2, 3], Site(0, "resid_pre")), prompts=PROMPTS)),
    (errors.PromptError, r"refusal_tokens has \[-1, 999\]",
     lambda lab: lab.sweep(V, prompts=PROMPTS, refusal_tokens=[-1, 3, 999])),
    (errors.RecipeError, "no recipe is given", lambda lab: lab.score(PROMPTS, [])),
    (errors.RecipeError, "recipes is one Recipe", lambda lab: lab.score(PROMPTS, BASELINE)),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("error", "says", "call"), REFUSED, ids=[says for _, says, _ in REFUSED])
def test_what_cannot_be_swept_is_told_before_a_row_is_run(
    lab: Lab, backend: Counting, error: type[Exception], says: str, call: Callable[[Lab], object]
) -> None:
    with pytest.raises(error, match=says):
        call(lab)
    assert not backend.scored
    assert lab.scores is None


def test_what_was_not_swept_is_not_drawn(lab: Lab) -> None:
    sweep = lab.sweep(V, prompts=["Hi"], metrics=["kl"], coefficients=[1])
    with pytest.raises(errors.PromptError, match=r"'kk' was not measured. This table has kl"):
        sweep.plot("kk")
    with pytest.raises(errors.PromptError, match="no random control"):
        sweep.plot(control=True)


def test_a_table_says_how_far_it_is(lab: Lab) -> None:
    sweep = lab.sweep(V, prompts=PROMPTS, metrics=["kl"], layers=0, coefficients=[0, 1])
    assert isinstance(sweep, Sweep)
    assert lab.scores is sweep
    assert repr(sweep) == "Sweep(2 cells x 3 prompts: kl; 6 of 6 rows measured)"
    first = json.loads(json.dumps(sweep.to_frame().to_dict("records")))[0]
    assert first == {"layer": 0, "coefficient": 0.0, "prompt": PROMPTS[0], "kl": 0.0, "why": ""}


def test_rows_of_another_table_are_not_measured_again(lab: Lab, backend: Counting) -> None:
    v = V
    first = lab.sweep(v, layers=[0, 1], coefficients=[0, 1], prompts=["a", "b"], metrics=["kl", "repetition"])
    cells = [cell for cell in first.cells if cell.place["layer"] == 1]
    again = Scores(backend, cells, ["b", "c"], metrics=["kl"], sampling=Sampling(3))
    again.adopt(first)
    assert again.done == 2, "those of b; what the logits say does not depend on the sampling"
    assert again.values("kl", cells[1]) == [first.values("kl", cells[1])[1]]
    fresh = Scores(backend, cells, ["b", "c"], metrics=["kl"]).resume()
    assert the_same(again.resume(), fresh)


def test_rows_that_would_say_something_else_are_not_taken_over(lab: Lab, backend: Counting) -> None:
    v = V
    given = {
        "cells": lab.sweep(v, coefficients=[1], prompts=["a"], metrics=["repetition"]).cells,
        "prompts": ["a"],
    }
    first = lab.scores
    assert first is not None
    for other in (
        Scores(backend, **given, metrics=["repetition"], sampling=Sampling(7)),
        Scores(backend, **given, metrics=["repetition", "kl"], sampling=lab.sampling),
        Scores(backend, **given, metrics=[length], sampling=lab.sampling),
        Scores(Counting(), **given, metrics=["repetition"], sampling=lab.sampling),
    ):
        other.adopt(first)
        assert other.done == 0
    same = Scores(backend, **given, metrics=["repetition"], sampling=lab.sampling)
    same.adopt(first)
    assert same.finished


def test_a_table_is_of_one_state_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab((models.build("llama"), byte_tokenizer()))
    add = {"a": Recipe([Add(Direction(torch.ones(models.D_MODEL), Site(1, "resid_pre")), 1.0)])}
    before = lab.score(["Hi", "Hello"], add, ["kl"])
    begun = Scores(lab.backend, before.cells, before.prompts, metrics=["kl"])
    with torch.no_grad():
        lab.backend._hf.model.layers[2].mlp.down_proj.weight.mul_(0)  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="have changed since this table was begun"):
        begun.resume()
    assert before.resume() is before, "nothing of it is missing"
    fresh = Scores(lab.backend, before.cells, before.prompts, metrics=["kl"])
    fresh.adopt(before)
    assert fresh.done == 0
    assert fresh.resume().to_frame()["kl"].tolist() != before.to_frame()["kl"].tolist()
    monkeypatch.setattr(
        lab.tokenizer, "chat_template", "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    other = Scores(lab.backend, before.cells, before.prompts, metrics=["kl"])
    other.adopt(fresh)
    assert other.done == 0
