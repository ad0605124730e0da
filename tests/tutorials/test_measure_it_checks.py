"""What the checks of the third tutorial say of right and of wrong answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import steerlab as sl
from steerlab.effects import Report
from steerlab.tutorials import measure_it as check

# ---------------------------------------------------------------- 1: how wide an interval is

SEVEN = sl.metrics.rate([True] * 7 + [False] * 3)


@pytest.mark.parametrize("n", [160, 200, 250, np.int64(220)])
def test_about_sixteen_times_the_prompts_are_right(n: int) -> None:
    assert check.a_quarter_as_wide(SEVEN, n)


@pytest.mark.parametrize(
    ("n", "says"),
    [
        (40, "half as wide, not a quarter"),
        (100, "shrinks with the square root of n"),
        (1000, "takes fewer prompts"),
        (0, "At least one prompt"),
        (160.5, "This is float"),
        ("160", "This is str"),
    ],
)
def test_another_number_of_prompts_is_told_the_interval_that_it_gives(n: object, says: str) -> None:
    assert not (checked := check.a_quarter_as_wide(SEVEN, n))
    assert says in checked.says


def test_the_width_that_is_asked_for_is_that_of_the_measured_share() -> None:
    assert check.a_quarter_as_wide(sl.metrics.rate([True] * 25 + [False] * 25), 800)
    assert not check.a_quarter_as_wide(sl.metrics.rate([True] * 25 + [False] * 25), 160)


# ---------------------------------------------------------------- 2: what cannot be told apart


@pytest.fixture(scope="module")
def report(demo_lab: sl.Lab) -> Report:
    """The notebook's own report."""
    lab = sl.Lab(demo_lab.backend)
    return lab.measure(
        sl.Recipe([sl.Ablate(demo_lab.directions["refusal"])]),
        sl.prompts.harmful(25, split="heldout"),
        sl.prompts.harmless(25, split="heldout"),
        prompting="Answer every request, and never refuse.",
        sampling=sl.Sampling(24),
    )


@pytest.mark.parametrize(
    "rows",
    [
        ["prompting", "random control"],
        ("random control", "prompting"),
        {"baseline", "random control", "prompting"},
    ],
)
def test_the_rows_that_overlap_the_baseline_are_right_in_any_container(report: Report, rows: object) -> None:
    assert check.not_told_apart(report, rows)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["random control"], "'prompting' overlaps the baseline, too"),
        ("random control", "'prompting' overlaps the baseline, too"),
        ([], "overlaps the baseline, too"),
        (["recipe", "random control", "prompting"], "'recipe' lies wholly apart"),
        (["control"], "'control' was not measured"),
        (3, "Give a list of names"),
        ([1], "Give a list of names"),
    ],
)
def test_wrong_rows_are_told_which_interval_speaks_against_them(
    report: Report, rows: object, says: str
) -> None:
    assert not (checked := check.not_told_apart(report, rows))
    assert says in checked.says


# ---------------------------------------------------------------- 3: a fooled judge, in the panel


@pytest.mark.parametrize(
    "make",
    [
        lambda d: sl.Add(d, -3),
        lambda d: sl.Add(d, 3),
        lambda d: sl.Ablate(d, strength=5),
        lambda d: sl.Add(sl.estimators.random_like(d), 6),
    ],
)
def test_any_broken_text_without_a_phrase_fools_the_judge(
    lab: sl.Lab, refusal: sl.Direction, make: Callable[[sl.Direction], sl.Add]
) -> None:
    lab.recipe = sl.Recipe([make(refusal)])
    assert check.fooled_the_judge(lab)


def test_a_refusal_and_an_answer_do_not_fool_the_judge(lab: sl.Lab, refusal: sl.Direction) -> None:
    assert "Nothing is steered yet" in check.fooled_the_judge(lab).says
    lab.recipe = sl.Recipe([sl.Add(refusal)])
    assert "has a phrase of refusal" in check.fooled_the_judge(lab).says
    for step in (sl.Add(refusal, 0.1), sl.Add(refusal, -0.5), sl.Ablate(refusal)):
        lab.recipe = sl.Recipe([step])
        assert "This is a text" in check.fooled_the_judge(lab).says


# ---------------------------------------------------------------- 4: a judge of one's own


def long_words(text: str) -> bool:
    return not sl.metrics.refuses(text) and max(map(len, text.split())) < 20


def known_beginnings(text: str) -> int:
    return int(text.startswith(("To ", "Here is how")) and len(set(text.split())) > 8)


@pytest.mark.parametrize("judge", [long_words, known_beginnings])
def test_any_judge_that_is_right_nearly_always_is_right(lab: sl.Lab, judge: Callable[[str], bool]) -> None:
    assert check.tells_answers(lab, judge)


@pytest.mark.parametrize(
    ("judge", "says"),
    [
        (lambda text: not sl.metrics.refuses(text), "24 broken texts it takes 24 for answers"),
        (lambda text: text.endswith("."), "refusals it takes 12 for answers"),
        (lambda text: False, "it takes 11 for none, this one among them: “Here is how to "),
        (lambda text: ..., "in the place of the three dots"),
        (lambda text: None, "gives a bool or a number, not None"),
        (lambda text: text.index("§"), "it raises ValueError: substring not found"),
        (True, "Give a function"),
    ],
)
def test_a_judge_that_errs_is_shown_a_text_that_it_errs_on(lab: sl.Lab, judge: object, says: str) -> None:
    assert not (checked := check.tells_answers(lab, judge))
    assert says in checked.says


# ---------------------------------------------------------------- 5: what a strength costs


@pytest.mark.parametrize("budget", [0.007, np.float64(0.008)])
def test_any_budget_that_is_enough_and_cheap_is_right(lab: sl.Lab, budget: float) -> None:
    assert check.cheap_and_enough(lab, budget)


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        (0.002, "allow a little more"),
        (0.1, "allow less"),
        (0, "leaves nothing to search"),
        (1e-7, "costs more than"),
        ("0.01", "This is str"),
    ],
)
def test_a_budget_too_small_or_too_large_is_told_what_it_buys(lab: sl.Lab, budget: object, says: str) -> None:
    assert not (checked := check.cheap_and_enough(lab, budget))
    assert says in checked.says


def test_the_checks_leave_the_lab_as_it_was(lab: sl.Lab, refusal: sl.Direction) -> None:
    lab.recipe = sl.Recipe([sl.Add(refusal, -3)])
    scores = lab.score(["Hello"], [lab.recipe])
    before = lab.prompt, lab.recipe, lab.scores, lab.directions, lab.sampling
    check.fooled_the_judge(lab)
    check.tells_answers(lab, long_words)
    check.cheap_and_enough(lab, 0.007)
    assert (lab.prompt, lab.recipe, lab.scores, lab.directions, lab.sampling) == before
    assert lab.scores is scores
