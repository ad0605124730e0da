"""What asks for many rows sends few jobs, and tells how far it is within each."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ndif_server import far_lab

import steerlab as sl
from steerlab import Ablate, Lab, Recipe
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.backends.ndif.distant import describe
from steerlab.backends.ndif.messages import JobStatus
from steerlab.backends.ndif.packing import Packer
from steerlab.serving.server import Server
from steerlab.surgical import surgical
from steerlab.ui import find, frontier, sweep
from steerlab.ui.asks import Tell

HARMFUL, HARMLESS = sl.prompts.harmful(16), sl.prompts.harmless(16)
COEFFICIENTS = [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.fixture(scope="module")
def far(ndif_server: Server) -> Lab:
    """The embedded model, 16 rows a forward pass."""
    lab = far_lab(ndif_server)
    assert isinstance(lab.backend, NdifBackend)
    lab.backend.batch_rows = 16
    return lab


class Told:
    """The jobs that were sent, and of each how often somebody was told how far the work is while it ran."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.last = -1

    def job(self, status: JobStatus) -> None:
        if status.stage == "sending":
            self.times.append(0)

    def progress(self, done: int, total: int, text: str = "") -> None:
        if done != self.last and self.times:
            self.times[-1] += 1
        self.last = done


@contextlib.contextmanager
def listening(lab: Lab) -> Iterator[Told]:
    assert isinstance(lab.backend, NdifBackend)
    told = Told()
    lab.backend.watchers.append(told.job)
    try:
        yield told
    finally:
        lab.backend.watchers.remove(told.job)


def asked(module: Any, kind: Any, **what: Any) -> Callable[[Lab, Told], object]:
    """A question of the panel."""

    def ask(lab: Lab, told: Told) -> object:
        later = itertools.count()  # nothing comes too soon after the last
        tell = Tell(told.progress, lambda _: None, threading.Event(), clock=lambda: float(next(later)))
        return module.answer(lab, kind(**what), tell)

    return ask


SIDE = {"source": "harmful", "n": 16}, {"source": "harmless", "n": 16}
SWEPT = {"max_new_tokens": 8, "temperature": 0.0, "seed": 0, "control": False}
# what asks, at most so many jobs, and where they come from
VERBS: dict[str, tuple[Callable[[Lab, Told], object], int, str]] = {
    "sweep": (
        lambda lab, told: lab.sweep(
            lab.directions["refusal"],
            layers=range(8),
            coefficients=COEFFICIENTS,
            prompts=HARMLESS[:4],
            progress=told.progress,
        ),
        2,
        "the refusal tokens, and 260 rows",
    ),
    "score": (
        lambda lab, told: lab.score(
            [*HARMFUL, *HARMLESS],
            [Recipe([Ablate(lab.directions["refusal"], strength=i / 20)]) for i in range(1, 20)],
            progress=told.progress,
        ),
        3,
        "the refusal tokens, and two of 608 rows with 32 of the baseline",
    ),
    "find_direction": (
        lambda lab, told: lab.find_direction(HARMFUL, HARMLESS, max_kl=math.inf, min_induce=-math.inf),
        6,
        "the baseline, the means of two sides, three tests of at most 150 rows",
    ),
    "surgical": (
        lambda lab, told: surgical(
            lab.backend, lab.directions["refusal"], HARMFUL, HARMLESS, held_out=0.5, progress=told.progress
        ),
        13,
        "the baseline on either half, ten rounds of at most 160 rows, and what is measured again",
    ),
    "panel's sweep": (
        asked(
            sweep,
            sweep.SweepQuestion,
            direction="refusal",
            layers=list(range(8)),
            coefficients=COEFFICIENTS,
            metrics=["refusal_score", "kl"],
            prompts={"source": "harmless", "n": 4},
            **SWEPT,
        ),
        2,
        "as lab.sweep",
    ),
    "panel's find": (
        asked(find, find.FindQuestion, name="found", method="selection", positive=SIDE[0], negative=SIDE[1]),
        6,
        "as find_direction",
    ),
    "panel's frontier": (
        asked(
            frontier,
            frontier.FrontierQuestion,
            direction="refusal",
            method="windows",
            harmful=SIDE[0],
            harmless=SIDE[1],
        ),
        5,
        "the baseline on either half, 55 windows of 16 rows in two, and what is measured again",
    ),
}


@pytest.mark.ndif
@pytest.mark.parametrize("verb", VERBS)
def test_many_rows_are_few_jobs(verb: str, far: Lab) -> None:
    ask, most, why = VERBS[verb]
    far.scores = None  # whose rows the panel would take over
    with listening(far) as told:
        ask(far, told)
    assert 0 < len(told.times) <= most, why
    if verb != "find_direction":  # which shows a bar in a cell
        assert max(told.times) > 1, "and within a job of several batches it is told how far it is"


def test_no_rows_are_no_job(model_folders: dict[str, Path]) -> None:
    packer = Packer(describe(model_folders["llama"]), host="nowhere")
    assert list(packer.jobs([])) == []
    assert list(packer.jobs([[1, 2], [3]], [])) == []
