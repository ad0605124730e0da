"""What a person set for all panels, in the settings of JupyterLab, holds where nobody has set anything."""

from __future__ import annotations

import scripted
from wires import Wire


def control(wire: Wire) -> bool:
    return bool(wire.panel.state["control"])


def test_a_fresh_panel_follows_before_it_runs_and_has_nothing_to_undo(wire: Wire) -> None:
    wire.say(kind="hello", control=False)
    wire.finished()
    assert not control(wire)
    assert [set(m["shown"]) for m in wire.kinds("start")] == [{"baseline", "steered"}]
    assert not wire.panel.state["undoable"]
    wire.say(kind="undo")
    assert not control(wire)


def test_it_goes_on_following_until_somebody_sets_something(wire: Wire) -> None:
    for wanted in (False, True, False):
        wire.say(kind="hello", control=wanted)
        assert control(wire) is wanted
    wire.push(1.0)
    wire.say(kind="hello", control=True)
    assert not control(wire)
    wire.say(kind="undo")
    wire.say(kind="hello", control=True)
    assert not control(wire), "an undo is something that somebody did"


def test_what_a_person_or_a_cell_set_stays(wire: Wire) -> None:
    wire.say(kind="hello")
    wire.run(control=False)
    wire.say(kind="hello", control=True)
    assert not control(wire)
    in_a_cell = Wire(scripted.lab())
    in_a_cell.panel.state = {**in_a_cell.panel.state, "control": False}
    in_a_cell.say(kind="hello", control=True)
    assert not control(in_a_cell)
    in_a_cell.lab.worker.cancel()


def test_a_host_without_settings_changes_nothing(wire: Wire) -> None:
    before = wire.panel.state
    wire.say(kind="hello")
    wire.say(kind="hello", control=before["control"])
    assert wire.panel.state == before


def test_what_was_on_its_way_from_the_panel_is_not_lost_to_it(wire: Wire) -> None:
    """What was sent before the panel heard of the setting is too old: the panel sends it again, with the setting."""
    before = wire.panel.state
    wire.say(kind="hello", control=False)
    wire.say(kind="run", state={**before, "origin": "front end", "prompt": "Hi"})
    assert wire.panel.state["prompt"] == before["prompt"], "the newer state is on its way there"
    wire.say(kind="run", state={**wire.panel.state, "origin": "front end", "prompt": "Hi"})
    assert (wire.panel.state["prompt"], control(wire)) == ("Hi", False)
