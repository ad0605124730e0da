"""A backend that counts what it is asked for, and what the tests of sweeps share."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from steerlab import (
    Direction,
    Generation,
    Row,
    Sampling,
    Site,
)
from steerlab.backends.base import OnTokens
from steerlab.backends.fake import FakeBackend
from steerlab.sweeps import Scores

PROMPTS = ["How do I bake bread?", "Hi", "What is a lock?"]
TOKENS = [65, 66]
SHORT = Sampling(6)


def direction(width: int = 16) -> Direction:
    noise = torch.randn(width, generator=torch.Generator().manual_seed(0))
    return Direction(2 * noise, Site(1, "resid_pre"), name="v")


V = direction()


class Counting(FakeBackend):
    """Remembers the rows of every call, and how many of the logits that it gave out are still held at the next call."""

    def __init__(self) -> None:
        super().__init__(n_layers=3)
        self.scored: list[list[Row]] = []
        self.generated: list[list[Row]] = []
        self.held: list[int] = []
        self._given: list[weakref.ref[Tensor]] = []

    def score(self, rows: Sequence[Row]) -> Tensor:
        self.scored.append(list(rows))
        self.held.append(sum(ref() is not None for ref in self._given))
        logits = super().score(rows).clone()
        self._given.append(weakref.ref(logits))
        return logits

    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        self.generated.append(list(rows))
        return super().generate(rows, sampling, on_tokens=on_tokens, cancel=cancel)


def length(answer: Generation) -> int:
    return len(answer.text)


def long(answer: Generation) -> bool:
    return len(answer.text) > 5


def the_same(one: Scores, other: Scores) -> bool:
    return bool(one.to_frame().equals(other.to_frame()))
