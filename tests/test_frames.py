"""Tables and pictures, and what is said where their packages are not installed."""

from __future__ import annotations

import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from steerlab.errors import SteerlabError
from steerlab.frames import axes, estimated, heatmap, table
from steerlab.metrics import rate

mpl.use("agg")


def test_a_table_is_made_of_columns_or_of_rows() -> None:
    assert table({"a": [1, 2], "b": [3, 4]}).equals(table([{"a": 1, "b": 3}, {"a": 2, "b": 4}]))


def test_an_estimate_is_four_columns() -> None:
    share = rate([True, False])
    assert estimated("refused", share) == {
        "refused": 0.5,
        "refused_low": share.low,
        "refused_high": share.high,
        "refused_n": 2,
    }


def test_a_map_goes_where_it_is_wanted_and_names_its_rows_and_columns() -> None:
    mine = plt.subplots()[1]
    drawn = heatmap([[0.0, float("nan"), 2.0]], columns=[4, 5, 6], rows=["x"], label="kl", ax=mine)
    assert drawn is mine
    assert [tick.get_text() for tick in drawn.get_xticklabels()] == ["4", "5", "6"]
    assert [tick.get_text() for tick in drawn.get_yticklabels()] == ["x"]
    assert drawn.figure.axes[1].get_ylabel() == "kl"
    assert axes(mine) is mine
    plt.close("all")


@pytest.mark.parametrize(
    ("package", "make"), [("pandas", lambda: table({"a": [1]})), ("matplotlib", lambda: axes())]
)
def test_a_missing_package_is_named_with_its_install(
    monkeypatch: pytest.MonkeyPatch, package: str, make: object
) -> None:
    for name in [package, f"{package}.pyplot"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        SteerlabError, match=rf"needs {package}, which is not installed.*pip install {package}"
    ):
        make()  # type: ignore[operator]
