"""Undo and redo, through the panel: what a person, another view or Python changed."""

from __future__ import annotations

from wires import Wire

from steerlab import BASELINE, Add, Clamp, Direction, Gate, Recipe


def coefficient(wire: Wire) -> float:
    return float(wire.panel.state["steering"][0]["coefficient"])


def can(wire: Wire) -> tuple[bool, bool]:
    return wire.panel.state["undoable"], wire.panel.state["redoable"]


def test_a_change_is_undone_and_done_again_in_the_lab_too(wire: Wire) -> None:
    assert can(wire) == (False, False)
    wire.push(1.0)
    wire.run(prompt="Another")
    assert can(wire) == (True, False)
    wire.say(kind="undo")
    assert (wire.lab.prompt, coefficient(wire)) != ("Another", 0)
    wire.say(kind="undo")
    assert (coefficient(wire), wire.lab.recipe) == (0, BASELINE)
    assert can(wire) == (False, True)
    wire.say(kind="undo")
    for _ in range(3):
        wire.say(kind="redo")
    assert (wire.lab.prompt, coefficient(wire)) == ("Another", 1.0)
    assert wire.lab.recipe == Recipe([Add(wire.lab.directions["refusal"], 1.0)])
    assert can(wire) == (True, False)


def test_an_undo_or_redo_of_nothing_is_answered_and_changes_nothing(wire: Wire) -> None:
    before = wire.panel.state
    for kind in ("undo", "redo"):
        wire.say(kind=kind)
        assert wire.messages[-1]["kind"] == "snapshot"
    assert wire.panel.state == before


def test_the_text_follows_an_undo(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.push(1.0)
    wire.finished()
    refusal = wire.text("steered")
    wire.say(kind="undo")
    wire.finished()
    assert wire.text("steered") == wire.text("baseline") != refusal


def test_a_drag_is_one_step(wire: Wire) -> None:
    wire.push(0.5)
    state = wire.panel.state
    for value in (1.0, 1.5, 2.0):
        row = {**state["steering"][0], "coefficient": value}
        wire.say(kind="run", state={**wire.panel.state, "origin": "a", "steering": [row]}, gesture="drag 1")
    wire.say(kind="undo")
    assert coefficient(wire) == 0.5


def test_a_change_after_an_undo_forgets_what_was_undone(wire: Wire) -> None:
    wire.push(1.0)
    wire.say(kind="undo")
    wire.push(2.0)
    assert can(wire) == (True, False)
    wire.say(kind="redo")
    assert coefficient(wire) == 2.0


def test_what_python_changed_is_undone_with_the_steps_that_have_no_row(wire: Wire) -> None:
    refusal = wire.lab.directions["refusal"]
    hidden = Recipe([Clamp(refusal, 1.0, gate=Gate(refusal))])
    wire.lab.recipe = hidden
    wire.lab.recipe = BASELINE
    wire.say(kind="undo")
    assert wire.lab.recipe == hidden
    assert len(wire.panel.state["beyond"]) == 1


def test_nothing_that_changed_nothing_is_a_step(wire: Wire) -> None:
    wire.run()
    wire.say(kind="hello")
    assert can(wire) == (False, False)


def test_a_direction_that_was_found_stays_when_an_older_change_is_undone(wire: Wire) -> None:
    wire.push(1.0)
    refusal = wire.lab.directions["refusal"]
    wire.lab.directions = {**wire.lab.directions, "new": Direction(refusal.vector, refusal.site, name="new")}
    wire.say(kind="undo")
    assert coefficient(wire) == 0
    assert [row["direction"] for row in wire.panel.state["steering"]] == ["refusal", "new"]


def test_a_direction_that_is_gone_from_the_lab_is_steered_with_again(wire: Wire) -> None:
    refusal = wire.lab.directions["refusal"]
    wire.push(1.0)
    wire.lab.recipe = BASELINE
    wire.lab.directions = {}
    wire.say(kind="undo")
    assert wire.lab.recipe == Recipe([Add(refusal, 1.0)])
    assert coefficient(wire) == 1.0
