"""Questions and answers, with handlers of their own: what each tab answers is tested beside the tab."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

import pytest
import scripted
from wires import Wire

from steerlab import Lab, Row, Sampling
from steerlab.errors import PromptError
from steerlab.ui import protocol
from steerlab.ui.asks import Desk, Handler, Tell
from steerlab.ui.troubles import trouble


class Count(protocol.Wire):
    """How far?"""

    kind: Literal["count"] = "count"
    to: int


class Counted(protocol.Wire):
    """So far."""

    at: int


class Counting(protocol.Wire):
    """All."""

    numbers: list[int]


class At(Desk):
    """A desk whose handler counts, and runs the model at every number."""

    def __init__(
        self,
        lab: Lab,
        answer: Callable[[Lab, Count, Tell], Counting] | None = None,
        merge: Callable[[Counted, Counted], Counted] | None = None,
    ) -> None:
        self.sent: list[Any] = []
        self.lab, self.gate, self.raised = lab, threading.Event(), list[Exception]()
        handler = Handler(
            Count,
            Counting,
            answer or self.count,
            part=Counted,
            merge=merge,
            lane="long",
            kept=lambda _: "it",
        )
        super().__init__(lab, {"count": handler}, self.sent.append, self._words)

    def _words(self, error: Exception) -> protocol.Trouble:
        self.raised.append(error)
        return trouble(error)

    def count(self, lab: Lab, question: Count, tell: Tell) -> Counting:
        for i in range(question.to):
            lab.backend.score([Row("a")])
            tell.part(Counted(at=i))
            tell.progress(i + 1, question.to, "counting")
            if i == 0:
                assert self.gate.wait(5)
        return Counting(numbers=list(range(question.to)))

    def say(self, id: str, *, join: bool = False, **what: Any) -> None:
        self.ask(protocol.Ask(id=id, what=what, join=join))

    def of(self, id: str) -> list[Any]:
        return [message for message in self.sent if message.id == id]

    def kinds(self, id: str) -> list[str]:
        return [message.kind for message in self.of(id)]

    def began(self) -> None:
        while not any(m.kind == "part" for m in self.sent):
            assert not self.lab.worker.join(0.005)


@pytest.fixture
def desk() -> At:
    return At(scripted.lab())


def test_a_question_is_answered_under_its_id_with_its_parts_before(desk: At) -> None:
    desk.gate.set()
    desk.say("a", kind="count", to=3)
    assert desk.lab.worker.join(5)
    assert [m.part["at"] for m in desk.of("a") if m.kind == "part"] == [0, 1, 2]
    assert desk.of("a")[-1] == protocol.Answer(id="a", answer={"numbers": [0, 1, 2]})
    assert [(m.done, m.total) for m in desk.of("a") if m.kind == "progress"][-1] == (3, 3)


def test_an_equal_question_joins_the_answer_that_is_on_its_way(desk: At) -> None:
    desk.say("before the reload", kind="count", to=3)
    desk.began()
    assert [ask.what for ask in desk.asking()] == [{"kind": "count", "to": 3}]
    desk.say("after it", kind="count", to=3)
    desk.gate.set()
    assert desk.lab.worker.join(5)
    for id in ("before the reload", "after it"):
        assert [m.part["at"] for m in desk.of(id) if m.kind == "part"] == [0, 1, 2]
        assert desk.kinds(id)[-1] == "answer"


def test_the_newest_answer_is_kept_for_a_page_that_comes_late(desk: At) -> None:
    desk.gate.set()
    for to in (2, 3):
        desk.say(f"to {to}", kind="count", to=to)
        assert desk.lab.worker.join(5)
    assert [ask.what for ask in desk.asking()] == [{"kind": "count", "to": 3}]
    passes = len(desk.sent)
    desk.say("late", join=True, kind="count", to=3)
    assert desk.of("late") == [protocol.Answer(id="late", answer={"numbers": [0, 1, 2]})]
    assert len(desk.sent) == passes + 1, "nothing was computed again"
    desk.say("again", kind="count", to=3)
    assert desk.lab.worker.join(5)
    assert "part" in desk.kinds("again"), "who does not ask to join has it answered anew"


def test_to_join_begins_nothing(desk: At) -> None:
    desk.say("late", join=True, kind="count", to=3)
    assert desk.kinds("late") == ["failure"]
    desk.say("first", kind="count", to=2)
    desk.began()
    desk.say("joins", join=True, kind="count", to=2)
    desk.cancel("first", everyone=True)
    desk.gate.set()
    assert desk.lab.worker.join(5)
    assert desk.kinds("joins")[0] == "part"
    assert desk.kinds("joins")[-1] == "failure", "cancelled, for everyone"
    assert desk.asking() == [], "and what was cancelled is not kept"


def test_cancel_ends_an_answer_before_its_next_pass(desk: At) -> None:
    desk.say("a", kind="count", to=100)
    desk.say("b", kind="count", to=2)
    desk.began()
    desk.cancel("a")
    desk.gate.set()
    assert desk.lab.worker.join(5)
    assert desk.of("a")[-1].error.what == "this was cancelled"
    assert desk.kinds("a").count("part") == 1
    assert desk.kinds("a").count("failure") == 1
    assert desk.kinds("b")[-1] == "answer", "what waits behind goes on"
    assert desk.raised == []


def test_a_view_that_goes_leaves_the_answer_to_the_others(desk: At) -> None:
    desk.say("one view", kind="count", to=3)
    desk.began()
    desk.say("the other", kind="count", to=3)
    desk.cancel("one view")
    desk.gate.set()
    assert desk.lab.worker.join(5)
    assert desk.kinds("one view")[-1] == "failure"
    assert desk.of("the other")[-1] == protocol.Answer(id="the other", answer={"numbers": [0, 1, 2]})
    assert desk.asking(), "kept, as any answer"


def test_the_last_view_that_goes_ends_the_work(desk: At) -> None:
    desk.say("one view", kind="count", to=3)
    desk.began()
    desk.say("the other", kind="count", to=3)
    desk.cancel("one view")
    desk.cancel("the other")
    desk.gate.set()
    assert desk.lab.worker.join(5)
    assert len([m for m in desk.of("the other") if m.kind == "part"]) == 1
    assert desk.kinds("the other")[-1] == "failure"
    assert desk.asking() == []


def test_who_joins_is_sent_merged_parts_as_one() -> None:
    def count(_lab: Lab, question: Count, tell: Tell) -> Counting:
        for i in range(question.to):
            tell.part(Counted(at=i))
        told.set()
        assert joined.wait(5)
        return Counting(numbers=[])

    told, joined = threading.Event(), threading.Event()
    desk = At(scripted.lab(), count, merge=lambda a, b: Counted(at=10 * a.at + b.at))
    desk.say("first", kind="count", to=4)
    assert told.wait(5)
    desk.say("joins", kind="count", to=4)
    joined.set()
    assert desk.lab.worker.join(5)
    assert [m.part["at"] for m in desk.of("first") if m.kind == "part"] == [0, 1, 2, 3]
    assert [m.part["at"] for m in desk.of("joins") if m.kind == "part"] == [123]


def test_a_question_that_waits_is_cancelled_before_it_begins(desk: At) -> None:
    desk.say("a", kind="count", to=1)
    desk.began()
    desk.say("b", kind="count", to=2)
    desk.cancel("b")
    desk.gate.set()
    assert desk.lab.worker.join(5)
    assert desk.kinds("b") == ["failure"]
    assert desk.kinds("a")[-1] == "answer"


def test_what_a_handler_raises_is_told_in_words_and_kept() -> None:
    def fail(_lab: Lab, _question: Count, _tell: Tell) -> Counting:
        raise PromptError("the prompts are too few", "Give more.")

    desk = At(scripted.lab(), fail)
    desk.say("a", kind="count", to=1)
    assert desk.lab.worker.join(5)
    assert desk.of("a") == [
        protocol.Failure(id="a", error=protocol.Trouble(what="the prompts are too few", hint="Give more."))
    ]
    assert isinstance(desk.raised[0], PromptError)


@pytest.mark.parametrize(
    "what", [{}, {"kind": "dance"}, {"kind": "count"}, {"kind": "count", "to": 1, "colour": "red"}]
)
def test_nonsense_is_answered_in_words(desk: At, what: dict[str, Any]) -> None:
    desk.say("a", **what)
    (failure,) = desk.of("a")
    assert failure.kind == "failure"
    assert failure.error.hint


def test_progress_is_sent_at_most_ten_times_a_second_and_its_end_always() -> None:
    now, told = [0.0], list[int]()
    tell = Tell(
        lambda done, _total, _text: told.append(done),
        lambda _part: None,
        threading.Event(),
        clock=lambda: now[0],
    )
    for i in range(1, 101):
        now[0] += 0.01
        tell.progress(i, 100)
    assert len(told) <= 11
    assert told[-1] == 100


def test_a_moved_slider_overtakes_an_answer(slow: Wire) -> None:
    """The preview runs between two passes of a long answer, to its end."""
    desk = At(slow.lab)
    desk.say("a", kind="count", to=3)
    desk.began()
    slow.say(kind="hello")
    slow.push(1.0)
    desk.gate.set()
    slow.finished()
    assert slow.text("steered") == scripted.REFUSAL
    assert slow.lab.worker.join(5)
    assert desk.kinds("a")[-1] == "answer"
    assert slow.lab.run([Row("a")], Sampling(1))
