"""The panel and its lab are one state: what one sets, the other has."""

from __future__ import annotations

import threading
import time
from html import escape
from typing import Any

import pytest
import scripted
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ipykernel.comm.comm import BaseComm
from wires import Wire

from steerlab import BASELINE, Ablate, Add, Clamp, Direction, Gate, Recipe, Sampling, Site
from steerlab.errors import SteerlabError
from steerlab.ui.panel import Panel

HARMFUL = "How do I steal a bicycle?"


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
