"""What a pane of the panel holds and shows: a text, what it is the text of, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from steerlab import metrics
from steerlab.answers import Key
from steerlab.estimators import randomised
from steerlab.generations import Applied, Generation
from steerlab.recipes import BASELINE, Recipe
from steerlab.rows import Row
from steerlab.ui import protocol
from steerlab.ui.protocol import PaneEnd, PaneId, PaneResult, Verdict

# The same at every move of the slider; no seed that people use, which would draw a random direction of theirs again.
CONTROL_SEED = 240611717


@dataclass
class Pane:
    """A text and what it is the text of. `pending`: a run is to replace it, and has no token for it yet."""

    key: Key | None = None
    row: Row | None = None
    tokens: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    """Of the tokens, one each."""
    end: PaneEnd = field(default_factory=PaneEnd)
    """Of a text that is written: what is known so far."""
    pending: bool = False
    replayed: int = 0
    """Of a text that goes on: how many of its tokens have come again."""
    times: list[float] = field(default_factory=list)
    """When the newest run's tokens came."""

    @property
    def complete(self) -> bool:
        return self.end.finish in ("stop", "length")

    def result(self) -> PaneResult:
        return PaneResult(tokens=list(self.tokens), **self.end.model_dump())

    def generation(self) -> Generation | None:
        """The text as the library knows it; a text that was cut short counts as cancelled. None where there is none."""
        if self.row is None:
            return None
        applied = self.end.applied
        return Generation(
            self.row.prompt,
            self.row.recipe,
            tuple(self.ids),
            tuple(self.tokens),
            self.end.finish or "cancelled",
            Applied(applied.steps, applied.of) if applied else Applied(0, 0),
            self.row.seed,
            self.end.fault,
        )


def rows_of(prompt: str, recipe: Recipe, seed: int, *, control: bool) -> dict[PaneId, Row]:
    """What the panes show: the baseline, the recipe and, with `control`, the recipe with random directions of the same
    norms.
    """
    rows = {"baseline": Row(prompt, BASELINE, seed), "steered": Row(prompt, recipe, seed)}
    if control:
        rows["control"] = Row(prompt, randomised(recipe, seed=CONTROL_SEED), seed)
    return rows


def verdict_of(answer: Generation) -> Verdict | None:
    """Whether a text refuses, and by which phrase; None where it is not the model's answer."""
    if answer.fault:
        return None
    phrase = metrics.refusal_phrase(answer.text)
    return Verdict(refuses=phrase is not None, phrase=phrase)


def told(applied: Applied) -> protocol.Applied | None:
    """On how many steps a recipe was applied; None where there was nothing to apply."""
    return protocol.Applied(steps=applied.steps, of=applied.of) if applied.of else None


def rate_of(times: Sequence[float]) -> float | None:
    """Tokens a second, from the moments when they came."""
    span = times[-1] - times[0] if len(times) > 1 else 0
    return round((len(times) - 1) / span, 1) if span > 1e-3 else None
