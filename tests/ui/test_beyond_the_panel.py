"""What the panel has no row for stays in the recipe when a person moves something else."""

from __future__ import annotations

import torch

from steerlab import Ablate, Add, Clamp, Direction, Gate, Recipe, Site
from steerlab.ui.translate import named, recipe_of, steering_of

V = Direction(torch.ones(4), Site(1, "resid_pre"), name="v")
W = Direction(torch.arange(1.0, 5.0), Site(2, "resid_pre"), name="w")


def test_hidden_steps_keep_their_place() -> None:
    clamp, gated = Clamp(V, 2.0), Ablate(W, gate=Gate(V))
    before = Recipe([clamp, Add(V, 1.0), gated])
    table = named(before, {})
    assert set(table) == {"v"}, "only what has a row is listed"
    rows = steering_of(before, table, 4)
    assert [(row.direction, row.coefficient) for row in rows] == [("v", 1.0)]
    moved = recipe_of([rows[0].model_copy(update={"coefficient": 0.5})], table, 4, before)
    assert moved == Recipe([clamp, Add(V, 0.5), gated])
    assert recipe_of(rows, table, 4, before) == before
    off = recipe_of([rows[0].model_copy(update={"enabled": False})], table, 4, before)
    assert off == Recipe([clamp, gated])
