from __future__ import annotations

import gc
import threading
import time
import weakref
from html import escape
from pathlib import Path
from typing import Any

import pytest
import scripted
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ipykernel.comm.comm import BaseComm
from wires import Wire

from steerlab import BASELINE, Ablate, Add, Clamp, Direction, Gate, Lab, Recipe, Row, Sampling, Site
from steerlab.backends.fake import FakeBackend
from steerlab.errors import RemoteError, SteerlabError
from steerlab.generations import NOT_FINITE, Applied, Token
from steerlab.ui.panel import Panel

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


# ------------------------------------------------------------------------------------------------ two ways of saying


def test_the_panel_moves_with_the_lab(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.finished()
    refusal = wire.lab.directions["refusal"]
    wire.lab.recipe = Recipe([Add(refusal, 2.0, layers=[1, 2], sites="attn_out")])
    row = wire.panel.state["steering"][0]
    assert (row["coefficient"], row["cells"]) == (2.0, [[1, "attn_out"], [2, "attn_out"]])
    wire.finished()
    assert wire.text("steered") == scripted.REFUSAL
    wire.lab.prompt, wire.lab.sampling = HARMFUL, Sampling(5)
    assert (wire.panel.state["prompt"], wire.panel.state["max_new_tokens"]) == (HARMFUL, 5)


def test_the_lab_moves_with_the_panel(wire: Wire) -> None:
    wire.push(1.5)
    wire.run(max_new_tokens=7, temperature=0.5, prompt="Hi")
    assert wire.lab.recipe == Recipe([Add(wire.lab.directions["refusal"], 1.5)])
    assert (wire.lab.prompt, wire.lab.sampling) == ("Hi", Sampling(7, 0.5))


def test_a_recipe_set_in_python_keeps_its_own_words(wire: Wire) -> None:
    refusal = wire.lab.directions["refusal"]
    drop, push = Ablate(refusal, layers=range(2, 5), sites=["mlp_out"]), Add(refusal)
    wire.lab.recipe = Recipe([drop, push])
    rows = wire.panel.state["steering"]
    wire.run(steering=[rows[0], {**rows[1], "coefficient": 3.0}])
    assert wire.lab.recipe.interventions[0] is drop
    assert wire.lab.recipe.interventions[1] == Add(refusal, 3.0)


def test_a_step_without_a_row_is_told_in_words_and_stays(wire: Wire) -> None:
    refusal = wire.lab.directions["refusal"]
    gated = Clamp(refusal, 2.0, gate=Gate(refusal))
    wire.lab.recipe = Recipe([gated, Add(refusal)])
    assert len(wire.panel.state["beyond"]) == 1
    assert wire.panel.state["beyond"][0].startswith("clamp 'refusal'")
    wire.push(3.0)
    assert wire.lab.recipe == Recipe([gated, Add(refusal, 3.0)])
    assert len(wire.panel.state["beyond"]) == 1


def test_conflicts_of_the_recipe_are_told_and_go_with_their_cause(wire: Wire) -> None:
    refusal = wire.lab.directions["refusal"]
    assert wire.panel.state["conflicts"] == []
    wire.lab.recipe = Recipe([Clamp(refusal, 2.0), Ablate(refusal)])
    (told,) = wire.panel.state["conflicts"]
    assert "is undone at resid_pre[5] by ablate 'refusal'" in told
    wire.say(kind="hello")
    wire.finished()
    assert escape(told) in wire.panel._static()
    wire.push(2.0, enabled=False)
    assert wire.panel.state["conflicts"] == []
    every = [[5, "resid_pre"], [4, "resid_post"]]
    wire.push(1.0, mode="add", cells=every)
    wire.finished()
    assert "acts twice on one stream" in wire.panel.state["conflicts"][-1]


def test_a_panel_begins_with_the_conflicts_of_its_lab_s_recipe(wire: Wire) -> None:
    refusal = wire.lab.directions["refusal"]
    wire.lab.recipe = Recipe([Ablate(refusal), Clamp(refusal, 2.0)])
    assert Panel(wire.lab).state["conflicts"] == wire.panel.state["conflicts"] != []


def test_a_direction_that_the_lab_does_not_know_is_listed(wire: Wire) -> None:
    mine = Direction(range(1, 17), Site(1, "mlp_out"), name="refusal")
    wire.lab.recipe = Recipe([Add(mine)])
    assert [d["name"] for d in wire.panel.directions] == ["refusal", "refusal (2)"]
    assert [row["direction"] for row in wire.panel.state["steering"]] == ["refusal", "refusal (2)"]


def test_a_new_direction_of_the_lab_gets_a_row(wire: Wire) -> None:
    happy = Direction(range(1, 17), Site(1, "mlp_out"), name="happy")
    wire.lab.directions = {**wire.lab.directions, "happy": happy}
    assert wire.panel.state["steering"][1] | {} == {
        "direction": "happy",
        "mode": "add",
        "coefficient": 0.0,
        "cells": [[1, "mlp_out"]],
        "tokens": "all",
        "enabled": True,
    }


def test_the_baseline_as_a_recipe_unticks_the_rows_and_keeps_their_settings(wire: Wire) -> None:
    wire.push(2.0)
    wire.lab.recipe = BASELINE
    row = wire.panel.state["steering"][0]
    assert (row["enabled"], row["coefficient"]) == (False, 2.0)


def test_a_row_at_zero_unticked_or_without_sites_is_the_baseline(wire: Wire) -> None:
    for changes in ({"coefficient": 0.0}, {"enabled": False}, {"cells": []}):
        wire.push(**{"coefficient": 1.0, **changes})
        assert wire.lab.recipe == BASELINE


def test_a_recipe_out_of_range_is_refused_and_the_panel_stays(wire: Wire) -> None:
    before = wire.panel.state
    with pytest.raises(SteerlabError):
        wire.lab.recipe = Recipe([Add(wire.lab.directions["refusal"], layers=99, sites="resid_pre")])
    assert wire.panel.state == before


def test_a_move_based_on_an_older_state_gives_way_to_python(wire: Wire) -> None:
    stale = {**wire.panel.state, "origin": "front end", "prompt": "stale"}
    wire.lab.prompt = "from Python"
    wire.say(kind="run", state=stale)
    assert wire.lab.prompt == wire.panel.state["prompt"] == "from Python"


def test_moves_of_one_front_end_need_not_wait_for_their_echo(wire: Wire) -> None:
    first = wire.panel.state
    for prompt in ("one", "two"):
        wire.say(kind="run", state={**first, "origin": "front end", "prompt": prompt})
    assert wire.lab.prompt == "two"


def test_the_state_can_be_set_as_a_trait_and_nonsense_is_put_back(wire: Wire) -> None:
    wire.panel.state = {**wire.panel.state, "prompt": "as a trait"}
    assert wire.lab.prompt == "as a trait"
    wire.panel.state = {"prompt": 3}
    assert wire.panel.state["prompt"] == "as a trait"
    assert wire.kinds("complaint")


def test_linkable_parts_of_the_state_go_both_ways_and_are_undone_as_one(wire: Wire) -> None:
    panel, lab = wire.panel, wire.lab
    for coefficient in (0.25, 0.5, 1.0):
        panel.coefficient = coefficient
    assert panel.state["steering"][0]["enabled"]
    assert lab.recipe == Recipe([Add(lab.directions["refusal"], 1.0)])
    wire.say(kind="undo")
    assert panel.coefficient == 0
    wire.push(-0.5)
    assert panel.coefficient == -0.5
    panel.prompt = "linked"
    assert lab.prompt == panel.state["prompt"] == "linked"
    lab.prompt = "from Python"
    assert panel.prompt == "from Python"
    panel.coefficient = float("inf")
    assert panel.coefficient == -0.5
    assert wire.kinds("complaint")
    lab.directions = {}
    lab.recipe = Recipe()
    assert panel.coefficient == 0
    panel.coefficient = 1.0  # there is no row for it
    assert panel.coefficient == 0


def test_nothing_runs_before_somebody_looks(wire: Wire) -> None:
    wire.lab.prompt = HARMFUL
    wire.push(1.0)
    assert wire.lab.backend.asked == []  # type: ignore[attr-defined]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.floats(-3, 3)),
        st.tuples(st.just("prompt"), st.sampled_from(["Hi", "", HARMFUL, "<b>"])),
        st.tuples(st.just("python"), st.floats(-3, 3)),
        st.tuples(st.just("say"), st.sampled_from(["hello", "stop", "dance"])),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions)
def test_any_sequence_of_actions_ends_in_a_consistent_state(sequence: list[tuple[str, Any]]) -> None:
    wire = Wire(scripted.lab(delay=0.0005))
    wire.say(kind="hello")
    for what, value in sequence:
        match what:
            case "push":
                wire.push(value)
            case "prompt":
                wire.run(prompt=value)
            case "python":
                wire.lab.recipe = Recipe([Add(wire.lab.directions["refusal"], value)])
            case "say":
                wire.say(kind=value)
    end = wire.finished()
    assert wire.lab.worker.join(5)
    assert wire.panel.state["prompt"] == wire.lab.prompt
    assert len([m for m in wire.kinds("end") if m["run"] == end["run"]]) == 1
    row = wire.panel.state["steering"][0]
    push = row["coefficient"] if row["enabled"] else 0
    if end["status"] == "done":
        refuses = push >= 0.75 or (wire.lab.prompt == HARMFUL and push > -0.75)
        assert wire.text("steered").startswith("I am sorry") == refuses


# ----------------------------------------------------------------------------------------------------------- subshells


@pytest.mark.skipif(not hasattr(BaseComm, "_reply_subshell_for"), reason="ipykernel 7.4 began with it")
def test_a_send_from_a_busy_cell_does_not_pin_the_front_end_to_it() -> None:
    """A connection of ipykernel's remembers the shell that sent last."""
    panel = Panel(scripted.lab())
    panel.comm = comm = BaseComm(comm_id="c", primary=False)
    comm._reply_subshell_id = None  # the main shell, of a cell
    comm._reply_subshell_ids["1-1"] = None
    for data in ({}, {"method": "custom", "content": {"kind": "cancel", "id": "1-1"}}):
        assert comm._reply_subshell_for(data, "free") == "free"
    assert BaseComm._reply_subshell_for(comm, {}, "free") is None, "by itself it would go to the cell's"


def test_the_worker_is_the_only_thread_that_generates(wire: Wire) -> None:
    names: list[str] = []
    generate = wire.lab.backend.generate

    def noting(*args: Any, **kwargs: Any) -> Any:
        names.append(threading.current_thread().name)
        return generate(*args, **kwargs)

    wire.lab.backend.generate = noting  # type: ignore[method-assign]
    wire.say(kind="hello")
    wire.push(1.0)
    wire.finished()
    assert set(names) == {"steerlab-worker"}


def test_picked_tokens_go_both_ways(wire: Wire) -> None:
    wire.say(kind="hello")
    refusal = wire.lab.directions["refusal"]
    wire.push(1.0, tokens=[-2, -5])
    assert wire.lab.recipe == Recipe([Add(refusal, 1.0, tokens=[-5, -2])])
    wire.lab.recipe = Recipe([Add(refusal, 1.0, tokens=[-1])])
    assert wire.panel.state["steering"][0]["tokens"] == [-1]
    wire.push(1.0, tokens=[0])
    assert wire.kinds("complaint")
    assert wire.lab.recipe == Recipe([Add(refusal, 1.0, tokens=[-1])]), "there is no token 0 in a prompt"


def test_the_row_of_a_direction_that_only_an_older_recipe_had_goes_with_it(wire: Wire) -> None:
    other = Direction(torch.ones(16), Site(2, "resid_pre"), name="other")
    wire.lab.recipe = Recipe([Add(other)])
    wire.lab.recipe = Recipe([])
    assert [row["direction"] for row in wire.panel.state["steering"]] == ["refusal"]
    wire.push(1.0)
    assert not wire.kinds("complaint")
    assert len(wire.lab.recipe) == 1


def test_what_an_observer_of_a_linked_part_sets_stays(wire: Wire) -> None:
    panel = wire.panel

    def reset(change: Any) -> None:
        panel.coefficient = 0.5

    panel.coefficient = 2.0
    panel.observe(reset, "prompt")
    panel.prompt = "Another one?"
    assert (panel.coefficient, panel.state["steering"][0]["coefficient"]) == (0.5, 0.5)
    assert wire.lab.recipe.interventions[0].coefficient == 0.5


def test_whoever_is_told_of_texts_holds_up_no_message(wire: Wire) -> None:
    """A cell that watches `lab.generations` and sets the prompt waits for the panel; a message that moves the slider
    meanwhile has the panel and needs the preview.
    """
    free: list[bool] = []

    def told(_change: object) -> None:
        asking = threading.Thread(target=wire.panel._preview.result)
        asking.start()
        asking.join(5)
        free.append(not asking.is_alive())

    wire.lab.observe(told, "generations")
    wire.say(kind="hello")
    wire.push(1.0)
    wire.finished()
    assert free
    assert all(free)


def test_a_snapshot_in_the_middle_of_a_run_and_what_follows_make_the_text(slow: Wire) -> None:
    slow.say(kind="hello")
    for _ in range(20):
        slow.until(lambda: slow.kinds("tokens"))
        slow.say(kind="hello")
        time.sleep(0.007)
    slow.finished()
    snapshots = [m for m in slow.kinds("snapshot") if m["result"]["status"] == "running"]
    assert len(snapshots) > 10
    for one in snapshots:
        tokens = list(one["result"]["panes"]["steered"]["tokens"])
        later = slow.messages[slow.messages.index(one) :]
        for message in later:
            if message["kind"] == "tokens":
                tokens += message["panes"].get("steered", [])
        assert "".join(tokens) == slow.text("steered")


# ------------------------------------------------------------------------------------------------- observers of the lab


def test_what_an_observer_of_the_lab_sets_is_in_the_panel_and_in_the_run(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.finished()
    wire.lab.observe(lambda _: setattr(wire.lab, "prompt", HARMFUL), "recipe")
    wire.push(1.0)
    wire.finished()
    assert wire.lab.prompt == wire.panel.state["prompt"] == wire.panel.prompt == HARMFUL
    assert wire.lab.backend.asked[-1].prompt == HARMFUL  # type: ignore[attr-defined]
    assert wire.panel.state["steering"][0]["coefficient"] == 1.0
    assert wire.panel.state["origin"] == "", "so that the front end takes it over"
    assert not wire.kinds("complaint")


def test_what_an_observer_sets_belongs_to_the_change_that_it_heard_of(wire: Wire) -> None:
    wire.lab.observe(lambda _: setattr(wire.lab, "seed", wire.lab.seed + 1), "recipe")
    for coefficient in (0.5, 1.0):
        row = {**wire.panel.state["steering"][0], "coefficient": coefficient}
        wire.say(kind="run", state={**wire.panel.state, "origin": "a", "steering": [row]}, gesture="drag")
    assert wire.lab.seed == wire.panel.state["seed"] == 2
    wire.lab.unobserve_all("recipe")
    wire.say(kind="undo")
    assert not wire.panel.state["undoable"], "a drag is one step"


def test_an_observer_of_the_lab_that_sets_the_recipe_has_the_last_word(wire: Wire) -> None:
    mine = Recipe([Add(wire.lab.directions["refusal"], 3.0)])
    wire.lab.observe(lambda _: setattr(wire.lab, "recipe", mine), "prompt")
    wire.run(prompt=HARMFUL)
    assert wire.lab.recipe == mine
    assert wire.panel.state["steering"][0]["coefficient"] == 3.0
    wire.say(kind="undo")
    assert wire.lab.recipe == mine, "it heard of the undo, too"
    assert wire.panel.state["steering"][0]["coefficient"] == 3.0


@pytest.mark.parametrize("trait", ["recipe", "prompt", "seed"])
def test_an_observer_of_the_lab_that_raises_is_told_and_the_run_goes_on(wire: Wire, trait: str) -> None:
    wire.say(kind="hello")
    wire.finished()

    def broken(_change: object) -> None:
        raise ValueError("a slip in a cell")

    wire.lab.observe(broken, trait)
    wire.push(1.0)
    wire.run(prompt=HARMFUL, seed=3)
    wire.finished()
    assert wire.text("steered") == scripted.REFUSAL
    assert wire.kinds("complaint")[-1]["error"]["what"] == "ValueError: a slip in a cell"
    assert isinstance(wire.panel.last_exception, ValueError)
    state = wire.panel.state
    assert (state["prompt"], state["seed"]) == (wire.lab.prompt, wire.lab.seed) == (HARMFUL, 3)
    for _ in range(2):
        wire.say(kind="undo")
    wire.finished()
    assert (wire.panel.state["steering"][0]["coefficient"], wire.lab.recipe) == (0, BASELINE)
    assert wire.text("steered") == scripted.ANSWER


def test_an_observer_of_the_panel_that_raises_stops_no_run(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.finished()

    def broken(_change: object) -> None:
        raise ValueError("a slip in a cell")

    wire.panel.observe(broken, "state")
    wire.push(1.0)
    wire.finished()
    assert wire.text("steered") == scripted.REFUSAL
    assert wire.kinds("complaint")


def test_any_sampling_of_the_lab_can_be_in_the_panel(wire: Wire) -> None:
    wire.lab.sampling = Sampling(8000, 12.5)
    wire.push(1.0)
    assert not wire.kinds("complaint")
    assert (wire.lab.sampling, len(wire.lab.recipe)) == (Sampling(8000, 12.5), 1)
    assert Panel(wire.lab).state["max_new_tokens"] == 8000


# ------------------------------------------------------------------------------------------------------------ closing


def shown() -> tuple[Lab, list[threading.Thread]]:
    """A lab whose panel somebody looks at, and the threads that work for it."""
    lab = scripted.lab()
    lab.backend.watchers = []  # type: ignore[attr-defined]
    wire = Wire(lab)
    lab._panel = wire.panel
    wire.say(kind="hello")
    wire.push(1.0)
    wire.finished()
    assert wire.ask("code", revision=wire.panel.state["revision"], seed=0)
    assert lab.worker.join(5)
    return lab, [lane.thread for lane in lab.worker._lanes if lane.thread]


def test_a_closed_lab_is_freed_with_its_panel_once_it_is_dropped() -> None:
    lab, threads = shown()
    freed: list[weakref.ref[Any]] = [weakref.ref(lab), weakref.ref(lab.panel), weakref.ref(lab.backend)]
    watchers = lab.backend.watchers  # type: ignore[attr-defined]
    assert threads
    assert len(watchers) == 1
    lab.close()
    lab.close()
    assert watchers == []
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    del lab
    gc.collect()
    assert all(one() is None for one in freed)


def test_a_closed_lab_opens_another_panel() -> None:
    lab, _ = shown()
    before = lab.panel
    lab.close()
    assert before.comm is None
    lab.prompt = HARMFUL
    assert before.state["prompt"] != HARMFUL
    assert lab.panel is not before
    assert lab.panel.state["prompt"] == HARMFUL
    ran = threading.Event()
    lab.worker.submit(lambda _: ran.set())
    assert ran.wait(5)
    lab.close()


def test_the_built_front_end_is_in_the_state_that_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steerlab.ui.panel._STATIC", tmp_path)
    assert "not built" in Panel(scripted.lab()).get_state()["_esm"]
    for name in ("widget.js", "widget.css"):
        (tmp_path / name).write_text(f"/* {name} \u03b1 */", "utf-8")
    state = Panel(scripted.lab()).get_state()
    assert (state["_esm"], state["_css"]) == ("/* widget.js \u03b1 */", "/* widget.css \u03b1 */")


def test_a_lab_that_never_had_a_panel_can_be_closed() -> None:
    lab = scripted.lab()
    lab.close()
    assert lab.generate("Hi").text == scripted.ANSWER


def test_a_panel_that_was_closed_by_others_is_opened_anew(wire: Wire) -> None:
    first = wire.panel
    wire.lab._panel = first
    assert wire.lab.panel is first
    first.close()
    assert wire.lab.panel is not first
    assert wire.lab._repr_mimebundle_()


def embedded() -> Wire:
    """A panel on the embedded model, with its first short texts."""
    lab = Lab()
    lab.prompt, lab.sampling = "Hi", Sampling(3)
    wire = Wire(lab)
    wire.say(kind="hello")
    wire.finished()
    return wire


def test_other_weights_are_another_epoch() -> None:
    wire = embedded()
    lab = wire.lab
    assert wire.panel.info["epoch"] == 0
    layer = lab.backend._hf.model.layers[2].mlp.down_proj  # type: ignore[attr-defined]
    with torch.no_grad():
        layer.weight.mul_(0)
    wire.run()
    wire.finished()
    wire.run(prompt="Hello")
    wire.finished()
    assert wire.panel.info["epoch"] == 1


def test_a_scrub_looks_at_the_weights_a_few_times_and_not_for_every_text() -> None:
    wire = embedded()
    lab = wire.lab
    looks: list[int] = []
    seen = lab.backend.weights_seen  # type: ignore[attr-defined]
    lab.backend.weights_seen = lambda: looks.append(1) or seen()  # type: ignore[attr-defined]
    steps = [0.01 * i for i in range(1, 30)]
    wire.say(kind="scrub", revision=wire.panel.state["revision"], row=0, coefficients=steps)
    assert len(looks) <= 3
    lab.worker.cancel_idle()
    assert lab.worker.join(30)
