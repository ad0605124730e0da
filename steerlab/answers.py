"""Finished answers, kept so that no row is generated twice: the latest ones, within a budget of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

from steerlab.generations import Applied, Generation, Sampling, Token
from steerlab.reach import touches
from steerlab.rows import Row

BUDGET = 32 * 2**20  # about five thousand answers of 64 tokens
A_TOKEN, AN_ANSWER = (
    96,
    512,
)  # bytes, about: an id, a piece of text and their places; the rest, the recipe not included

# What an answer depends on: the prompt, the chat template, the recipe, the sampling, the seed, and the model's weights.
Key = tuple[str, str | None, str, Sampling, int, int]


def answer_key(row: Row, sampling: Sampling, *, template: str = "", weights: int = 0) -> Key:
    """Equal for rows that have the same answer. template: the tokenizer's. weights: a number that differs where they do
    (`base.InProcess.weights_seen`).
    """
    # a greedy answer does not depend on the seed
    return (
        repr(row.prompt),
        template if row.chat else None,
        row.recipe.fingerprint,
        sampling,
        row.seed if sampling.temperature else 0,
        weights,
    )


def asked_by(row: Row, answer: Generation) -> Generation:
    """A row's answer, which may have been given to an equal row: with this one's prompt, recipe and seed."""
    if answer.recipe is row.recipe and (answer.prompt, answer.seed) == (row.prompt, row.seed):
        return answer
    return replace(answer, prompt=row.prompt, recipe=row.recipe, seed=row.seed)


def told_again(answer: Generation, row: int) -> list[Token]:
    """The tokens of a finished answer as they once streamed, for the row of this number. Of one that was not applied on
    every pass it is not known on which: the first ones are taken for those.
    """
    first, later = (touches(answer.recipe, generated=generated) for generated in (False, True))
    passes = (first + i * later for i in range(len(answer.token_ids)))
    return [
        Token(row, token, piece, Applied(min(answer.applied.steps, of), of))
        for token, piece, of in zip(answer.token_ids, answer.pieces, passes, strict=True)
    ]


class Answers:
    """Answers by their keys, within `budget` bytes; `nbytes` is about what they take."""

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget, self.nbytes = budget, 0
        self._kept: OrderedDict[Key, Generation] = OrderedDict()
        self._lock = threading.Lock()  # the worker's threads and a cell's may run rows at the same time

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Generation | None:
        """The answer, where it is still known; it counts as asked for."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: Key, answer: Generation) -> None:
        """Keep a finished answer, and forget those not asked for longest where it is too much."""
        with self._lock:
            if key in self._kept or answer.finish == "cancelled":
                return
            self._kept[key] = answer
            self.nbytes += _size(key, answer)
            while self.nbytes > self.budget:
                self.nbytes -= _size(*self._kept.popitem(last=False))


def _size(key: Key, answer: Generation) -> int:
    vectors = sum(d.vector.nbytes for step in answer.recipe.interventions for d in step.directions)
    return AN_ANSWER + vectors + A_TOKEN * len(answer.token_ids) + 2 * len(key[0])
