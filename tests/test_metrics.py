from __future__ import annotations

import math

import pytest

from steerlab.metrics import rate


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
