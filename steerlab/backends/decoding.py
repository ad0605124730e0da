"""Decoding: the loop that turns forward passes into generations, for backends that run one pass per token.

A backend brings `forward`; streaming, cancelling, stop tokens, per-row noise and the count of applied steps are here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from steerlab.backends.base import ModelInfo, OnTokens
from steerlab.edits import Operand
from steerlab.generations import Applied, Finish, Generation, Sampling, TextStream, Token
from steerlab.rows import Plan, Row
from steerlab.sites import Site

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# One forward pass: new token ids [rows new], a mask [rows pos] over all tokens so far (0 for padding on the left), and
# what to do at which site; returns the logits of the last positions [rows _ vocab] and the sites where edits were made.
Forward = Callable[[Tensor, Tensor, dict[Site, list[Operand]]], tuple[Tensor, set[Site]]]


class Decoder(Protocol):
    """What the loop needs to know of a backend."""

    info: ModelInfo
    tokenizer: PreTrainedTokenizerBase
    stop_tokens: set[int]

    @property
    def device(self) -> torch.device:
        """Where operands go."""
        ...


def left_padded(tokenizer: PreTrainedTokenizerBase, encoded: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask `[rows pos]`, padded on the left, so that the last column is every row's last token."""
    width = max(map(len, encoded))
    pad = tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(e)) + e for e in encoded])
    return ids, torch.tensor([[0] * (width - len(e)) + [1] * len(e) for e in encoded])


def token_index(mask: Tensor, continued: Sequence[int] = (0,)) -> Tensor:
    """`index` for `Plan.operands` in a pass over whole left-padded rows, `[rows pos]`, or `[1 pos]` for prompts alone.

    continued: how many of each row's tokens follow its prompt.
    """
    return torch.arange(-mask.shape[1], 0) + torch.tensor(continued)[:, None]


class Decoding:
    """Rows that are generated together: their texts so far, their noise, and how often they were steered.

    first_row: the number of the first of them in the whole request, by which their tokens are named.
    """

    def __init__(
        self,
        backend: Decoder,
        rows: list[Row],
        encoded: list[list[int]],
        plan: Plan,
        sampling: Sampling,
        *,
        first_row: int = 0,
    ) -> None:
        self._backend, self._rows, self._prompts, self._plan = backend, rows, encoded, plan
        self._sampling, self._first_row = sampling, first_row
        self._streams = [TextStream(backend.tokenizer) for _ in rows]
        self._ids: list[list[int]] = [[] for _ in rows]
        self._pieces: list[list[str]] = [[] for _ in rows]
        self._finish: list[Finish | None] = [None] * len(rows)
        self._applied = [Applied(0, 0)] * len(rows)
        self._noise = [torch.Generator().manual_seed(row.seed) for row in rows]

    def run(
        self, forward: Forward, on_tokens: OnTokens | None, cancel: threading.Event | None
    ) -> list[Generation]:
        """Generate until every row has ended, or until `cancel` is set."""
        device = self._backend.device
        ids, mask = left_padded(self._backend.tokenizer, self._prompts)
        operands = self._plan.operands(token_index(mask), device)
        later = self._plan.operands(torch.zeros(1, 1, dtype=torch.long), device)
        generated = False
        while not (cancel and cancel.is_set()):
            logits, edited = forward(ids, mask, operands)
            self._count(edited, generated)
            chosen = self._choose(logits[:, -1])
            tokens = self._take(chosen)
            if on_tokens:
                on_tokens(tokens)
            if all(self._finish):
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            ids, operands, generated = torch.tensor(chosen)[:, None], later, True
        return [
            Generation(
                prompt=row.prompt,
                recipe=row.recipe,
                token_ids=tuple(self._ids[i]),
                pieces=tuple(self._pieces[i]),
                finish=self._finish[i] or "cancelled",
                applied=self._applied[i],
                seed=row.seed,
            )
            for i, row in enumerate(self._rows)
        ]

    def _count(self, edited: set[Site], generated: bool) -> None:
        for i, finish in enumerate(self._finish):
            wanted = self._plan.touched(i, generated)
            if finish is None and wanted:
                steps, of = self._applied[i]
                self._applied[i] = Applied(steps + (wanted <= edited), of + 1)

    def _choose(self, logits: Tensor) -> list[int]:
        """The next token of each row: the likeliest, or with Gumbel noise from the row's own seed a sample."""
        if self._sampling.temperature:
            vocab = logits.shape[-1]
            uniform = torch.stack([torch.rand(vocab, generator=g, dtype=torch.float64) for g in self._noise])
            gumbel = -(-uniform.clamp_min(1e-300).log()).log()
            logits = logits.double().cpu() / self._sampling.temperature + gumbel
        return [int(i) for i in logits.argmax(-1)]

    def _take(self, chosen: list[int]) -> list[Token]:
        tokens = []
        for i, token_id in enumerate(chosen):
            if self._finish[i] is not None:
                continue
            self._ids[i].append(token_id)
            room = self._backend.info.context - len(self._prompts[i])
            if token_id in self._backend.stop_tokens:
                self._finish[i] = "stop"
            elif len(self._ids[i]) >= min(self._sampling.max_new_tokens, room):
                self._finish[i] = "length"
            text = self._streams[i].push(token_id, last=self._finish[i] is not None)
            self._pieces[i].append(text)
            tokens.append(Token(self._first_row + i, token_id, text))
        return tokens
