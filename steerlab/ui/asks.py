"""Questions that a tab asks and the kernel answers, beside the streaming preview.

A tab's module pairs each of its questions with a function, in a `Handler`; `questions.TABLE` lists them all. A question
says all that its answer depends on: what reads `lab.recipe` carries the state's revision, so that equal questions have
equal answers. Long work runs in a lane of the lab's worker, gives way to the preview and can be cancelled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from pydantic import ValidationError

from steerlab.lab import Lab
from steerlab.ui import protocol
from steerlab.ui.protocol import Ask, KernelMessage, Trouble, Wire
from steerlab.ui.troubles import misunderstood
from steerlab.worker import Lane, Task

Q = TypeVar("Q", bound=Wire)
A = TypeVar("A", bound=Wire)
HZ = 10.0
CANCELLED = Trouble(what="this was cancelled", hint="Ask again when you want it.")
NOT_KEPT = Trouble(what="what was found before is not kept any more", hint="Ask again.")


class Tell:
    """How a handler says what it has so far. cancel: set once the answer is not wanted any more."""

    def __init__(
        self,
        progress: Callable[[int, int, str], None],
        part: Callable[[Wire], None],
        cancel: threading.Event,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._progress, self._part, self._clock = progress, part, clock
        self._told_at = float("-inf")
        self.cancel = cancel

    def progress(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total` steps are taken; a callback for what reports progress that way. What comes too soon after
        the last is not sent, but the end always is.
        """
        if done == total or self._clock() - self._told_at >= 1 / HZ:
            self._told_at = self._clock()
            self._progress(done, total, text)

    def part(self, part: Wire) -> None:
        """A part of the answer, of the type that the handler names; it is sent at once."""
        self._part(part)


@dataclass(frozen=True)
class Handler(Generic[Q, A]):
    """Who answers a question.

    answer_to: called with the lab, the question and a Tell; what it raises is told in words. part: the type of partial
    answers, if there are any. merge: makes one of all the parts so far and a new one, for who joins later; without it
    every part is kept. lane: where it runs (`worker`), "ask" for seconds of the model, "long" for minutes; None
    for what runs no model and takes no time, which is answered at once, whatever else is going on; "apart" for what
    runs no model and waits for a network, on a thread of its own. kept: of the questions whose newest
    answer is kept for a page that is loaded again, the place of the panel that it is kept for.
    """

    question: type[Q]
    answer: type[A]
    answer_to: Callable[[Lab, Q, Tell], A]
    part: type[Wire] | None = None
    merge: Callable[[Any, Any], Wire] | None = None
    lane: Lane | Literal["apart"] | None = "ask"
    kept: Callable[[Q], str] | None = None

    @property
    def kind(self) -> str:
        """The name of the question on the wire."""
        return str(self.question.model_fields["kind"].default)


@dataclass(eq=False)
class Going:
    """A question that is being answered, and for whom."""

    handler: Handler[Any, Any]
    question: Wire
    ids: list[str]
    cancel: threading.Event = field(default_factory=threading.Event)
    task: Task | None = None
    parts: list[Wire] = field(default_factory=list)
    progress: tuple[int, int, str] | None = None


class Desk:
    """Takes questions, has them answered, and sends what comes of it. failed: makes words of what a handler raised."""

    def __init__(
        self,
        lab: Lab,
        table: Mapping[str, Handler[Any, Any]],
        send: Callable[[KernelMessage], None],
        failed: Callable[[Exception], Trouble],
    ) -> None:
        self._lab, self._table, self._send, self._failed = lab, table, send, failed
        self._lock = threading.RLock()
        self._going: list[Going] = []
        self._kept: dict[str, tuple[Wire, dict[str, Any]]] = {}  # by place, the newest

    def ask(self, ask: Ask) -> None:
        """Answer a question, or join the answer to an equal one: its parts so far are sent again. With `ask.join` an
        answer that is kept is sent, and nothing is begun.
        """
        handler = self._table.get(str(ask.what.get("kind")))
        if handler is None:
            known = ", ".join(self._table)
            trouble = Trouble(
                what=f"the panel asked what this kernel has no answer for; it knows {known}",
                hint="Reload the page; if that does not help, restart the kernel.",
            )
            self._send(protocol.Failure(id=ask.id, error=trouble))
            return
        try:
            question = handler.question.model_validate(ask.what)
        except ValidationError as error:
            self._send(protocol.Failure(id=ask.id, error=misunderstood(error)))
            return
        with self._lock:
            going = next((g for g in self._going if g.question == question), None)
            if going:
                self._join(going, ask.id)
                return
            if ask.join:
                kept = self._kept.get(handler.kept(question)) if handler.kept else None
                if kept and kept[0] == question:
                    self._send(protocol.Answer(id=ask.id, answer=kept[1]))
                else:
                    self._send(protocol.Failure(id=ask.id, error=NOT_KEPT, gone=True))
                return
            going = Going(handler, question, [ask.id])
            self._going.append(going)
            if handler.lane and handler.lane != "apart":
                going.task = self._lab.worker.background(partial(self._answer, going), handler.lane)
        if not handler.lane:
            self._answer(going, going.cancel)
        elif handler.lane == "apart":
            threading.Thread(target=self._answer, args=[going, going.cancel], daemon=True).start()

    def cancel(self, id: str, *, everyone: bool = False) -> None:
        """End the wait for an answer, of one who asked or of everyone. Once nobody waits, its work ends before its next
        step.
        """
        with self._lock:
            for going in [g for g in self._going if id in g.ids]:
                leave = going.ids if everyone else [id]
                going.ids = [one for one in going.ids if one not in leave]
                for one in leave:
                    self._send(protocol.Failure(id=one, error=CANCELLED))
                if not going.ids:
                    self._going.remove(going)
                    going.cancel.set()
                    if going.task:
                        going.task.cancel()

    def asking(self) -> list[Ask]:
        """What is being answered, then what is kept."""
        with self._lock:
            going = [(g.ids[0], g.question) for g in self._going]
            kept = [(place, question) for place, (question, _) in self._kept.items()]
            return [Ask(id=id, what=one.model_dump(mode="json")) for id, one in (*going, *kept)]

    def _join(self, going: Going, id: str) -> None:
        going.ids.append(id)
        for part in going.parts:
            self._send(protocol.Part(id=id, part=part.model_dump(mode="json")))
        if going.progress:
            done, total, text = going.progress
            self._send(protocol.Progress(id=id, done=done, total=total, text=text))

    def _answer(self, going: Going, cancel: threading.Event) -> None:
        tell = Tell(partial(self._progress, going), partial(self._part, going), cancel)
        try:
            made = going.handler.answer_to(self._lab, going.question, tell)
            answer = made.model_dump(mode="json")
        except Exception as error:
            trouble = self._failed(error)
            with self._lock:
                self._end(going, lambda id: protocol.Failure(id=id, error=trouble))
            return
        with self._lock:
            if going.handler.kept and going in self._going:  # else it was cancelled
                self._kept[going.handler.kept(going.question)] = going.question, answer
            self._end(going, lambda id: protocol.Answer(id=id, answer=answer))

    def _progress(self, going: Going, done: int, total: int, text: str) -> None:
        with self._lock:
            going.progress = (done, total, text)
            for id in going.ids:
                self._send(protocol.Progress(id=id, done=done, total=total, text=text))

    def _part(self, going: Going, part: Wire) -> None:
        with self._lock:
            merge, so_far = going.handler.merge, going.parts
            going.parts = [merge(so_far[-1], part)] if merge and so_far else [*so_far, part]
            message = part.model_dump(mode="json")
            for id in going.ids:
                self._send(protocol.Part(id=id, part=message))

    def _end(self, going: Going, message: Callable[[str], KernelMessage]) -> None:
        """Tell everyone who waits; one that was cancelled has been told, and what its handler still says is lost."""
        for id in going.ids:
            self._send(message(id))
        going.ids = []
        if going in self._going:
            self._going.remove(going)
