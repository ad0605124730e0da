"""Every verb of a Lab gives the same with the model on a server as with the model here."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ndif_server import far_lab
from numpy.typing import ArrayLike

import steerlab as sl
from steerlab import Ablate, Lab, Recipe, Sampling, Site
from steerlab.lens.directions import By
from steerlab.serving.server import Server
from steerlab.ui.asks import Tell
from steerlab.ui.directions import NearestQuestion, nearest

CAPITALS = [
    ("What is the capital of France?", "France", "Paris"),
    ("What is the capital of Italy?", "Italy", "Rome"),
    ("What is the capital of Spain?", "Spain", "Madrid"),
]
HARMFUL, HARMLESS = sl.prompts.harmful(6), sl.prompts.harmless(6)


@pytest.fixture(scope="module")
def far(ndif_server: Server) -> Lab:
    return far_lab(ndif_server)


def near(one: ArrayLike, other: ArrayLike, tolerance: float = 1e-4) -> bool:
    return bool(np.allclose(np.asarray(one), np.asarray(other), atol=tolerance, rtol=1e-4, equal_nan=True))


def refusal(lab: Lab) -> sl.Direction:
    return lab.directions["refusal"]


def drop(lab: Lab) -> Recipe:
    return Recipe([Ablate(refusal(lab))])


# what each verb gives, as numbers and texts
VERBS: dict[str, Callable[[Lab], Any]] = {
    "generate": lambda lab: lab.generate(HARMFUL[0], drop(lab), max_new_tokens=12).text,
    "compare": lambda lab: [
        [a.text for a in row] for row in lab.compare(HARMFUL[:2], [sl.BASELINE, drop(lab)], max_new_tokens=8)
    ],
    "find_direction": lambda lab: (
        lab.find_direction(HARMFUL, HARMLESS, name="found", max_kl=math.inf, min_induce=-math.inf).vector
    ),
    "surgical": lambda lab: [s.kl.value for s in lab.surgical(refusal(lab), HARMFUL, HARMLESS).subsets],
    "measure": lambda lab: (
        lab.measure(drop(lab), HARMFUL, HARMLESS, texts=["The sea is wide."], sampling=Sampling(8))[
            "recipe"
        ].kl.value
    ),
    "score": lambda lab: lab.score(HARMLESS[:2], [drop(lab)], ["kl"]).to_frame()["kl"],
    "sweep": lambda lab: lab.sweep(
        refusal(lab), layers=[5, 6], coefficients=[0, 1], prompts=HARMLESS[:2], metrics=["kl"]
    ).to_frame()["kl"],
    "calibrate": lambda lab: lab.calibrate(refusal(lab), HARMLESS[:2], kl=0.1).strength,
    "difference_in_means": lambda lab: lab.difference_in_means(HARMFUL, HARMLESS).at(-1, 6).vector,
    "principal_component": lambda lab: lab.principal_component(HARMFUL, HARMLESS).at(-1, 6).vector,
    "logistic_probe": lambda lab: lab.logistic_probe(HARMFUL, HARMLESS).at(-1, 6).vector,
    "caa": lambda lab: lab.caa([("Is it so?", "Yes.", "No."), ("May I?", "Yes.", "No.")]).at(-2, 6).vector,
    "mean_projection": lambda lab: lab.mean_projection(refusal(lab), HARMLESS),
    "prompt_pair": lambda lab: lab.prompt_pair("Love", "Hate", site=Site(4, "resid_pre")).vector,
    "logit_lens": lambda lab: lab.logit_lens("What is the sea?", drop(lab)).top(1).values,
    "projections": lambda lab: lab.projections("What is the sea?", refusal(lab)).values,
    "token_row": lambda lab: lab.token_row(" cat", minus=" dog", site=Site(4, "resid_pre")).vector,
    "linear_relation": lambda lab: lab.linear_relation(CAPITALS, linearise=2).weight,
    "probe": lambda lab: [p.accuracy.value for p in lab.probe([*HARMFUL, *HARMLESS], [1] * 6 + [0] * 6)],
}


@pytest.mark.ndif
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_gives_the_same_far_away(verb: str, far: Lab, demo_lab: Lab) -> None:
    here, there = VERBS[verb](demo_lab), VERBS[verb](far)
    assert np.asarray(here).size
    if np.asarray(here).dtype.kind in "US":
        assert there == here
    else:
        assert near(there, here)


@pytest.mark.ndif
def test_what_needs_the_weights_is_exact(far: Lab, demo_lab: Lab) -> None:
    """Rows of the matrices, and a relation with its Jacobians, within 1e-5; the direction of an object is the same."""
    for table in ("embedding", "unembedding"):
        mine, theirs = (
            lab.token_row(" cat", table=table, site=Site(4, "resid_pre")) for lab in (demo_lab, far)
        )
        assert torch.allclose(theirs.vector, mine.vector, atol=1e-5)
    here, there = (lab.linear_relation(CAPITALS, linearise=2) for lab in (demo_lab, far))
    assert torch.allclose(there.weight, here.weight, atol=1e-5, rtol=0)
    assert torch.allclose(there.bias, here.bias, atol=1e-4, rtol=0)
    assert there.direction("Paris").cosine(here.direction("Paris")) > 0.9999


@pytest.mark.ndif
@pytest.mark.parametrize("by", ["unembedding", "embedding", "head"])
def test_the_panel_tells_the_same_nearest_tokens(by: By, far: Lab, demo_lab: Lab) -> None:
    question = NearestQuestion(direction="refusal", fingerprint="", epoch=0, by=by)
    silent = Tell(lambda *_: None, lambda _: None, threading.Event())
    here, there = (nearest(lab, question, silent) for lab in (demo_lab, far))
    assert [t.text for t in there.along + there.against] == [t.text for t in here.along + here.against]
    assert near([t.value for t in there.along], [t.value for t in here.along], 1e-5)


def test_every_verb_is_among_them() -> None:
    elsewhere = {
        "run",
        "submit",
        "fetch",
        "jobs",
        "cancel",
        "remote_models",
        "recall",
        "answer_keys",
        "close",
        "tokens_of",
        "to_code",
    }
    verbs = {
        name
        for kind in Lab.__mro__
        if kind.__module__.startswith("steerlab")
        for name, one in vars(kind).items()
        if callable(one) and not name.startswith("_")
    }
    assert verbs - set(VERBS) - elsewhere - {"snapshot", "restore"} == set()
