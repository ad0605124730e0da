"""Rows: a row is a prompt with a recipe, and everything that steerlab does is rows.

A backend answers a batch of rows, whatever their mix. For that the recipes are lowered: for every site that any row
touches, a short list of dense operands over all rows, in which a row that is not concerned has strength zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerlab.edits import Operand
from steerlab.errors import DirectionError, RecipeError, SteerlabError
from steerlab.prompts import Prompt
from steerlab.recipes import BASELINE, SCOPES, Add, Recipe
from steerlab.sites import Site


@dataclass(frozen=True)
class Row:
    """A prompt with a recipe. seed: of the row's own noise when sampling. chat: whether the chat template is used."""

    prompt: Prompt
    recipe: Recipe = BASELINE
    seed: int = 0
    chat: bool = True


@dataclass
class Slot:
    """One step of arithmetic at one site, for all rows: `kind` with per-row vectors, strengths and token scopes.

    vectors: [rows d_model]; strength: [rows]; scope: [rows], an index into SCOPES.
    """

    kind: str
    vectors: Tensor
    strength: Tensor
    scope: Tensor


class Plan:
    """The recipes of a batch of rows, lowered.

    sites: the sites that any row touches, in forward order. `operands` gives what to do at one of them in one forward
    pass.
    """

    def __init__(
        self, recipes: Sequence[Recipe], *, n_layers: int, d_model: int, model: str | None = None
    ) -> None:
        self.n_rows = len(recipes)
        self._slots: dict[Site, list[Slot]] = {}
        for row, recipe in enumerate(recipes):
            cursor: dict[Site, int] = {}
            for step in recipe.interventions:
                check_fits(step.direction.d_model, step.direction.model, step.direction.name, d_model, model)
                for site in step.resolve(n_layers):
                    slot = self._slot(site, step.kind, cursor, d_model)
                    if isinstance(step, Add):
                        slot.vectors[row], slot.strength[row] = step.direction.vector, step.coefficient
                    else:
                        slot.vectors[row], slot.strength[row] = step.direction.unit, step.strength
                    slot.scope[row] = SCOPES.index(step.tokens)
        self.sites: tuple[Site, ...] = tuple(sorted(self._slots))
        self._touched = [
            [
                {s for step in r.interventions if step.tokens in scopes for s in step.resolve(n_layers)}
                for r in recipes
            ]
            for scopes in (("all", "prompt"), ("all", "generated"))
        ]

    def touched(self, row: int, generated: bool) -> set[Site]:
        """The sites where a row's recipe acts on the prompt, or on a generated token: "applied on n of n" counts
        them.
        """
        return self._touched[generated][row]

    def _slot(self, site: Site, kind: str, cursor: dict[Site, int], d_model: int) -> Slot:
        """The first slot of this kind after the row's last one at the site: keeps each recipe's own order."""
        slots = self._slots.setdefault(site, [])
        index = next((i for i in range(cursor.get(site, 0), len(slots)) if slots[i].kind == kind), len(slots))
        if index == len(slots):
            n = self.n_rows
            slots.append(
                Slot(kind, torch.zeros(n, d_model), torch.zeros(n), torch.zeros(n, dtype=torch.long))
            )
        cursor[site] = index + 1
        return slots[index]

    def operands(self, generated: Tensor, device: torch.device | str) -> dict[Site, list[Operand]]:
        """The operands of a forward pass over `generated` [rows pos], True where a token is generated, not prompt."""
        return {
            site: [
                (
                    slot.kind,
                    slot.vectors[:, None].to(device),
                    slot.strength[:, None, None].to(device),
                    _where(slot.scope, generated, device),
                )
                for slot in slots
            ]
            for site, slots in self._slots.items()
        }


def _where(scope: Tensor, generated: Tensor, device: torch.device | str) -> Tensor | None:
    if not scope.any():
        return None
    scope = scope[:, None]
    wanted = (scope == SCOPES.index("all")) | (generated == (scope == SCOPES.index("generated")))
    return wanted[..., None].to(device)


def check_fits(width: int, found_in: str | None, name: str, d_model: int, model: str | None) -> None:
    """Raise where a direction cannot be used in a model: another width, or found in another model."""
    error: SteerlabError | None = None
    if width != d_model:
        error = DirectionError(
            f"the direction {name!r} has d_model {width}, and {model or 'the model'} has {d_model}",
            "It was found in another model: find it again in this one.",
        )
    elif found_in is not None and model is not None and found_in != model:
        error = RecipeError(
            f"the direction {name!r} was found in {found_in}, and this model is {model}",
            "To use it here on purpose, take direction.transferred_to(lab.info.name).",
        )
    if error:
        raise error
