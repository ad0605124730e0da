from __future__ import annotations

from typing import Any

import pytest
from wires import Wire

from steerlab import Ablate, Add, Lab, Recipe, Sampling
from steerlab.demo import WEIGHTS


def do(wire: Wire, what: str, name: str) -> dict[str, Any]:
    return wire.ask("snapshot", do=what, name=name, revision=wire.panel.state["revision"])


def test_what_is_set_is_kept_and_restored_as_one_undoable_change(wire: Wire) -> None:
    wire.push(1.5)
    wire.run(prompt="Hello", temperature=0.5, seed=3, max_new_tokens=9)
    do(wire, "keep", " push ")
    kept = wire.lab.snapshots["push"]
    assert (kept.prompt, kept.sampling, kept.seed) == ("Hello", Sampling(9, 0.5), 3)
    (listed,) = wire.panel.snapshots
    assert (listed["name"], listed["prompt"], len(listed["steps"])) == ("push", "Hello", 1)
    refusal = wire.lab.directions["refusal"]
    wire.lab.recipe = Recipe([Ablate(refusal)])
    wire.run(prompt="Other", temperature=0, seed=0, max_new_tokens=20)
    before = wire.panel.state
    do(wire, "restore", "push")
    state = wire.panel.state
    assert (state["prompt"], state["temperature"], state["seed"], state["max_new_tokens"]) == (
        "Hello",
        0.5,
        3,
        9,
    )
    assert wire.lab.recipe == Recipe([Add(refusal, 1.5)])
    wire.say(kind="undo")
    after = wire.panel.state
    assert all(after[name] == before[name] for name in ("prompt", "steering", "temperature", "seed"))
    do(wire, "delete", "push")
    assert wire.lab.snapshots == {}
    assert wire.panel.snapshots == []


def test_python_and_the_panel_have_the_same_snapshots(wire: Wire) -> None:
    made = wire.lab.snapshot("before")
    assert [one["name"] for one in wire.panel.snapshots] == ["before"]
    first = wire.panel.snapshots[0]["fingerprint"]
    wire.push(1.0)
    do(wire, "keep", "before")
    assert wire.panel.snapshots[0]["fingerprint"] != first
    wire.lab.snapshots = {"renamed": made}
    assert [one["name"] for one in wire.panel.snapshots] == ["renamed"]
    wire.lab.restore("renamed")
    assert len(wire.lab.recipe) == 0


def test_what_was_deleted_or_replaced_last_is_brought_back_to_its_place(wire: Wire) -> None:
    for name in "abc":
        assert not do(wire, "keep", name)["lost"]
    first = wire.lab.snapshots["b"]
    assert do(wire, "delete", "b") == {"name": "b", "lost": True}
    do(wire, "keep", "d")
    assert not do(wire, "bring back", "b")["lost"]
    assert list(wire.lab.snapshots) == ["a", "b", "c", "d"]
    assert wire.lab.snapshots["b"] is first
    wire.push(1.0)
    assert do(wire, "keep", "b")["lost"]
    assert do(wire, "bring back", "b")["lost"], "the one that took its place"
    assert wire.lab.snapshots["b"] is first
    do(wire, "bring back", "b")
    assert len(wire.lab.snapshots["b"].recipe) == 1
    assert not do(wire, "delete", "none")["lost"]


def test_snapshots_are_compared_in_their_order(wire: Wire) -> None:
    do(wire, "keep", "plain")
    wire.push(1.5)
    do(wire, "keep", "push")
    names = ["push", "plain"]
    texts = wire.ask("compare", names=names, fingerprints=["", ""], epoch=0)["texts"]
    assert [text["name"] for text in texts] == names
    assert [text["verdict"]["refuses"] for text in texts] == [True, False]
    assert texts[0]["applied"]["of"] > 0
    assert texts[1]["applied"] is None
    assert texts[0]["text"] == str(wire.lab.run([wire.lab.snapshots["push"].row])[0].text)


@pytest.mark.parametrize(
    ("kind", "what", "words"),
    [
        ("snapshot", {"do": "keep", "name": " ", "revision": 0}, "needs a name"),
        ("snapshot", {"do": "restore", "name": "x", "revision": 0}, "no snapshot 'x'"),
        ("snapshot", {"do": "bring back", "name": "x", "revision": 0}, "no snapshot 'x' was deleted"),
        ("compare", {"names": ["x"], "fingerprints": [""], "epoch": 0}, "no snapshot 'x' any more"),
        ("open-shared", {"text": "hello"}, "no shared text"),
    ],
)
def test_what_cannot_be_is_told_in_words(wire: Wire, kind: str, what: dict[str, Any], words: str) -> None:
    assert words in wire.ask(kind, **what)["what"]


@pytest.mark.skipif(
    not (WEIGHTS / "config.json").is_file(), reason="the embedded model is still to be trained"
)
def test_a_shared_text_sets_another_panel() -> None:
    one, other = Wire(Lab()), Wire(Lab())
    one.push(1.0)
    one.run(prompt="Hello", seed=5)
    text = one.ask("share", revision=1)["text"]
    assert other.ask("open-shared", text=f" {text[:40]}\n{text[40:]} ") == {"warning": ""}
    assert other.lab.prompt == "Hello"
    assert other.lab.recipe == one.lab.recipe
    assert other.panel.state["seed"] == 5
    assert [row["coefficient"] for row in other.panel.state["steering"]] == [1.0]
    other.say(kind="undo")
    assert len(other.lab.recipe) == 0
    assert one.lab.snapshots == {}, "to share is not to keep"
