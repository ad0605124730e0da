"""The protocol of a backend: its verbs over rows, and what it says of its model.

A backend answers rows in the order in which they are given, whatever their mix of prompts and recipes, and never
changes the user's model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from steerlab.backends.architectures import GivenSites, Hook
from steerlab.backends.visits import Visit
from steerlab.edits import Operand
from steerlab.errors import ModelError, PromptError, SiteError
from steerlab.generations import Generation, Sampling, Token
from steerlab.prompts import Positions, encode, response_length
from steerlab.recipes import Recipe
from steerlab.rows import Row
from steerlab.sites import Point, Site

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from steerlab.backends.cells import Look

T = TypeVar("T")

# Called after every step with the new token of each row that is still going.
OnTokens = Callable[[Sequence[Token]], None]


def _go_on() -> None: ...


# Called by every backend before each forward pass, without any lock held. Background work listens here: it waits while
# something more urgent runs, and it ends, by an exception, where it was cancelled (`worker`).
before_pass: ContextVar[Callable[[], None]] = ContextVar("before_pass", default=_go_on)


def _never() -> bool:
    return False


# Whether the work that runs was cancelled. A backend that waits for long without a forward pass looks here meanwhile.
cancelled: ContextVar[Callable[[], bool]] = ContextVar("cancelled", default=_never)


def nobody(_rows: float) -> None:
    """Nobody counts them."""


# Told by every backend how many of the rows that it was given it has read, scored or answered just now; of an answer,
# its share with each token; of a look, the cells. All of a verb's rows are told by its end. A bar in a cell listens
# (`progress`).
rows_done: ContextVar[Callable[[float], None]] = ContextVar("rows_done", default=nobody)


@dataclass(frozen=True)
class ModelInfo:
    """What a person sees of a model. points: those that every block has. context: the longest sequence, in tokens.
    revision: the commit of its repository on the hub, where that is known.
    """

    name: str
    backend: str
    device: str
    dtype: str
    n_layers: int
    d_model: int
    points: tuple[Point, ...]
    context: int
    revision: str | None = None


class Activations(NamedTuple):
    """What `capture` read, over rows.

    mean: [sites positions d_model], float64. norm: the mean norm of the tokens there, [sites positions], float64.
    values: [rows sites positions d_model], float32, where they were asked for.
    """

    mean: Tensor
    norm: Tensor
    values: Tensor | None


Table = Literal["embedding", "unembedding"]


class Linearised(NamedTuple):
    """A later state of the stream as a function of an earlier one, to first order: `value + jacobian @ (s - at)`.

    at, value: [d_model], the two states of a prompt as it stands. jacobian: [d_model d_model]. All float64, on the CPU.
    """

    at: Tensor
    value: Tensor
    jacobian: Tensor


class Backend(Protocol):
    """A model that can be read and steered, here or far away."""

    info: ModelInfo
    tokenizer: PreTrainedTokenizerBase

    def check(self, recipe: Recipe) -> None:
        """Raise the SteerlabError that running the recipe would raise: a site or a direction that does not fit."""
        ...

    def capture(
        self,
        rows: Sequence[Row],
        sites: Sequence[Site],
        positions: Positions,
        *,
        values: bool = False,
        continuations: Sequence[Sequence[int]] | None = None,
    ) -> Activations:
        """Read the residual stream at sites x positions of the rows' prompts, after their recipes acted there.

        continuations: token ids that follow each row's prompt and count as generated ones for the recipe's token scope.
        Positions then count from their end, and "response" is the mean over them.
        """
        ...

    def score(self, rows: Sequence[Row]) -> Tensor:
        """The logits at the last position of each row's prompt, `[rows vocab]`, float32."""
        ...

    def likelihood(self, rows: Sequence[Row], continuations: Sequence[Sequence[int]]) -> list[Tensor]:
        """The log-probability of every token of a continuation after its row's prompt: a tensor `[tokens]` a row.

        The continuation's tokens count as generated ones for the recipe's token scope.
        """
        ...

    def decode(self, resid: Tensor) -> Tensor:
        """What the model makes of a stream that left its last block: the final norm and the head, with whatever else
        lies between them and the logits. `[... d_model]` to `[... vocab]`, float32, on the CPU.
        """
        ...

    def look(self, asked: Sequence[Look]) -> list[list[Tensor]]:
        """What functions of `looks` make of cells: of each its tensors, `[sites positions ...]`, on the CPU. Logits are
        as `decode` gives them, and are held for a part of the cells at a time. Where the model is on a server, texts
        are read and streams decoded there, in one job, and nothing else comes back.
        """
        ...

    def token_rows(self, ids: Sequence[int], table: Table) -> Tensor:
        """The rows of some tokens in the embedding or the unembedding matrix, `[tokens d_model]`, float32. Raises
        ModelError where the model has no such matrix.
        """
        ...

    def nearest(self, vector: Tensor, table: Table, k: int) -> tuple[Tensor, Tensor]:
        """The k tokens whose rows of a matrix lie nearest to a vector [d_model], and those nearest to its opposite:
        their cosines and their ids, each `[2 k]`, the nearest first. Raises ModelError as `token_rows` does.
        """
        ...

    def linearise(self, row: Row, source: Site, position: int, target: Site) -> Linearised:
        """How the stream at `target` and the last token depends on the stream at `source` and a position (from the
        end) of a row's prompt, by automatic differentiation. `source` comes before `target` in a forward pass.
        """
        ...

    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        """Answer every row. `cancel`, once set, ends all of them within one token; what came so far is returned."""
        ...


@runtime_checkable
class InProcess(Protocol):
    """What a backend can do besides where the model's weights are in this process.

    given_sites: where points are, as a person said it. loaded: whether a lab loaded the weights from `source` itself.
    quantised: whether weights are.
    """

    given_sites: GivenSites | None
    loaded: bool
    quantised: bool

    @property
    def source(self) -> str:
        """The Hugging Face id or the folder (an absolute path) that the weights came from; empty where not known."""
        ...

    def hook(self, site: Site) -> Hook:
        """The module of the Hugging Face model, and the side of it, where a site is touched. Raises SiteError."""
        ...

    def weights_seen(self) -> int:
        """A number for the state of the model, 0 as it was at first; looks again."""
        ...


def state_of(backend: Backend) -> tuple[str, int]:
    """What the same row may be answered otherwise by: the chat template, and a number that differs where the weights
    do. On a server they are not ours to change.
    """
    weights = backend.weights_seen() if isinstance(backend, InProcess) else 0
    return str(backend.tokenizer.chat_template), weights


@runtime_checkable
class OnServer(Protocol):
    """What a backend tells of a model that a server has, for code that asks the same server. given_sites: where points
    are, as a person said it.
    """

    given_sites: GivenSites | None
    stop_tokens: set[int]

    @property
    def job_rows(self) -> int:
        """How many rows whose logits come back make one job."""
        ...

    @property
    def source(self) -> str:
        """The Hugging Face id or the folder (an absolute path) that the model is known from here."""
        ...

    @property
    def server(self) -> str:
        """The server's address."""
        ...

    @property
    def model_key(self) -> str:
        """What the server knows the model by."""
        ...

    def hook(self, site: Site) -> Hook:
        """The module of the Hugging Face model, and the side of it, where a site is touched. Raises SiteError."""
        ...

    def visits(self, given: Mapping[Site, list[T]]) -> list[Visit[T]]:
        """Where steps that are given by their sites are done in a pass of generation, in forward order."""
        ...


def at_once(backend: Backend, rows: int) -> int:
    """How many rows to ask for logits at once: `rows`, or on a server as many as make a job."""
    return backend.job_rows if isinstance(backend, OnServer) else rows


def in_process(backend: Backend, what: str) -> InProcess:
    """The backend where the model is in this process, else a ModelError that names `what` needs it."""
    if not isinstance(backend, InProcess) or isinstance(backend, OnServer):
        raise ModelError(
            f"{what} needs the model's weights in this process, and the {backend.info.backend} backend has none here",
            "Load the model locally: Lab(model).",
        )
    return backend


def in_order(source: Site, target: Site) -> None:
    """Raise SiteError where `source` does not come before `target` in a forward pass."""
    if not source < target:
        raise SiteError(f"{target} does not come after {source}", "Read the earlier site first.")


def nudge(ids: Tensor, position: int, d_model: int) -> Operand:
    """What adds nothing to the stream at a position of rows [rows pos], so that it can be differentiated by that:
    `vectors` is a leaf of the graph, [rows 1 d_model].
    """
    where = torch.zeros(1, ids.shape[1], 1, dtype=torch.bool)
    where[:, position] = True
    nothing = torch.zeros(len(ids), 1, d_model, requires_grad=True)
    return Operand("add", nothing, torch.ones(len(ids), 1, 1), where=where)


def wide(x: Tensor) -> Tensor:
    """x in float64: on its own device, or on the CPU where an Apple GPU holds it, which has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def readers(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    encoded: Sequence[list[int]],
    positions: Positions,
    continuations: Sequence[Sequence[int]] | None = None,
) -> list[Tensor]:
    """For every row a matrix `[positions tokens]` whose product with the stream at its tokens is what `capture` reads.

    encoded: the rows' tokens, with those of the continuations. Raises PromptError where a position lies before a prompt
    begins.
    """
    if positions == "response":
        tails = map(len, continuations or ())
        lengths = list(tails) or [response_length(tokenizer, row.prompt) for row in rows]
        if not all(lengths):
            raise PromptError("a continuation without tokens has no mean", "Give one token or more.")
        weights = [torch.zeros(1, len(ids)) for ids in encoded]
        for weight, length in zip(weights, lengths, strict=True):
            weight[:, -length:] = 1 / length
        return weights
    at = readable(positions, encoded)
    return [_picking(at, len(ids)) for ids in encoded]


def readable(positions: Sequence[int], encoded: Sequence[list[int]]) -> list[int]:
    """Positions that all of some texts have. Raises PromptError."""
    at = [int(position) for position in positions]
    shortest = min(map(len, encoded))
    if not at or min(at) < -shortest or max(at) >= 0:
        raise PromptError(
            f"positions {at} cannot be read: the shortest prompt has {shortest} tokens",
            "Positions count from the end, -1 for the last token.",
        )
    return at


def _picking(at: Sequence[int], tokens: int) -> Tensor:
    """The rows `at` of the identity, [at tokens]: all of it would be gigabytes for a long prompt."""
    rows = torch.zeros(len(at), tokens)
    rows[range(len(at)), at] = 1
    return rows


def encode_row(tokenizer: PreTrainedTokenizerBase, row: Row, context: int) -> list[int]:
    """The token ids of a row's prompt. Raises PromptError where they leave no room for a new token."""
    ids = encode(tokenizer, row.prompt, chat=row.chat)
    if len(ids) >= context:
        raise PromptError(
            f"the prompt has {len(ids)} tokens, and the model reads at most {context} with its answer",
            "Shorten it.",
        )
    return ids


def encode_rows(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], context: int) -> list[list[int]]:
    """`encode_row` of every row; a prompt that several of them hold is encoded once."""
    found: dict[tuple[type, str, bool], list[int]] = {}
    keys = [(type(row.prompt), str(row.prompt), row.chat) for row in rows]
    for key, row in zip(keys, rows, strict=True):
        if key not in found:
            found[key] = encode_row(tokenizer, row, context)
    return [list(found[key]) for key in keys]


def continued(
    prompts: Sequence[list[int]], continuations: Sequence[Sequence[int]], context: int
) -> list[list[int]]:
    """The tokens of each prompt and what follows it. Raises PromptError where they are more than the model reads."""
    both = [ids + list(tail) for ids, tail in zip(prompts, continuations, strict=True)]
    longest = max(map(len, both), default=0)
    if longest > context:
        raise PromptError(
            f"a prompt and what follows it have {longest} tokens, and the model reads at most {context}",
            "Shorten one of them.",
        )
    return both
