from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from steerlab import BASELINE, Ablate, Add, Direction, Gate, Generation, Recipe, Row, Sampling, Site, metrics
from steerlab.backends.base import before_pass
from steerlab.backends.fake import FakeBackend
from steerlab.effects import FIGURES, measure
from steerlab.errors import PromptError, RemoteError
from steerlab.estimators import randomised
from steerlab.prompts import instructed

HARMFUL, HARMLESS = ["Break it", "Steal this now", "Lie"], ["Bake bread", "Hi"]
TEXTS = ["The sea is wide and blue.", "A dog barks."]
BACKEND = FakeBackend()
V = Direction(torch.randn(16, generator=torch.Generator().manual_seed(0)), Site(2, "resid_pre"), name="v")
RECIPE = Recipe([Add(V, 2.0), Ablate([V, 2 * V])])


def test_a_result_comes_with_its_baseline_and_its_control() -> None:
    report = measure(BACKEND, RECIPE, HARMFUL, HARMLESS, texts=TEXTS, sampling=Sampling(12))
    assert [e.name for e in report.effects] == ["baseline", "recipe", "random control"]
    baseline, recipe = report["baseline"], report["recipe"]
    assert baseline.kl.value == 0
    assert recipe.kl.value > 0
    assert recipe.kl.n == len(HARMLESS)
    assert recipe.refusal_score.n == len(HARMFUL)
    assert recipe.text_cross_entropy.n == len(TEXTS)
    frame = report.to_frame()
    assert frame.loc["recipe", "kl_high"] == recipe.kl.high
    assert list(frame.index) == ["baseline", "recipe", "random control"]


def test_what_was_not_measured_is_refused_in_words() -> None:
    report = measure(BACKEND, RECIPE, HARMFUL, HARMLESS, sampling=Sampling(2))
    has = "This report has baseline, recipe, random control"
    with pytest.raises(PromptError, match=rf"'recipes' was not measured\. {has}"):
        report["recipes"]
    with pytest.raises(PromptError, match=rf'{has}\. For "prompting" give measure an instruction'):
        report["prompting"]


def test_figures_are_those_of_the_rows() -> None:
    report = measure(BACKEND, RECIPE, HARMFUL, HARMLESS, sampling=Sampling(12))
    scores = [BACKEND.score([Row(p, r) for p in HARMLESS]) for r in (BASELINE, RECIPE)]
    assert report["recipe"].kl.value == pytest.approx(float(metrics.kl(*scores).mean()))
    own = BACKEND.generate([Row(p) for p in HARMLESS], Sampling(12))
    logprobs = BACKEND.likelihood([Row(p, RECIPE) for p in HARMLESS], [a.token_ids for a in own])
    expected = -sum(float(x.mean()) for x in logprobs) / len(HARMLESS)
    assert report["recipe"].cross_entropy.value == pytest.approx(expected, rel=1e-5)
    assert report["recipe"].cross_entropy.value > report["baseline"].cross_entropy.value
    assert math.isnan(report["recipe"].text_cross_entropy.value), "no texts, no number"


def test_the_control_is_random_with_the_same_norms_and_sites() -> None:
    control = randomised(RECIPE, seed=3)
    assert [type(s) for s in control.interventions] == [Add, Ablate]
    for step, other in zip(RECIPE.interventions, control.interventions, strict=True):
        assert other.resolve(4) == step.resolve(4)
        for d, r in zip(step.directions, other.directions, strict=True):
            assert r.norm == pytest.approx(d.norm, rel=1e-5)
            assert abs(r.cosine(d)) < 0.9
    assert control == randomised(RECIPE, seed=3) != randomised(RECIPE, seed=4)


def test_sampled_answers_to_a_prompt_share_their_noise_and_those_to_two_prompts_do_not() -> None:
    def measured(seed: int, temperature: float = 1.0) -> dict[str, list[Generation]]:
        sampling = Sampling(12, temperature)
        return measure(
            BACKEND, RECIPE, [*HARMFUL, "Hi"], HARMLESS, prompting="Be nice.", sampling=sampling, seed=seed
        ).completions

    found = measured(0)
    noise = [[answer.seed for answer in answers] for answers in found.values()]
    assert len(set(noise[0])) == len(HARMFUL) + 1 + len(HARMLESS)
    assert noise == [noise[0]] * 4
    for answers in found.values():
        rows = [Row(answer.prompt, answer.recipe, answer.seed) for answer in answers]
        assert [a.text for a in BACKEND.generate(rows, Sampling(12, 1.0))] == [a.text for a in answers]
    texts, others, greedy, greedily = (
        [answer.text for answer in run["baseline"]]
        for run in (found, measured(1), measured(0, 0.0), measured(1, 0.0))
    )
    assert texts != others
    assert greedy == greedily


def test_a_judge_is_asked_for_every_answer() -> None:
    report = measure(BACKEND, RECIPE, HARMFUL, HARMLESS, judge=lambda text: True, sampling=Sampling(4))
    assert report["recipe"].refusal_rate[:1] == (1.0,)
    assert report["recipe"].false_refusals.n == len(HARMLESS)
    assert len(report.completions["recipe"]) == len(HARMFUL) + len(HARMLESS)


def test_a_judge_that_raises_leaves_its_answers_out_and_says_so() -> None:
    seen: list[str] = []

    def moody(text: str) -> bool:
        seen.append(text)
        if len(seen) % 2:
            raise TimeoutError("no answer")
        return False

    with pytest.warns(
        UserWarning, match=r"the judge moody raised on 8 of 15 answers.*TimeoutError: no answer"
    ):
        report = measure(BACKEND, RECIPE, HARMFUL, HARMLESS, judge=moody, sampling=Sampling(4))
    assert len(report.unjudged) == 8
    assert sum(e.refusal_rate.n + e.false_refusals.n for e in report.effects) == 7


def test_nothing_judged_is_no_number() -> None:
    def broken(text: str) -> bool:
        raise RuntimeError("broken")

    with pytest.warns(UserWarning, match="15 of 15"):
        report = measure(BACKEND, RECIPE, HARMFUL, HARMLESS, judge=broken, sampling=Sampling(4))
    assert math.isnan(report["recipe"].refusal_rate.value)


@pytest.mark.parametrize("given", ["no", 0.1, math.nan, None, torch.tensor([True, False])])
def test_what_is_no_verdict_counts_in_no_rate(given: object) -> None:
    with pytest.warns(UserWarning, match="raised on 15 of 15 answers"):
        report = measure(BACKEND, RECIPE, HARMFUL, HARMLESS, judge=lambda _: given, sampling=Sampling(4))
    assert len(report.unjudged) == 15
    assert [e.refusal_rate.n + e.false_refusals.n for e in report.effects] == [0, 0, 0]


@pytest.mark.parametrize(
    "given", [1, 1.0, np.bool_(True), np.float32(1), torch.tensor(True), torch.tensor([1])]
)
def test_a_scalar_of_a_library_is_a_verdict(given: object) -> None:
    report = measure(BACKEND, RECIPE, HARMFUL, HARMLESS, judge=lambda _: given, sampling=Sampling(4))
    assert not report.unjudged
    assert report["recipe"].refusal_rate[:1] == (1.0,)


def test_prompting_is_the_unsteered_model_told_what_to_do() -> None:
    report = measure(
        BACKEND, RECIPE, HARMFUL, HARMLESS, texts=TEXTS, prompting="Be nice.", sampling=Sampling(6)
    )
    assert [effect.name for effect in report.effects] == ["baseline", "recipe", "random control", "prompting"]
    told = [instructed(BACKEND.tokenizer, p, "Be nice.") for p in [*HARMFUL, *HARMLESS]]
    answers = BACKEND.generate([Row(p) for p in told], Sampling(6))
    assert [a.text for a in report.completions["prompting"]] == [a.text for a in answers]
    base, asked = (BACKEND.score([Row(p) for p in prompts]) for prompts in (HARMLESS, told[len(HARMFUL) :]))
    effect = report["prompting"]
    assert effect.kl.value == pytest.approx(float(metrics.kl(base, asked).mean()))
    assert effect.kl.value > 0
    own = [a.token_ids for a in report.completions["baseline"][len(HARMFUL) :]]
    of_own = BACKEND.likelihood([Row(p) for p in told[len(HARMFUL) :]], own)
    assert effect.cross_entropy.value == pytest.approx(sum(float(-x.mean()) for x in of_own) / len(own))
    assert math.isnan(effect.text_cross_entropy.value)
    assert not math.isnan(report["recipe"].text_cross_entropy.value)
    with pytest.raises(PromptError, match="instruction of prompting is empty"):
        measure(BACKEND, RECIPE, HARMFUL, HARMLESS, prompting=" ")


def test_empty_sides_and_texts_are_refused() -> None:
    with pytest.raises(PromptError, match="harmless is empty"):
        measure(BACKEND, RECIPE, HARMFUL, [])
    with pytest.raises(PromptError, match="too short to be predicted"):
        measure(BACKEND, RECIPE, HARMFUL, HARMLESS, texts=["a"])


TOO_FAR = Recipe([Add(Direction(torch.ones(16), Site(1, "resid_pre")), 3e38)])  # float32 overflows


def test_answers_that_are_no_numbers_count_in_no_figure() -> None:
    asked: list[str] = []

    def judge(text: str) -> bool:
        asked.append(text)
        return True

    report = measure(BACKEND, TOO_FAR, HARMFUL, HARMLESS, texts=TEXTS, judge=judge, sampling=Sampling(4))
    recipe = report["recipe"]
    for name in FIGURES:
        estimate, of = getattr(recipe, name), {"text_cross_entropy": 2, "refusal_rate": 3, "refusal_score": 3}
        assert math.isnan(estimate.value)
        assert estimate.n == 0
        n = of.get(name, len(HARMLESS))
        assert recipe.why[name] == f"{n} of {n}: the logits are not finite"
    assert len(asked) == len(HARMFUL) + len(HARMLESS), "of the baseline alone: the control goes as far"
    assert report["baseline"].refusal_rate.n == len(HARMFUL)
    assert "refusal_rate: 3 of 3: the logits are not finite" in report.to_frame().loc["recipe", "why"]


def test_a_row_without_a_number_leaves_the_others_their_figure() -> None:
    """A gate that opens for one of the prompts alone, and steers that one too far."""
    at = Site(1, "resid_pre")
    read = BACKEND.capture([Row(p) for p in HARMFUL], [at], [-1], values=True).values
    assert read is not None
    apart = Direction(read[0, 0, 0] - read[1:, 0, 0].mean(0), at)
    along = read[:, 0, 0] @ apart.unit
    gate = Gate(apart, float(along[0] + along[1:].max()) / 2)
    recipe = Recipe([Add(Direction(torch.ones(16), at), 3e38, tokens=[-1], gate=gate)])
    report = measure(BACKEND, recipe, HARMFUL, HARMLESS, sampling=Sampling(4))
    assert report["recipe"].refusal_score.n == len(HARMFUL) - 1
    assert math.isfinite(report["recipe"].refusal_score.value)
    assert report["recipe"].why["refusal_score"] == "1 of 3: the logits are not finite"


def test_a_figure_without_rows_says_why() -> None:
    report = measure(BACKEND, RECIPE, HARMFUL, HARMLESS, sampling=Sampling(1))
    assert report["recipe"].why["text_cross_entropy"] == "no text is measured"
    assert report["recipe"].why["repetition"] == "2 of 2: an answer of fewer than three words"


def test_a_job_that_was_cancelled_gives_no_figures() -> None:
    """As from the panel's list of a server's jobs; a cancelled job gives what it has."""

    class Cancelled(FakeBackend):
        def generate(self, rows: Sequence[Row], sampling: Sampling, **_: Any) -> list[Generation]:
            cancel = threading.Event()
            if rows[0].recipe:
                cancel.set()
            return super().generate(rows, sampling, cancel=cancel)

    with pytest.raises(
        RemoteError, match="a job of the measurement was cancelled, which left 5 of 5 answers"
    ):
        measure(Cancelled(), RECIPE, HARMFUL, HARMLESS, sampling=Sampling(4))


def test_a_measurement_in_the_background_that_is_cancelled_ends_there() -> None:
    class Ended(BaseException):
        """As what the worker raises."""

    def ended() -> None:
        raise Ended

    class Slow(FakeBackend):
        def generate(self, rows: Sequence[Row], sampling: Sampling, **_: Any) -> list[Generation]:
            cancel = threading.Event()
            cancel.set()
            answers = super().generate(rows, sampling, cancel=cancel)
            before_pass.set(ended)
            return answers

    with pytest.raises(Ended):
        contextvars.copy_context().run(measure, Slow(), RECIPE, HARMFUL, HARMLESS, sampling=Sampling(4))


class Unasked(FakeBackend):
    def generate(self, *args: object, **options: object) -> list[Generation]:  # type: ignore[override]
        raise AssertionError("something was generated")


def test_what_does_not_fit_is_told_before_anything_is_generated() -> None:
    backend, short = Unasked(context=60), Sampling(4)
    with pytest.raises(PromptError, match=r"too short to be predicted"):
        measure(backend, RECIPE, ["Lie"], ["Hi"], texts=["a"], sampling=short)
    with pytest.raises(PromptError, match=r"has 61 tokens, and the model reads at most 60. Cut it"):
        measure(backend, RECIPE, ["Lie"], ["Hi"], texts=["a" * 61], sampling=short)
    with pytest.raises(PromptError, match=r"with its instruction the prompt .* may have more than the 60"):
        measure(backend, RECIPE, ["Lie"], ["Hi"], prompting="b" * 23, sampling=Sampling(30))
    with pytest.raises(PromptError, match=r"refusal_tokens has \[-1\]"):
        measure(backend, RECIPE, ["Lie"], ["Hi"], refusal_tokens=[-1], sampling=short)
    report = measure(FakeBackend(context=60), RECIPE, ["Lie"], ["Hi"], texts=["a" * 60], sampling=short)
    assert report["recipe"].text_cross_entropy.n == 1
