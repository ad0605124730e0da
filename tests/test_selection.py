"""The paper's choice, against a rewrite of its formulas in NumPy, and of the whole search with plain hooks."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import models
import numpy as np
import oracle
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from steerlab import Ablate, ContrastSet, Lab, Recipe, Row, Site, metrics, prompts, selection
from steerlab.backends.base import Backend
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.loading import load
from steerlab.backends.local import LocalBackend
from steerlab.demo import WEIGHTS
from steerlab.errors import PromptError
from steerlab.estimators import DirectionMap, difference_in_means

HARMFUL = [f"Break the {thing} now" for thing in ("window", "lock", "door", "box", "safe", "gate")]
HARMLESS = [f"Is a {thing} nice?" for thing in ("window", "lock", "door", "box", "safe", "gate")]


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    return LocalBackend(models.build("llama", seed=4), byte_tokenizer())


@pytest.fixture(scope="module")
def directions(backend: LocalBackend) -> DirectionMap:
    return difference_in_means(backend, ContrastSet(HARMFUL, HARMLESS, "refusal"), positions=[-2, -1])


ALL = {"max_kl": math.inf, "min_induce": -math.inf}  # only the last layers and what is no number are rejected


def test_metrics_are_the_papers_formulas() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    p = np.exp(logits.numpy().astype(float))
    p /= p.sum(1, keepdims=True)
    mass = p[:, [0, 2]].sum(1)
    score = metrics.refusal_score(logits, [0, 2])
    assert score.numpy() == pytest.approx(np.log(mass + 1e-8) - np.log(1 - mass + 1e-8), abs=1e-12)
    q = p[::-1]
    kl = metrics.kl(logits, logits.flip(0))
    assert kl.numpy() == pytest.approx((p * (np.log(p + 1e-6) - np.log(q + 1e-6))).sum(1), abs=1e-12)
    assert metrics.kl(logits, logits).tolist() == [0.0, 0.0]


def test_refusal_tokens_are_those_that_harm_makes_likelier() -> None:
    harmful = torch.tensor([[5.0, 4.0, 0.0, 0.0, 1.0]]).repeat(3, 1)
    harmless = torch.tensor([[0.0, 0.0, 5.0, 1.0, 1.0]]).repeat(4, 1)
    assert metrics.refusal_tokens(harmful, harmless) == [0, 1]
    assert metrics.refusal_tokens(harmful, harmless, share=0.5) == [0]


@pytest.fixture(scope="module")
def by_hooks() -> oracle.Found:
    """The search of the oracle in float64: what the mathematics gives."""
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    harm, less = (
        [oracle.encode(tokenizer, p) for p in side] for side in (prompts.harmful(60), prompts.harmless(60))
    )
    tokens = metrics.refusal_tokens(*(oracle.last_logits(model, side) for side in (harm, less)))
    return oracle.find(
        model,
        oracle.n_post_instruction(tokenizer),
        (harm[:-12], less[:-12]),
        (harm[-12:], less[-12:]),
        tokens,
        max_kl=math.inf,
        min_induce=-math.inf,
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        # A direction and the logits are float32 in steerlab whatever the weights are: a logit of 20 is known to 1e-6,
        # and means over the prompts to a third of that.
        (torch.float64, 1e-6),
        # Ten layers in float32. One prompt at a time or a batch, here or in the oracle, the distance to float64 is
        # the same, 1e-6 to 4e-6: it is rounding.
        (torch.float32, 1e-5),
    ],
    ids=str,
)
def test_the_search_is_that_of_plain_hooks_on_the_embedded_model(
    by_hooks: oracle.Found, dtype: torch.dtype, tolerance: float
) -> None:
    lab = Lab(load(WEIGHTS, dtype=dtype, progress=False))
    found = lab.find_direction(
        prompts.harmful(60), prompts.harmless(60), max_kl=math.inf, min_induce=-math.inf, full_map=True
    )
    report = lab.candidates
    assert report is not None
    assert list(report.refusal_tokens) == by_hooks.tokens
    assert {(c.position, c.layer) for c in report.candidates} == set(by_hooks.scores)
    undefined = [cell for cell, scores in by_hooks.scores.items() if math.isnan(scores.bypass)]
    assert (-1, 0) in undefined, "the template's last token has one embedding after any prompt"
    for c in report.candidates:
        wanted = by_hooks.scores[c.position, c.layer]
        assert (c.bypass, c.induce, c.kl) == pytest.approx(
            (wanted.bypass, wanted.induce, wanted.kl), rel=0, abs=tolerance, nan_ok=True
        ), (c.position, c.layer)
        if math.isnan(wanted.bypass):
            assert c.rejected.startswith("a score is not a number")
        else:
            assert ("last fifth" in c.rejected) == (c.layer >= int(0.8 * lab.info.n_layers))
    position, layer = by_hooks.best
    assert (report.best.position, report.best.layer) == (position, layer)
    assert (found.provenance["position"], found.site) == (position, Site(layer, "resid_pre"))
    mean = by_hooks.means[position, layer]
    assert float((found.vector - mean).norm() / mean.norm()) < 1e-6


def middling(whole: selection.Selection) -> dict[str, float]:
    """Thresholds by which some candidates fall and some pass."""
    kept = [c for c in whole.candidates if not c.rejected]
    induce, kl = (sorted(getattr(c, test) for c in kept) for test in ("induce", "kl"))
    return {"min_induce": (induce[0] + induce[1]) / 2, "max_kl": (kl[-1] + kl[-2]) / 2}


class Counted:
    """A backend that counts the rows it is asked to score."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.rows = backend, 0

    def score(self, rows: Sequence[Row]) -> torch.Tensor:
        self.rows += len(rows)
        return self._backend.score(rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


@pytest.mark.parametrize("name", ["fake", "llama", "gpt2", "gemma3", "gpt-neox", "qwen3-moe"])
def test_the_choice_is_the_same_when_scoring_stops_at_the_first_failed_test(name: str) -> None:
    backend = FakeBackend() if name == "fake" else LocalBackend(models.build(name, seed=4), byte_tokenizer())
    counted = Counted(backend)
    directions = difference_in_means(backend, ContrastSet(HARMFUL, HARMLESS), positions=[-3, -2, -1])

    def select(**options: Any) -> tuple[selection.Selection, int]:
        counted.rows = 0
        base = selection.baseline(counted, HARMFUL, HARMLESS)  # type: ignore[arg-type]
        chosen = selection.choose(counted, directions, base, **options)  # type: ignore[arg-type]
        return chosen, counted.rows - 2 * len(HARMFUL)

    limits = middling(select(**ALL, full_map=True)[0])
    whole, all_rows = select(**limits, full_map=True)
    short, fewer_rows = select(**limits)
    differing = [c for c in whole.candidates if not math.isnan(c.kl)]
    assert all_rows == 3 * len(HARMFUL) * len(differing)
    assert (short.best.position, short.best.layer) == (whole.best.position, whole.best.layer)
    assert torch.equal(short.direction.vector, whole.direction.vector)
    needed = 0
    for ours, full in zip(short.candidates, whole.candidates, strict=True):
        assert (ours.position, ours.layer) == (full.position, full.layer)
        assert bool(ours.rejected) == bool(full.rejected)
        assert not full.unscored
        for test in ("bypass", "induce", "kl"):
            score, wanted = getattr(ours, test), getattr(full, test)
            needed += not math.isnan(score)
            if test in ours.unscored.partition(" not needed: ")[0]:
                assert math.isnan(score)
                assert ours.unscored.endswith(f"not needed: {ours.rejected}")
            else:
                assert score == pytest.approx(wanted, rel=0, abs=1e-5, nan_ok=True)
    assert fewer_rows == len(HARMFUL) * needed
    assert fewer_rows < all_rows
    reasons = {c.rejected.partition(" ")[0] for c in short.candidates}
    assert {"", "induce", "layer"} <= reasons


def test_a_score_that_is_no_number_is_named(backend: LocalBackend, directions: DirectionMap) -> None:
    class Broken(Counted):
        def score(self, rows: Sequence[Row]) -> torch.Tensor:
            logits = super().score(rows)
            logits[[bool(row.recipe) and isinstance(row.recipe.interventions[0], Ablate) for row in rows]] = (
                math.nan
            )
            return logits

    with pytest.raises(
        selection.AllRejectedError, match=r"rejected: 2 in the last fifth .*, 6 without a score"
    ):
        selection.select(Broken(backend), directions, HARMFUL, HARMLESS, **ALL)  # type: ignore[arg-type]


@pytest.mark.parametrize("full_map", [False, True])
def test_the_search_tells_how_far_it_is(backend: LocalBackend, full_map: bool) -> None:
    directions = difference_in_means(backend, ContrastSet(HARMFUL, HARMLESS), positions=[-5, -1])
    assert not directions.differs(-1, 0), "some cells have no direction"
    told: list[tuple[int, int]] = []
    selection.select(
        backend,
        directions,
        HARMFUL,
        HARMLESS,
        **ALL,
        full_map=full_map,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == sorted(told)
    assert {total for _, total in told} == {8}
    assert told[0][0] < told[-1][0] == 8


@pytest.mark.parametrize("full_map", [False, True])
@pytest.mark.parametrize(
    ("limits", "counted", "fix"),
    [
        ({"max_kl": -1.0, "min_induce": -math.inf}, r"\d+ by KL > -1", r"max_kl=\S+"),
        ({"max_kl": math.inf, "min_induce": 99.0}, r"\d+ by induce < 99", r"min_induce=\S+"),
        ({"max_kl": -1.0, "min_induce": 99.0}, r"\d+ by KL > -1", r"max_kl=\S+ and min_induce=\S+"),
    ],
)
def test_when_all_fall_the_error_counts_the_reasons_and_says_what_would_pass(
    backend: LocalBackend,
    directions: DirectionMap,
    limits: dict[str, float],
    counted: str,
    fix: str,
    full_map: bool,
) -> None:
    says = rf"all 8 candidates were rejected: {counted}, \d in the last fifth .*would pass with {fix}\.$"
    with pytest.raises(selection.AllRejectedError, match=says) as caught:
        selection.select(backend, directions, HARMFUL, HARMLESS, full_map=full_map, **limits)
    assert len(caught.value.candidates) == 8
    assert sum(int(n) for n in re.findall(r"[:,] (\d+) ", caught.value.what)) == 8
    relaxed = {name: float(value) for name, value in re.findall(r"(\w+)=(\S+\d)", caught.value.fix)}
    assert relaxed in selection.relaxations(caught.value.candidates, limits["min_induce"])
    selection.select(backend, directions, HARMFUL, HARMLESS, **{**limits, **relaxed})


def test_prompts_that_do_not_contrast_are_refused(backend: LocalBackend, directions: DirectionMap) -> None:
    unused = [len(byte_tokenizer()) - 1]
    with pytest.raises(PromptError, match="refuses 0 of 6 harmful prompts"):
        selection.select(backend, directions, HARMFUL, HARMLESS, refusal_tokens=unused)
    everything = selection.select(
        backend, directions, HARMFUL, HARMLESS, refusal_tokens=unused, drop=False, **ALL
    )
    assert everything.direction.provenance["selection prompts"] == {"harmful": "6 of 6", "harmless": "6 of 6"}


def test_what_the_model_takes_the_other_way_is_dropped_and_counted(backend: LocalBackend) -> None:
    base = selection.baseline(backend, HARMFUL, HARMLESS)
    logits = oracle.last_logits(
        backend._hf, [oracle.encode(backend.tokenizer, p) for p in HARMFUL + HARMLESS]
    )
    scores = metrics.refusal_score(logits, base.refusal_tokens)
    assert torch.allclose(torch.cat([base.harmful.scores, base.harmless.scores]), scores, atol=1e-4)
    n = len(scores) // 2
    middle = float(scores.sort().values[n - 2 : n].mean())  # some fall on the wrong side of it
    moved = dataclasses.replace(
        base,
        harmful=base.harmful._replace(scores=base.harmful.scores - middle),
        harmless=base.harmless._replace(scores=base.harmless.scores - middle),
    )
    kept = moved.contrasting()
    assert list(kept.harmful.prompts) == [p for p, s in zip(HARMFUL, scores, strict=False) if s > middle]
    assert list(kept.harmless.prompts) == [p for p, s in zip(HARMLESS, scores[6:], strict=True) if s < middle]
    assert (kept.harmless.scores < 0).all()
    assert len(kept.harmless.logits) == len(kept.harmless.prompts)
    dropped = 12 - len(kept.harmful.prompts) - len(kept.harmless.prompts)
    assert dropped > 0, "the test needs prompts to drop"
    assert kept.kept == {
        "harmful": f"{len(kept.harmful.prompts)} of 6",
        "harmless": f"{len(kept.harmless.prompts)} of 6",
    }
    one, other = base.split(2, 1)
    assert (one.harmful.prompts, other.harmful.prompts) == (tuple(HARMFUL[:4]), tuple(HARMFUL[4:]))
    assert (one.given, other.given) == ((4, 5), (2, 1))


REFUSED = {*HARMFUL, "Is a door nice?"} - {"Break the lock now"}


class Planted(FakeBackend):
    """Begins its answer with token 0 after REFUSED and never else, and counts the unsteered prompts that it scores."""

    def __init__(self) -> None:
        super().__init__()
        self.scored: list[object] = []

    def score(self, rows: Sequence[Row]) -> torch.Tensor:
        self.scored += [row.prompt for row in rows if row.recipe == Recipe()]
        logits = super().score(rows)
        logits[:, 0] = torch.tensor([1e3 if row.prompt in REFUSED else -1e3 for row in rows])
        return logits


def test_the_search_drops_from_the_means_and_scores_no_prompt_twice() -> None:
    planted = Planted()
    lab = Lab(planted)
    found = lab.find_direction(HARMFUL, HARMLESS, refusal_tokens=[0], **ALL)
    assert sorted(map(str, planted.scored)) == sorted(HARMFUL + HARMLESS)
    assert found.provenance["mean prompts"] == {"harmful": "4 of 5", "harmless": "4 of 5"}
    assert found.provenance["selection prompts"] == {"harmful": "1 of 1", "harmless": "1 of 1"}
    assert found.provenance["positive prompts"] == 4
    sides = [p for p in HARMFUL[:5] if p in REFUSED], [p for p in HARMLESS[:5] if p not in REFUSED]
    assert found.site
    cell = found.provenance["position"], found.site.layer
    assert torch.equal(found.vector, difference_in_means(planted, ContrastSet(*sides)).at(*cell).vector)

    everything = lab.find_direction(HARMFUL, HARMLESS, refusal_tokens=[0], drop=False, **ALL)
    assert everything.provenance["mean prompts"] == {"harmful": "5 of 5", "harmless": "5 of 5"}
    assert everything.site
    cell = everything.provenance["position"], everything.site.layer
    whole = difference_in_means(planted, ContrastSet(HARMFUL[:5], HARMLESS[:5]))
    assert torch.equal(everything.vector, whole.at(*cell).vector)


def test_the_search_says_what_it_needs() -> None:
    lab = Lab(FakeBackend())
    unused = [len(byte_tokenizer()) - 1]
    with pytest.raises(PromptError, match="refuses 0 of 5 harmful prompts.*drop=False"):
        lab.find_direction(HARMFUL, HARMLESS, refusal_tokens=unused)
    with pytest.raises(PromptError, match="6 harmful and 0 harmless prompts"):
        lab.find_direction(HARMFUL, [])
    with pytest.raises(PromptError, match="1 harmful and 6 harmless prompts"):
        lab.find_direction(HARMFUL[:1], HARMLESS)
    with pytest.raises(PromptError, match="the prompt is empty"):
        lab.find_direction([*HARMFUL, " "], HARMLESS)


def test_the_report_is_a_table_and_a_map(backend: LocalBackend, directions: DirectionMap) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    report = selection.select(backend, directions, HARMFUL, HARMLESS, **ALL, full_map=True)
    frame = report.to_frame()
    assert list(frame.columns) == ["position", "layer", "bypass", "induce", "kl", "rejected", "unscored"]
    assert len(frame) == len(report.candidates)
    assert frame.bypass.isna().tolist() == frame.rejected.str.startswith("a score").tolist()
    assert set(frame.unscored) == {""}
    ax = report.plot()
    letters = [text.get_text() for text in ax.texts]
    assert len(letters) == sum(bool(c.rejected) for c in report.candidates)
    assert set(letters) == {"-", "L"}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["-2", "-1"]


def test_the_map_shows_what_was_not_scored(backend: LocalBackend, directions: DirectionMap) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    whole = selection.select(backend, directions, HARMFUL, HARMLESS, **ALL, full_map=True)
    report = selection.select(backend, directions, HARMFUL, HARMLESS, drop=True, **middling(whole))
    ax = report.plot()
    drawn = ax.images[0].get_array()
    assert [bool(hidden) for hidden in np.ma.getmaskarray(np.ma.masked_invalid(drawn)).flat] == [
        math.isnan(c.bypass) for c in report.candidates
    ]
    assert len(ax.texts) == sum(bool(c.rejected) for c in report.candidates)


def test_refusal_tokens_are_checked_before_a_prompt_is_scored(backend: LocalBackend) -> None:
    counted = Counted(backend)
    with pytest.raises(PromptError, match=r"refusal_tokens has \[-1\]"):
        selection.baseline(counted, HARMFUL, HARMLESS, refusal_tokens=[-1])  # type: ignore[arg-type]
    given = torch.tensor([5, 3, 5])
    base = selection.baseline(backend, HARMFUL, HARMLESS, refusal_tokens=given)  # type: ignore[arg-type]
    assert base.refusal_tokens == (5, 3)
