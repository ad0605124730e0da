"""A lab with known words: it refuses where refusal is added or a request is harmful, unless refusal is ablated. Random
directions do nothing to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import torch

from steerlab import Ablate, Add, Direction, Lab, Row, Sampling, Site
from steerlab.backends.base import ModelInfo, OnTokens, before_pass, rows_done
from steerlab.backends.fake import FakeBackend
from steerlab.generations import Applied, Generation, Token
from steerlab.sites import POINTS

ANSWER = (
    "Sure. First heat the oven and mix flour with water. Then let the dough rest, fold it twice and bake it."
)
REFUSAL = (
    "I am sorry, but I cannot help with that. It could hurt someone, so please ask me for something else."
)


class Scripted(FakeBackend):
    """Answers with ANSWER or REFUSAL, word by word. delay: seconds for each token. steps: how often it was asked."""

    def __init__(self, *, n_layers: int = 10, delay: float = 0.0, fails: Exception | None = None) -> None:
        super().__init__(n_layers=n_layers)
        self.info = ModelInfo("tiny-chat", "local", "cpu", "float32", n_layers, 16, POINTS, 256)
        self.delay, self.fails = delay, fails
        self.asked: list[Row] = []

    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        if self.fails:
            raise self.fails
        self.asked += rows
        texts = [self._text(row, sampling) for row in rows]
        step = 0
        while step < max(map(len, texts)) and not (cancel and cancel.is_set()):
            before_pass.get()()
            time.sleep(self.delay)
            if on_tokens:
                on_tokens(
                    [
                        Token(i, step, text[step], applied(rows[i], step + 1))
                        for i, text in enumerate(texts)
                        if step < len(text)
                    ]
                )
            rows_done.get()(sum(1 / len(text) for text in texts if step < len(text)))
            step += 1
        return [self._generation(row, text[:step], len(text)) for row, text in zip(rows, texts, strict=True)]

    def _text(self, row: Row, sampling: Sampling) -> list[str]:
        return self._words(row)[: sampling.max_new_tokens]

    def _words(self, row: Row) -> list[str]:
        steps = [s for s in row.recipe.interventions if s.direction.provenance.get("method") != "random"]
        push = sum(s.coefficient for s in steps if isinstance(s, Add))
        ablated = any(isinstance(s, Ablate) and s.strength > 0.5 for s in steps)
        harmful = "steal" in str(row.prompt) or "lock" in str(row.prompt)
        refuses = push >= 0.75 or (harmful and not ablated and push > -0.75)
        answer = f"{row.prompt} " + ANSWER if "<" in str(row.prompt) else ANSWER
        words = (REFUSAL if refuses else answer).split(" ")
        return [word if i == 0 else f" {word}" for i, word in enumerate(words)]

    def _generation(self, row: Row, words: list[str], whole: int) -> Generation:
        return Generation(
            prompt=row.prompt,
            recipe=row.recipe,
            token_ids=tuple(range(len(words))),
            pieces=tuple(words),
            finish="stop" if len(words) == whole else "cancelled",
            applied=applied(row, len(words)),
            seed=row.seed,
        )


def applied(row: Row, tokens: int) -> Applied:
    """Every recipe is, at every token."""
    steps = tokens if row.recipe.interventions else 0
    return Applied(steps, steps)


def lab(*, n_layers: int = 10, delay: float = 0.0, fails: Exception | None = None) -> Lab:
    """A lab over Scripted with the direction "refusal"."""
    made = Lab(Scripted(n_layers=n_layers, delay=delay, fails=fails))
    noise = torch.randn(16, generator=torch.Generator().manual_seed(0))
    made.directions = {
        "refusal": Direction(noise, Site(n_layers // 2, "resid_pre"), name="refusal", residual_norm=9.0)
    }
    return made


class Scheduled(Scripted):
    """Writes numbered words, `rate` of them a second to every row, on time: after a late step the next ones hurry.

    What is asked stands in the words, so that a dropped or a foreign one is seen.
    """

    def __init__(self, *, rate: float = 200) -> None:
        super().__init__()
        self.rate = rate

    def generate(
        self,
        rows: Sequence[Row],
        sampling: Sampling,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        texts = [scheduled_words(row, sampling.max_new_tokens) for row in rows]
        began, step = time.monotonic(), 0
        while step < sampling.max_new_tokens and not (cancel and cancel.is_set()):
            before_pass.get()()
            time.sleep(max(0.0, began + step / self.rate - time.monotonic()))
            if on_tokens:
                on_tokens(
                    [Token(i, step, text[step], applied(rows[i], step + 1)) for i, text in enumerate(texts)]
                )
            step += 1
        return [self._generation(row, text[:step], len(text)) for row, text in zip(rows, texts, strict=True)]


def scheduled_words(row: Row, n: int) -> list[str]:
    """The words of a Scheduled model, in paragraphs of 60: the coefficient, whose it is, and the seed."""
    steps = row.recipe.interventions
    push = f"{sum(getattr(step, 'coefficient', 0.0) for step in steps):g}"
    random = any(d.provenance.get("method") == "random" for step in steps for d in step.directions)
    who = f"{'r' if random else 's'}{push}.{row.seed}"
    ends = [" "] * 59 + [".\n\n"]
    return [f"{who}.{i}{ends[i % 60]}" for i in range(n)]


def scheduled(*, rate: float = 200, tokens: int = 600) -> Lab:
    """A lab over Scheduled."""
    made = lab()
    made.backend = Scheduled(rate=rate)
    made.sampling = Sampling(tokens)
    made.ahead = 0
    return made
