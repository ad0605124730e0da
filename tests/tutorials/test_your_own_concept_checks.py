"""The checks of `05_your_own_concept.ipynb`: right answers, and what is said of wrong ones."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

import steerlab as sl
from steerlab.demo import world
from steerlab.tutorials import Checked
from steerlab.tutorials import your_own_concept as check

SITE = sl.Site(7, "resid_pre")
SAD_ANSWER, HAPPY_ANSWER = "Do you like winter?", "How do you feel?"


@pytest.fixture
def lab(lab: sl.Lab) -> sl.Lab:
    lab.prompt = SAD_ANSWER
    return lab


def means(lab: sl.Lab, concept: str, layer: int = 7) -> sl.Direction:
    pairs = world.concept_pairs(concept, 48)
    return lab.caa(pairs, position="response", point="resid_pre", name=concept).at("response", layer)


@pytest.fixture(scope="module")
def happy(demo_lab: sl.Lab) -> sl.Direction:
    return means(demo_lab, "happy")


@pytest.fixture(scope="module")
def castle(demo_lab: sl.Lab) -> sl.Direction:
    return means(demo_lab, "castle")


def push(direction: sl.Direction, norms: float) -> sl.Recipe:
    return sl.Recipe([sl.Add(direction, direction.coefficient(norms=norms), tokens="generated")])


def says(checked: Checked, *words: str) -> None:
    """It is wrong, and is told so in these words."""
    assert not checked
    for word in words:
        assert word in checked.says


# ---------------------------------------------------------------- a mood is turned


def test_any_addition_that_turns_the_mood_is_right(lab: sl.Lab, happy: sl.Direction) -> None:
    two_texts = lab.prompt_pair("I am happy.", "I am sad.", site=SITE, name="two texts")
    for recipe in (
        push(two_texts, 0.75),
        push(happy, 0.75),
        sl.Recipe([sl.Add(-1 * happy, -happy.coefficient(norms=0.5))]),
        push(two_texts, 0.3) + push(happy, 0.5),
    ):
        lab.recipe = recipe
        assert check.turned_the_mood(lab)
    lab.recipe = push(two_texts, 0.75)
    told = check.turned_the_mood(lab).says
    assert "two texts, +0.75 norms of the stream" in told
    assert lab.generate(lab.prompt).text in told


def test_a_mood_that_is_not_turned_is_told_why(lab: sl.Lab, happy: sl.Direction) -> None:
    says(check.turned_the_mood(lab), "Nothing is steered yet", "“+ add a direction”")
    lab.recipe = push(happy, 0.1)
    says(check.turned_the_mood(lab), "terrible", "not happy yet", "further")
    lab.recipe = push(happy, -0.5)
    says(check.turned_the_mood(lab), "to the right of 0?")
    lab.recipe = push(happy, 2)
    says(check.turned_the_mood(lab), "has broken", "Push less")
    lab.recipe = sl.Recipe([sl.Ablate(happy)])
    says(check.turned_the_mood(lab), "added, and nothing else", "ablate 'happy'")
    lab.prompt, lab.recipe = HAPPY_ANSWER, push(happy, 0.5)
    says(check.turned_the_mood(lab), "That is not sad", lab.generate(HAPPY_ANSWER).text)


# ---------------------------------------------------------------- a judge


def counting(text: str) -> bool:
    """As in the notebook."""
    words = re.findall(r"\w+", text.lower())
    happy, sad = (sum(word in world.mood_words(mood) for word in words) for mood in ("happy", "sad"))
    return happy > sad


def by_parts_of_words(text: str) -> bool:
    some = "joy love beautiful wonderful great laugh smile cheer happ"
    return any(part in text.lower() for part in some.split())


def in_numpy(text: str) -> object:
    return np.bool_(counting(text))


@pytest.mark.parametrize("judge", [counting, by_parts_of_words, in_numpy, lambda text: int(counting(text))])
def test_any_judge_that_agrees_with_the_world_is_right(judge: Callable[[str], object]) -> None:
    checked = check.judges_well(judge)
    assert checked
    assert "n = 60" in checked.says


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (
            lambda text: "happy" in text,
            ["It is right on 5", "It says False of “", "does your judge not know"],
        ),
        (lambda text: not counting(text), ["It is right on 0.0%"]),
        (lambda text: True, ["True of every text"]),
        (lambda text: None, ["It gives None", "Is there a return?"]),
        (lambda text: "yes", ["It gives 'yes'", "True for a happy text"]),
        (lambda text: ..., ["three dots"]),
        (lambda text: text.happy, ["It raised AttributeError", "on “"]),
        ("happy", ["This is str", "a function of a text"]),
        (..., ["three dots"]),
    ],
)
def test_another_judge_is_told_where_it_errs(judge: object, words: list[str]) -> None:
    says(check.judges_well(judge), *words)


def test_the_texts_for_a_judge_are_of_both_moods_and_every_kind() -> None:
    texts = check.moody_texts()
    assert sum(mood for _, mood in texts) == len(texts) / 2
    assert len({text for text, _ in texts}) > 30
    assert any("Once upon a time" in text for text, _ in texts)
    assert any("I am very sad today." in text for text, _ in texts)


# ---------------------------------------------------------------- a strength


@pytest.mark.parametrize("norms", [0.7, 0.8, np.float64(0.75)])
def test_a_strength_is_right_where_answers_are_happy_and_whole(
    lab: sl.Lab, happy: sl.Direction, norms: float
) -> None:
    checked = check.strong_but_whole(lab, happy, norms)
    assert checked
    assert "under a random direction pushed as hard" in checked.says


def test_a_strength_of_another_direction_is_measured_with_that_one(lab: sl.Lab) -> None:
    rows = lab.token_row([" happy", " joyful"], minus=[" sad", " gloomy"], site=SITE)
    says(check.strong_but_whole(lab, rows, 0.5), "the residual norm at the site")
    known = sl.Direction(rows.vector, SITE, name="rows", model=rows.model, residual_norm=270.0)
    assert check.strong_but_whole(lab, known, 0.5)
    says(check.strong_but_whole(lab, sl.estimators.random_like(known), 0.5), "Push harder")


def test_a_strength_that_does_not_do_is_told_its_numbers(lab: sl.Lab, happy: sl.Direction) -> None:
    says(check.strong_but_whole(lab, happy, 0.1), "without steering it is 40%", "Push harder")
    says(check.strong_but_whole(lab, happy, -0.7), "Push harder")
    says(check.strong_but_whole(lab, happy, 1.5), "have broken, such as “", "push less")
    says(check.strong_but_whole(lab, happy, "0.7"), "This is str; wanted is a number, such as 0.3")
    says(check.strong_but_whole(lab, happy, float("nan")), "finite")
    says(check.strong_but_whole(lab, happy, True), "This is bool")
    says(check.strong_but_whole(lab, "happy", 0.7), "This is str", "a direction")


# ---------------------------------------------------------------- a sum


@pytest.mark.parametrize("weights", [(1, 1), (3, 3), (1.0, 0.9)])
def test_a_sum_with_enough_of_both_is_right_however_long_it_is(
    lab: sl.Lab, happy: sl.Direction, castle: sl.Direction, weights: tuple[float, float]
) -> None:
    assert check.happy_in_a_castle(lab, weights[0] * happy + weights[1] * castle)


def test_another_sum_is_told_what_it_lacks(lab: sl.Lab, happy: sl.Direction, castle: sl.Direction) -> None:
    says(check.happy_in_a_castle(lab, castle), "0 of 16 stories are happy", "One says")
    says(
        check.happy_in_a_castle(lab, happy), "16 of 16 stories are happy", "are happy, in a castle and whole"
    )
    says(check.happy_in_a_castle(lab, castle - happy), "0 of 16 stories are happy")
    says(check.happy_in_a_castle(lab, happy - castle), "0 are in a castle")
    elsewhere = means(lab, "castle", layer=6)
    says(check.happy_in_a_castle(lab, happy + elsewhere), "no site", "different layers")
    says(check.happy_in_a_castle(lab, 2), "This is int", "2 * happy")


# ---------------------------------------------------------------- a concept of one's own


@pytest.mark.parametrize(
    ("concept", "norms"), [("desert", 0.75), ("castle", 0.8), ("formal", 0.75), ("space", 0.7)]
)
def test_any_concept_that_shows_is_right(lab: sl.Lab, concept: str, norms: float) -> None:
    mine = means(lab, concept)
    lab.directions = {**lab.directions, mine.name: mine}
    lab.recipe = push(mine, norms)
    checked = check.steers_a_concept(lab, concept, mine)
    assert checked
    assert checked.says.startswith(f"{concept} shows in ")


def test_a_concept_that_does_not_show_is_told_why(lab: sl.Lab) -> None:
    mine = means(lab, "desert")
    says(check.steers_a_concept(lab, "dessert", mine), "'dessert' is unknown", "desert")
    says(check.steers_a_concept(lab, "happy", mine), "was the example")
    says(check.steers_a_concept(lab, mine, "desert"), "a direction")
    says(check.steers_a_concept(lab, "desert", mine), "lab.directions = {**lab.directions, mine.name: mine}")
    lab.directions = {**lab.directions, mine.name: mine}
    says(check.steers_a_concept(lab, "desert", mine), "does not steer with desert", "“+ add a direction”")
    lab.recipe = push(mine, 0.2)
    says(check.steers_a_concept(lab, "desert", mine), "intervals overlap", "Push harder")
    lab.recipe = push(mine, 2)
    says(check.steers_a_concept(lab, "desert", mine), "16 of 16 answers have broken", "Push less")
    lab.recipe = push(mine, 0.75)
    says(check.steers_a_concept(lab, "sea", mine), "sea shows in 0.0%")


def test_a_concept_that_the_model_shows_anyway_does_not_count(lab: sl.Lab) -> None:
    mine = means(lab, "winter")
    lab.directions, lab.recipe = {**lab.directions, mine.name: mine}, push(mine, 0.5)
    says(check.steers_a_concept(lab, "winter", mine), "intervals overlap", "without steering in")


def test_a_check_leaves_the_panel_as_it_is(lab: sl.Lab, happy: sl.Direction) -> None:
    lab.directions = before = {**lab.directions, happy.name: happy}
    lab.recipe = recipe = push(happy, 0.7)
    check.turned_the_mood(lab)
    check.strong_but_whole(lab, happy, 0.7)
    check.steers_a_concept(lab, "sea", happy)
    assert (lab.recipe, lab.prompt, lab.directions, lab.scores) == (recipe, SAD_ANSWER, before, None)
