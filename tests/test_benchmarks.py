"""The benchmarks work, compare like with like, and their page is what the command makes of its own results."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = ["sweep", "score_grid", "means", "generation", "selection_search", "first_token", "slider"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What all of them print and find with tiny sizes."""
    out = tmp_path_factory.mktemp("benchmarks") / "figures.json"
    command = [sys.executable, FOLDER / "run.py", *SCRIPTS, "--quick", "--rounds", "1", "--json", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_gives_ratios_of_equal_work(quick: tuple[str, dict[str, Any]], script: str) -> None:
    printed, figures = quick
    assert figures[script]
    for figure in figures[script]:
        assert math.isfinite(figure["value"]["median"])
        assert figure["value"]["median"] > 0
        assert f"{figure['work']} [{figure['model']}] against {figure['against']}\n    ratio " in printed
        assert all(check["holds"] for check in figure["checks"]), figure["checks"]
    assert script == "slider" or any(figure["checks"] for figure in figures[script])


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """common and run, as a benchmark imports them."""
    monkeypatch.syspath_prepend(FOLDER)
    yield {name: importlib.import_module(name) for name in ("common", "run")}
    for name in ("common", "run"):
        del sys.modules[name]


def test_the_page_is_what_the_command_makes_of_its_results(modules: dict[str, ModuleType]) -> None:
    run = modules["run"]
    saved = json.loads(run.RESULTS.read_text(encoding="utf-8"))
    assert run.PAGE.read_text(encoding="utf-8") == run.page(saved)
    assert {key.split()[0] for key in saved} <= set(run.NAMES)


def test_a_goal_is_met_by_the_median_with_all_equal_and_no_package_better(
    modules: dict[str, ModuleType],
) -> None:
    common = modules["common"]

    def figure(median: float, **options: Any) -> Any:
        return common.Figure("w", "a", "m", common.Spread(median, 0.1, 99.0), "times less", **options)

    assert figure(2.0).met is None
    assert figure(2.0, goal=2.0).met
    assert not figure(1.9, goal=2.0).met
    assert figure(1.9, goal=2.0, better="less").met
    assert not figure(2.0, goal=2.0, checks=(common.Check("texts", False),)).met
    faster = {"peer": common.Beside(common.Spread(2.1, 2.1, 2.1), ahead=8, rounds=9)}
    level = {"peer": common.Beside(common.Spread(2.1, 1.0, 3.0), ahead=6, rounds=9)}
    assert figure(2.0, goal=2.0, beside=faster).met
    assert figure(2.0, goal=2.0, beside=level, first=True).met
    assert figure(2.0, goal=2.0, beside=faster, first=True).met is False
    there = figure(2.0, goal=2.0, beside=faster, checks=(common.Check("texts", True),))
    assert common.figure_of(json.loads(json.dumps(common.record(there)))) == there


def test_rounds_interleave_and_give_a_ratio_each(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = modules["common"]
    now, order = [0.0], []
    monkeypatch.setattr(common, "clock", lambda device: now[0])

    def work(name: str, seconds: float) -> Any:
        def run(i: int) -> str:
            order.append((i, name))
            now[0] += seconds + i
            return name

        return run

    found = common.interleaved({"a": work("a", 6.0), "b": work("b", 2.0)}, common.Options(rounds=2))
    assert order == [(-1, "b"), (-1, "a"), (0, "a"), (0, "b"), (1, "b"), (1, "a")]
    assert found.seconds == {"a": [6.0, 7.0], "b": [2.0, 3.0]}
    assert found.ratio("a", "b", scale=10) == ((30 + 70 / 3) / 2, 70 / 3, 30)
    beside = found.beside("b", "a", "a")
    assert (beside.ahead, beside.rounds, beside.value.high) == (2, 2, 3.0)
    assert not beside.better, "two rounds say nothing"
