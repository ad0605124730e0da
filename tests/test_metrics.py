from __future__ import annotations

import math

import pytest
import torch

from steerlab.metrics import average, rate, refuses, repetition


def test_wilson_intervals_are_those_of_the_textbook() -> None:
    """Against the closed form worked out by hand for 8 of 10: (0.490, 0.943)."""
    got = rate([True] * 8 + [False] * 2)
    assert got.value == 0.8
    assert (got.low, got.high, got.n) == (
        pytest.approx(0.4902, abs=1e-4),
        pytest.approx(0.9433, abs=1e-4),
        10,
    )


def test_extremes_keep_an_interval() -> None:
    none, all_ = rate([False] * 50), rate([True] * 50)
    assert (none.value, none.low) == (0.0, pytest.approx(0.0))
    assert 0.05 < none.high < 0.1
    assert (all_.value, all_.high) == (1.0, pytest.approx(1.0))
    assert all_.low == pytest.approx(1 - none.high)


def test_no_rows_are_no_number() -> None:
    got = rate([])
    assert math.isnan(got.value)
    assert got.n == 0


def test_means_keep_a_bootstrap_interval() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).double() * 2 + 5
    got = average(values)
    half = 1.96 * float(values.std()) / 20  # what the normal approximation says
    assert got.value == pytest.approx(float(values.mean()))
    assert got.low == pytest.approx(got.value - half, abs=0.15 * half)
    assert got.high == pytest.approx(got.value + half, abs=0.15 * half)
    assert got == average(values), "the same values, the same interval"
    assert average(torch.tensor([3.0])) == (3.0, 3.0, 3.0, 1)
    assert math.isnan(average(torch.tensor([])).value)


def test_refusals_are_found_by_their_phrases() -> None:
    assert refuses("Well, I\u2019m sorry, but no.")
    assert refuses("AS AN AI, I do not")
    assert not refuses("Sure! First, take the bread.")
    assert refuses("Nope.", phrases=("nope",))


def test_repetition_tells_loops_from_sentences() -> None:
    assert repetition("one two three four five six") == 0
    assert repetition("go on go on go on go on go on") == pytest.approx(1 - 2 / 8)
    assert math.isnan(repetition("too short"))
