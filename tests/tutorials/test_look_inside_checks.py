"""The checks of `04_look_inside.ipynb`: right answers, and what is said of wrong ones."""

from __future__ import annotations

import pytest

import steerlab as sl
from steerlab.lens import Probe
from steerlab.tutorials import Checked
from steerlab.tutorials import look_inside as check

HARMFUL, HARMLESS = "How do I pick the lock of a stranger's house?", "How do I bake some bread?"


@pytest.fixture
def lab(lab: sl.Lab) -> sl.Lab:
    lab.prompt = HARMFUL
    return lab


def says(checked: Checked, *words: str) -> None:
    """It is wrong, and is told so in these words."""
    assert not checked
    for word in words:
        assert word in checked.says


# ---------------------------------------------------------------- words in the lens


def top_words(lab: sl.Lab, recipe: sl.Recipe) -> list[str]:
    """The likeliest token of every layer at the prompt's last token."""
    return [cells[-1][0] for cells in lab.logit_lens(lab.prompt, recipe).top(1).texts]


def first_that_stays(words: list[str]) -> int:
    return min(i for i in range(len(words)) if set(words[i:]) == {words[-1]})


@pytest.mark.parametrize("prompt", [HARMFUL, "How do I steal a car?"])
def test_words_settle_at_the_layer_from_which_on_the_lens_has_them(
    lab: sl.Lab, refusal: sl.Direction, prompt: str
) -> None:
    lab.prompt, lab.recipe = prompt, sl.Recipe([sl.Ablate(refusal)])
    plain, steered = (top_words(lab, recipe) for recipe in (sl.BASELINE, lab.recipe))
    right = first_that_stays(plain), first_that_stays(steered)
    assert check.settled(lab, *right), "what is right for one prompt need not be for another, and is measured"
    assert f"“{plain[-1]}” from layer {right[0]} on" in check.settled(lab, *right).says
    says(check.settled(lab, right[0] - 1, right[1]), "Baseline", f"“{plain[right[0] - 1]}”", "further up")
    says(check.settled(lab, right[0], right[1] - 1), "Steered", f"“{steered[right[1] - 1]}”")
    says(check.settled(lab, right[0], 9), "Steered", "the layer below", f"“{steered[-1]}”")
    says(check.settled(lab, 10, right[1]), "the layer of Baseline is a whole number from 0 to 9, not 10")
    says(check.settled(lab, right[0], "six"), "the layer of Steered", "'six'")
    says(check.settled(lab, ..., right[1]), "three dots")


def test_words_are_looked_for_where_the_panel_ablates_a_refusal_away(
    lab: sl.Lab, refusal: sl.Direction
) -> None:
    says(check.settled(lab, 5, 6), "Nothing is steered yet", "choose ablate")
    lab.recipe = sl.Recipe([sl.Add(refusal)])
    says(check.settled(lab, 5, 6), "a step that does not ablate", "add 'refusal'")
    lab.recipe = sl.Recipe([sl.Ablate(refusal, layers=0)])
    says(check.settled(lab, 5, 6), "still refuses", "Paper’s ablation")
    lab.prompt, lab.recipe = HARMLESS, sl.Recipe([sl.Ablate(refusal)])
    says(check.settled(lab, 5, 6), "answers this prompt anyway")
    says(check.settled("lab", 5, 6), "This is str", "a lab")


# ---------------------------------------------------------------- facts


@pytest.mark.parametrize(
    ("question", "beginning", "word"),
    [
        ("What is the capital of France?", "The capital of France is", "Paris"),
        ("Tell me the capital of Japan.", "The capital of Japan is", "Tokyo"),
        ("What colour is grass?", "Grass is", "green"),
        ("How many legs does a spider have?", "A spider has", "eight"),
        ("What is the opposite of hot?", "The opposite of hot is", "cold"),
    ],
)
def test_any_fact_that_is_about_to_be_said_is_right(
    lab: sl.Lab, question: str, beginning: str, word: str
) -> None:
    checked = check.about_to_say_a_fact(lab, sl.prompts.answered(question, beginning))
    assert checked
    assert f"“{word}”" in checked.says


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("What is the capital of France?", ["would say “The”", "sl.prompts.answered"]),
        ("The capital of France is", ["would say “The”", "the next token and no other"]),
        (sl.prompts.answered("Tell me a story.", "Once upon a"), ["would say “time”"]),
        (
            sl.prompts.answered("Is the capital of France Paris?", "The capital of France is"),
            ["“Paris”", "may be a copy"],
        ),
        (7, ["a prompt is a text or a conversation"]),
        ("", ["the prompt is empty"]),
    ],
)
def test_another_prompt_is_told_what_comes_next_and_why(
    lab: sl.Lab, prompt: object, words: list[str]
) -> None:
    says(check.about_to_say_a_fact(lab, prompt), *words)


# ---------------------------------------------------------------- probes


@pytest.fixture(scope="module")
def probes(demo_lab: sl.Lab) -> list[Probe]:
    """As the notebook has them: four in five prompts are harmless."""
    return demo_lab.probe(
        sl.prompts.harmful(40) + sl.prompts.harmless(160), ["harmful"] * 40 + ["harmless"] * 160
    )


def test_a_layer_is_readable_where_the_whole_interval_is_above_chance(probes: list[Probe]) -> None:
    above = [probe.layer for probe in probes if probe.accuracy.low > probe.chance]
    assert check.readable(probes, above[0])
    says(check.readable(probes, above[1]), "further down as well", "first")
    says(check.readable(probes, 0), "80.0%", "Compare with chance, not with half")
    better = above[0] - 1
    assert probes[better].accuracy.value > probes[better].chance, "a value above chance is not enough"
    says(check.readable(probes, better), str(probes[better].accuracy), "within the interval")
    says(check.readable(probes, -1), "whole number from 0 to 9")
    says(check.readable(probes, 2.5), "not 2.5")


# ---------------------------------------------------------------- directions of layers


@pytest.fixture(scope="module")
def found(demo_lab: sl.Lab) -> sl.estimators.DirectionMap:
    return demo_lab.difference_in_means(sl.prompts.harmful(128), sl.prompts.harmless(128), positions=[-1])


@pytest.mark.parametrize("pair", [(9, 4), (9, 3), (8, 5)])
def test_two_layers_look_alike_and_one_alone_works(
    lab: sl.Lab, found: sl.estimators.DirectionMap, pair: tuple[int, int]
) -> None:
    assert check.alike_but_for_the_effect(lab, found, *pair)
    says(check.alike_but_for_the_effect(lab, found, *pair[::-1]), "the other way round")


def test_another_pair_is_told_its_numbers(lab: sl.Lab, found: sl.estimators.DirectionMap) -> None:
    says(
        check.alike_but_for_the_effect(lab, found, 6, 1),
        "0.99 for layer 6",
        "0.18 for layer 1",
        "0.05 at most",
    )
    says(check.alike_but_for_the_effect(lab, found, 7, 8), "leaves refused 0.0%", "intervals overlap")
    says(check.alike_but_for_the_effect(lab, found, 3, 4), "intervals overlap")
    says(check.alike_but_for_the_effect(lab, found, 0, 1), "do not differ", "layer 0")
    says(check.alike_but_for_the_effect(lab, found, 9, 10), "fails is a whole number")
    says(check.alike_but_for_the_effect(lab, [found], 9, 4), "This is list", "map of directions")


# ---------------------------------------------------------------- few layers


@pytest.mark.parametrize("layers", [(6, 9), (4, 6, 9)])
def test_few_layers_do_what_all_do(lab: sl.Lab, refusal: sl.Direction, layers: tuple[int, ...]) -> None:
    lab.recipe = sl.Recipe([sl.Ablate(refusal, layers=layers)])
    checked = check.few_layers_suffice(lab)
    assert checked
    assert f"at layers {', '.join(map(str, layers))}" in checked.says
    lab.recipe = sl.Recipe([sl.Ablate(refusal, layers=layer) for layer in layers])
    assert check.few_layers_suffice(lab).says == checked.says, "a step for each layer is the same ablation"


def test_other_ablations_are_told_what_they_lack(lab: sl.Lab, refusal: sl.Direction) -> None:
    says(check.few_layers_suffice(lab), "Nothing is steered yet")
    lab.recipe = sl.Recipe([sl.Ablate(refusal)])
    says(check.few_layers_suffice(lab), "at 10 layers", "3 or fewer")
    lab.recipe = sl.Recipe([sl.Ablate(refusal, layers=[])])
    says(check.few_layers_suffice(lab), "no layer at all")
    lab.recipe = sl.Recipe([sl.Add(refusal, -1)])
    says(check.few_layers_suffice(lab), "does not ablate")
    lab.recipe = sl.Recipe([sl.Ablate(refusal, layers=6)])
    says(check.few_layers_suffice(lab), "at layer 6 misses too much", "n = 300", "partly luck")
    lab.recipe = sl.Recipe([sl.Ablate(sl.estimators.random_like(refusal), layers=[6, 9])])
    says(check.few_layers_suffice(lab), "misses too much")


def test_what_takes_refusals_away_at_a_greater_cost_is_told_so(lab: sl.Lab, refusal: sl.Direction) -> None:
    lab.recipe = sl.Recipe([sl.Ablate(refusal, layers=[6, 9], strength=1.2)])
    says(check.few_layers_suffice(lab), "costs as much as at every layer", "ablate less")


def test_a_check_leaves_the_panel_as_it_is(lab: sl.Lab, refusal: sl.Direction) -> None:
    lab.recipe = before = sl.Recipe([sl.Ablate(refusal, layers=[6, 9])])
    check.settled(lab, 5, 6)
    check.few_layers_suffice(lab)
    assert (lab.recipe, lab.prompt, lab.scores, lab.map) == (before, HARMFUL, None, None)
