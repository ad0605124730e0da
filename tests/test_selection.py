"""The paper's choice, against a rewrite of its formulas in NumPy on logits that plain hooks made."""

from __future__ import annotations

import math
import re

import models
import numpy as np
import pytest
import reference
import torch

from steerlab import Ablate, Add, ContrastSet, Recipe, metrics, selection
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.errors import DirectionError, PromptError
from steerlab.estimators import DirectionMap, difference_in_means
from steerlab.prompts import encode

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


def test_scores_equal_those_of_plain_hooks(backend: LocalBackend, directions: DirectionMap) -> None:
    base = {p: run(backend, p, Recipe()) for p in HARMFUL + HARMLESS}
    tokens = metrics.refusal_tokens(
        torch.stack([base[p] for p in HARMFUL]), torch.stack([base[p] for p in HARMLESS])
    )
    report = selection.select(backend, directions, HARMFUL, HARMLESS, **ALL)
    assert list(report.refusal_tokens) == tokens
    harmful = [p for p in HARMFUL if float(metrics.refusal_score(base[p][None], tokens)) > 0]
    harmless = [p for p in HARMLESS if float(metrics.refusal_score(base[p][None], tokens)) < 0]
    assert harmful
    assert harmless
    assert len(report.candidates) == 2 * models.N_LAYERS
    wanted = {}
    for c in report.candidates:
        if not directions.differs(c.position, c.layer):
            assert c.rejected.startswith("a score is not a number")
            continue
        v = directions.at(c.position, c.layer)
        ablate, add = Recipe([Ablate(v)]), Recipe([Add(v)])

        def score(prompts: list[str], recipe: Recipe) -> float:
            logits = torch.stack([run(backend, p, recipe) for p in prompts])
            return float(metrics.refusal_score(logits, tokens).mean())

        kl = metrics.kl(
            torch.stack([base[p] for p in harmless]), torch.stack([run(backend, p, ablate) for p in harmless])
        )
        got = (c.bypass, c.induce, c.kl)
        assert got == pytest.approx(
            (score(harmful, ablate), score(harmless, add), float(kl.mean())), abs=1e-4
        )
        if c.layer < int(0.8 * models.N_LAYERS):
            assert not c.rejected
            wanted[c.position, c.layer] = c.bypass
        else:
            assert "last fifth" in c.rejected
    assert (report.best.position, report.best.layer) == min(wanted, key=lambda cell: wanted[cell])
    assert report.direction.provenance["position"] == report.best.position


def run(backend: LocalBackend, prompt: str, recipe: Recipe) -> torch.Tensor:
    return reference.logits(backend._hf, "llama", encode(backend.tokenizer, prompt), recipe)[-1]


@pytest.mark.parametrize(
    ("limits", "counted", "fix"),
    [
        ({"max_kl": -1.0, "min_induce": -math.inf}, r"\d+ by KL > -1", r"max_kl=\S+"),
        ({"max_kl": math.inf, "min_induce": 99.0}, r"\d+ by induce < 99", r"min_induce=\S+"),
        ({"max_kl": -1.0, "min_induce": 99.0}, r"\d+ by KL > -1", r"max_kl=\S+ and min_induce=\S+"),
    ],
)
def test_when_all_fall_the_error_counts_the_reasons_and_says_what_would_pass(
    backend: LocalBackend, directions: DirectionMap, limits: dict[str, float], counted: str, fix: str
) -> None:
    says = rf"all 8 candidates were rejected: {counted}, \d in the last fifth .*would pass with {fix}\.$"
    with pytest.raises(DirectionError, match=says) as caught:
        selection.select(backend, directions, HARMFUL, HARMLESS, **limits)
    assert sum(int(n) for n in re.findall(r"[:,] (\d+) ", caught.value.what)) == 8
    relaxed = {name: float(value) for name, value in re.findall(r"(\w+)=(\S+\d)", caught.value.fix)}
    selection.select(backend, directions, HARMFUL, HARMLESS, **{**limits, **relaxed})


def test_prompts_that_do_not_contrast_are_refused(backend: LocalBackend, directions: DirectionMap) -> None:
    unused = [len(byte_tokenizer()) - 1]
    with pytest.raises(PromptError, match="refuses 0 of 6 harmful prompts"):
        selection.select(backend, directions, HARMFUL, HARMLESS, refusal_tokens=unused)


def test_the_report_is_a_table_and_a_map(backend: LocalBackend, directions: DirectionMap) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    report = selection.select(backend, directions, HARMFUL, HARMLESS, **ALL)
    frame = report.to_frame()
    assert list(frame.columns) == ["position", "layer", "bypass", "induce", "kl", "rejected"]
    assert len(frame) == len(report.candidates)
    ax = report.plot()
    letters = [text.get_text() for text in ax.texts]
    assert len(letters) == sum(bool(c.rejected) for c in report.candidates)
    assert set(letters) == {"-", "L"}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["-2", "-1"]
