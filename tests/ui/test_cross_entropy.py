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
from steerlab.ui import preview

LAYER = 1


class Reading(scripted.Scripted):
    """Notes every reading of a text: its row, and the tokens. breaks: it raises; holds: it waits for `go`."""

    def __init__(self, words: Sequence[str] | None = None) -> None:
        super().__init__()
        self.words = words
        self.read: list[tuple[Row, Sequence[int]]] = []
        self.breaks = self.holds = False
        self.reading, self.go = threading.Event(), threading.Event()

    def likelihood(self, rows: Sequence[Row], continuations: Sequence[Sequence[int]]) -> list[Tensor]:
        if self.breaks:
            raise RuntimeError("out of memory")
        if self.holds:
            self.reading.set()
            assert self.go.wait(10)
        self.read.extend(zip(rows, continuations, strict=True))
        return super().likelihood(rows, continuations)

    def _words(self, row: Row) -> list[str]:
        return super()._words(row) if self.words is None else list(self.words)


class Distant(Reading):
    """A model that a server has."""

    source = server = model_key = "there"
    job_rows, given_sites = 64, None

    def hook(self, site: Site) -> Hook:
        raise NotImplementedError

    def visits(self, given: Mapping[Site, list[Any]]) -> list[Visit[Any]]:
        raise NotImplementedError


def panel(backend: scripted.Scripted) -> Wire:
    lab = scripted.lab()
    lab.backend = backend
    return Wire(lab)


def told(wire: Wire) -> dict[str, float]:
    """By pane, once all of them have it."""

    def now() -> dict[str, float]:
        return {name: pane["cross_entropy"] for name, pane in wire.panel.result["panes"].items()}

    wire.until(lambda: None not in now().values())
    for message in wire.kinds("figures"):
        if message["run"] == wire.kinds("end")[-1]["run"]:
            assert message["cross_entropy"].items() <= now().items()
    return now()


def test_it_is_what_plain_transformers_says_of_the_baselines_text_under_each_recipe() -> None:
    tokenizer = byte_tokenizer()
    lab = Lab((models.build("llama"), tokenizer))
    v = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(3))
    lab.directions = {"v": Direction(v, Site(LAYER, "resid_pre"), name="v")}
    lab.sampling = Sampling(12)
    wire = Wire(lab)
    wire.say(kind="hello")
    wire.push(0.5, cells=[(LAYER, "resid_pre")])
    wire.finished()
    found = told(wire)
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
    assert found == {
        name: pytest.approx(cross_entropy(vector), rel=1e-3) for name, vector in expected.items()
    }
    assert found["steered"] != found["baseline"]


def test_a_pane_is_read_a_pass_once_its_text_rests_and_not_again() -> None:
    wire = panel(backend := Reading())
    wire.say(kind="hello")
    assert wire.finished()["panes"]["baseline"]["cross_entropy"] is None
    first = told(wire)
    for coefficient in (1.0, 2.0):
        wire.push(coefficient)
        assert wire.finished()["panes"]["baseline"]["cross_entropy"] == first["baseline"] > 0
        assert told(wire)["steered"] != told(wire)["control"]
    assert len(backend.read) == 1 + 2 + 2, "nothing is steered at first, and the baseline is known later"
    wire.push(1.0)
    assert wire.finished()["panes"]["steered"]["cross_entropy"] > 0
    assert wire.lab.worker.join(10)
    assert len(backend.read) == 5
    assert {tuple(text) for _, text in backend.read} == {wire.lab.generations["baseline"].token_ids}


def test_a_baseline_that_was_known_before_is_read_too() -> None:
    wire = panel(Reading())
    wire.lab.run([Row(wire.lab.prompt, BASELINE)])
    wire.say(kind="hello")
    wire.finished()
    assert told(wire)["baseline"] > 0


@pytest.mark.parametrize("words", [[], ["Sure"]])
def test_a_text_of_one_token_has_it_and_an_empty_one_has_none(words: list[str]) -> None:
    wire = panel(backend := Reading(words))
    wire.say(kind="hello")
    wire.finished()
    if words:
        (logprob,) = backend.score([Row(wire.lab.prompt)]).double().log_softmax(-1)[:, 0]
        assert told(wire)["baseline"] == pytest.approx(-float(logprob), rel=1e-4)
    else:
        assert wire.lab.worker.join(10)
        assert wire.kinds("figures") == backend.read == []


def test_of_a_long_text_the_first_tokens_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "LONGEST", 3)
    wire = panel(backend := Reading())
    wire.say(kind="hello")
    wire.finished()
    told(wire)
    assert [tuple(text) for _, text in backend.read] == [wire.lab.generations["baseline"].token_ids[:3]]


def test_a_server_is_not_sent_a_job_for_it() -> None:
    wire = panel(backend := Distant())
    wire.say(kind="hello")
    wire.push(1.0)
    assert wire.finished()["panes"]["steered"]["kl"] > 0
    assert wire.lab.worker.join(10)
    assert wire.kinds("figures") == backend.read == []


def test_a_failure_in_it_leaves_the_texts_and_the_next_run_alone() -> None:
    wire = panel(backend := Reading())
    backend.breaks = True
    wire.say(kind="hello")
    wire.push(1.0)
    end = wire.finished()
    assert wire.lab.worker.join(10)
    assert (end["status"], end["error"]) == ("done", None)
    assert end["panes"]["steered"]["verdict"]["refuses"]
    assert wire.kinds("figures") == []
    backend.breaks = False
    wire.push(2.0)
    wire.finished()
    assert told(wire).keys() == {"baseline", "steered", "control"}


def test_a_change_is_answered_before_it_and_ends_it() -> None:
    wire = panel(backend := Reading())
    wire.say(kind="hello")
    wire.finished()
    told(wire)
    backend.holds = True
    wire.push(1.0)
    wire.finished()
    assert backend.reading.wait(10)
    wire.push(2.0)
    assert wire.finished()["panes"]["steered"]["finish"] == "stop", "while a pane's text is still being read"
    backend.go.set()
    told(wire)
    read: list[Any] = [row.recipe.interventions[0].coefficient for row, _ in backend.read[1:]]
    assert read == [1.0, 2.0, 2.0], "the control of the first is not read any more"
