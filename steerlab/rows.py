"""Rows: a row is a prompt with a recipe, and everything that steerlab does is rows.

A backend answers a batch of rows, whatever their mix. For that the recipes are lowered: for every site that any row
touches, a short list of dense operands over all rows, in which a row that is not concerned has strength zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from steerlab.directions import Direction
from steerlab.edits import Operand
from steerlab.errors import DirectionError, PromptError, RecipeError, SteerlabError
from steerlab.interventions import Intervention, Lowered, Tokens
from steerlab.noise import checked_seed, derived
from steerlab.prompts import Prompt, json_of
from steerlab.reach import Reach, acts, reach
from steerlab.recipes import BASELINE, Recipe, checked_recipe
from steerlab.sites import Site


@dataclass(frozen=True)
class Row:
    """A prompt with a recipe. seed: of the row's noise when sampling, which rows of one seed share. chat: whether the
    chat template is used. A conversation is copied: one that goes on elsewhere does not change the row, nor its answer.
    """

    prompt: Prompt
    recipe: Recipe = BASELINE
    seed: int = 0
    chat: bool = True

    def __post_init__(self) -> None:
        checked_recipe(self.recipe)
        if isinstance(self.prompt, list | tuple):
            turns = (dict(turn) if isinstance(turn, Mapping) else turn for turn in self.prompt)
            object.__setattr__(self, "prompt", type(self.prompt)(turns))
        object.__setattr__(self, "seed", checked_seed(self.seed))


def checked_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows of a list of them. Raises PromptError for what is no row, and for one in the place of a list."""
    if not isinstance(rows, Iterable):
        raise PromptError(f"rows is one {type(rows).__name__}", "Give a list, also of one: [Row(prompt)].")
    found = list(rows)
    for row in found:
        if not isinstance(row, Row):
            raise PromptError(f"{row!r} is no row", "Give a prompt with a recipe: Row(prompt, recipe).")
    return found


def seeds(prompts: Sequence[Prompt], seed: int) -> list[int]:
    """A seed for the rows of each prompt, drawn from one seed. Sampled answers to prompts that shared their noise would
    go alike, and a mean over them be less certain than its interval says.

    A prompt has the same seed whatever stands beside it; where it is given again it has another.
    """
    return [derived(seed, f"{nth} {asked}") for asked, nth in occurrences(prompts)]


def occurrences(prompts: Iterable[Prompt]) -> list[tuple[str, int]]:
    """Each prompt as JSON, and how often it was given before."""
    before: Counter[str] = Counter()
    found = []
    for asked in map(json_of, prompts):
        found.append((asked, before[asked]))
        before[asked] += 1
    return found


class Slot(NamedTuple):
    """One step of arithmetic at one site, for all rows: per row the intervention that takes it, or None."""

    kind: str
    steps: list[Intervention | None]


class Plan:
    """The recipes of a batch of rows, lowered.

    sites: the sites that any row touches, in forward order. `operands` gives what to do at each in one forward pass.
    reaches: what the recipes come down to (`reach.reach`), where that is known already; steps that are not there are
    left out. Raises for a recipe that does not fit the model.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        *,
        n_layers: int,
        d_model: int,
        model: str | None = None,
        reaches: Sequence[Reach] | None = None,
    ) -> None:
        self._d_model = d_model
        self._lowered: dict[int, Lowered] = {}
        self._slots: dict[Site, list[Slot]] = {}
        for row, recipe in enumerate(recipes):
            cursor: dict[Site, int] = {}
            for step in recipe.interventions:
                if id(step) not in self._lowered:
                    for direction in step.involved:
                        check_fits(direction, d_model, model)
                    self._lowered[id(step)] = step.lower()
            for site, steps in (
                reaches[row] if reaches else reach(recipe, n_layers, whole=True)
            ).steps.items():
                for step in steps:
                    self._slot(site, self._lowered[id(step)].kind, cursor, len(recipes)).steps[row] = step
        self.sites: tuple[Site, ...] = tuple(sorted(self._slots))
        self._recipes, self._n_layers = recipes, n_layers

    def touched(self, row: int, generated: bool) -> set[Site]:
        """Where a row's recipe acts on the prompt, or on a generated token."""
        return {
            site
            for step in self._recipes[row].interventions
            if acts(step, generated)
            for site in step.resolve(self._n_layers)
        }

    def _slot(self, site: Site, kind: str, cursor: dict[Site, int], n_rows: int) -> Slot:
        """The first slot of this kind after the row's last one at the site: keeps each recipe's own order."""
        slots = self._slots.setdefault(site, [])
        index = next((i for i in range(cursor.get(site, 0), len(slots)) if slots[i].kind == kind), len(slots))
        if index == len(slots):
            slots.append(Slot(kind, [None] * n_rows))
        cursor[site] = index + 1
        return slots[index]

    def operands(self, index: Tensor, device: torch.device | str) -> dict[Site, list[Operand]]:
        """The operands of a forward pass over the tokens `index` [rows pos], or [1 pos] where all rows are alike.

        A token's index counts from the end of its row's prompt: -1 is the last prompt token, 0 the first generated one.
        """
        ready: dict[tuple[int | None, ...], Operand | None] = {}
        found: dict[Site, list[Operand]] = {}
        for site, slots in self._slots.items():
            for slot in slots:
                # the same interventions at many sites are one operand
                key = tuple(None if step is None else id(step) for step in slot.steps)
                if key not in ready:
                    operand = self._operand(slot, index)
                    ready[key] = operand and operand.to(device)
                if (here := ready[key]) is not None:
                    found.setdefault(site, []).append(here)
        return found

    def _operand(self, slot: Slot, index: Tensor) -> Operand | None:
        """A slot's operand in a pass; None where it acts on none of the tokens."""
        where = _where([step.tokens if step else None for step in slot.steps], index)
        if where is not None and not where.any():
            return None
        n, d = len(slot.steps), self._d_model
        steps = [(row, step, self._lowered[id(step)]) for row, step in enumerate(slot.steps) if step]
        k = max(len(lowered.vectors) for _, _, lowered in steps)
        vectors, strength, target = torch.zeros(n, k, d), torch.zeros(n, 1, 1), torch.zeros(n, 1, k)
        gate, threshold = torch.zeros(n, 1, d), torch.full((n, 1, 1), -torch.inf)
        for row, step, lowered in steps:
            vectors[row, : len(lowered.vectors)] = lowered.vectors
            strength[row] = lowered.strength
            if lowered.target is not None:
                target[row, 0, : len(lowered.target)] = lowered.target
            if step.gate:
                gate[row, 0], threshold[row] = step.gate.direction.unit, step.gate.threshold
        if where is not None and bool((where == where[:, :1]).all()):
            strength, where = (
                strength * where[:, :1],
                None,
            )  # a row's tokens are alike: no need to choose among them
        gated = any(step.gate for _, step, _ in steps)
        return Operand(
            slot.kind,
            vectors,
            strength,
            target if target.any() else None,
            where,
            gate if gated else None,
            threshold if gated else None,
            strength * vectors,
            vectors.mT,
        )


def _where(tokens: Sequence[Tokens | None], index: Tensor) -> Tensor | None:
    """The tokens of a pass at which each row's step acts, `[rows pos 1]`; None for all of them."""
    if all(scope is None or scope == "all" for scope in tokens):
        return None
    index = index.expand(len(tokens), -1)
    wanted = torch.ones_like(index, dtype=torch.bool)
    for row, scope in enumerate(tokens):
        if scope is None:
            wanted[row] = False
        elif scope == "prompt":
            wanted[row] = index[row] < 0
        elif scope == "generated":
            wanted[row] = index[row] >= 0
        elif isinstance(scope, tuple):
            wanted[row] = torch.isin(index[row], torch.tensor(scope))
    return wanted[..., None]


def same_model(one: str, other: str) -> bool:
    """Whether two names are of one model. A folder's name, which stands alone, is that of the id with its last part."""
    short, long = sorted((one, other), key=lambda name: name.count("/"))
    return one == other or ("/" not in short and long.endswith(f"/{short}"))


def check_fits(direction: Direction, d_model: int, model: str | None) -> None:
    """Raise where a direction cannot be used in a model: another width, or found in another model."""
    error: SteerlabError | None = None
    if direction.d_model != d_model:
        error = DirectionError(
            f"the direction {direction.name!r} has d_model {direction.d_model}, and the model has {d_model}",
            "It was found in another model: find it again in this one.",
        )
    elif direction.model is not None and model is not None and not same_model(direction.model, model):
        error = RecipeError(
            f"the direction {direction.name!r} was found in {direction.model}, and this model is {model}",
            "To use it here on purpose, take direction.transferred_to(lab.info.name).",
        )
    if error:
        raise error
