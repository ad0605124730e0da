"""Snapshots: what was set, under a name, to come back to and to compare side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from steerlab.errors import FileError, PromptError, SteerlabError
from steerlab.generations import Generation, Sampling
from steerlab.recipes import BASELINE, Recipe
from steerlab.rows import Row

FORMAT = "steerlab.snapshots/1"


@dataclass(frozen=True)
class Snapshot:
    """A prompt with a recipe, a sampling and a seed, under a name: all that an answer depends on but the model.

    `lab.snapshot(name)` takes one, `lab.restore(snapshot)` goes back to it.
    """

    name: str
    prompt: str
    recipe: Recipe = BASELINE
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise PromptError("a snapshot needs a name", "Give a word that you will know it by.")

    @property
    def row(self) -> Row:
        """The row that it stands for."""
        return Row(self.prompt, self.recipe, self.seed)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, the recipe with its vectors."""
        recipe = json.loads(self.recipe.to_json())
        return {**self.settings(), "recipe": recipe}

    def settings(self) -> dict[str, Any]:
        """All but the recipe, as JSON types."""
        return {
            "name": self.name,
            "prompt": self.prompt,
            "sampling": asdict(self.sampling),
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, about: Any) -> Snapshot:
        """The inverse of `to_dict`. Raises FileError for what is none, or was altered."""
        try:
            seed, sampling = about["seed"], Sampling(**about["sampling"])
            if not all(isinstance(about[key], str) for key in ("name", "prompt")) or not isinstance(
                seed, int
            ):
                raise TypeError("a name and a prompt are texts, and a seed is a whole number")
            recipe = Recipe.from_json(json.dumps(about["recipe"]))
            return cls(about["name"], about["prompt"], recipe, sampling, seed)
        except FileError:
            raise
        except (KeyError, TypeError, ValueError, SteerlabError) as error:
            raise FileError(
                f"the snapshot is damaged ({type(error).__name__}: {error})", "Save it again."
            ) from error


def to_json(snapshots: Sequence[Snapshot], *, indent: int | None = 2) -> str:
    """Several snapshots in their order as one JSON text, vectors included."""
    return json.dumps(
        {"format": FORMAT, "snapshots": [snapshot.to_dict() for snapshot in snapshots]}, indent=indent
    )


def from_json(text: str) -> list[Snapshot]:
    """The inverse of `to_json`. Raises FileError for text that is truncated, altered, or holds no snapshots."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileError(
            f"the snapshots are no complete JSON text ({error})", "The text may be truncated: save it again."
        ) from error
    if (
        not isinstance(data, dict)
        or data.get("format") != FORMAT
        or not isinstance(data.get("snapshots"), list)
    ):
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise FileError(
            f"these are no snapshots of the format {FORMAT}, but {found!r}",
            "A newer steerlab may have written them.",
        )
    return [Snapshot.from_dict(about) for about in data["snapshots"]]


def compare(
    run: Callable[[Sequence[Row], Sampling], Sequence[Generation]], snapshots: Sequence[Snapshot]
) -> list[Generation]:
    """The answers to several snapshots in their order, one batch for each sampling among them.

    run: what answers rows: `lab.run`, which remembers what it answered, or `backend.generate`.
    """
    answers: dict[int, Generation] = {}
    for sampling in dict.fromkeys(snapshot.sampling for snapshot in snapshots):
        mine = [i for i, snapshot in enumerate(snapshots) if snapshot.sampling == sampling]
        made = run([snapshots[i].row for i in mine], sampling)
        answers |= dict(zip(mine, made, strict=True))
    return [answers[i] for i in range(len(snapshots))]
