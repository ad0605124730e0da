"""The protocol of a backend: four verbs over rows, and what it says of its model.

A backend answers rows in the order in which they are given, whatever their mix of prompts and recipes, and never
changes the user's model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor

from steerlab.errors import PromptError
from steerlab.generations import Generation, Sampling, Token
from steerlab.prompts import encode
from steerlab.recipes import Recipe
from steerlab.rows import Row
from steerlab.sites import Point, Site

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Called after every step with the new token of each row that is still going.
OnTokens = Callable[[Sequence[Token]], None]


@dataclass(frozen=True)
class ModelInfo:
    """What a person sees of a model. points: those that every block has. context: the longest sequence, in tokens."""

    name: str
    backend: str
    device: str
    dtype: str
    n_layers: int
    d_model: int
    points: tuple[Point, ...]
    context: int


class Activations(NamedTuple):
    """What `capture` read, over rows. Positions count from the end of the prompt: -1 is its last token.

    mean: [sites positions d_model], float64. norm: the mean norm, [sites positions], float64.
    values: [rows sites positions d_model], float32, where they were asked for.
    """

    mean: Tensor
    norm: Tensor
    values: Tensor | None


class Backend(Protocol):
    """A model that can be read and steered, here or far away."""

    info: ModelInfo
    tokenizer: PreTrainedTokenizerBase

    def check(self, recipe: Recipe) -> None:
        """Raise the SteerlabError that running the recipe would raise: a site or a direction that does not fit."""
        ...

    def capture(
        self, rows: Sequence[Row], sites: Sequence[Site], positions: Sequence[int], *, values: bool = False
    ) -> Activations:
        """Read the residual stream at sites x positions of the rows' prompts, after their recipes acted there."""
        ...

    def score(self, rows: Sequence[Row]) -> Tensor:
        """The logits at the last position of each row's prompt, `[rows vocab]`, float32."""
        ...

    def likelihood(self, rows: Sequence[Row], continuations: Sequence[Sequence[int]]) -> list[Tensor]:
        """The log-probability of every token of a continuation after its row's prompt: a tensor `[tokens]` a row.

        The continuation's tokens count as generated ones for the recipe's token scope.
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


def check_positions(positions: Sequence[int], encoded: Sequence[Sequence[int]]) -> None:
    """Raise PromptError where a position, counted from the end, lies before a prompt begins."""
    shortest = min(map(len, encoded))
    if not positions or min(positions) < -shortest or max(positions) >= 0:
        raise PromptError(
            f"positions {list(positions)} cannot be read: the shortest prompt has {shortest} tokens",
            "Positions count from the end, -1 for the last token.",
        )


def encode_row(tokenizer: PreTrainedTokenizerBase, row: Row, context: int) -> list[int]:
    """The token ids of a row's prompt. Raises PromptError where they leave no room for a new token."""
    ids = encode(tokenizer, row.prompt, chat=row.chat)
    if len(ids) >= context:
        raise PromptError(
            f"the prompt has {len(ids)} tokens, and the model reads at most {context} with its answer",
            "Shorten it.",
        )
    return ids
