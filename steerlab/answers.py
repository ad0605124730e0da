"""Finished answers, kept so that no row is generated twice: the latest ones, within a budget of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict

from steerlab.generations import Generation, Sampling
from steerlab.rows import Row

BUDGET = 32 * 2**20  # about five thousand answers of 64 tokens
A_TOKEN, AN_ANSWER = (
    96,
    512,
)  # bytes, about: an id, a piece of text and their places; the rest, the recipe not included

# What an answer depends on: the prompt, the chat template, the recipe, the sampling and the seed.
Key = tuple[str, bool, str, Sampling, int]


def answer_key(row: Row, sampling: Sampling) -> Key:
    """Equal for rows that have the same answer."""
    # a greedy answer does not depend on the seed
    return (
        repr(row.prompt),
        row.chat,
        row.recipe.fingerprint,
        sampling,
        row.seed if sampling.temperature else 0,
    )


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
