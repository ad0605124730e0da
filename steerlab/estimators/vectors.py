"""Directions that need no prompts: the rows of tokens, and the random control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch

from steerlab.backends.base import Backend, Table
from steerlab.directions import Direction
from steerlab.errors import PromptError, SiteError
from steerlab.estimators.about import origin
from steerlab.interventions import Add
from steerlab.noise import seeded
from steerlab.prompts import Position, Prompt, several, token_id
from steerlab.recipes import Recipe
from steerlab.rows import Row
from steerlab.sites import Site

Tokens = int | str | Sequence[int | str]


def token_row(
    backend: Backend,
    tokens: Tokens,
    *,
    minus: Tokens = (),
    table: Table = "unembedding",
    site: Site,
    name: str | None = None,
) -> Direction:
    """The row of a token in the unembedding or the embedding matrix, as a direction at a site, unnormalised.

    tokens: one token, as text or id, or several, whose rows are averaged. minus: tokens whose mean row is subtracted:
    `token_row(backend, " yes", minus=" no", site=...)`. Rows of the unembedding are what the last blocks write along
    (the weights of the final norm are not folded in), those of the embedding what the first blocks read. Raises
    PromptError for a text of several tokens, with the tokens, and ModelError where the model has no such matrix.
    """
    if table not in get_args(Table):
        raise PromptError(f"table={table!r} is not known", f"Choose {' or '.join(get_args(Table))}.")
    plus_ids, minus_ids = (_ids(backend, given) for given in (tokens, minus))
    if not plus_ids:
        raise PromptError("no token is given", 'Give one, or several: " yes", or [" yes", " sure"].')
    rows = backend.token_rows([*plus_ids, *minus_ids], table)  # one job on a server
    vector = rows[: len(plus_ids)].mean(0)
    if minus_ids:
        vector = vector - rows[len(plus_ids) :].mean(0)
    plus_texts, minus_texts = ([backend.tokenizer.decode([i]) for i in ids] for ids in (plus_ids, minus_ids))
    found = Direction(
        vector,
        site,
        name=name or " - ".join(" + ".join(t.strip() for t in ts) for ts in (plus_texts, minus_texts) if ts),
        model=backend.info.name,
        provenance={
            "method": "token row",
            "table": table,
            "tokens": plus_texts,
            "minus": minus_texts,
            **origin(backend),
        },
    )
    backend.check(Recipe([Add(found)]))
    return found


def _ids(backend: Backend, tokens: Tokens) -> list[int]:
    several = [tokens] if isinstance(tokens, int | str) else tokens
    return [token_id(backend.tokenizer, token) for token in several]


def mean_projection(
    backend: Backend,
    direction: Direction,
    prompts: Sequence[Prompt],
    *,
    site: Site | None = None,
    position: Position | None = None,
    chat: bool = True,
) -> float:
    """The mean projection `x . u` of prompts on the unit vector of a direction. Of harmless prompts it is the value by
    which a Clamp is affine concept editing (Marshall et al. 2024).

    site: by default the direction's own. position: by default the one it was found at, or else the last token. Raises
    SiteError where no site is known, and PromptError for no prompts.
    """
    site = site or direction.site
    if site is None:
        raise SiteError(f"the direction {direction.name!r} has no site of its own", "Give one: site=Site(…).")
    prompts = several(prompts)
    backend.check(Recipe([Add(direction, sites=[site])]))
    where: Position = direction.provenance.get("position", -1) if position is None else position
    rows = [Row(prompt, chat=chat) for prompt in prompts]
    mean = backend.capture(rows, [site], "response" if where == "response" else [where]).mean
    return float(mean[0, 0] @ direction.unit.double())


def random_like(direction: Direction, *, seed: int = 0) -> Direction:
    """A random direction of the same norm and site: the control that every result is shown beside."""
    noise = torch.randn(direction.d_model, generator=seeded(seed))
    return Direction(
        noise * (direction.norm / noise.norm()),
        direction.site,
        name=f"random like {direction.name}",
        model=direction.model,
        residual_norm=direction.residual_norm,
        provenance={"method": "random", "seed": seed, "norm of": direction.name},
    )


def randomised(recipe: Recipe, *, seed: int = 0) -> Recipe:
    """The recipe with a random direction of the same norm in the place of each of its directions."""
    found = {id(d): d for step in recipe.interventions for d in step.directions}
    controls = {key: random_like(d, seed=seed + i) for i, (key, d) in enumerate(found.items())}
    return Recipe(
        [step.along(tuple(controls[id(d)] for d in step.directions)) for step in recipe.interventions]
    )
