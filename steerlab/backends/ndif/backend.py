"""The NDIF backend: every verb of `base.Backend` as jobs on a server, which alone has the model's weights."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from steerlab.backends.architectures import GivenSites, Hook
from steerlab.backends.base import (
    Activations,
    Linearised,
    OnTokens,
    Table,
    before_pass,
    continued,
    in_order,
    readers,
    rows_done,
)
from steerlab.backends.cells import Look
from steerlab.backends.ndif import jobs, loads, troubles
from steerlab.backends.ndif.distant import describe
from steerlab.backends.ndif.left import Left
from steerlab.backends.ndif.messages import JobStatus, RemoteModel, models
from steerlab.backends.ndif.names import repository
from steerlab.backends.ndif.packing import JOB_ROWS, LOGIT_BYTES, Packer
from steerlab.backends.ndif.texts import Heard
from steerlab.backends.ndif.waiting import Cancelled, Patience, Stop
from steerlab.backends.ndif.wire import connect
from steerlab.backends.visits import Visit, visits
from steerlab.errors import RemoteError
from steerlab.generations import Generation, Sampling
from steerlab.prompts import Positions
from steerlab.recipes import Recipe
from steerlab.rows import Row
from steerlab.sites import Site

T = TypeVar("T")

_LOG = logging.getLogger(__name__)


class NdifBackend:
    """A model on an NDIF server.

    model: a Hugging Face id, or a local folder with a configuration and a tokenizer (`names.repository` says what it is
    called on the server). host: by default NDIF_HOST, else nnsight's configured one. sites: where points are that are
    not found by arithmetic. batch_rows: the most rows that share a forward pass. patience: how long to wait for what.

    `job` says where the latest job is, and `watchers` are told whenever that changes, and every second while the server
    has it, on the thread that waits for it; what one raises is logged, and costs no job. `left` has the jobs that go on
    without this kernel. `waits`: whether the first job has to wait until the model is loaded; `loads_in`: the seconds
    that this took the last time that it was seen from here, or None. Raises RemoteError where the server cannot be
    reached, ModelError where the model is not known.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        host: str | None = None,
        sites: GivenSites | None = None,
        batch_rows: int = 64,
        patience: Patience | None = None,
    ) -> None:
        self.given_sites = sites
        self.job = JobStatus("none")
        self.watchers: list[Callable[[JobStatus], None]] = []
        self._wire = connect(host, patience)
        there = describe(model, sites)
        self._repository = repository(model)
        known = self.models().get(self._repository)
        self.waits = known is None or known.state != "running"
        self.loads_in = loads.took(self._wire.host, self._repository)
        self._packer = packer = Packer(
            there, host=self._wire.host, dtype=known and known.dtype, batch_rows=batch_rows
        )
        self.model, self.tokenizer, self.stop_tokens = packer.model, packer.tokenizer, packer.stop_tokens
        self.device, self.info = packer.device, packer.info
        self.left = Left(self._wire, packer, self._tell)
        self._going: dict[str, tuple[JobStatus, float, Stop]] = {}  # jobs that this kernel waits for

    # ----------------------------------------------------------------------------- where its model is (`base.OnServer`)

    @property
    def source(self) -> str:
        """The Hugging Face id or the folder (an absolute path) that the model is known from here."""
        return self._packer.there.source

    @property
    def server(self) -> str:
        """The server's address."""
        return self._wire.host

    @property
    def model_key(self) -> str:
        """What the server knows the model by."""
        return self._packer.there.key

    def hook(self, site: Site) -> Hook:
        """The module of the Hugging Face model, and the side of it, where a site is touched."""
        return self._packer.there.sites.hook(site)

    def visits(self, given: Mapping[Site, list[T]]) -> list[Visit[T]]:
        """Where steps that are given by their sites are done in a pass of generation, in forward order."""
        there = self._packer.there
        return visits(there.sites, there.entries, given, flowing=True)

    # ------------------------------------------------------------------------------------------------ its settings

    @property
    def batch_rows(self) -> int:
        """The most rows that share a forward pass; may be set."""
        return self._packer.batch_rows

    @batch_rows.setter
    def batch_rows(self, rows: int) -> None:
        self._packer.batch_rows = rows

    @property
    def job_rows(self) -> int:
        """How many rows whose logits come back make one job."""
        return max(self.batch_rows, min(JOB_ROWS, LOGIT_BYTES // (4 * len(self.tokenizer))))

    @property
    def patience(self) -> Patience:
        """How long to wait for what; may be set."""
        return self._wire.patience

    @patience.setter
    def patience(self, patience: Patience) -> None:
        self._wire.patience = patience

    def models(self) -> dict[str, RemoteModel]:
        """What the server has, by repository."""
        return loads.told(self.server, models(self._wire.ask("/status")))

    # ------------------------------------------------------------------------------------------------ the verbs

    def check(self, recipe: Recipe) -> None:
        """Raise the SteerlabError that running the recipe would raise: a site or a direction that does not fit."""
        self._packer.plan([recipe])

    def capture(
        self,
        rows: Sequence[Row],
        sites: Sequence[Site],
        positions: Positions,
        *,
        values: bool = False,
        continuations: Sequence[Sequence[int]] | None = None,
    ) -> Activations:
        """Read the residual stream at sites x positions of the rows' prompts, or of the continuations that follow them,
        after their recipes acted there.

        Sums are formed on the server, and only they come back, unless values are asked for.
        """
        hooks = {site: self._packer.there.sites.hook(site) for site in sites}
        tails = continuations or [()] * len(rows)
        encoded = continued(self._packer.encode(rows), tails, self.info.context)
        weights = readers(self.tokenizer, rows, encoded, positions, continuations)
        order = sorted(hooks)
        shape = (len(order), len(weights[0]), self.info.d_model)
        sums, norms = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[:2], dtype=torch.float64)
        held = torch.empty(len(rows), *shape) if values else None
        places = {str(site): i for i, site in enumerate(order)}
        for batches in self._packer.jobs(encoded):
            packed = []
            for batch in batches:
                inputs, operands = self._packer.whole(rows, encoded, batch, tails)
                width = inputs["input_ids"].shape[1]
                weight = torch.stack([pad(weights[i], (width - weights[i].shape[1], 0)) for i in batch])
                packed.append((inputs, self._packer.reading(operands, order), weight))
            saved = self._done(
                jobs.capture(self.model, packed, places, shape, values=values), sum(map(len, batches))
            )
            sums += saved["sums"]
            norms += saved["norms"]
            if held is not None:
                for batch, part in zip(batches, saved["kept"], strict=True):
                    held[batch] = part
        pick = [order.index(site) for site in sites]
        return Activations(
            sums[pick] / len(rows), norms[pick] / len(rows), held[:, pick] if held is not None else None
        )

    def score(self, rows: Sequence[Row]) -> Tensor:
        """The logits at the last position of each row's prompt, `[rows vocab]`, float32."""
        encoded = self._packer.encode(rows)
        self._packer.plan([row.recipe for row in rows])
        out: list[Tensor] = [torch.empty(0)] * len(rows)
        for batches in self._packer.jobs(encoded):
            packed = []
            for batch in batches:
                inputs, operands = self._packer.whole(rows, encoded, batch)
                packed.append((inputs, self._packer.points(operands)))
            saved = self._done(jobs.score(self.model, packed), sum(map(len, batches)))
            for batch, logits in zip(batches, saved["logits"], strict=True):
                for i, row in zip(batch, logits, strict=True):
                    out[i] = row
        return torch.stack(out)

    def likelihood(self, rows: Sequence[Row], continuations: Sequence[Sequence[int]]) -> list[Tensor]:
        """The log-probability of every token of a continuation after its row's prompt: a tensor `[tokens]` a row."""
        encoded = continued(self._packer.encode(rows), continuations, self.info.context)
        out: list[Tensor] = [torch.empty(0)] * len(rows)
        asked = [i for i, tail in enumerate(continuations) if len(tail)]
        for batches in self._packer.jobs(encoded, asked, most=16):
            packed = []
            for batch in batches:
                keep = max(len(continuations[i]) for i in batch) + 1
                inputs, operands = self._packer.whole(rows, encoded, batch, continuations, keep=keep)
                packed.append((inputs, self._packer.points(operands), keep))
            saved = self._done(jobs.likelihood(self.model, packed), sum(map(len, batches)))
            for batch, logprobs in zip(batches, saved["logprobs"], strict=True):
                for i, row in zip(batch, logprobs, strict=True):
                    out[i] = row[len(row) - len(continuations[i]) :].clone()
        rows_done.get()(len(rows) - len(asked))
        return out

    def decode(self, resid: Tensor) -> Tensor:
        """What the final norm and the head make of a stream `[... d_model]`: logits `[... vocab]`, float32."""
        x = resid.reshape(-1, 1, self.info.d_model).float().cpu().clone()
        parts = []
        for some in x.split(JOB_ROWS):
            payload = jobs.decode(
                self.model, self._packer.blank(len(some)), some.clone(), self._packer.outputs()
            )
            parts.append(self._done(payload, len(some))["logits"][0])
        return torch.cat(parts).reshape(*resid.shape[:-1], -1)

    def look(self, asked: Sequence[Look]) -> list[list[Tensor]]:
        """What functions of `looks` make of cells: of each, its tensors `[sites positions ...]`. Cells are read anew,
        decoded and looked at on the server, all in one job.
        """
        cells = sum(math.prod(look.shape) for look in asked)
        found = self._done(self._packer.look(asked), cells)["found"]
        return [
            [torch.cat(column).unflatten(0, look.shape) for column in zip(*parts, strict=True)]
            for look, parts in zip(asked, found, strict=True)
        ]

    def token_rows(self, ids: Sequence[int], table: Table) -> Tensor:
        """The rows of some tokens in the embedding or the unembedding matrix, `[tokens d_model]`, float32."""
        packer = self._packer
        payload = jobs.token_rows(self.model, packer.blank(), packer.matrix(table), list(ids))
        rows: Tensor = self._done(payload, 1)["rows"][0]
        return rows

    def nearest(self, vector: Tensor, table: Table, k: int) -> tuple[Tensor, Tensor]:
        """The k tokens whose rows of a matrix lie nearest to a vector [d_model], and those nearest to its opposite:
        their cosines and their ids, each `[2 k]`. They are found on the server.
        """
        packer, vector = self._packer, vector.detach().float().cpu().clone()
        payload = jobs.nearest(self.model, packer.blank(), packer.matrix(table), vector, k)
        values, ids = self._done(payload, 1)["found"]
        return values, ids

    def linearise(self, row: Row, source: Site, position: int, target: Site) -> Linearised:
        """How the stream at `target` and the last token depends on the stream at `source` and a position of a row's
        prompt, in one job. A server that runs jobs in processes of their own raises RemoteError.
        """
        in_order(source, target)
        saved = self._done(self._packer.jacobian(row, source, position, target), 1)
        at, value = saved["states"]
        return Linearised(at.double(), value.double(), saved["jacobian"].double())

    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        """Answer every row, with tokens as the server makes them. `cancel`, once set, ends all of them within one
        token; what came so far is returned. A RemoteError in between has what came in its `generations`.
        """
        encoded = self._packer.encode(rows)
        self._packer.plan([row.recipe for row in rows])
        out: dict[int, Generation] = {}
        stop = Stop(cancel)
        for batch in self._packer.batches(encoded, sampling):
            heard = Heard(self._packer, {i: rows[i] for i in batch}, [encoded[i] for i in batch], sampling)
            try:
                if not stop.is_set():
                    heard = self._stream(heard, len(batch), on_tokens, stop)
            except RemoteError as error:
                out |= heard.answers()
                error.generations = [out[i] for i in sorted(out)]
                raise
            out |= heard.answers()
        return [out[i] for i in range(len(rows))]

    def _stream(self, heard: Heard, rows: int, on_tokens: OnTokens | None, stop: Stop) -> Heard:
        """Run a batch's job, with its tokens as they come; returns its texts. Those of steps that were heard, where a
        server that lost its model begins the job again, are passed over; and so are those after a line that was lost,
        which come with what the job saved.
        """

        def take(line: list[Any]) -> None:
            _, step, *what = line
            if step == heard.steps and not heard.done and not stop.is_set():
                tokens = heard.hear(*what)
                if on_tokens:
                    on_tokens(tokens)

        with contextlib.suppress(Cancelled):
            steps = heard.heard(self._run(heard.payload(), rows, take, stop=stop))
            heard = heard.settled(steps)
            for number, step in enumerate(steps):
                take(["tokens", number, *step])
        return heard

    # -------------------------------------------------------------------------------------------------------- its jobs

    def jobs(self) -> list[JobStatus]:
        """The jobs that are known here: those that are waited for, then those that were left with the server for this
        model, newest first; it is asked about the ones that are not over. Raises RemoteError.
        """
        now, going = time.monotonic(), reversed(list(self._going.values()))
        return [replace(status, seconds=now - began) for status, began, _ in going] + self.left.listed()

    def cancel(self, job_id: str) -> None:
        """End a job. One that this kernel waits for ends here at once, with the tokens that came. Raises RemoteError
        where a job was left with a server that does not offer that, FileError where it is not known here.
        """
        going = self._going.get(job_id)
        if going:
            going[2].set()
        else:
            self.left.cancel(job_id)

    def _done(self, payload: bytes, rows: int) -> dict[str, Any]:
        """Run a job that has no use for a part of its result."""
        ids: list[str] = []
        told = 0.0

        def passed(line: list[Any]) -> None:  # after a pass: which one, and of how many
            nonlocal told
            share = rows * line[1] / line[2] - told
            told += share
            rows_done.get()(share)

        try:
            saved = self._run(payload, rows, passed, lambda status: ids.append(status.id))
            rows_done.get()(rows - told)
            return saved
        except Cancelled:
            pass
        before_pass.get()()  # where background work ends that was cancelled
        raise troubles.ended(self._wire.host, ids[-1])

    def _run(
        self,
        payload: bytes,
        rows: int,
        on_line: Callable[[list[Any]], None] | None = None,
        on_status: Callable[[JobStatus], None] | None = None,
        stop: Stop | None = None,
    ) -> dict[str, Any]:
        """Run a job. Each of its passes is announced (`base.before_pass`), the first before it is sent."""
        announce, began, stop = before_pass.get(), time.monotonic(), stop or Stop()
        loading = loads.watched(self.server, self._repository)
        announce()

        def hear(line: list[Any]) -> None:
            if on_line:
                on_line(line)
            if line[0] == "tokens" or line[1] < line[2]:
                announce()

        def follow(status: JobStatus) -> None:
            status = loading(replace(status, rows=rows))
            if on_status:
                on_status(status)
            if status.over:
                self._going.pop(status.id, None)
            elif status.id:
                self._going[status.id] = status, began, stop
            self._tell(status)

        return self._wire.run(self._packer.envelope(), payload, on_status=follow, on_line=hear, stop=stop)

    def _tell(self, status: JobStatus) -> None:
        self.job = status
        for watcher in [*self.watchers]:  # a panel may close meanwhile
            try:
                watcher(status)
            except Exception:  # the job is not to be lost of it
                _LOG.exception("%r raised at %s", watcher, status)
