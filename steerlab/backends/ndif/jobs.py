"""Jobs: what a verb asks of a batch, as a payload that a server can run.

Each function here is traced by nnsight and not run: its block is sent as text, with the local names that it uses. So a
block names tensors, numbers and functions of `travelling`, never `self`. Three rules come from the isolated processes
in which the hosted NDIF runs a block: no forward pass is stopped early, no cache is handed from pass to pass (so tokens
come from `generate`, not from a loop of ours), and every step reads something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import nnsight
import torch
from nnsight import save
from nnsight.schema.request import RequestModel
from nnsight.tracing.backend import Backend
from torch import Tensor

from steerlab import edits
from steerlab.backends import looks, tables
from steerlab.backends.ndif import travelling
from steerlab.backends.ndif.travelling import (
    isolated,
    jacobian_rows,
    keep,
    last_logits,
    likelihoods,
    made_of,
    read,
    refuse_inputs,
    rows_of,
    sample,
    skip,
    steer,
    tell,
    without_likeliest,
)
from steerlab.backends.tables import by_cosine

nnsight.register(edits)
nnsight.register(looks)
nnsight.register(tables)
nnsight.register(travelling)

Inputs = dict[str, Any]  # what the model's forward takes: tensors and numbers
Matrix = tuple[str, float | None, int, int]  # a matrix of tokens, see `travelling.rows_of`
Point = tuple[str, str, bool, list[tuple[Any, ...]], list[tuple[Any, ...]], bool, int]  # see `travelling`


class Payload(Backend):  # type: ignore[misc]
    """Takes a traced block as the bytes that travel, and runs nothing."""

    def __init__(self) -> None:
        self.bytes = b""

    def __call__(self, tracer: Any) -> None:
        self.bytes = RequestModel.serialize(tracer, compress=True)


def generate(
    model: Any,
    inputs: Inputs,
    prompt: Sequence[Point],
    later: Sequence[Point],
    n: int,
    *,
    temperature: float,
    seeds: Sequence[int],
    options: dict[str, Any],
) -> bytes:
    """Up to n tokens for every row: `tokens`, a list of [step][row]; `edited`, at how many points the pass that made
    them edited; and `broken`, the rows of which it made none (`travelling.without_likeliest`). Each step is told as it
    comes, with its number from 0. In processes of their own, to which logits are copied, the first two passes alone are
    looked at: steering that breaks a model breaks it there.

    prompt, later: the points of the pass over the prompts, and of every later one.
    """
    payload = Payload()
    with model.generate(inputs, backend=payload, max_new_tokens=n, **options) as tracer:
        tokens = save([])
        edited = save([])
        broken = save([])
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        moved: dict[Any, Any] = {}
        refuse_inputs(model, [*prompt, *later])
        for step in tracer.iter[: n + 1]:
            if step:  # what is put to the streamer first is the prompt
                new = model.generator.streamer.output.tolist()
                tokens.append(new)
                tell("tokens", step - 1, edited[-1], new, broken[-1])
            if step < n:
                count = steer(model, later if step else prompt, moved)
                edited.append(count)
                seen = step < 2 or not isolated(model)
                broken.append(without_likeliest(model.output.logits) if seen else [])
                if temperature:
                    sample(model.output.logits, temperature, noise)
    return payload.bytes


def score(model: Any, batches: Sequence[tuple[Inputs, Sequence[Point]]]) -> bytes:
    """`logits`: a tensor [rows vocab] for each batch, of its last positions."""
    payload = Payload()
    with model.session(backend=payload):
        logits = save([])
        for inputs, points in batches:
            with model.trace(**inputs):
                steer(model, points, {})
                logits.append(last_logits(model.output.logits, 1)[:, 0])
            tell("done", len(logits), len(batches))
    return payload.bytes


def likelihood(model: Any, batches: Sequence[tuple[Inputs, Sequence[Point], int]]) -> bytes:
    """`logprobs`: a tensor [rows keep-1] for each batch, of the last tokens of its rows."""
    payload = Payload()
    with model.session(backend=payload):
        logprobs = save([])
        for inputs, points, keep in batches:
            with model.trace(**inputs):
                steer(model, points, {})
                logprobs.append(likelihoods(model.output.logits, inputs["input_ids"], keep))
            tell("done", len(logprobs), len(batches))
    return payload.bytes


def capture(
    model: Any,
    batches: Sequence[tuple[Inputs, Sequence[tuple[str, Point]], Tensor]],
    places: dict[str, int],
    shape: tuple[int, int, int],
    *,
    values: bool,
) -> bytes:
    """`sums` [sites positions d_model] and `norms` [sites positions] over all rows, and `kept`, where values are wanted
    a tensor [rows sites positions d_model] for each batch.
    """
    payload = Payload()
    with model.session(backend=payload):
        sums = save(torch.zeros(shape, dtype=torch.float64))
        norms = save(torch.zeros(shape[:2], dtype=torch.float64))
        kept = save([])
        for number, (inputs, points, weight) in enumerate(batches, 1):
            with model.trace(**inputs):
                read(model, points, places, weight, sums, norms, kept if values else None)
            tell("done", number, len(batches))
    return payload.bytes


def decode(model: Any, inputs: Inputs, resid: Tensor, outputs: Sequence[Point]) -> bytes:
    """`logits` [rows vocab] of a stream [rows 1 d_model] that has left the last block: every block is skipped."""
    payload = Payload()
    with model.session(backend=payload):
        logits = save([])
        with model.trace(**inputs):
            skip(model, outputs, resid)
            logits.append(last_logits(model.output.logits, 1)[:, 0])
    return payload.bytes


def look(
    model: Any,
    passes: Sequence[tuple[Inputs, Sequence[tuple[str, Point]], dict[str, Any]]],
    sites: Sequence[int],
    asked: Sequence[tuple[Callable[..., Any], Sequence[int], Sequence[tuple[Inputs, slice, Sequence[Any]]]]],
    outputs: Sequence[Point],
) -> bytes:
    """`found`: of every question its parts, each what a function of `looks` makes of some cells. Streams and logits
    stay on the server.

    passes: over the texts, each with what is kept there (`travelling.keep`). sites: how many each place for that has.
    asked: a function, the places of its texts, and parts of their cells that are decoded together, with what is given
    of these; no parts where its place has what it made already.
    """
    payload = Payload()
    with model.session(backend=payload):
        found = save([])
        kept: list[list[Any]] = [[None] * number for number in sites]
        done, total = 0, len(passes) + sum(len(parts) for _, _, parts in asked)
        for inputs, points, wanted in passes:
            with model.trace(**inputs):
                keep(model, points, wanted, kept)
            done += 1
            tell("done", done, total)
        for how, where, parts in asked:
            streams = [torch.cat(kept[place]) for place in where] if parts else []
            made = [] if parts else kept[where[0]]
            for inputs, part, given in parts:
                logits: list[Tensor] = []
                for stream in streams:
                    with model.trace(**inputs):
                        skip(model, outputs, stream[part, None])
                        logits.append(last_logits(model.output.logits, 1)[:, 0])
                made.append(made_of(how, logits, given))
                done += 1
                tell("done", done, total)
            found.append(made)
    return payload.bytes


def token_rows(model: Any, inputs: Inputs, matrix: Matrix, ids: list[int]) -> bytes:
    """`rows`: a tensor [tokens d_model] of a matrix's rows."""
    payload = Payload()
    with model.session(backend=payload):
        rows = save([])
        with model.trace(**inputs):
            rows.append(rows_of(model, matrix, ids).float().cpu())
    return payload.bytes


def nearest(model: Any, inputs: Inputs, matrix: Matrix, vector: Tensor, k: int) -> bytes:
    """`found`: the cosines and the ids of the k tokens nearest to a vector, and to its opposite, each [2 k]."""
    payload = Payload()
    with model.session(backend=payload):
        found = save([])
        with model.trace(**inputs):
            found.extend(by_cosine(rows_of(model, matrix, None), vector, k))
    return payload.bytes


def linearise(
    model: Any,
    inputs: Inputs,
    points: Sequence[tuple[str, Point]],
    ends: tuple[str, str],
    position: int,
    nothing: Tensor,
) -> bytes:
    """`jacobian` [d_model d_model] and `states`, the two [d_model] between which it is (`travelling.jacobian_rows`)."""
    payload = Payload()
    rows, _, width = nothing.shape
    firsts = [*range(0, width - rows, rows), width - rows]  # the last rows may come twice
    with model.session(backend=payload):
        jacobian = save(torch.zeros(width, width))
        states = save([])
        for number, first in enumerate(firsts, 1):
            with model.trace(**inputs):
                found, *between = jacobian_rows(model, points, ends, position, nothing, first)
                jacobian[first : first + rows] = found
                states[:] = between
            tell("done", number, len(firsts))
    return payload.bytes
