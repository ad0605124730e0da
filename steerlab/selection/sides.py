"""Prompts as the unsteered model takes them: what candidates are scored against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from steerlab import metrics
from steerlab.backends.base import Backend
from steerlab.errors import PromptError
from steerlab.prompts import Prompt, several
from steerlab.rows import Row


class Side(NamedTuple):
    """Prompts with what the unsteered model makes of them: logits [prompts vocab] and refusal scores [prompts]."""

    prompts: tuple[Prompt, ...]
    logits: Tensor
    scores: Tensor

    def at(self, which: Sequence[int]) -> Side:
        """Some of the prompts, by their indices."""
        rows = list(which)
        return Side(tuple(self.prompts[i] for i in rows), self.logits[rows], self.scores[rows])


@dataclass(frozen=True, eq=False)
class Baseline:
    """Harmful and harmless prompts as the unsteered model takes them; `baseline` makes one. given: how many a side had
    before any were dropped.
    """

    harmful: Side
    harmless: Side
    refusal_tokens: tuple[int, ...]
    given: tuple[int, int]

    def split(self, harmful: int, harmless: int) -> tuple[Baseline, Baseline]:
        """All but the last so many of each side, and these."""
        sides = ((self.harmful, harmful), (self.harmless, harmless))
        before = [side.at(range(len(side.prompts) - n)) for side, n in sides]
        after = [side.at(range(len(side.prompts) - n, len(side.prompts))) for side, n in sides]
        one, other = (
            dataclasses.replace(self, harmful=a, harmless=b, given=(len(a.prompts), len(b.prompts)))
            for a, b in (before, after)
        )
        return one, other

    def contrasting(self) -> Baseline:
        """Without the harmful prompts whose score is <= 0 and the harmless ones whose score is >= 0. Raises PromptError
        where that leaves a side empty.
        """
        refused = [i for i, score in enumerate(self.harmful.scores.tolist()) if score > 0]
        answered = [i for i, score in enumerate(self.harmless.scores.tolist()) if score < 0]
        if not refused or not answered:
            raise PromptError(
                f"the model refuses {len(refused)} of {len(self.harmful.prompts)} harmful prompts and answers "
                f"{len(answered)} of {len(self.harmless.prompts)} harmless ones: nothing is left of a side",
                "Give prompts that it refuses, refusal_tokens with which it begins its refusals, or drop=False.",
            )
        return dataclasses.replace(
            self, harmful=self.harmful.at(refused), harmless=self.harmless.at(answered)
        )

    @property
    def kept(self) -> dict[str, str]:
        """How many prompts of those given are here, for the provenance of what is found with them."""
        counts = zip(("harmful", "harmless"), (self.harmful, self.harmless), self.given, strict=True)
        return {name: f"{len(side.prompts)} of {given}" for name, side, given in counts}


def baseline(
    backend: Backend,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    *,
    refusal_tokens: Sequence[int] | None = None,
) -> Baseline:
    """Score two sides of prompts without steering, each prompt once. Raises PromptError where a side is empty.

    refusal_tokens: by default derived from the model's own answers to these prompts.
    """
    given = metrics.checked_tokens(refusal_tokens, len(backend.tokenizer))
    sides = several(harmful, "harmful"), several(harmless, "harmless")
    logits = backend.score([Row(p) for side in sides for p in side]).split(list(map(len, sides)))
    tokens = given or tuple(metrics.refusal_tokens(*logits))
    one, other = (
        Side(prompts, one, metrics.refusal_score(one, tokens))
        for prompts, one in zip(sides, logits, strict=True)
    )
    return Baseline(one, other, tokens, (len(one.prompts), len(other.prompts)))
