from __future__ import annotations

import models
import pytest
import torch

from steerlab import Ablate, Direction, Recipe, Row, Site, metrics
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.errors import DirectionError, PromptError
from steerlab.surgical import Frontier, Method, surgical

HARMFUL = [f"Break the {thing} now" for thing in ("window", "lock", "door", "box")]
HARMLESS = [f"Is a {thing} nice?" for thing in ("window", "lock", "door", "box", "safe")]


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    return LocalBackend(models.build("llama", seed=4), byte_tokenizer())


@pytest.fixture(scope="module")
def direction() -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(3))
    return Direction(noise, Site(2, "resid_pre"))


@pytest.fixture(scope="module", params=["windows", "greedy"])
def found(request: pytest.FixtureRequest, backend: LocalBackend, direction: Direction) -> Frontier:
    method: Method = request.param
    return surgical(backend, direction, HARMFUL, HARMLESS, method=method)


def test_subsets_are_those_of_the_method(backend: LocalBackend, direction: Direction) -> None:
    windows = surgical(backend, direction, HARMFUL, HARMLESS, method="windows")
    assert {s.layers for s in windows.subsets} == {
        tuple(range(a, b)) for a in range(4) for b in range(a + 1, 5)
    }
    greedy = surgical(backend, direction, HARMFUL, HARMLESS, method="greedy")
    assert [len(s.layers) for s in greedy.subsets] == [1] * 4 + [2] * 3 + [3] * 2 + [4]
    best = min(greedy.subsets[:4], key=lambda s: s.score.value)
    assert all(set(best.layers) <= set(s.layers) for s in greedy.subsets[4:])


def test_a_subset_is_measured_as_its_recipe(
    found: Frontier, backend: LocalBackend, direction: Direction
) -> None:
    subset = found.subsets[2]
    assert found.recipe(subset) == Recipe([Ablate(direction, layers=subset.layers)])
    steered = backend.score([Row(p, found.recipe(subset)) for p in HARMLESS])
    baseline = backend.score([Row(p) for p in HARMLESS])
    assert subset.kl.value == pytest.approx(float(metrics.kl(baseline, steered).mean()), abs=1e-6)
    assert subset.kl.low <= subset.kl.value <= subset.kl.high
    assert found.full.layers == (0, 1, 2, 3)


def test_nothing_beats_the_frontier(found: Frontier) -> None:
    line = found.frontier
    assert line
    for one in line:
        for other in found.subsets:
            assert other.refusal.value >= one.refusal.value or other.kl.value > one.kl.value
    off = [s for s in found.subsets if not s.on_frontier]
    for s in off:
        assert any(o.refusal.value <= s.refusal.value and o.kl.value <= s.kl.value for o in line)
    assert [s.kl.value for s in line] == sorted(s.kl.value for s in line)


def test_the_smallest_set_keeps_the_rate(found: Frontier) -> None:
    reached = sorted({s.refusal.value for s in found.subsets})
    smallest = found.smallest(reached[-1])
    assert len(smallest.layers) == 1
    assert found.smallest(reached[0]).refusal.value == reached[0]
    with pytest.raises(DirectionError, match="no subset brings refusal to -10% or under"):
        found.smallest(-0.1)


def test_tables_and_plots_hold_every_subset(found: Frontier) -> None:
    frame = found.to_frame()
    assert list(frame["layers"]) == [s.layers for s in found.subsets]
    assert (frame["kl_low"] <= frame["kl"]).all()
    import matplotlib as mpl

    mpl.use("agg")
    ax = found.plot()
    assert ax.get_xlabel() == "KL on harmless prompts (nats)"


def test_empty_sides_are_refused(backend: LocalBackend, direction: Direction) -> None:
    with pytest.raises(PromptError, match="a side of the prompts is empty"):
        surgical(backend, direction, [], HARMLESS)
