"""The paper's choice, against a rewrite of its formulas in NumPy, and of the whole search with plain hooks."""

from __future__ import annotations

import math

import models
import numpy as np
import oracle
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from steerlab import ContrastSet, Lab, Site, metrics, prompts, selection
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.loading import load
from steerlab.backends.local import LocalBackend
from steerlab.demo import WEIGHTS
from steerlab.errors import DirectionError, PromptError
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
    tokens = metrics.refusal_tokens(*(oracle.last_logits(model, side[-12:]) for side in (harm, less)))
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
        prompts.harmful(60), prompts.harmless(60), max_kl=math.inf, min_induce=-math.inf
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


def test_each_filter_gives_its_reason_and_the_error_says_what_would_pass(
    backend: LocalBackend, directions: DirectionMap
) -> None:
    for limits, says in (
        (
            {"max_kl": -1.0, "min_induce": -math.inf},
            r"all 8 candidates were rejected.*pass with max_kl=(\S+)\.",
        ),
        ({"max_kl": math.inf, "min_induce": 99.0}, r"pass with min_induce=(\S+)\."),
    ):
        with pytest.raises(DirectionError, match=says) as caught:
            selection.select(backend, directions, HARMFUL, HARMLESS, **limits)
        name, value = caught.value.fix.removesuffix(".").rpartition(" ")[2].split("=")
        selection.select(backend, directions, HARMFUL, HARMLESS, **{**limits, name: float(value)})


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
