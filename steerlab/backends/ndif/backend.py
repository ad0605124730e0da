"""The NDIF backend: every verb of `base.Backend` as jobs on a server, which alone has the model's weights."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from nnsight.schema.config import CONFIG
from torch import Tensor
from torch.nn.functional import pad

from steerlab.backends.architectures import GivenSites
from steerlab.backends.base import (
    Activations,
    ModelInfo,
    OnTokens,
    before_pass,
    encode_row,
    readers,
)
from steerlab.backends.decoding import Decoding, left_padded, token_index
from steerlab.backends.ndif import jobs, kept, troubles
from steerlab.backends.ndif.distant import describe
from steerlab.backends.ndif.jobs import Inputs, Point
from steerlab.backends.ndif.keys import find_key
from steerlab.backends.ndif.names import repository
from steerlab.backends.ndif.wire import Cancelled, JobStatus, Patience, RemoteModel, Wire, models
from steerlab.edits import Operand
from steerlab.errors import ModelError, RemoteError
from steerlab.generations import Generation, Sampling, Token
from steerlab.prompts import Positions
from steerlab.recipes import Recipe
from steerlab.rows import Plan, Row
from steerlab.sites import Site

T = TypeVar("T")

JOB_ROWS = 512  # rows of a job without tokens: what is lost where it fails, and what its result weighs


def connect(host: str | None, patience: Patience | None = None) -> Wire:
    """A server: the one that is named, else NDIF_HOST, else nnsight's configured one. Nothing is sent yet."""
    where = host or os.environ.get("NDIF_HOST") or CONFIG.API.HOST
    if not where.startswith(("http://", "https://")):
        raise RemoteError(f"{where!r} is no address of a server", 'It begins with "http://" or "https://".')
    return Wire(where, find_key(where), patience)


def remote_models(host: str | None = None) -> dict[str, RemoteModel]:
    """What a server has, by repository. Raises RemoteError where it cannot be reached."""
    return models(connect(host).ask("/status"))


class NdifBackend:
    """A model on an NDIF server.

    model: a Hugging Face id, or a local folder with a configuration and a tokenizer (`names.repository` says what it is
    called on the server). host: by default NDIF_HOST, else nnsight's configured one. sites: where points are that are
    not found by arithmetic. batch_rows: the most rows that share a forward pass. patience: how long to wait for what.

    `job` says where the latest job is, and `watchers` are told whenever that changes, on the thread that waits for it.
    `waits`: whether the first job has to wait until the model is loaded. Raises RemoteError where the server cannot be
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
        self.batch_rows = batch_rows
        self.job = JobStatus("none")
        self.watchers: list[Callable[[JobStatus], None]] = []
        self._wire = connect(host, patience)
        self._there = there = describe(model, sites)
        known = self.models().get(repository(model))
        self.waits = known is None or known.state != "running"
        self.model, self.tokenizer, self.stop_tokens = there.model, there.tokenizer, there.stop_tokens
        self.device = torch.device("cpu")  # where operands begin: they travel
        self.info = ModelInfo(
            name=there.name,
            backend="ndif",
            device=self._wire.host,
            dtype=(known and known.dtype) or there.dtype,
            n_layers=there.sites.n_layers,
            d_model=there.d_model,
            points=there.sites.points,
            context=there.context,
        )

    @property
    def patience(self) -> Patience:
        """How long to wait for what; may be set."""
        return self._wire.patience

    @patience.setter
    def patience(self, patience: Patience) -> None:
        self._wire.patience = patience

    def models(self) -> dict[str, RemoteModel]:
        """What the server has, by repository."""
        return models(self._wire.ask("/status"))

    # ------------------------------------------------------------------------------------------------ the verbs

    def check(self, recipe: Recipe) -> None:
        """Raise the SteerlabError that running the recipe would raise: a site or a direction that does not fit."""
        self._plan([recipe])

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
        hooks = {site: self._there.sites.hook(site) for site in sites}
        tails = continuations or [()] * len(rows)
        encoded = [ids + list(tail) for ids, tail in zip(self._encode(rows), tails, strict=True)]
        weights = readers(self.tokenizer, rows, encoded, positions, continuations)
        order = sorted(hooks)
        shape = (len(order), len(weights[0]), self.info.d_model)
        sums, norms = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[:2], dtype=torch.float64)
        held = torch.empty(len(rows), *shape) if values else None
        places = {str(site): i for i, site in enumerate(order)}
        for batches in self._jobs(encoded):
            packed = []
            for batch in batches:
                inputs, operands = self._whole(rows, encoded, batch, tails)
                width = inputs["input_ids"].shape[1]
                weight = torch.stack([pad(weights[i], (width - weights[i].shape[1], 0)) for i in batch])
                last = max(order)
                reached = {site: given for site, given in operands.items() if not last < site}
                points = self._visits(reached, order)
                packed.append((inputs, points, weight))
            saved = self._run(jobs.capture(self.model, packed, places, shape, values=values))
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
        encoded = self._encode(rows)
        self._plan([row.recipe for row in rows])
        out: list[Tensor] = [torch.empty(0)] * len(rows)
        for batches in self._jobs(encoded):
            packed = []
            for batch in batches:
                inputs, operands = self._whole(rows, encoded, batch)
                packed.append((inputs, self._points(operands)))
            saved = self._run(jobs.score(self.model, packed))
            for batch, logits in zip(batches, saved["logits"], strict=True):
                for i, row in zip(batch, logits, strict=True):
                    out[i] = row
        return torch.stack(out)

    def likelihood(self, rows: Sequence[Row], continuations: Sequence[Sequence[int]]) -> list[Tensor]:
        """The log-probability of every token of a continuation after its row's prompt: a tensor `[tokens]` a row."""
        prompts = self._encode(rows)
        encoded = [prompt + list(tail) for prompt, tail in zip(prompts, continuations, strict=True)]
        out: list[Tensor] = [torch.empty(0)] * len(rows)
        asked = [i for i, tail in enumerate(continuations) if len(tail)]
        for batches in self._jobs(encoded, asked, most=16):
            packed = []
            for batch in batches:
                keep = max(len(continuations[i]) for i in batch) + 1
                inputs, operands = self._whole(rows, encoded, batch, continuations, keep=keep)
                packed.append((inputs, self._points(operands), keep))
            saved = self._run(jobs.likelihood(self.model, packed))
            for batch, logprobs in zip(batches, saved["logprobs"], strict=True):
                for i, row in zip(batch, logprobs, strict=True):
                    out[i] = row[len(row) - len(continuations[i]) :].clone()
        return out

    def decode(self, resid: Tensor) -> Tensor:
        """What the final norm and the head make of a stream `[... d_model]`: logits `[... vocab]`, float32."""
        x = resid.reshape(-1, 1, self.info.d_model).float().cpu().clone()
        blocks = [Site(i, "resid_post") for i in range(self.info.n_layers)]
        outputs = [point for _, point in self._visits({}, blocks)]
        parts = []
        for some in x.split(JOB_ROWS):
            ones = torch.ones(len(some), 1, dtype=torch.long)
            inputs = self._inputs(0 * ones, ones)
            parts.append(self._run(jobs.decode(self.model, inputs, some.clone(), outputs))["logits"][0])
        return torch.cat(parts).reshape(*resid.shape[:-1], -1)

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
        encoded = self._encode(rows)
        self._plan([row.recipe for row in rows])
        out: dict[int, Generation] = {}
        for batch in self._batches(encoded, sampling):
            heard = Heard(self, {i: rows[i] for i in batch}, [encoded[i] for i in batch], sampling)
            try:
                if not (cancel and cancel.is_set()):
                    self._stream(heard, on_tokens, cancel)
            except RemoteError as error:
                out |= heard.answers()
                error.generations = [out[i] for i in sorted(out)]
                raise
            out |= heard.answers()
        return [out[i] for i in range(len(rows))]

    def _stream(self, heard: Heard, on_tokens: OnTokens | None, cancel: threading.Event | None) -> None:
        """Run a batch's job, with its tokens as they come."""

        def take(line: list[Any]) -> None:
            if line[0] == "tokens" and not heard.done and not (cancel and cancel.is_set()):
                tokens = heard.hear(line[1], line[2])
                if on_tokens:
                    on_tokens(tokens)

        try:
            saved = self._run(heard.payload(), take, cancel)
            steps = list(zip(saved["edited"], saved["tokens"], strict=False))  # the last pass may make none
            for edited, chosen in steps[heard.steps :]:  # where a line was lost on the way
                take(["tokens", edited, chosen])
        except Cancelled:
            pass

    # ---------------------------------------------------------------------------------------- jobs that are left there

    def submit(self, rows: Sequence[Row], sampling: Sampling) -> str:
        """Leave rows with the server to be answered, and return the job's id at once. What was asked is kept on this
        machine (`kept`), so that another kernel can fetch the answers. At most `batch_rows` rows.
        """
        encoded = self._encode(rows)
        self._plan([row.recipe for row in rows])
        batches = list(self._batches(encoded, sampling))
        if len(batches) > 1:
            raise ModelError(
                f"{len(rows)} rows do not fit one job of {self.batch_rows}", "Submit them in several jobs."
            )
        heard = Heard(self, dict(enumerate(rows)), encoded, sampling)
        job_id = self._wire.submit(self._envelope(), heard.payload())
        kept.keep(job_id, self.info, rows, sampling)
        return job_id

    def fetch(
        self, job_id: str, *, timeout: float | None = None, cancel: threading.Event | None = None
    ) -> list[Generation] | None:
        """The answers of a job that was left, waiting for them at most `timeout` seconds (None for as long as it takes,
        0 for a look); None where they are not there yet. `job` says where it is.
        """
        rows, sampling = kept.read(job_id, self.info)
        end = time.monotonic() + timeout if timeout is not None else None
        while True:
            status, saved = self._wire.look(job_id, cancel)
            self._tell(status)
            if saved is not None:
                break
            if status.stage == "unknown" and kept.age(job_id) > self.patience.answer:
                raise troubles.unknown_job(self._wire.host, job_id)
            if (end is not None and time.monotonic() >= end) or (cancel and cancel.is_set()):
                return None
            time.sleep(min(1.0, max(0.05, end - time.monotonic())) if end is not None else 1.0)
        heard = Heard(self, dict(enumerate(rows)), self._encode(rows), sampling)
        for edited, chosen in zip(saved["edited"], saved["tokens"], strict=False):
            if not heard.done:
                heard.hear(edited, chosen)
        answers = heard.answers()
        return [answers[i] for i in range(len(rows))]

    # ------------------------------------------------------------------------------------------------ batches and jobs

    def _encode(self, rows: Sequence[Row]) -> list[list[int]]:
        return [encode_row(self.tokenizer, row, self.info.context) for row in rows]

    def _plan(self, recipes: Sequence[Recipe]) -> Plan:
        info = self.info
        plan = Plan(recipes, n_layers=info.n_layers, d_model=info.d_model, model=info.name)
        for site in plan.sites:
            self._there.sites.hook(site)
        return plan

    def _jobs(
        self, encoded: Sequence[list[int]], which: Iterable[int] | None = None, *, most: int = 64
    ) -> Iterator[list[list[int]]]:
        """Rows in batches of one forward pass, and those in jobs; short and long prompts apart, for less padding."""
        order = sorted(range(len(encoded)) if which is None else which, key=lambda i: len(encoded[i]))
        batches = list(_chunks(order, min(self.batch_rows, most)))
        yield from _chunks(batches, max(1, JOB_ROWS // min(self.batch_rows, most)))

    def _batches(self, encoded: Sequence[list[int]], sampling: Sampling) -> Iterator[list[int]]:
        """Rows in batches that generate together: in order, and apart where the context leaves less room than asked."""
        groups: dict[int, list[int]] = {}
        for i, ids in enumerate(encoded):
            groups.setdefault(min(sampling.max_new_tokens, self.info.context - len(ids)), []).append(i)
        for group in groups.values():
            yield from _chunks(group, self.batch_rows)

    @property
    def pad(self) -> int:
        """The token that fills rows on the left, and those that have ended."""
        return self.tokenizer.pad_token_id or 0

    def _whole(
        self,
        rows: Sequence[Row],
        encoded: Sequence[list[int]],
        batch: list[int],
        tails: Sequence[Sequence[int]] | None = None,
        *,
        keep: int = 1,
    ) -> tuple[Inputs, dict[Site, list[Operand]]]:
        """A pass over whole rows: prompts, and the tails that follow them."""
        ids, mask = left_padded(self.tokenizer, [encoded[i] for i in batch])
        index = token_index(mask, [len(tails[i]) for i in batch] if tails else (0,))
        operands = self._plan([rows[i].recipe for i in batch]).operands(index, self.device)
        return self._inputs(ids, mask, keep=keep), operands

    def _inputs(self, ids: Tensor, mask: Tensor, *, keep: int = 1) -> Inputs:
        inputs: Inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp_min(0),
            "logits_to_keep": keep,
            "use_cache": False,
        }
        return {name: value for name, value in inputs.items() if name in self._there.accepts}

    def _points(self, operands: dict[Site, list[Operand]]) -> list[Point]:
        return [point for _, point in self._visits(operands, ())]

    def _visits(
        self, operands: dict[Site, list[Operand]], read: Sequence[Site], *, flowing: bool = False
    ) -> list[tuple[str, Point]]:
        """Where to edit and where to read in one pass, in forward order: the names of sites, and their points.

        flowing: while text is generated. The input of a block is edited where it comes from then, at an output.
        """
        plain: dict[int, tuple[Any, ...]] = {}  # the same operand at many sites travels once
        made = {
            s: [plain.setdefault(id(one), tuple(one._replace(scaled=None))) for one in given]
            for s, given in operands.items()
        }
        middle = {site.layer: given for site, given in made.items() if site.point == "resid_mid"}
        around = [Site(layer, point) for layer in middle for point in ("resid_pre", "attn_out")]
        visits: list[tuple[str, Point]] = []
        for site in sorted({*made, *read, *around}):
            if site.point == "resid_mid" and site not in read:
                continue
            mine = middle.get(site.layer, [])
            given = [] if site.point == "resid_mid" else made.get(site, [])
            attention = mine if site.point == "attn_out" else []
            keep = site.point == "resid_pre" and bool(mine)
            hook = self._there.sites.hook(site)
            if flowing and site.point == "resid_pre":
                hook = self._there.entries[site.layer] or hook
            sites = bool(given) + bool(attention)
            if visits and visits[-1][1][:2] == (
                hook.path,
                hook.side,
            ):  # the end of one block, the start of the next
                _, _, _, before, _, _, n = visits.pop()[1]
                given, sites = before + given, n + sites
            visits.append((str(site), (hook.path, hook.side, hook.wrapped, given, attention, keep, sites)))
        return visits

    def _envelope(self) -> dict[str, Any]:
        """What a server needs to know of a job before it reads it."""
        return {
            "model_key": self._there.key,
            "session_id": "",
            "compress": True,
            "env": self.model._remoteable_get_env(),
        }

    def _run(
        self,
        payload: bytes,
        on_line: Callable[[list[Any]], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> dict[str, Any]:
        """Run a job. Each of its passes is announced (`base.before_pass`), the first before it is sent."""
        announce = before_pass.get()
        announce()

        def hear(line: list[Any]) -> None:
            if on_line:
                on_line(line)
            if line[0] == "tokens" or line[1] < line[2]:
                announce()

        return self._wire.run(self._envelope(), payload, on_status=self._tell, on_line=hear, cancel=cancel)

    def _tell(self, status: JobStatus) -> None:
        self.job = status
        for watcher in self.watchers:
            watcher(status)


# What generation is besides: the likeliest token, without what a model's own configuration may add to that.
PLAIN: dict[str, Any] = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "use_cache": True,
}


class Heard(Decoding):
    """A batch's texts, from the tokens that a server tells. rows: by their numbers in the request."""

    def __init__(
        self, backend: NdifBackend, rows: dict[int, Row], encoded: Sequence[list[int]], sampling: Sampling
    ) -> None:
        super().__init__(backend, [[(number, row)] for number, row in rows.items()], encoded, sampling)
        self._listen()
        self._seeds = [row.seed for row in rows.values()]
        self._far = backend
        plan = backend._plan([row.recipe for row in rows.values()])
        self._tokens, self._mask = left_padded(backend.tokenizer, encoded)
        # what to do in the pass over the prompts, and in every later one
        self._operands = (
            plan.operands(token_index(self._mask), backend.device),
            plan.operands(torch.zeros(1, 1, dtype=torch.long), backend.device),
        )
        self.steps = 0

    @property
    def done(self) -> bool:
        """Whether every row has ended."""
        return all(self._finish)

    def payload(self) -> bytes:
        """The job that answers the batch."""
        far = self._far
        prompt, later = ([p for _, p in far._visits(o, (), flowing=True)] for o in self._operands)
        return jobs.generate(
            far.model,
            {"input_ids": self._tokens, "attention_mask": self._mask},
            prompt,
            later,
            min(self._sampling.max_new_tokens, far.info.context - self._tokens.shape[1]),
            temperature=self._sampling.temperature,
            seeds=self._seeds,
            options={**PLAIN, "eos_token_id": sorted(far.stop_tokens) or None, "pad_token_id": far.pad},
        )

    def hear(self, edited: int, chosen: Sequence[int]) -> list[Token]:
        """Add a step's tokens, one a row, made by a pass that edited at so many sites: at all that it should, or the
        step counts as not applied. Returns those of the rows that were still going.
        """
        whole = edited == len(self._operands[self.steps > 0])
        going = [lane for lane, finish in enumerate(self._finish) if not finish]
        self._count(going, [whole] * len(going), generated=self.steps > 0)
        self.steps += 1
        return sorted(self._take(going, [chosen[lane] for lane in going]))


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
