"""What the panel has no row for stays in the recipe when a person moves something else."""

from __future__ import annotations

import torch

from steerlab import Ablate, Add, Clamp, Direction, Gate, Recipe, Site
from steerlab.ui.translate import named, recipe_of, steering_of

V = Direction(torch.ones(4), Site(1, "resid_pre"), name="v")
W = Direction(torch.arange(1.0, 5.0), Site(2, "resid_pre"), name="w")


def test_hidden_steps_keep_their_place() -> None:
    clamp, gated = Clamp(V, 2.0, gate=Gate(W)), Ablate(W, gate=Gate(V))
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


def test_a_clamp_has_a_row_and_acts_at_zero_too() -> None:
    before = Recipe([Clamp(V, 2.0, tokens="generated")])
    (row,) = steering_of(before, {"v": V}, 4)
    assert (row.mode, row.coefficient, row.tokens) == ("clamp", 2.0, "generated")
    zero = recipe_of([row.model_copy(update={"coefficient": 0.0})], {"v": V}, 4, before)
    assert zero == Recipe([Clamp(V, 0.0, tokens="generated")])
    every = [(layer, "attn_out") for layer in range(4)]
    whole = recipe_of([row.model_copy(update={"cells": every})], {"v": V}, 4, before)
    assert whole == Recipe([Clamp(V, 2.0, layers="all", sites="attn_out", tokens="generated")])


def test_chosen_tokens_are_a_row_of_the_panel() -> None:
    before = Recipe([Add(V, 1.0, tokens=[-3, -2])])
    (row,) = rows = steering_of(before, {"v": V}, 4)
    assert row.tokens == [-3, -2]
    assert recipe_of(rows, {"v": V}, 4, before) == before
    more = row.model_copy(update={"tokens": [-1, -3, -2]})  # in the order in which they were clicked
    assert recipe_of([more], {"v": V}, 4, before) == Recipe([Add(V, 1.0, tokens=[-3, -2, -1])])


def test_a_row_without_a_token_does_nothing_and_stays() -> None:
    (row,) = steering_of(Recipe([Add(V, 1.0, tokens=[-1])]), {"v": V}, 4)
    none = row.model_copy(update={"tokens": []})
    assert recipe_of([none], {"v": V}, 4) == Recipe([])
    assert steering_of(Recipe([]), {"v": V}, 4, [none]) == [none]
