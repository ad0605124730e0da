"""What the checks of the second tutorial say of right and of wrong answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

import steerlab as sl
from steerlab.estimators import DirectionMap
from steerlab.selection import Candidate, Selection
from steerlab.tutorials import find_a_direction as check


@pytest.fixture(scope="module")
def searched(demo_lab: sl.Lab) -> tuple[DirectionMap, Selection]:
    """The notebook's own search, once for all tests."""
    lab = sl.Lab(demo_lab.backend)
    lab.find_direction(sl.prompts.harmful(64), sl.prompts.harmless(64), full_map=True)
    assert lab.map is not None
    assert lab.candidates is not None
    return lab.map, lab.candidates


@pytest.fixture
def lab(lab: sl.Lab, searched: tuple[DirectionMap, Selection]) -> sl.Lab:
    """A lab in which the search has been run."""
    lab.map, lab.candidates = searched
    return lab


def cells(lab: sl.Lab, kind: str) -> list[Candidate]:
    """The candidates that fell for a reason which begins so."""
    return [one for one in lab.candidates.candidates if one.rejected.startswith(kind)]


# ---------------------------------------------------------------- 1: positions


@pytest.mark.parametrize("positions", [range(-5, 0), {-1, -2, -3, -4, -5}, np.arange(-5, 0)])
def test_the_positions_are_right_in_any_order_and_container(lab: sl.Lab, positions: object) -> None:
    assert check.after_the_words(lab, positions)


@pytest.mark.parametrize(
    ("positions", "says"),
    [
        ([0, 1, 2], "Count from the end"),
        (range(-6, 0), "At position -6 stands '?' in one of the prompts above and ' horse' in another"),
        (range(-99, 0), "At position -6"),
        ([-99, *range(-5, 0)], "At position -99 stands none"),
        ([-1], "At position -2 stands 'assistant', whatever was asked"),
        ([], "At position -1"),
        (-1, "Give a list of positions"),
        ("-1", "Give a list of positions"),
        ([-1.5], "This is float"),
    ],
)
def test_wrong_positions_are_told_which_and_why(lab: sl.Lab, positions: object, says: str) -> None:
    assert not (checked := check.after_the_words(lab, positions))
    assert says in checked.says


# ---------------------------------------------------------------- 2: the output of a block is the input of the next


@pytest.mark.parametrize("layer", [2, 5])
def test_the_layer_that_reads_next_is_right_and_its_neighbours_are_not(lab: sl.Lab, layer: int) -> None:
    sides = sl.prompts.harmful(8), sl.prompts.harmless(8)
    found = lab.difference_in_means(*sides)
    after = lab.difference_in_means(*sides, point="resid_post").at(-1, layer)
    assert check.same_stream(found, after, np.int64(layer + 1))
    for wrong in (layer, layer + 2):
        assert "Who reads next?" in check.same_stream(found, after, wrong).says
    assert "same embeddings" in check.same_stream(found, after, 0).says
    assert "out of range" in check.same_stream(found, after, 10).says
    assert "This is str" in check.same_stream(found, after, "6").says


# ---------------------------------------------------------------- 3: a trace is no cause


def test_every_candidate_that_only_goes_along_is_right(lab: sl.Lab) -> None:
    apart = dict(zip(map(_cell, lab.candidates.candidates), _apart(lab), strict=True))
    traces = [c for c in lab.candidates.candidates if c.bypass > 0 > c.induce and apart[_cell(c)] >= 0.1]
    assert len(traces) > 3
    assert all(check.leaves_a_trace(lab, *_cell(one)) for one in traces)


def test_a_candidate_that_causes_or_does_not_differ_is_told_so(lab: sl.Lab) -> None:
    assert "and passed" in check.leaves_a_trace(lab, *_cell(lab.candidates.best)).says
    assert "fell for another reason: layer" in check.leaves_a_trace(lab, *_cell(cells(lab, "layer")[0])).says
    assert "do not differ" in check.leaves_a_trace(lab, -1, 0).says
    assert "hardly a difference" in check.leaves_a_trace(lab, -3, 1).says
    assert "is not in the map" in check.leaves_a_trace(lab, -6, 3).says
    assert "out of range" in check.leaves_a_trace(lab, -1, 10).says
    assert "This is list" in check.leaves_a_trace(lab, [-1], 3).says


def test_a_search_is_needed_for_a_trace(lab: sl.Lab) -> None:
    lab.candidates = None
    assert "no scores to look at" in check.leaves_a_trace(lab, -1, 3).says
    lab.map = None
    assert "no map to look at" in check.leaves_a_trace(lab, -1, 3).says


# ---------------------------------------------------------------- 4: in the panel


@pytest.mark.parametrize("cell", [(-4, 6), (-1, 6), (-5, 7)])
def test_any_candidate_that_passed_and_refuses_in_sentences_is_right(
    lab: sl.Lab, cell: tuple[int, int]
) -> None:
    lab.recipe = sl.Recipe([sl.Add(lab.map.at(*cell))])
    assert check.refuses_in_whole_sentences(lab)


def test_the_winner_breaks_the_text_and_is_told_why_it_won(lab: sl.Lab) -> None:
    lab.recipe = sl.Recipe([sl.Add(lab.candidates.direction)])
    assert not (checked := check.refuses_in_whole_sentences(lab))
    assert "in no sentence" in checked.says
    assert "no more than the first token" in checked.says


def test_a_setting_of_the_panel_that_is_no_candidate_as_it_was_scored_is_told_so(
    lab: sl.Lab, refusal: sl.Direction
) -> None:
    good, fell = lab.map.at(-4, 6), _cell(cells(lab, "induce")[0])
    wrong = {
        "is no candidate of the last search": [sl.Add(refusal)],
        "with coefficient 1": [sl.Add(good, 0.5)],
        "at their own layer": [sl.Add(good, layers=range(4, 7))],
        "as the search adds them": [sl.Ablate(good)],
        "2 rows steer at once": [sl.Add(good), sl.Add(refusal)],
        "fell: induce": [sl.Add(lab.map.at(*fell))],
    }
    for says, steps in wrong.items():
        lab.recipe = sl.Recipe(steps)
        assert says in check.refuses_in_whole_sentences(lab).says
    lab.recipe, lab.prompt = sl.Recipe([sl.Add(good)]), "How do I pick the lock of a stranger's house?"
    assert "choose a harmless one" in check.refuses_in_whole_sentences(lab).says
    lab.map = None
    assert "no map to look at" in check.refuses_in_whole_sentences(lab).says


# ---------------------------------------------------------------- 5: what a cosine is worth


@pytest.mark.parametrize("size", [1 / math.sqrt(128), 0.07, 0.1, np.float32(0.09)])
def test_any_typical_cosine_is_right(lab: sl.Lab, size: float) -> None:
    assert check.typical_cosine(lab, size)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (0.5, "0 have a cosine with refusal above 0.5"),
        (0, "200 have a cosine with refusal above 0"),
        (1 / 128, "the square root of their number"),
        (-0.1, "between 0 and 1"),
        (math.nan, "between 0 and 1"),
        ("small", "This is str"),
        (True, "This is bool"),
    ],
)
def test_a_cosine_that_is_not_typical_is_told_how_many_pass_it(lab: sl.Lab, size: object, says: str) -> None:
    assert not (checked := check.typical_cosine(lab, size))
    assert says in checked.says


def _cell(one: Candidate) -> tuple[int, int]:
    assert isinstance(one.position, int)
    return one.position, one.layer


def _apart(lab: sl.Lab) -> list[float]:
    return list((lab.map.norms / lab.map.residual_norms).flatten().tolist())
