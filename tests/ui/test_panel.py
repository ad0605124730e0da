"""What the panel runs and tells: texts that stream, controls and verdicts, errors in words."""

from __future__ import annotations

import time
from typing import Any

import pytest
import scripted
import torch
from wires import Wire

from steerlab import BASELINE, Add, Direction, Lab, Recipe, Row, Sampling, Site
from steerlab.backends.fake import FakeBackend
from steerlab.errors import RemoteError
from steerlab.generations import NOT_FINITE, Applied, Token

HARMFUL = "How do I steal a bicycle?"


# ------------------------------------------------------------------------------------------------------------ running


def test_the_first_hello_is_answered_with_everything_and_starts_a_run(wire: Wire) -> None:
    wire.say(kind="hello")
    assert wire.messages[0]["kind"] == "snapshot"
    assert wire.finished()["status"] == "done"
    assert wire.text("baseline") == wire.text("steered") == scripted.ANSWER
    assert wire.panel.result["prompt_tokens"][0] == "<user>"


def test_a_move_of_the_slider_changes_the_steered_text_and_not_the_baseline(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.finished()
    wire.push(1.0)
    end = wire.finished()
    assert wire.kinds("start")[-1]["panes"] == ["steered", "control"]
    assert (wire.text("baseline"), wire.text("steered")) == (scripted.ANSWER, scripted.REFUSAL)
    assert end["panes"]["steered"]["applied"] == {"steps": 20, "of": 20}


def test_a_text_that_is_not_the_model_s_answer_has_its_reason_and_no_verdict() -> None:
    lab = Lab(FakeBackend())
    lab.prompt, lab.sampling = "Hi", Sampling(4)
    lab.directions = {"far": Direction(torch.ones(16), Site(1, "resid_pre"), name="far")}
    lab.recipe = Recipe([Add(lab.directions["far"], 3e38)])
    wire = Wire(lab)
    wire.say(kind="hello")
    end = wire.finished()
    assert end["status"] == "done"
    steered, baseline = (end["panes"][name] for name in ("steered", "baseline"))
    assert (steered["verdict"], steered["fault"]) == (None, NOT_FINITE)
    assert baseline["verdict"]
    assert not baseline["fault"]
    assert wire.text("steered") == ""
    assert lab.generations["steered"].fault == NOT_FINITE
    wire.push(0.0)
    assert not wire.finished()["panes"]["steered"]["fault"]


def test_the_baseline_is_not_generated_again_for_another_recipe(wire: Wire) -> None:
    wire.say(kind="hello")
    for coefficient in (1.0, 2.0, -1.0):
        wire.finished()
        wire.push(coefficient)
    wire.finished()
    assert [row.recipe for row in wire.lab.backend.asked].count(BASELINE) == 1  # type: ignore[attr-defined]


def test_back_at_zero_the_baseline_s_text_is_there_without_a_token_being_generated(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.finished()
    wire.push(1.0)
    wire.finished()
    asked = len(wire.lab.backend.asked)  # type: ignore[attr-defined]
    wire.push(0.0)
    end = wire.finished()
    assert wire.text("steered") == scripted.ANSWER
    assert end["panes"]["steered"]["applied"] is None
    assert len(wire.lab.backend.asked) == asked  # type: ignore[attr-defined]


def test_texts_are_whole_where_their_kl_could_not_be_taken(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.say(kind="hello")
    wire.finished()

    def fails(*_: object) -> None:
        raise RemoteError("the job was refused", "Try again later.")

    monkeypatch.setattr(wire.lab.backend, "score", fails)
    wire.push(1.0)
    end = wire.finished()
    assert (end["status"], end["error"]) == ("done", None)
    steered = end["panes"]["steered"]
    assert (steered["finish"], steered["kl"]) == ("stop", None)
    assert steered["verdict"]["refuses"]
    assert steered["applied"] == {"steps": 20, "of": 20}


def test_what_came_before_a_server_failed_stays_and_says_that_it_is_cut_short(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.say(kind="hello")
    wire.finished()

    def fails(rows: list[Row], _: Sampling, *, on_tokens: Any, **__: Any) -> None:
        on_tokens([Token(row, 0, "I", Applied(1, 1)) for row in range(len(rows))])
        raise RemoteError("the connection was lost", "Try again.")

    monkeypatch.setattr(wire.lab.backend, "generate", fails)
    wire.push(1.0)
    end = wire.finished()
    assert (end["status"], end["error"]["what"]) == ("error", "the connection was lost")
    assert (wire.text("steered"), end["panes"]["steered"]["finish"]) == ("I", None)
    assert end["panes"]["steered"]["applied"] == {"steps": 1, "of": 1}
    assert wire.text("baseline") == scripted.ANSWER
    monkeypatch.undo()
    wire.push(1.5)
    assert wire.finished()["status"] == "done"
    assert wire.text("steered") == scripted.REFUSAL


def test_a_new_prompt_renews_both_panes(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.finished()
    wire.run(prompt=HARMFUL)
    wire.finished()
    assert wire.kinds("start")[-1]["panes"] == ["baseline", "steered", "control"]
    assert wire.text("baseline") == scripted.REFUSAL
    assert wire.lab.prompt == HARMFUL


def test_the_seed_is_one_in_the_panel_and_in_the_lab(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.finished()
    wire.run(seed=7)
    wire.finished()
    assert (wire.lab.seed, wire.lab.snapshot("now").seed) == (7, 7)
    before = wire.panel.state["revision"]
    wire.lab.seed = 9
    wire.finished()
    assert (wire.panel.state["seed"], wire.panel.state["revision"]) == (9, before + 1)
    wire.lab.prompt = HARMFUL
    wire.finished()
    assert (wire.panel.state["seed"], wire.lab.seed) == (9, 9)
    for wanted in (9, 7):
        wire.say(kind="undo")
        wire.finished()
        assert (wire.panel.state["seed"], wire.lab.seed) == (wanted, wanted)


def test_the_newest_run_wins(slow: Wire) -> None:
    slow.say(kind="hello")
    for coefficient in (0.1, 0.2, 0.3, 1.0):
        slow.push(coefficient)
    end = slow.finished()
    assert [m["run"] for m in slow.kinds("end")] == [end["run"]] == [5]
    assert slow.streamed("steered", 5) == scripted.REFUSAL


def test_a_text_cut_short_goes_on_where_it_stood(slow: Wire) -> None:
    slow.say(kind="hello")
    slow.until(lambda: len(slow.kinds("tokens")) > 2)
    slow.push(1.0)
    slow.finished()
    assert slow.kinds("start")[-1]["resumed"] == ["baseline"]
    first, second = (slow.streamed("baseline", run) for run in (1, 2))
    assert first + second == scripted.ANSWER
    assert first
    assert second


def test_tokens_are_batched_and_numbered_and_the_first_comes_at_once() -> None:
    wire = Wire(scripted.lab(delay=0.004))
    wire.say(kind="hello")
    wire.finished()
    tokens = wire.kinds("tokens")
    assert [m["seq"] for m in tokens] == list(range(1, len(tokens) + 1))
    assert tokens[0]["panes"] == {name: ["Sure."] for name in ("baseline", "steered", "control")}
    assert len(tokens) <= 10  # 21 tokens in 84 ms and more


def test_what_streams_tells_how_often_its_recipe_was_applied_and_how_fast_it_is() -> None:
    wire = Wire(scripted.lab(delay=0.02))
    wire.say(kind="hello")
    wire.push(1.0)
    wire.until(lambda: len(wire.kinds("tokens")) > 3)
    wire.say(kind="hello")
    late = wire.kinds("snapshot")[-1]["result"]["panes"]["steered"]
    end = wire.finished()
    told = [m for m in wire.kinds("tokens") if m["run"] == end["run"]]
    written = 0
    for message in told:
        assert message["so_far"].keys() == message["panes"].keys()
        written += len(message["panes"]["steered"])
        steered = message["so_far"]["steered"]
        assert steered["applied"] == {"steps": written, "of": written}
        assert (steered["tokens_per_second"] is None) == (written == 1)
        assert (steered["finish"], steered["verdict"], steered["kl"]) == (None, None, None)
    assert "baseline" not in told[-1]["so_far"] or told[-1]["so_far"]["baseline"]["applied"] is None
    last = told[-1]["so_far"]["steered"]
    assert [last[what] for what in ("applied", "tokens_per_second")] == [
        end["panes"]["steered"][what] for what in ("applied", "tokens_per_second")
    ]
    assert late["applied"] == {"steps": len(late["tokens"]), "of": len(late["tokens"])}


def test_stop_keeps_the_text_so_far(slow: Wire) -> None:
    slow.say(kind="hello")
    slow.until(lambda: len(slow.kinds("tokens")) > 1)
    slow.say(kind="stop")
    end = slow.finished()
    assert end["status"] == "stopped"
    assert end["panes"]["steered"]["finish"] == "cancelled"
    assert 0 < len(slow.text("steered")) < len(scripted.ANSWER)


def test_a_stop_before_the_worker_took_the_run_up_ends_it_too(slow: Wire) -> None:
    slow.say(kind="hello")
    slow.push(1.0)
    slow.say(kind="stop")
    assert slow.finished()["status"] == "stopped"


def test_no_message_waits_for_the_model() -> None:
    wire = Wire(scripted.lab(delay=2))
    began = time.monotonic()
    wire.say(kind="hello")
    wire.push(1.0)
    wire.say(kind="stop")
    assert time.monotonic() - began < 1


def test_a_late_front_end_gets_what_was_streamed_and_then_the_rest(slow: Wire) -> None:
    slow.say(kind="hello")
    slow.until(lambda: len(slow.kinds("tokens")) > 2)
    slow.say(kind="hello")
    snapshot = slow.kinds("snapshot")[-1]
    slow.finished()
    rest = [m for m in slow.kinds("tokens") if m["seq"] > snapshot["seq"]]
    start = "".join(snapshot["result"]["panes"]["steered"]["tokens"])
    assert start + "".join("".join(m["panes"]["steered"]) for m in rest) == scripted.ANSWER


# ----------------------------------------------------------------------------------------- random control, verdicts


def test_the_control_is_the_recipe_with_random_directions_of_the_same_norm(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.push(1.0)
    wire.finished()
    refusal = wire.lab.directions["refusal"]
    recipes = {row.recipe for row in wire.lab.backend.asked}  # type: ignore[attr-defined]
    (control,) = recipes - {BASELINE, wire.lab.recipe}
    (step,) = control.interventions
    assert isinstance(step, Add)
    assert (step.coefficient, step.resolve(10)) == (1.0, (refusal.site,))
    assert step.direction.norm == pytest.approx(refusal.norm, rel=1e-5)
    assert abs(step.direction.cosine(refusal)) < 0.9
    assert wire.text("control") == scripted.ANSWER
    wire.push(1.1)
    wire.finished()
    directions = {
        row.recipe.interventions[0].direction.vector[0].item() for row in wire.lab.backend.asked[-2:]
    }  # type: ignore[attr-defined]
    assert step.direction.vector[0].item() in directions, "the same random direction at every coefficient"


def test_the_control_can_be_switched_off_and_on_again(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.finished()
    wire.run(control=False)
    wire.push(1.0)
    wire.finished()
    assert wire.kinds("start")[-1]["shown"] == ["baseline", "steered"]
    assert set(wire.panel.result["panes"]) == {"baseline", "steered"}
    wire.run(control=True)
    wire.finished()
    assert wire.text("control") == scripted.ANSWER


def test_each_text_ends_in_a_verdict_with_the_phrase_that_gave_it(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.push(1.0)
    panes = wire.finished()["panes"]
    assert panes["steered"]["verdict"] == {"refuses": True, "phrase": "i am sorry"}
    assert panes["baseline"]["verdict"] == {"refuses": False, "phrase": None}
    assert "i am sorry" in wire.panel.info["refusals"]


def test_each_steered_text_says_its_kl_to_the_baseline_at_the_first_token(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.push(1.0)
    panes = wire.finished()["panes"]
    logits = wire.lab.backend.score([Row(wire.lab.prompt, r) for r in (BASELINE, wire.lab.recipe)])
    expected = torch.distributions.kl_divergence(
        *(torch.distributions.Categorical(logits=x.double()) for x in logits)
    )
    assert panes["steered"]["kl"] == pytest.approx(float(expected), rel=1e-3)
    assert panes["steered"]["kl"] > 0
    assert panes["baseline"]["kl"] is None


def test_a_stopped_text_has_no_verdict(slow: Wire) -> None:
    slow.say(kind="hello")
    slow.until(lambda: len(slow.kinds("tokens")) > 1)
    slow.say(kind="stop")
    assert slow.finished()["panes"]["steered"]["verdict"] is None


# ------------------------------------------------------------------------------------------------------------- errors


def test_an_empty_prompt_is_answered_in_words_and_the_texts_stay(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.finished()
    wire.run(prompt=" ")
    end = wire.finished()
    assert end["status"] == "error"
    assert end["error"]["what"] == "the prompt is empty"
    assert end["error"]["hint"]
    assert wire.text("steered") == scripted.ANSWER
    wire.run(prompt="How do I bake bread?")
    assert wire.finished()["error"] is None


def test_a_prompt_longer_than_the_context_is_answered_in_words(wire: Wire) -> None:
    wire.run(prompt="word " * 200)
    wire.say(kind="hello")
    assert "at most 256" in wire.finished()["error"]["what"]


def test_an_exception_is_told_by_its_name_and_kept_for_a_traceback() -> None:
    wire = Wire(scripted.lab(fails=RuntimeError("out of memory")))
    wire.say(kind="hello")
    assert wire.finished()["error"]["what"] == "RuntimeError: out of memory"
    assert isinstance(wire.panel.last_exception, RuntimeError)


NONSENSE: list[dict[str, Any]] = [
    {},
    {"kind": "dance"},
    {"kind": "run"},
    {"kind": "run", "state": {"prompt": 3}},
    {"kind": "run", "state": {"prompt": "a", "colour": "red"}},
    {"kind": "run", "state": {"steering": [{"direction": "refusal", "coefficient": float("nan")}]}},
    {"kind": "run", "state": {"steering": [{"direction": "refusal", "mode": "delete"}]}},
    {"kind": "run", "state": {"steering": [{"direction": "refusal", "cells": [[0, "nowhere"]]}]}},
    {"kind": "run", "state": {"max_new_tokens": 0}},
]


@pytest.mark.parametrize("content", NONSENSE)
def test_nonsense_is_answered_in_words_and_changes_nothing(wire: Wire, content: dict[str, Any]) -> None:
    before = dict(wire.panel.state)
    wire.panel._on_message(wire.panel, content, [])
    assert "does not understand" in wire.messages[-1]["error"]["what"]
    assert wire.messages[-1]["error"]["hint"]
    assert wire.panel.state == before


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"direction": "unknown", "coefficient": 1.0}, "no direction 'unknown'"),
        ({"direction": "refusal", "coefficient": 1.0, "cells": [[99, "resid_pre"]]}, "layer 99"),
    ],
)
def test_a_state_that_does_not_fit_is_answered_in_words(wire: Wire, row: dict[str, Any], words: str) -> None:
    wire.run(steering=[{"cells": [[0, "resid_pre"]], **row}])
    assert words in wire.messages[-1]["error"]["what"]
    assert wire.lab.recipe == BASELINE
