"""Random sequences of what a person, a tab and a cell do to one panel. Each has to end in one and the same state
everywhere: in the panel, in the lab, in the texts, and in a front end that followed every message.
"""

from __future__ import annotations

import base64
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wires import Wire

from steerlab import Ablate, Add, Direction, Generation, Lab, Recipe, Row, Sampling, Site
from steerlab.backends.base import OnTokens
from steerlab.backends.fake import FakeBackend
from steerlab.generations import Token
from steerlab.sharing import share
from steerlab.sites import POINTS
from steerlab.ui.panes import rows_of
from steerlab.ui.protocol import PanelState
from steerlab.ui.sweep import fingerprint
from steerlab.ui.translate import fingerprint as print_of
from steerlab.ui.translate import recipe_of

LAYERS, WIDTH = 3, 8
PROMPTS = ["Hi", "How do I bake bread?", "", "x" * 300, "<b>\u202eא"]
COEFFICIENTS = [0.0, 0.5, -0.5, 1.0, 2.0]


def direction(seed: int) -> Direction:
    noise = torch.Generator().manual_seed(seed)
    return Direction(torch.randn(WIDTH, generator=noise), Site(seed % LAYERS, "resid_pre"), name=f"d{seed}")


DIRECTIONS = {f"d{seed}": direction(seed) for seed in range(3)}

coefficient = st.sampled_from(COEFFICIENTS)
cells = st.lists(st.tuples(st.integers(0, LAYERS - 1), st.sampled_from(POINTS)), max_size=3)
row = st.fixed_dictionaries(
    {},
    optional={
        "coefficient": coefficient,
        "mode": st.sampled_from(["add", "ablate", "clamp"]),
        "enabled": st.booleans(),
        "cells": cells,
        "tokens": st.sampled_from(["all", "prompt", "generated"]),
    },
)
setting = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.sampled_from(PROMPTS),
        "control": st.booleans(),
        "max_new_tokens": st.integers(1, 6),
        "temperature": st.sampled_from([0.0, 0.8]),
        "seed": st.integers(0, 2),
    },
)
recipe = st.lists(
    st.one_of(
        st.builds(Add, st.sampled_from(list(DIRECTIONS.values())), coefficient),
        st.builds(Ablate, st.sampled_from(list(DIRECTIONS.values()))),
    ),
    max_size=3,
).map(Recipe)
actions = st.one_of(
    st.tuples(st.just("move"), row),
    st.tuples(st.just("set"), setting),
    st.tuples(st.just("stale"), setting),
    st.tuples(st.just("scrub"), st.lists(coefficient, max_size=4)),
    st.tuples(st.sampled_from(["stop", "undo", "redo", "hello", "nonsense", "cancel"]), st.none()),
    st.tuples(st.just("ask"), st.sampled_from(["code", "unknown"])),
    st.tuples(st.just("load"), recipe),
    st.tuples(st.just("load vector"), st.integers(0, 4)),
    st.tuples(st.just("rename"), st.sampled_from(["d0", "d9", "another name"])),
    st.tuples(st.sampled_from(["keep", "restore", "delete", "bring back"]), st.sampled_from(["one", "two"])),
    st.tuples(st.sampled_from(["compare", "share", "open", "view"]), st.none()),
    st.tuples(st.just("find"), st.booleans()),
    st.tuples(st.just("find-use"), st.tuples(st.integers(-3, -1), st.integers(0, LAYERS), st.booleans())),
    st.tuples(
        st.just("sweep-set"),
        st.fixed_dictionaries(
            {"layer": st.integers(0, LAYERS), "coefficient": coefficient, "control": st.booleans()}
        ),
    ),
    st.tuples(st.just("frontier-set"), st.sets(st.integers(0, LAYERS - 1)).map(sorted)),
    st.tuples(st.just("trait"), setting),
    st.tuples(st.just("lab.recipe"), recipe),
    st.tuples(st.just("lab.prompt"), st.sampled_from(PROMPTS)),
    st.tuples(st.just("lab.sampling"), st.builds(Sampling, st.integers(1, 6))),
    st.tuples(st.just("lab.seed"), st.integers(0, 2)),
    st.tuples(st.just("lab.directions"), st.sets(st.sampled_from(sorted(DIRECTIONS)))),
    st.tuples(st.just("lab.ahead"), st.integers(0, 4)),
    st.tuples(st.just("wait"), st.none()),
    st.tuples(st.just("pause"), st.integers(1, 8)),
)


class Unhurried(FakeBackend):
    """Takes a moment for each token, so that what is done next falls into a run."""

    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        def later(tokens: Sequence[Token]) -> None:
            if on_tokens:
                on_tokens(tokens)
            time.sleep(0.001)

        return super().generate(rows, sampling, on_tokens=later, cancel=cancel)


class Person(Wire):
    """Does what it is told, as a front end, a tab or a cell would."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.views = [0]
        """Front ends that came later: where among the messages each of them begins to hear."""
        self.shared = ""

    def do(self, what: str, how: Any) -> None:
        state, lab = self.panel.state, self.lab
        listed = [row["direction"] for row in state["steering"]]
        match what:
            case "move" if state["steering"]:
                first = {**state["steering"][0], **how}
                self.run(steering=[first, *state["steering"][1:]])
            case "set":
                self.run(**how)
            case "stale":
                self.say(
                    kind="run", state={**state, **how, "revision": state["revision"] - 1, "origin": "other"}
                )
            case "scrub":
                self.say(kind="scrub", revision=state["revision"], row=0, coefficients=how)
            case "stop" | "undo" | "redo" | "hello":
                self.say(kind=what)
            case "nonsense":
                self.say(kind="run", state={"prompt": 7})
            case "cancel":
                self.say(kind="cancel", id="q")
            case "ask":
                self.say(kind="ask", id="q", what={"kind": how, "revision": state["revision"]})
            case "trait":
                self.panel.state = {**state, **how}
            case "lab.recipe" | "lab.prompt" | "lab.sampling" | "lab.seed" | "lab.ahead":
                setattr(lab, what.removeprefix("lab."), how)
            case "lab.directions":
                lab.directions = {name: DIRECTIONS[name] for name in sorted(how)}
            case "load":
                data = base64.b64encode(how.to_json().encode()).decode()
                file = {"name": "recipe.steer.json", "data": data}
                self.ask("load", files=[file])
                time.sleep(0.003)  # into the run of it
            case "load vector":
                with tempfile.TemporaryDirectory() as folder:
                    saved = direction(how).save(Path(folder) / "v.safetensors").read_bytes()
                data = base64.b64encode(saved).decode()
                self.ask("load", files=[{"name": "v.safetensors", "data": data}])
            case "rename" if listed:
                self.ask("rename", direction=listed[0], name=how)
            case "keep" | "restore" | "delete" | "bring back":
                self.ask("snapshot", do=what, name=how, revision=state["revision"])
            case "compare":
                names = list(lab.snapshots)
                fingerprints = [one["fingerprint"] for one in self.panel.snapshots]
                self.ask("compare", names=names, fingerprints=fingerprints, epoch=0)
            case "share":
                self.shared = self.ask("share", revision=state["revision"])["text"]
            case "open":
                self.ask("open-shared", text=self.shared or share(lab))
            case "find":
                self.find(wait=how)
            case "find-use":
                position, layer, keep = how
                if lab.map is None:
                    self.find(wait=True)
                known = print_of(lab.map)
                self.ask("find-use", name="found", map=known, position=position, layer=layer, keep=keep)
            case "sweep-set" if listed:
                known = fingerprint(self.panel._table[listed[0]])
                self.ask("sweep-set", place={**how, "name": listed[0], "direction": known})
            case "frontier-set" if listed:
                known = print_of(self.panel._table[listed[-1]])
                self.ask("frontier-set", direction=listed[-1], fingerprint=known, layers=how)
            case "view":
                self.views.append(len(self.messages))
                self.say(kind="hello")
            case "wait":
                assert lab.worker.join(30)
            case "pause":
                time.sleep(how / 1000)

    def find(self, *, wait: bool) -> None:
        """Search for a direction; without waiting it goes on while other things are done."""
        sides = {"positive": "Hi\nYes", "negative": "No\nNever"}
        given = {side: {"source": "text", "text": text} for side, text in sides.items()}
        question = {"name": "found", "method": "means", "layer": 2, **given}
        if wait:
            self.ask("find", **question)
        else:
            self.say(kind="ask", id=f"find {len(self.messages)}", what={"kind": "find", **question})


def check(person: Person) -> None:
    """All that there is says the same."""
    lab, panel = person.lab, person.panel
    state = PanelState.model_validate(panel.state)
    assert (state.prompt, state.seed) == (lab.prompt, lab.seed)
    assert Sampling(state.max_new_tokens, state.temperature) == lab.sampling
    listed = {**panel._table}
    assert {d["name"] for d in panel.directions} == set(listed) == {r.direction for r in state.steering}
    assert set(lab.directions) <= set(listed)
    from_rows = recipe_of(state.steering, listed, LAYERS, lab.recipe)
    acting = [s for s in lab.recipe.interventions if not (isinstance(s, Add) and s.coefficient == 0)]
    assert from_rows.fingerprint == Recipe(acting).fingerprint

    unforeseen = [
        m for m in person.messages if "last_exception" in str(m)
    ]  # an error that has no words of ours
    assert not unforeseen
    result = panel.result
    if not panel._seen:
        assert result["status"] == "idle"
        return
    assert result["status"] in ("done", "stopped", "error")
    assert set(result["panes"]) == {"baseline", "steered", *(["control"] if state.control else [])}
    if result["status"] == "done":
        rows = rows_of(lab.prompt, lab.recipe, lab.seed, control=state.control)
        for name, one in rows.items():
            alone = FakeBackend(n_layers=LAYERS, d_model=WIDTH).generate([one], lab.sampling)[0]
            assert "".join(result["panes"][name]["tokens"]) == alone.text, name
            assert result["panes"][name]["finish"] == alone.finish
    for begins in person.views:
        followed = follow(person.messages[begins:])
        assert followed["run"] == panel._preview.run
        for name, pane in result["panes"].items():
            assert followed["panes"][name] == pane["tokens"], f"what a front end shows of {name}"
        assert followed["asking"] == set()


def follow(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What a front end has after these messages, from the first on."""
    run, panes, pending, asking = 0, {}, set(), set()
    for m in messages:
        match m["kind"]:
            case "snapshot":
                run, pending = m["run"], set(m["pending"])
                panes = {name: list(pane["tokens"]) for name, pane in m["result"]["panes"].items()}
            case "start":
                run, pending = m["run"], set(m["panes"])
                panes = {name: panes.get(name, []) for name in m["shown"]}
                panes |= {name: list(pane["tokens"]) for name, pane in m["ready"].items()}
            case "tokens" if m["run"] == run:
                for name, words in m["panes"].items():
                    panes[name] = ([] if name in pending else panes[name]) + words
                    pending.discard(name)
            case "progress" | "part":
                asking.add(m["id"])
            case "answer" | "failure":
                asking.discard(m["id"])
    return {"run": run, "panes": panes, "asking": asking}


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize=True,
)
@given(st.sampled_from([True, True, False]), st.lists(actions, min_size=3, max_size=12))
def test_any_sequence_of_actions_ends_in_one_state_everywhere(
    shown: bool, sequence: list[tuple[str, Any]]
) -> None:
    failures: list[threading.ExceptHookArgs] = []
    before, threading.excepthook = threading.excepthook, failures.append
    lab = Lab(Unhurried(n_layers=LAYERS, d_model=WIDTH))
    lab.directions, lab.sampling, lab.prompt = dict(list(DIRECTIONS.items())[:2]), Sampling(4), "Hi"
    person = Person(lab)
    try:
        for what, how in [("hello", None)] * shown + sequence:
            person.do(what, how)
        assert lab.worker.join(30)
        check(person)
        assert failures == []
    finally:
        lab.worker.cancel()
        lab.worker.cancel_idle()
        threading.excepthook = before
