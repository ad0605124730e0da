"""The panes' texts and the run that writes them: no widget here, so that it can be tested without one.

The newest run wins. A pane keeps its last good text until the first token of a new one, and is not generated again
while it already holds what is wanted; a text that was cut short, and is wanted again, goes on where it stood.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from steerlab.answers import Key
from steerlab.backends.base import OnServer
from steerlab.generations import Generation, Sampling, Token
from steerlab.lab import Lab
from steerlab.recipes import Recipe
from steerlab.rows import Row
from steerlab.ui import protocol
from steerlab.ui.figures import Figures
from steerlab.ui.panes import Pane, rate_of, rows_of, told, verdict_of
from steerlab.ui.protocol import KernelMessage, PaneEnd, PaneId, PaneResult, Result, Status, Trouble
from steerlab.ui.stream import Pump
from steerlab.worker import Task

LONGEST = 128  # tokens of a text that are read again for its cross-entropy


class Preview:
    """Runs a prompt under the baseline, a recipe and its random control, and tells `send` of every step.

    send: called from the worker's threads and from that of the caller. ended: called with what there is when a run is
    over, and when more is known of its texts; and whether any of it was written just now. failed: makes words of what a
    run raised.
    """

    def __init__(
        self,
        lab: Lab,
        send: Callable[[KernelMessage], None],
        ended: Callable[[Result, dict[PaneId, Generation], bool], None],
        failed: Callable[[Exception], Trouble],
    ) -> None:
        self._lab, self._send, self._ended, self._failed = lab, send, ended, failed
        self._lock = threading.RLock()
        self._telling = threading.RLock()  # taken before the other, never within it
        self._begun = 0  # the newest run that the worker took up
        self.run = 0
        self.seq = 0
        self.status: Status = "idle"
        self.error: Trouble | None = None
        self.panes: dict[PaneId, Pane] = {"baseline": Pane(), "steered": Pane()}
        self._figures = Figures(lab)
        self._weighing: Task | None = None
        self._pump: Pump | None = None  # of the newest run
        self._asked = ("", 0)  # origin and edit of the state that is run
        self._tokenized = ""  # the prompt that prompt_tokens belong to
        self.prompt_tokens: list[str] = []

    # ---------------------------------------------------------------------------------------------- what a panel asks

    def start(
        self,
        prompt: str,
        recipe: Recipe,
        sampling: Sampling,
        seed: int,
        *,
        control: bool = False,
        origin: str = "",
        edit: int = 0,
    ) -> None:
        """Show the panes (`rows_of`); what is running ends within one token.

        origin, edit: of the state that asks for it, which the front end is told again.
        """
        rows = rows_of(prompt, recipe, seed, control=control)
        with self._lock:
            if self._weighing:
                self._weighing.cancel()
            if self._pump:
                self._pump.flush()  # a text that goes on begins behind what it holds
            self.panes = {name: self.panes.get(name) or Pane() for name in rows}
            self.run, self.seq, self.status, self.error = self.run + 1, 0, "running", None
            self._asked = (origin, edit)
            jobs, renewed, resumed, ready = {}, [], [], []
            keys = self._keys(rows, sampling)
            for name, row in rows.items():
                pane, same = self.panes[name], self.panes[name].key == keys[name]
                pane.replayed, pane.pending, pane.times = 0, False, []
                if same and pane.complete:
                    continue
                if known := self._recall(row, keys[name]):
                    self.panes[name] = known
                    ready.append(name)
                    continue
                jobs[name] = row
                if same and pane.tokens:
                    resumed.append(name)
                else:
                    renewed.append(name)
                    pane.pending = True
            self._send(self._started(renewed, resumed, ready))
            # without rows too: the prompt's tokens may be new, and the end of a run comes from one place; within the
            # lock, so that the newest run is the last that is submitted
            self._lab.worker.submit(partial(self._job, self.run, prompt, rows, jobs, sampling))

    def stop(self) -> None:
        """End what is running, and keep its text."""
        self._lab.worker.cancel()
        with self._lock:
            waiting = self.status == "running" and self._begun < self.run
            if waiting:
                self._finish("stopped")
        if waiting:
            self._tell_ended(written=False)

    def result(self) -> Result:
        """What there is now."""
        with self._lock:
            return Result(
                panes={name: pane.result() for name, pane in self.panes.items()},
                prompt_tokens=self.prompt_tokens,
                status=self.status,
                error=self.error,
            )

    def generations(self) -> dict[PaneId, Generation]:
        """The texts that there are now."""
        with self._lock:
            texts = {name: pane.generation() for name, pane in self.panes.items()}
            return {name: text for name, text in texts.items() if text}

    def snapshot(self, state: protocol.PanelState, asking: list[protocol.Ask]) -> protocol.Snapshot:
        """Everything, for a front end that comes late."""
        with self._lock:
            if self._pump:
                self._pump.flush()  # what it holds is in the snapshot, and must not come again after it
            pending = [name for name, pane in self.panes.items() if pane.pending]
            return protocol.Snapshot(
                run=self.run,
                seq=self.seq,
                pending=pending,
                state=state,
                result=self.result(),
                asking=asking,
            )

    # --------------------------------------------------------------------------------------------- ahead of any run

    def answers(
        self, wanted: Sequence[Mapping[PaneId, Row]], sampling: Sampling, cancel: threading.Event
    ) -> list[dict[PaneId, PaneResult] | None]:
        """What the panes will show, for every item of `wanted`, run in one batch; None for what was cancelled."""
        rows = [row for item in wanted for row in item.values()]
        self._lab.run(rows, sampling, cancel=cancel)
        if not cancel.is_set():
            self._figures.measure(rows, sampling)
        return self.known(wanted, sampling)

    def known(
        self, wanted: Sequence[Mapping[PaneId, Row]], sampling: Sampling
    ) -> list[dict[PaneId, PaneResult] | None]:
        """What the panes will show, for every item of `wanted`; None where not all of it is in memory."""
        rows = [row for item in wanted for row in item.values()]
        keys = iter(self._lab.answer_keys(rows, sampling))  # one look at the weights for all of them
        found: list[dict[PaneId, PaneResult] | None] = []
        with self._lock:
            for item in wanted:
                panes = {name: self._recall(row, next(keys)) for name, row in item.items()}
                known = {name: pane.result() for name, pane in panes.items() if pane}
                found.append(known if len(known) == len(panes) else None)
        return found

    def _keys(self, rows: Mapping[PaneId, Row], sampling: Sampling) -> dict[PaneId, Key]:
        return dict(zip(rows, self._lab.answer_keys(rows.values(), sampling), strict=True))

    def _recall(self, row: Row, key: Key) -> Pane | None:
        """A pane whose text is known, with all that is said of it."""
        answer = self._lab.recall(row, key)
        if answer is None or (len(row.recipe) and key not in self._figures.kl):
            return None
        return Pane(key, row, list(answer.pieces), list(answer.token_ids), self._end(key, answer, rate=None))

    # ------------------------------------------------------------------------------------------------ before a run

    def _started(
        self, renewed: Sequence[PaneId], resumed: Sequence[PaneId] = (), ready: Sequence[PaneId] = ()
    ) -> protocol.Start:
        origin, edit = self._asked
        return protocol.Start(
            run=self.run,
            shown=list(self.panes),
            panes=list(renewed),
            resumed=list(resumed),
            ready={name: self.panes[name].result() for name in ready},
            origin=origin,
            edit=edit,
        )

    # ------------------------------------------------------------------------------------- on the worker's thread

    def _job(
        self,
        run: int,
        prompt: str,
        shown: Mapping[PaneId, Row],
        rows: Mapping[PaneId, Row],
        sampling: Sampling,
        cancel: threading.Event,
    ) -> None:
        """Answer the rows that have no text yet of those that are shown."""
        with self._lock:
            if run != self.run or self.status != "running":
                return
            self._begun = run
            self._pump = pump = Pump(partial(self._relay, run))
        names, keys = list(rows), self._keys(rows, sampling)

        def on_tokens(tokens: Sequence[Token]) -> None:
            with self._lock:
                if run != self.run:
                    return
                for token in tokens:
                    name = names[token.row]
                    self._take(name, rows[name], keys[name], token, pump)
                pump.tick()

        try:
            self._tokenize(run, prompt)
            answers = (
                self._lab.run(list(rows.values()), sampling, on_tokens=on_tokens, cancel=cancel)
                if rows
                else []
            )
            with self._lock:
                pump.flush()
        except Exception as error:
            with self._lock:
                pump.flush()
            self._fail(run, self._failed(error))
            return
        try:
            if not cancel.is_set():
                self._figures.measure(list(rows.values()), sampling)
        except Exception as error:
            self._failed(error)  # kept for whoever looks: the texts are what was asked for
        with self._lock:
            if run != self.run:
                return
            for name, answer in zip(names, answers, strict=True):
                self._close(name, keys[name], answer)
            stopped = any(answer.finish == "cancelled" for answer in answers)
            self._finish("stopped" if stopped else "done")
            on_server = isinstance(self._lab.backend, OnServer)  # where it would be a job more
            if not (stopped or on_server or cancel.is_set()):
                weigh = partial(self._weigh, run, shown, sampling)
                self._weighing = self._lab.worker.background(weigh, "ask", asked=False)
        self._tell_ended(written=bool(rows))

    def _weigh(
        self, run: int, rows: Mapping[PaneId, Row], sampling: Sampling, cancel: threading.Event
    ) -> None:
        """Tell the cross-entropy of the baseline's text under each pane's recipe, once the texts rest. A row a pass:
        what a person does next waits for one of them at most.
        """
        keys = self._keys(rows, sampling)
        text = self._lab.recall(rows["baseline"], keys["baseline"])
        ids = text.token_ids[:LONGEST] if text and not text.fault else ()
        for name, row in rows.items():
            if not ids or cancel.is_set():
                return
            try:
                self._figures.weigh(row, keys[name], ids)
            except Exception as error:
                self._failed(error)  # kept for whoever looks: the texts are what was asked for
                return
        with self._lock:
            if run != self.run:
                return
            unsaid = [name for name, pane in self.panes.items() if pane.end.cross_entropy is None]
            told = protocol.Figures(
                run=run, cross_entropy={name: self._figures.cross_entropy[keys[name]] for name in unsaid}
            )
            for name in unsaid:
                pane = self.panes[name]
                pane.end = pane.end.model_copy(update={"cross_entropy": told.cross_entropy[name]})
            if not unsaid:
                return
            self._send(told)
        self._tell_ended(written=False)

    def _take(self, name: PaneId, row: Row, key: Key, token: Token, pump: Pump) -> None:
        pane, now = self.panes[name], time.perf_counter()
        if pane.replayed < len(pane.tokens) and not pane.pending:
            if pane.ids[pane.replayed] == token.id:
                pane.replayed += 1
                pane.times.append(now)
                return
            # another batch rounded otherwise: begin again, in the open
            pump.flush()
            pane.pending = True
            # with every other one whose text is an older one still: what a start does not name stands
            self._send(self._started([one for one, other in self.panes.items() if other.pending]))
        if pane.pending:
            self.panes[name] = pane = Pane(key, row)
        pane.tokens.append(token.text)
        pane.ids.append(token.id)
        pane.replayed = len(pane.tokens)
        pane.times.append(now)
        pane.end = PaneEnd(applied=told(token.applied), tokens_per_second=rate_of(pane.times))
        pump.push(name, token.text)

    def _relay(self, run: int, texts: dict[PaneId, list[str]]) -> None:
        with self._lock:
            if run == self.run:
                self._tell(texts)

    def _tell(self, texts: dict[PaneId, list[str]]) -> None:
        self.seq += 1
        so_far = {name: self.panes[name].end for name in texts}
        self._send(protocol.Tokens(run=self.run, seq=self.seq, panes=texts, so_far=so_far))

    def _tokenize(self, run: int, prompt: str) -> None:
        if prompt == self._tokenized:
            return
        tokens = self._lab.tokens_of(prompt)
        with self._lock:
            if run == self.run:
                self._tokenized, self.prompt_tokens = prompt, tokens
                self._send(protocol.PromptTokens(run=run, tokens=tokens))

    # -------------------------------------------------------------------------------------------------- after a run

    def _close(self, name: PaneId, key: Key, answer: Generation) -> None:
        pane = self.panes[name]
        if (
            not pane.pending
        ):  # stopped before its first token: the old text stays, and so does what is said of it
            pane.end = self._end(key, answer, rate_of(pane.times))

    def _end(self, key: Key, answer: Generation, rate: float | None) -> PaneEnd:
        return PaneEnd(
            finish=answer.finish,
            applied=told(answer.applied),
            tokens_per_second=rate,
            verdict=verdict_of(answer) if answer.pieces and answer.finish != "cancelled" else None,
            fault=answer.fault,
            kl=self._figures.kl.get(key),
            cross_entropy=self._figures.cross_entropy.get(key),
        )

    def _fail(self, run: int, error: Trouble) -> None:
        with self._lock:
            if run != self.run:
                return
            self.error = error
            self._finish("error")
        self._tell_ended(written=True)

    def _finish(self, status: Literal["done", "stopped", "error"]) -> None:
        for pane in self.panes.values():
            pane.pending = False
        self.status = status
        ends = {name: pane.end for name, pane in self.panes.items()}
        self._send(protocol.End(run=self.run, status=status, panes=ends, error=self.error))

    def _tell_ended(self, *, written: bool) -> None:
        """Called without the lock: a listener may start another run. Calls come one at a time, the newest last."""
        with self._telling:
            with self._lock:
                if self.status == "running":
                    return  # another one: its end will tell
                now = self.result(), self.generations()
            self._ended(*now, written)
