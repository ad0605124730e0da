"""What goes wrong in a sweep is told in words, costs its own rows alone, and is never a 0."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import torch
from counting import PROMPTS, SHORT, Counting, V, length, the_same

from steerlab import (
    BASELINE,
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
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.errors import ModelError
from steerlab.generations import NOT_FINITE
from steerlab.sweeps import Scores, Sweep


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
