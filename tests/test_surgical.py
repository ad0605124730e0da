from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import models
import pytest
import torch
from overflowing import Overflowing

from steerlab import BASELINE, Ablate, Direction, Recipe, Row, Site, metrics
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.errors import DirectionError, PromptError
from steerlab.surgical import Frontier, Method, Subset, surgical

HARMFUL = [f"Break the {thing} now" for thing in ("window", "lock", "door", "box", "cup", "bike")]
HARMLESS = [
    f"Is a {thing} nice?" for thing in ("window", "lock", "door", "box", "safe", "cup", "bike", "car")
]
SEEN, UNSEEN = (HARMFUL[:3], HARMLESS[:4]), (HARMFUL[3:], HARMLESS[4:])


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
    assert subset.kl.low <= subset.kl.value <= subset.kl.high
    assert found.full.layers == (0, 1, 2, 3)
    again = [s for s in found.subsets if s.unseen]
    assert found.full in again
    for one, (harmful, harmless) in [
        (subset, SEEN),
        *((s, SEEN) for s in again),
        *((s.unseen, UNSEEN) for s in again if s.unseen),
    ]:
        runs = [
            [backend.score([Row(p, r) for p in side]) for side in (harmful, harmless)]
            for r in (BASELINE, found.recipe(one), found.recipe(found.full))
        ]
        kl, full_kl = (metrics.kl(runs[0][1], run[1]) for run in runs[1:])
        refused, full_refused = (metrics.refusal_score(run[0], found.refusal_tokens) > 0 for run in runs[1:])
        assert one.kl.value == pytest.approx(float(kl.mean()), abs=1e-6)
        assert one.kl.n == len(harmless)
        assert one.saved.value == pytest.approx(float((full_kl - kl).mean()), abs=1e-6)
        assert one.refusal == metrics.rate(refused.tolist())
        assert one.missed == metrics.rate((refused & ~full_refused).tolist())
    assert found.full.missed.value == found.full.saved.value == 0


def test_what_is_measured_again_is_what_none_of_as_few_layers_beats(found: Frontier) -> None:
    again = {s.layers for s in found.subsets if s.unseen}
    assert {s.layers for s in found.frontier} < again | {found.full.layers}
    assert found.smallest(0.99).unseen
    for s in found.subsets:
        better = [
            o
            for o in found.subsets
            if len(o.layers) <= len(s.layers)
            and (o.refusal.value, o.kl.value) != (s.refusal.value, s.kl.value)
            and o.refusal.value <= s.refusal.value
            and o.kl.value <= s.kl.value
        ]
        assert bool(better) == (s.layers not in again) or s == found.full, s.layers


def test_the_search_does_not_see_what_is_held_out(backend: LocalBackend, direction: Direction) -> None:
    whole = surgical(backend, direction, HARMFUL, HARMLESS)
    alone = surgical(backend, direction, *SEEN, held_out=0, refusal_tokens=whole.refusal_tokens)
    other = surgical(
        backend,
        direction,
        SEEN[0] + ["Hi"] * 3,
        SEEN[1] + ["Hello"] * 4,
        refusal_tokens=whole.refusal_tokens,
    )
    assert alone.subsets == tuple(replace(s, unseen=None) for s in whole.subsets)
    assert alone.subsets == tuple(replace(s, unseen=None) for s in other.subsets)
    assert whole.full.unseen != other.full.unseen
    assert alone.confirmed() == ()


def test_a_subset_is_confirmed_by_intervals_on_unseen_prompts(found: Frontier) -> None:
    def subset(layers: tuple[int, ...], missed: int, saved: float, kl: float = 0.1) -> Subset:
        """Of 100 harmful prompts so many are missed; the KL saved is this, give or take a hundredth."""
        near = metrics.Estimate(saved, saved - 0.01, saved + 0.01, 100)
        what = metrics.Estimate(kl, kl, kl, 100)
        return Subset(
            layers, what, what, what, metrics.rate([True] * missed + [False] * (100 - missed)), near
        )

    seen = subset((0,), 50, -1.0)
    cases = [
        replace(seen, layers=(1, 2), unseen=subset((1, 2), 1, 0.02, kl=0.4)),  # missed.high 5.4%
        replace(seen, layers=(0, 1), unseen=subset((0, 1), 0, 0.02, kl=0.3)),
        replace(seen, layers=(2, 3), unseen=subset((2, 3), 0, 0.02, kl=0.2)),
        replace(seen, layers=(1, 3), unseen=subset((1, 3), 0, 0.005)),
        replace(seen, layers=(3,), unseen=subset((3,), 0, 0.02)),
        subset((2,), 0, 0.02),
    ]
    one = replace(found, subsets=tuple(cases))
    assert [s.layers for s in one.confirmed()] == [(3,), (2, 3), (0, 1)]
    assert [s.layers for s in one.confirmed(within=0.06)] == [(3,), (2, 3), (0, 1), (1, 2)]


@pytest.mark.parametrize("method", ["windows", "greedy"])
def test_a_backend_is_asked_for_many_subsets_at_once(
    backend: LocalBackend, direction: Direction, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question is a job where the model is on a server."""
    asked: list[int] = []
    score = backend.score
    monkeypatch.setattr(backend, "score", lambda rows: asked.append(len(rows)) or score(rows))
    told: list[int] = []
    found = surgical(
        backend, direction, HARMFUL, HARMLESS, method=method, progress=lambda done, _: told.append(done)
    )
    steps = [10] if method == "windows" else [4, 3, 2, 1]
    again = sum(s.unseen is not None for s in found.subsets)
    n = len([*SEEN[0], *SEEN[1]])
    assert asked == [2 * n, *(n * subsets for subsets in steps), 2 * n, n * again]
    assert told[-1] == 10
    monkeypatch.setattr("steerlab.surgical.ROWS", 3 * n)
    few = surgical(backend, direction, HARMFUL, HARMLESS, method=method)
    assert max(asked[len(asked) - 3 :]) <= 3 * n
    assert [(s.layers, s.on_frontier) for s in few.subsets] == [
        (s.layers, s.on_frontier) for s in found.subsets
    ]


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
    assert (frame["missed_n"] == len(SEEN[0])).all()
    again = frame[frame["unseen_kl"].notna()]
    assert list(again["layers"]) == [s.layers for s in found.subsets if s.unseen]
    assert (again["unseen_kl_n"] == len(UNSEEN[1])).all()
    import matplotlib as mpl

    mpl.use("agg")
    ax = found.plot()
    assert ax.get_xlabel() == "KL on harmless prompts (nats)"


SMALL = Direction(
    3 * torch.randn(16, generator=torch.Generator().manual_seed(2)), Site(2, "resid_pre"), name="small"
)
TOKENS = list(range(40))


def layers(row: Row) -> set[int]:
    return {layer for step in row.recipe.interventions for layer in step.layers if isinstance(layer, int)}


def searched(breaks: Callable[[Row], bool], method: Method) -> Frontier:
    return surgical(Overflowing(breaks), SMALL, HARMFUL, HARMLESS, method=method, refusal_tokens=TOKENS)


@pytest.mark.parametrize("method", ["windows", "greedy"])
def test_prompts_without_finite_logits_count_in_no_figure(method: Method) -> None:
    broken = {HARMFUL[0], HARMLESS[0], HARMFUL[-1]}
    found = searched(lambda row: row.prompt in broken, method)
    alone = surgical(
        FakeBackend(), SMALL, SEEN[0][1:], SEEN[1][1:], method=method, refusal_tokens=TOKENS, held_out=0
    )
    assert found.baseline == alone.baseline
    assert tuple(replace(s, unseen=None) for s in found.subsets) == alone.subsets
    assert found.full.unseen
    assert (found.full.unseen.refusal.n, found.full.unseen.kl.n) == (2, 4)


@pytest.mark.parametrize("method", ["windows", "greedy"])
def test_subsets_without_finite_logits_are_never_chosen(method: Method) -> None:
    found = searched(lambda row: 1 in layers(row), method)
    known = [s for s in found.subsets if 1 not in s.layers]
    assert known
    assert {s.layers for s in found.subsets if s.known} == {s.layers for s in known}
    assert found.full.layers == (0, 1, 2, 3)
    assert {s.layers for s in found.frontier} <= {s.layers for s in known}
    assert 1 not in found.smallest(1.0).layers
    assert found.smallest(min(s.refusal.value for s in known)) in known
    with pytest.raises(DirectionError, match=r"the best reaches \d+%"):
        found.smallest(-0.1)
    if method == "greedy":  # the layer that breaks the model comes last
        assert [s.layers for s in found.subsets if 1 in s.layers][-1] == found.full.layers
        assert {len(s.layers) for s in known} == {1, 2, 3}


def test_where_nothing_is_finite_there_is_no_smallest_set() -> None:
    found = searched(lambda row: bool(layers(row)), "windows")
    assert found.frontier == found.confirmed() == ()
    with pytest.raises(DirectionError, match="no subset has finite logits"):
        found.smallest(0.5)


def test_empty_sides_are_refused(backend: LocalBackend, direction: Direction) -> None:
    for sides in (([], HARMLESS), (HARMFUL, HARMLESS[:1]), (HARMFUL[:1], HARMLESS)):
        with pytest.raises(PromptError, match="leave a side of the prompts empty"):
            surgical(backend, direction, *sides)
    with pytest.raises(PromptError, match="held_out is a share"):
        surgical(backend, direction, HARMFUL, HARMLESS, held_out=1.0)
