"""The cross-entropy that a pane tells: of the baseline's own text, under the pane's recipe."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import models
import oracle
import pytest
import scripted
import torch
from torch import Tensor
from wires import Wire

from steerlab import BASELINE, Direction, Lab, Row, Sampling, Site
from steerlab.backends.architectures import Hook
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.visits import Visit

LAYER = 1


class Reading(scripted.Scripted):
    """Notes every reading of texts: its rows, and the text of the first."""

    def __init__(self, words: Sequence[str] | None = None) -> None:
        super().__init__()
        self.words = words
        self.read: list[tuple[list[Row], Sequence[int]]] = []

    def likelihood(self, rows: Sequence[Row], continuations: Sequence[Sequence[int]]) -> list[Tensor]:
        self.read.append((list(rows), continuations[0]))
        return super().likelihood(rows, continuations)

    def _words(self, row: Row) -> list[str]:
        return super()._words(row) if self.words is None else list(self.words)


class Distant(Reading):
    """A model that a server has."""

    source = server = model_key = "there"

    def hook(self, site: Site) -> Hook:
        raise NotImplementedError

    def visits(self, given: Mapping[Site, list[Any]]) -> list[Visit[Any]]:
        raise NotImplementedError


def panel(backend: scripted.Scripted) -> Wire:
    lab = scripted.lab()
    lab.backend = backend
    return Wire(lab)


def test_it_is_what_plain_transformers_says_of_the_baselines_text_under_each_recipe() -> None:
    tokenizer = byte_tokenizer()
    lab = Lab((models.build("llama"), tokenizer))
    v = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(3))
    lab.directions = {"v": Direction(v, Site(LAYER, "resid_pre"), name="v")}
    lab.sampling = Sampling(12)
    wire = Wire(lab)
    wire.say(kind="hello")
    wire.push(0.5, cells=[(LAYER, "resid_pre")])
    panes = wire.finished()["panes"]
    model, prompt = models.build("llama"), oracle.encode(tokenizer, lab.prompt)
    text = list(lab.generations["baseline"].token_ids)

    def cross_entropy(vector: Tensor) -> float:
        block = oracle.blocks(model)[LAYER]
        with torch.no_grad(), oracle.hooks([(block, lambda x: x + vector)], []):
            logits = model(torch.tensor([prompt + text])).logits[0].double()
        of_text = logits.log_softmax(-1)[len(prompt) - 1 : -1, :]
        return -sum(float(of_text[i, token]) for i, token in enumerate(text)) / len(text)

    (random,) = lab.generations["control"].recipe.interventions
    expected = {"baseline": 0 * v, "steered": 0.5 * v, "control": 0.5 * random.directions[0].vector}
    assert {name: pane["cross_entropy"] for name, pane in panes.items()} == {
        name: pytest.approx(cross_entropy(vector), rel=1e-3) for name, vector in expected.items()
    }
    assert panes["steered"]["cross_entropy"] != panes["baseline"]["cross_entropy"]


def test_all_panes_are_read_at_once_and_the_baseline_not_again() -> None:
    wire = panel(backend := Reading())
    wire.say(kind="hello")
    first = wire.finished()["panes"]
    for coefficient in (1.0, 2.0, 1.0):
        wire.push(coefficient)
        end = wire.finished()["panes"]
        assert end["baseline"]["cross_entropy"] == first["baseline"]["cross_entropy"] > 0
        assert end["steered"]["cross_entropy"] != end["control"]["cross_entropy"]
    assert [len(rows) for rows, _ in backend.read] == [1, 2, 2], (
        "nothing is steered, and what is known is not read"
    )
    assert {tuple(text) for _, text in backend.read} == {wire.lab.generations["baseline"].token_ids}


def test_a_baseline_that_was_known_before_is_read_too() -> None:
    wire = panel(Reading())
    wire.lab.run([Row(wire.lab.prompt, BASELINE)])
    wire.say(kind="hello")
    assert wire.finished()["panes"]["baseline"]["cross_entropy"] > 0
    assert wire.panel.result["panes"]["baseline"]["cross_entropy"] > 0


@pytest.mark.parametrize("words", [[], ["Sure"]])
def test_a_text_of_one_token_has_it_and_an_empty_one_has_none(words: list[str]) -> None:
    wire = panel(backend := Reading(words))
    wire.say(kind="hello")
    told = wire.finished()["panes"]["baseline"]["cross_entropy"]
    if words:
        (logprob,) = backend.score([Row(wire.lab.prompt)]).double().log_softmax(-1)[:, 0]
        assert told == pytest.approx(-float(logprob), rel=1e-4)
    else:
        assert told is None
        assert backend.read == []


def test_a_server_is_not_sent_a_job_for_it() -> None:
    wire = panel(backend := Distant())
    wire.say(kind="hello")
    wire.push(1.0)
    panes = wire.finished()["panes"]
    assert panes["steered"]["kl"] > 0
    assert [pane["cross_entropy"] for pane in panes.values()] == [None] * 3
    assert backend.read == []


def test_a_change_that_comes_before_it_does_not_wait_for_it() -> None:
    class Held(Reading):
        def score(self, rows: Sequence[Row]) -> Tensor:
            self.scoring.set()
            assert self.go.wait(10)
            return super().score(rows)

        scoring, go = threading.Event(), threading.Event()

    wire = panel(backend := Held())
    wire.say(kind="hello")
    wire.finished()
    wire.push(1.0)
    assert backend.scoring.wait(10)
    wire.push(2.0)
    backend.go.set()
    assert wire.finished()["panes"]["steered"]["cross_entropy"] > 0
    read: list[Any] = [row.recipe.interventions[0].coefficient for row in backend.read[-1][0]]
    assert (len(backend.read), read) == (2, [2.0, 2.0])
