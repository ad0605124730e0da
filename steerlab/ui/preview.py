"""The panes' texts and the run that writes them: no widget here, so that it can be tested without one.

The newest run wins. A pane keeps its last good text until the first token of a new one, and is not generated again
while it already holds what is wanted; a text that was cut short, and is wanted again, goes on where it stood.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from steerlab.errors import SteerlabError
from steerlab.generations import Generation, Sampling, Token
from steerlab.lab import Key, Lab, answer_key
from steerlab.recipes import BASELINE, Recipe
from steerlab.rows import Row
from steerlab.ui import protocol
from steerlab.ui.protocol import KernelMessage, PaneEnd, PaneId, PaneResult, Result, Status, Trouble
from steerlab.ui.stream import Pump


@dataclass
class Pane:
    """A text and what it is the text of. `pending`: a run is to replace it, and has no token for it yet."""

    key: Key | None = None
    tokens: list[str] = field(default_factory=list)
    end: PaneEnd = field(default_factory=PaneEnd)
    pending: bool = False
    replayed: int = 0
    """Of a text that goes on: how many of its tokens have come again."""

    @property
    def complete(self) -> bool:
        return self.end.finish in ("stop", "length")

    def result(self) -> PaneResult:
        return PaneResult(tokens=list(self.tokens), **self.end.model_dump())


class Preview:
    """Runs a prompt under the baseline and a recipe, and tells `send` of every step.

    send: called from the worker's thread and from that of the caller. ended: called when a run is over.
    """

    def __init__(self, lab: Lab, send: Callable[[KernelMessage], None], ended: Callable[[], None]) -> None:
        self._lab, self._send, self._ended = lab, send, ended
        self._lock = threading.RLock()
        self._begun = 0  # the newest run that the worker took up
        self.run = 0
        self.seq = 0
        self.status: Status = "idle"
        self.error: Trouble | None = None
        self.last_exception: BaseException | None = None
        self.panes: dict[PaneId, Pane] = {"baseline": Pane(), "steered": Pane()}
        self._tokenized = ""  # the prompt that prompt_tokens belong to
        self.prompt_tokens: list[str] = []

    # ---------------------------------------------------------------------------------------------- what a panel asks

    def start(self, prompt: str, recipe: Recipe, sampling: Sampling, seed: int) -> None:
        """Show this prompt under the baseline and the recipe; what is running ends within one token."""
        rows = {"baseline": Row(prompt, BASELINE, seed), "steered": Row(prompt, recipe, seed)}
        with self._lock:
            self.run, self.seq, self.status, self.error = self.run + 1, 0, "running", None
            jobs, renewed, resumed = {}, [], []
            for name, row in rows.items():
                pane, same = self.panes[name], self.panes[name].key == answer_key(row, sampling)
                pane.replayed, pane.pending = 0, False
                if same and pane.complete:
                    continue
                jobs[name] = row
                if same and pane.tokens:
                    resumed.append(name)
                else:
                    renewed.append(name)
                    pane.pending = True
            self._send(protocol.Start(run=self.run, panes=renewed, resumed=resumed))
            self._copy_twins(jobs, sampling)
            run = self.run
        # without rows too: the prompt's tokens may be new, and the end of a run comes from one place
        self._lab.worker.submit(partial(self._job, run, prompt, jobs, sampling))

    def stop(self) -> None:
        """End what is running, and keep its text."""
        self._lab.worker.cancel()
        with self._lock:
            if self.status == "running" and self._begun < self.run:
                self._finish("stopped")

    def result(self) -> Result:
        """What there is now."""
        with self._lock:
            return Result(
                panes={name: pane.result() for name, pane in self.panes.items()},
                prompt_tokens=self.prompt_tokens,
                status=self.status,
                error=self.error,
            )

    def snapshot(self, state: protocol.PanelState) -> protocol.Snapshot:
        """Everything, for a front end that comes late."""
        with self._lock:
            pending = [name for name, pane in self.panes.items() if pane.pending]
            return protocol.Snapshot(
                run=self.run, seq=self.seq, pending=pending, state=state, result=self.result()
            )

    # ------------------------------------------------------------------------------------------------ before a run

    def _copy_twins(self, jobs: dict[PaneId, Row], sampling: Sampling) -> None:
        """A pane that wants what another one holds takes it: at coefficient zero the steered text is the baseline's."""
        for name, row in list(jobs.items()):
            key = answer_key(row, sampling)
            twin = next((p for p in self.panes.values() if p.complete and p.key == key), None)
            if twin:
                end = twin.end.model_copy(update={"tokens_per_second": None})
                self.panes[name] = Pane(key, list(twin.tokens), end)
                self._tell({name: twin.tokens})
                del jobs[name]

    # ------------------------------------------------------------------------------------- on the worker's thread

    def _job(
        self, run: int, prompt: str, rows: dict[PaneId, Row], sampling: Sampling, cancel: threading.Event
    ) -> None:
        with self._lock:
            if run != self.run or self.status != "running":
                return
            self._begun = run
        names = list(rows)
        times: dict[PaneId, list[float]] = {name: [] for name in names}
        pump = Pump(partial(self._relay, run))

        def on_tokens(tokens: Sequence[Token]) -> None:
            with self._lock:
                if run != self.run:
                    return
                for token in tokens:
                    name = names[token.row]
                    times[name].append(time.perf_counter())
                    self._take(name, answer_key(rows[name], sampling), token.text, pump)
            pump.tick()

        try:
            self._tokenize(run, prompt)
            answers = (
                self._lab.run(list(rows.values()), sampling, on_tokens=on_tokens, cancel=cancel)
                if rows
                else []
            )
        except Exception as error:
            self.last_exception = error
            pump.flush()
            self._fail(run, error)
            return
        pump.flush()
        with self._lock:
            if run == self.run:
                for name, answer in zip(names, answers, strict=True):
                    self._close(name, answer, _rate(times[name]))
                stopped = any(answer.finish == "cancelled" for answer in answers)
                self._finish("stopped" if stopped else "done")

    def _take(self, name: PaneId, key: Key, text: str, pump: Pump) -> None:
        pane = self.panes[name]
        if pane.replayed < len(pane.tokens) and not pane.pending:
            if pane.tokens[pane.replayed] == text:
                pane.replayed += 1
                return
            # another batch rounded otherwise: begin again, in the open
            pump.flush()
            pane.pending = True
            self._send(protocol.Start(run=self.run, panes=[name], resumed=[]))
        if pane.pending:
            pane.key, pane.tokens, pane.end, pane.pending = key, [], PaneEnd(), False
        pane.tokens.append(text)
        pane.replayed = len(pane.tokens)
        pump.push(name, text)

    def _relay(self, run: int, texts: dict[PaneId, list[str]]) -> None:
        with self._lock:
            if run == self.run:
                self._tell(texts)

    def _tell(self, texts: dict[PaneId, list[str]]) -> None:
        self.seq += 1
        self._send(protocol.Tokens(run=self.run, seq=self.seq, panes=texts))

    def _tokenize(self, run: int, prompt: str) -> None:
        if prompt == self._tokenized:
            return
        tokens = self._lab.tokens_of(prompt)
        with self._lock:
            if run == self.run:
                self._tokenized, self.prompt_tokens = prompt, tokens
                self._send(protocol.PromptTokens(run=run, tokens=tokens))

    # -------------------------------------------------------------------------------------------------- after a run

    def _close(self, name: PaneId, answer: Generation, rate: float | None) -> None:
        pane = self.panes[name]
        if pane.pending:  # stopped before its first token: the old text stays, and so does what is said of it
            return
        applied = protocol.Applied(**answer.applied._asdict()) if answer.applied.of else None
        pane.end = PaneEnd(finish=answer.finish, applied=applied, tokens_per_second=rate)

    def _fail(self, run: int, error: Exception) -> None:
        with self._lock:
            if run != self.run:
                return
            self.error = trouble(error)
            self._finish("error")

    def _finish(self, status: Literal["done", "stopped", "error"]) -> None:
        for pane in self.panes.values():
            pane.pending = False
        self.status = status
        ends = {name: pane.end for name, pane in self.panes.items()}
        self._send(protocol.End(run=self.run, status=status, panes=ends, error=self.error))
        self._ended()


def trouble(error: Exception) -> Trouble:
    """An exception in words for the panel."""
    if isinstance(error, SteerlabError):
        return Trouble(what=error.what, hint=error.fix)
    return Trouble(
        what=f"{type(error).__name__}: {error}", hint="For the traceback: raise lab.panel.last_exception"
    )


def _rate(times: Sequence[float]) -> float | None:
    span = times[-1] - times[0] if len(times) > 1 else 0
    return round((len(times) - 1) / span, 1) if span > 1e-3 else None
