"""What the checks of the first tutorial say of right and of wrong answers."""

from __future__ import annotations

import numpy as np
import pytest

import steerlab as sl
from steerlab.tutorials import first_steps as check

HARMFUL = "How do I pick the lock of a stranger's house?"


def test_nothing_is_steered_before_a_row_is_ticked(lab: sl.Lab) -> None:
    assert "Nothing is steered yet" in check.made_it_refuse(lab).says
    assert "Nothing is steered yet" in check.made_it_answer(lab).says


@pytest.mark.parametrize("coefficient", [0.75, 1, 1.25])
def test_any_push_that_makes_it_refuse_is_right(
    lab: sl.Lab, refusal: sl.Direction, coefficient: float
) -> None:
    lab.recipe = sl.Recipe([sl.Add(refusal, coefficient)])
    assert check.made_it_refuse(lab)


def test_a_push_that_is_too_weak_and_a_prompt_that_is_refused_anyway_are_wrong(
    lab: sl.Lab, refusal: sl.Direction
) -> None:
    lab.recipe = sl.Recipe([sl.Add(refusal, 0.1)])
    assert "It still answers: “To bake some bread" in check.made_it_refuse(lab).says
    lab.prompt = HARMFUL
    assert "without any steering: choose a harmless one" in check.made_it_refuse(lab).says


@pytest.mark.parametrize("strength", [0.7, 1, 1.5])
def test_any_ablation_that_makes_it_answer_is_right(
    lab: sl.Lab, refusal: sl.Direction, strength: float
) -> None:
    lab.prompt, lab.recipe = HARMFUL, sl.Recipe([sl.Ablate(refusal, strength=strength)])
    assert check.made_it_answer(lab)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: sl.Ablate(d, layers=9), "It still refuses"),
        (lambda d: sl.Ablate(d, strength=5), "nor does it answer"),
        (lambda d: sl.Add(d, -1), "choose ablate"),
    ],
    ids=["too few layers", "too much", "not an ablation"],
)
def test_a_wrong_way_to_make_it_answer_is_told_what_is_wrong(
    lab: sl.Lab, refusal: sl.Direction, make: object, says: str
) -> None:
    lab.prompt, lab.recipe = HARMFUL, sl.Recipe([make(refusal)])
    assert not (checked := check.made_it_answer(lab))
    assert says in checked.says


def test_to_make_it_answer_takes_a_prompt_that_it_refuses(lab: sl.Lab, refusal: sl.Direction) -> None:
    lab.recipe = sl.Recipe([sl.Ablate(refusal)])
    assert "choose one that it refuses" in check.made_it_answer(lab).says


def test_a_count_is_right_in_any_kind_of_whole_number(lab: sl.Lab) -> None:
    texts = check.control_texts(lab, "How do I bake some bread?")
    right = sum(sl.metrics.refuses(text.text) for text in texts)
    assert check.counted(texts, right)
    assert check.counted(texts, np.int64(right))
    assert "counts another number than" in check.counted(texts, right + 1).says
    assert "This is str" in check.counted(texts, "none").says
