from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from steerlab.errors import PromptError
from steerlab.metrics import (
    average,
    checked_tokens,
    cross_entropy,
    estimate,
    rate,
    refusal_score,
    refusal_tokens,
    refuses,
    repetition,
)


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
    one = average(torch.tensor([3.0]))
    assert (one.value, math.isnan(one.low), math.isnan(one.high), one.n) == (3.0, True, True, 1)
    assert math.isnan(average(torch.tensor([])).value)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 16])
def test_intervals_of_few_rows_hold_the_mean(n: int) -> None:
    """Of 600 at 95%, 570 are expected, give or take 5; values that lean to a side take more rows for that."""
    noise = torch.Generator().manual_seed(n)
    normal = torch.randn(600, n, generator=noise)
    leaning = -torch.rand(600, n, generator=noise).log() - 1
    found = [[average(row) for row in rows] for rows in (normal, leaning)]
    held = [sum(one.low <= 0 <= one.high for one in some) for some in found]
    assert 545 <= held[0] <= 590
    assert held[1] >= 500


def test_a_share_is_written_as_a_percentage_and_a_mean_as_a_number() -> None:
    assert str(rate([True] * 8 + [False] * 2)) == "80.0% [49.0%, 94.3%], n = 10"
    assert str(estimate([True, False])).startswith("50.0% [")
    assert str(average(torch.tensor([0.0369, 0.0369]))) == "0.0369 [0.0369, 0.0369], n = 2"
    assert str(average(torch.tensor([0.0369]))) == "0.0369 (no interval), n = 1"
    assert str(estimate([12, 12.0])) == "12 [12, 12], n = 2"
    assert str(rate([])) == str(average(torch.tensor([]))) == "no rows"


def test_refusals_are_found_by_their_phrases() -> None:
    assert refuses("Well, I\u2019m sorry, but no.")
    assert refuses("AS AN AI, I do not")
    assert not refuses("Sure! First, take the bread.")
    assert refuses("Nope.", phrases=("nope",))


def test_repetition_tells_loops_from_sentences() -> None:
    assert repetition("one two three four five six") == 0
    assert repetition("go on go on go on go on go on") == pytest.approx(1 - 2 / 8)
    assert math.isnan(repetition("too short"))


def test_the_cross_entropy_is_the_mean_surprise_of_a_token_and_of_no_token_no_number() -> None:
    fair = torch.full((4,), 1 / 8).log()
    assert cross_entropy(fair) == pytest.approx(math.log(8))
    assert cross_entropy(torch.cat([fair, torch.zeros(4)])) == pytest.approx(math.log(8) / 2)
    assert math.isnan(cross_entropy(torch.zeros(0)))


@pytest.mark.parametrize(
    "given", [[5, 3, 5], (5, 3), np.array([5, 3, 3]), torch.tensor([5, 3]), iter([5, 3])]
)
def test_refusal_tokens_are_taken_once_from_any_list(given: Any) -> None:
    tokens = checked_tokens(given, 6)
    assert tokens == (5, 3)
    assert all(type(token) is int for token in tokens)
    assert checked_tokens(None, 6) == ()


def test_a_score_of_no_refusal_tokens_is_refused() -> None:
    with pytest.raises(PromptError, match="no refusal tokens"):
        refusal_score(torch.zeros(2, 6), None)  # type: ignore[arg-type]


def test_a_token_that_is_given_twice_counts_once() -> None:
    logits = torch.tensor([[0.0, 9.0, 0.0]])
    assert refusal_score(logits, [1, 1]).item() == refusal_score(logits, [1]).item()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([1, -1, 6], r"has \[-1, 6\], and the model's tokens are 0 to 5"),
        ([], "refusal_tokens is empty"),
        ([0.5], "no list of token ids"),
        ("ab", "no list of token ids"),
        (3, "no list of token ids"),
        (torch.tensor([0.5]), "no list of token ids"),
        (torch.tensor([[1, 2]]), "no list of token ids"),
    ],
)
def test_what_are_no_refusal_tokens_is_refused(given: Any, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        checked_tokens(given, 6)
    with pytest.raises(PromptError, match=says):
        refusal_score(torch.zeros(1, 6), given)


def test_refusal_tokens_are_derived_from_the_rows_that_are_numbers() -> None:
    harmful = torch.tensor([[5.0, 4.0, 0.0, 0.0, 1.0]]).repeat(3, 1)
    harmless = torch.tensor([[0.0, 0.0, 5.0, 1.0, 1.0]]).repeat(4, 1)
    harmful[1, 2] = math.nan
    assert refusal_tokens(harmful, harmless) == [0, 1]
    with pytest.raises(PromptError, match="no prompt of a side has finite logits"):
        refusal_tokens(harmful * math.nan, harmless)


def test_the_interval_of_what_is_never_negative_is_not_either() -> None:
    kl = average(torch.tensor([0.0, 0.001, 0.0, 0.2], dtype=torch.float64))
    assert kl.low == 0.0 < kl.value < kl.high
    assert average(torch.tensor([-1e-9, 0.001, 0.0, 0.2])).low == pytest.approx(0.0, abs=1e-8)
    assert average(torch.tensor([-0.001, 0.001, 0.0, 0.2])).low < -0.001
