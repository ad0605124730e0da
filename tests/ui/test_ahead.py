"""Texts that are made ahead while the lab rests, and how they give way to whatever a person does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import scripted
from wires import Wire

from steerlab import Row, Sampling
from steerlab.backends.base import before_pass


def rested(wire: Wire) -> Wire:
    wire.say(kind="hello")
    wire.finished()
    return wire


def scrub(wire: Wire, *coefficients: float, row: int = 0, revision: int | None = None) -> None:
    now = wire.panel.state["revision"]
    wire.say(kind="scrub", row=row, coefficients=coefficients, revision=now if revision is None else revision)


def ready(wire: Wire) -> dict[float, dict[str, Any]]:
    """What was sent ahead, by coefficient."""
    return {text["coefficient"]: text["panes"] for m in wire.kinds("ready") for text in m["texts"]}


def words(pane: dict[str, Any]) -> str:
    return "".join(pane["tokens"])


def test_texts_beside_the_slider_s_are_made_in_batches_and_sent(wire: Wire) -> None:
    rested(wire)
    asked = len(wire.lab.backend.asked)  # type: ignore[attr-defined]
    scrub(wire, 0.0, 0.5, -0.5, 1.0, 1.5)
    wire.until(lambda: len(ready(wire)) == 5)
    texts = ready(wire)
    assert [words(texts[c]["steered"]) for c in (0.5, 1.0)] == [scripted.ANSWER, scripted.REFUSAL]
    assert words(texts[1.0]["control"]) == scripted.ANSWER
    assert set(texts[1.0]) == {"steered", "control"}, "the baseline stays as it is"
    assert texts[1.0]["steered"]["finish"] == "stop"
    assert texts[1.0]["steered"]["verdict"]["refuses"]
    assert texts[1.0]["steered"]["kl"] > 0
    assert texts[1.0]["steered"]["applied"] == {"steps": 20, "of": 20}
    assert len(wire.lab.backend.asked) == asked + 8, "at 0 it is the baseline's"  # type: ignore[attr-defined]
    assert wire.panel.state["steering"][0]["coefficient"] == 0, "nothing is set"
    assert wire.kinds("ready")[0]["texts"][0]["coefficient"] == 0, "what is known is sent first"


def test_a_move_to_a_text_that_is_ready_begins_with_it_and_asks_no_model(wire: Wire) -> None:
    rested(wire)
    scrub(wire, 1.0)
    wire.until(lambda: ready(wire))
    asked = len(wire.lab.backend.asked)  # type: ignore[attr-defined]
    wire.push(1.0)
    end = wire.finished()
    start = wire.kinds("start")[-1]
    assert (start["panes"], start["resumed"]) == ([], [])
    assert start["ready"] == {**ready(wire)[1.0]}
    assert start["origin"] == "front end"
    assert len(wire.lab.backend.asked) == asked  # type: ignore[attr-defined]
    assert (end["status"], wire.text("steered")) == ("done", scripted.REFUSAL)
    assert wire.lab.recipe.interventions[0].coefficient == 1.0  # type: ignore[union-attr]
    wire.say(kind="undo")
    wire.finished()
    assert wire.text("steered") == scripted.ANSWER
    assert len(wire.lab.recipe) == 0


def test_a_run_names_the_change_that_asked_for_it(wire: Wire) -> None:
    rested(wire)
    wire.run(edit=7)
    wire.finished()
    assert (wire.kinds("start")[-1]["origin"], wire.kinds("start")[-1]["edit"]) == ("front end", 7)
    wire.lab.prompt = "From Python"
    wire.finished()
    assert wire.kinds("start")[-1]["origin"] == ""


def test_an_older_state_s_neighbours_are_not_made(wire: Wire) -> None:
    rested(wire)
    scrub(wire, 1.0, revision=wire.panel.state["revision"] - 1)
    scrub(wire, 1.0, row=9)
    assert wire.lab.worker.join(10)
    assert ready(wire) == {}


def test_no_more_is_made_than_the_lab_says_and_nothing_at_zero(wire: Wire) -> None:
    rested(wire)
    wire.lab.ahead = 3
    assert wire.panel.info["ahead"] == 3
    scrub(wire, *(i / 10 for i in range(1, 9)))
    assert wire.lab.worker.join(10)
    assert list(ready(wire)) == [0.1, 0.2, 0.3]
    wire.lab.ahead = 0
    scrub(wire, 2.0)
    assert wire.lab.worker.join(10)
    assert 2.0 not in ready(wire)


# ------------------------------------------------------------------------------------------------------- giving way


class Gated(scripted.Scripted):
    """Notes for every pass whose it is, and holds those of the idle lane until they are let on, one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[str] = []
        self.let = threading.Semaphore(0)

    def generate(self, rows: Any, sampling: Any, *, on_tokens: Any = None, cancel: Any = None) -> Any:
        give_way = before_pass.get()

        def noted() -> None:
            give_way()
            name = threading.current_thread().name
            if name.endswith("idle"):
                self.let.acquire(timeout=10)
            self.passes.append("idle" if name.endswith("idle") else str(rows[0].prompt))

        token = before_pass.set(noted)
        try:
            return super().generate(rows, sampling, on_tokens=on_tokens, cancel=cancel)
        finally:
            before_pass.reset(token)


@pytest.fixture
def gated() -> Iterator[Wire]:
    lab = scripted.lab()
    lab.backend = Gated()
    wire = Wire(lab)
    yield wire
    lab.worker.cancel_idle()
    lab.backend.let.release(1000)


def interrupted(gated: Wire, *coefficients: float) -> Gated:
    """A model that has made one token ahead, and is held at the next."""
    backend = gated.lab.backend
    assert isinstance(backend, Gated)
    rested(gated)
    scrub(gated, *coefficients)
    backend.let.release()
    gated.until(lambda: backend.passes[-1] == "idle")
    return backend


def test_it_gives_way_to_a_new_prompt_within_one_token_and_its_plan_is_thrown_away(gated: Wire) -> None:
    backend = interrupted(gated, 1.0, 2.0)
    before = len(backend.passes)
    gated.run(prompt="Now")
    backend.let.release(1000)
    gated.finished()
    after = backend.passes[before:]
    assert after.count("idle") <= 1, "the token that was being made"
    assert after.count("Now") == 21
    assert gated.lab.worker.join(10)
    assert backend.passes[before:].count("idle") <= 1
    assert ready(gated) == {}


def test_a_tab_s_question_goes_first_and_then_it_goes_on(gated: Wire) -> None:
    backend = interrupted(gated, 1.0, 2.0)
    before = len(backend.passes)
    asking = gated.lab.worker.background(
        lambda cancel: void(gated.lab.run([Row("Asked")], Sampling(8), cancel=cancel))
    )
    gated.panel._ahead.resume()
    backend.let.release(1000)
    gated.until(lambda: set(ready(gated)) == {1.0, 2.0})
    after = backend.passes[before:]
    last = len(after) - after[::-1].index("Asked")
    assert after.count("Asked") == 8
    assert after[:last].count("idle") <= 1, "the token that was being made"
    assert not asking.cancelled


def test_a_cell_goes_first_within_a_token_and_then_it_goes_on(gated: Wire) -> None:
    backend = interrupted(gated, 1.0, 2.0)
    before = len(backend.passes)
    backend.let.release(1000)
    answer = gated.lab.generate("Cell", max_new_tokens=12)
    after = backend.passes[before:]
    assert len(answer.token_ids) == after.count("Cell") == 12
    assert after[: len(after) - after[::-1].index("Cell")].count("idle") <= 1, "the token that was being made"
    gated.until(lambda: set(ready(gated)) == {1.0, 2.0})
    assert backend.passes[before:].count("idle") >= 19, "the 20 tokens of both, less what was made before"


def void(_: object) -> None: ...


def test_a_stop_ends_it(gated: Wire) -> None:
    backend = interrupted(gated, 1.0)
    gated.say(kind="stop")
    backend.let.release(1000)
    assert gated.lab.worker.join(10)
    assert ready(gated) == {}


def test_what_fails_ahead_is_told_by_the_run_that_needs_it(wire: Wire) -> None:
    rested(wire)
    wire.lab.backend.fails = RuntimeError("out of memory")  # type: ignore[attr-defined]
    scrub(wire, 1.0)
    assert wire.lab.worker.join(10)
    assert (ready(wire), wire.kinds("complaint")) == ({}, [])
    wire.push(1.0)
    assert "out of memory" in wire.finished()["error"]["what"]


def test_a_busy_preview_holds_it_up(slow: Wire) -> None:
    slow.say(kind="hello")
    scrub(slow, 1.0)
    time.sleep(0.05)
    assert slow.panel.result["status"] != "done"
    slow.finished()
    slow.until(lambda: ready(slow))
    kinds = [m["kind"] for m in slow.messages]
    assert kinds.index("ready") > kinds.index("end")
