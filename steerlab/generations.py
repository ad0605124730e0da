"""Generations: what came out of a row, token by token, and how the sampling was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from steerlab.errors import PromptError
from steerlab.prompts import Prompt
from steerlab.recipes import Recipe
from steerlab.sites import real, whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Why a generation ended: an end-of-sequence token, the limit on new tokens, or somebody stopped it.
Finish = Literal["stop", "length", "cancelled"]

# Why a text is not the model's answer: steered too far, a model of 16 bits overflows.
NOT_FINITE = "the logits are not finite"


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. temperature 0 is greedy; above, the row's seed decides, shared by baseline and steered
    rows.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0

    def __post_init__(self) -> None:
        tokens, temperature = whole(self.max_new_tokens), real(self.temperature)
        if tokens is None or tokens < 1:
            raise PromptError(f"max_new_tokens is a whole number from 1, not {self.max_new_tokens!r}")
        if temperature is None or temperature < 0:
            raise PromptError(
                f"temperature is a number from 0 up, not {self.temperature!r}", "0 is greedy decoding."
            )
        object.__setattr__(self, "max_new_tokens", tokens)
        object.__setattr__(self, "temperature", temperature)


class Applied(NamedTuple):
    """How often a recipe was applied: on `steps` of `of` forward passes. A recipe that touches nothing has `of` 0; one
    with chosen tokens of which a prompt has none is not applied to it.
    """

    steps: int
    of: int


class Token(NamedTuple):
    """One new token of a row, as it streams: its row, its id, and the text that it completes (often none, for a part of
    a character). applied: how often the row's recipe was applied so far, in the pass that made this token, too.
    """

    row: int
    id: int
    text: str
    applied: Applied


@dataclass(frozen=True)
class Generation:
    """A row's answer. token_ids: the new tokens, with the end-of-sequence token where there was one. pieces: the text
    that each of them completed, together the whole text. fault: why the text is not the model's answer, "" where it is:
    where no token is the likeliest (NOT_FINITE) the answer is cut there, after a token that has no text and no meaning.
    """

    prompt: Prompt
    recipe: Recipe
    token_ids: tuple[int, ...]
    pieces: tuple[str, ...]
    finish: Finish
    applied: Applied
    seed: int = 0
    fault: str = ""

    @property
    def text(self) -> str:
        """The whole answer, without special tokens."""
        return "".join(self.pieces)

    def __str__(self) -> str:
        return self.text


HELD = 4  # tokens without text: as many as a character has bytes, at most


class TextStream:
    """Turns a row's token ids into text, holding back the parts of an unfinished character. known: texts of a few
    tokens, which several streams may share: a tokenizer's decoding is dear.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, known: dict[tuple[int, ...], str] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._known = {} if known is None else known
        self._ids: list[int] = []
        self._start = (
            0  # decoding begins one finished piece earlier: some tokenizers look at the piece before
        )
        self._done = 0
        self._back = 0  # characters of what is done that are held back: the last, if it may be unfinished

    def push(self, token_id: int, *, last: bool = False) -> str:
        """The text that this token completes; the `last` one holds nothing back."""
        self._ids.append(token_id)
        before = self._decode(self._ids[self._start : self._done])
        now = self._decode(self._ids[self._start :])
        unfinished = now.endswith("\ufffd") and not last
        if unfinished and len(self._ids) - self._done <= HELD:
            return ""
        text = now[len(before) - self._back : len(now) - unfinished]
        self._start, self._done, self._back = self._done, len(self._ids), int(unfinished)
        return text

    def _decode(self, ids: list[int]) -> str:
        key = tuple(ids)
        if key not in self._known:
            self._known[key] = self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        return self._known[key]


def pieces(
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    *,
    ended: bool = True,
    known: dict[tuple[int, ...], str] | None = None,
) -> tuple[str, ...]:
    """The text that each token completes; ended: whether the last one holds nothing back. known: of `TextStream`."""
    stream = TextStream(tokenizer, known)
    return tuple(stream.push(token, last=ended and i == len(ids)) for i, token in enumerate(ids, start=1))
