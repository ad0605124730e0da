from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steerlab import BASELINE, Ablate, Add, Clamp, Direction, Gate, Recipe, Site
from steerlab.errors import DirectionError, FileError, RecipeError, SiteError
from steerlab.recipes import conflicts

V = Direction([3.0, 4.0], Site(2, "resid_pre"), name="v", model="tiny", provenance={"method": "by hand"})
W = Direction([1.0, 0.0], name="w")


def test_addition_acts_where_the_direction_was_found() -> None:
    assert Add(V).resolve(4) == (Site(2, "resid_pre"),)
    assert Add(V, layers=[1, 3]).resolve(4) == (Site(1, "resid_pre"), Site(3, "resid_pre"))
    assert Add(V, sites="mlp_out").resolve(4) == (Site(2, "mlp_out"),)
    with pytest.raises(RecipeError, match="does not say where it was found"):
        Add(W)


def test_ablation_acts_on_the_papers_set() -> None:
    sites = Ablate(V).resolve(3)
    assert len(sites) == 9
    assert {s.point for s in sites} == {"resid_pre", "attn_out", "mlp_out"}
    assert Ablate(V, layers=range(1, 3), sites="resid_mid").resolve(3) == (
        Site(1, "resid_mid"),
        Site(2, "resid_mid"),
    )


def test_sites_stand_for_themselves_and_points_for_every_layer() -> None:
    one = Ablate(V, layers=[0], sites=["resid_pre", Site(2, "mlp_out"), Site(0, "resid_pre")])
    assert one.resolve(3) == (Site(0, "resid_pre"), Site(2, "mlp_out"))


@pytest.mark.parametrize(
    ("layers", "tokens"),
    [
        (np.arange(2, 4), np.array([-2, -1])),
        (torch.arange(2, 4), torch.tensor([-2, -1])),
        (iter([np.int64(3), 2]), iter([np.int8(-1), -2])),
    ],
)
def test_layers_and_tokens_of_numpy_and_torch_are_pythons_own(layers: Any, tokens: Any) -> None:
    got, plain = (
        Recipe([Add(V, layers=layers, tokens=tokens)]),
        Recipe([Add(V, layers=[2, 3], tokens=[-2, -1])]),
    )
    assert got == plain
    assert got.to_json() == plain.to_json()
    assert (
        Add(V, layers=np.int64(3), tokens=torch.tensor(-1)).to_dict()
        == Add(V, layers=3, tokens=[-1]).to_dict()
    )


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Add(V, layers=4).resolve(4), SiteError, "layer 4 is out of range: the model has 4 layers"),
        (lambda: Add(V, sites=[Site(7, "resid_pre")]).resolve(4), SiteError, "layer 7"),
        (lambda: Add(V, layers="some"), SiteError, "'some' is not known"),
        (lambda: Add(V, layers=[-1]), SiteError, "whole number"),
        (lambda: Add(V, layers=3.5), SiteError, "whole number from 0, not 3.5"),
        (lambda: Add(V, layers=True), SiteError, "whole number"),
        (lambda: Add(V, layers=torch.tensor([True])), SiteError, "whole number"),
        (lambda: Add(V, tokens=np.array([-1.0])), RecipeError, "no positions of a prompt"),
        (lambda: Add(V, tokens=3), RecipeError, "no positions of a prompt"),
        (lambda: Add(V, sites="residual"), SiteError, "no point 'residual'"),
        (lambda: Add(V, tokens="last"), RecipeError, "all, prompt, generated"),
        (lambda: Add(V, float("nan")), RecipeError, "finite"),
        (lambda: Ablate(V, strength=float("inf")), RecipeError, "finite"),
        (lambda: Add([1.0, 2.0]), DirectionError, "not list"),
        (lambda: Recipe([V]), RecipeError, "not of Direction"),
        (lambda: Add(V, tokens=[0, -1]), RecipeError, "no positions of a prompt"),
        (lambda: Add(V, tokens=[]), RecipeError, "no positions of a prompt"),
        (lambda: Ablate([]), DirectionError, "no direction was given"),
        (lambda: Ablate([V, Direction([1.0, 2.0, 3.0])]), DirectionError, r"widths \[2, 3\]"),
        (lambda: Ablate("refusal"), DirectionError, "not str"),
        (
            lambda: Ablate([V, W], one_sided=True),
            RecipeError,
            r"of one direction, not of 2.*one Ablate for each",
        ),
        (lambda: Clamp(V, float("nan")), RecipeError, "finite"),
        (lambda: Clamp(W, 1.0), RecipeError, "does not say where it was found"),
        (lambda: Gate(V, float("inf")), RecipeError, "finite"),
        (lambda: Gate([1.0]), DirectionError, "not list"),
    ],
)
def test_bad_interventions_are_refused(make: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()  # type: ignore[operator]


RECIPES = [
    BASELINE,
    Recipe([Add(V, 0.5)]),
    Recipe(
        [Ablate(V), Add(W, -2, layers=[0, 1], sites=["resid_mid", Site(1, "mlp_out")], tokens="generated")]
    ),
    Recipe([Ablate(V, layers=[1], strength=0.3), Add(V, 1.0)]),
    Recipe([Ablate(W, one_sided=True), Add(V, 1.0, keep_norm=True, gate=Gate(W, 0.5))]),
    Recipe([Clamp(V, -1.5, layers="all", sites="resid_mid", tokens=[-3, -1], gate=Gate(V))]),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_json_keeps_everything(recipe: Recipe, tmp_path: Path) -> None:
    back = Recipe.load(recipe.save(tmp_path / "r.steer.json"))
    assert back == recipe
    assert [(type(s), s.to_dict()) for s in back.interventions] == [
        (type(s), s.to_dict()) for s in recipe.interventions
    ]
    assert [s.direction.to_dict() for s in back.interventions] == [
        s.direction.to_dict() for s in recipe.interventions
    ]


def test_a_direction_used_twice_is_written_once() -> None:
    assert len(json.loads(RECIPES[3].to_json())["directions"]) == 1


def test_fingerprints_tell_recipes_apart() -> None:
    variants = [
        *RECIPES,
        Recipe([Add(V, 0.6)]),
        Recipe([Add(2 * V, 0.5)]),
        Recipe([Add(V, 0.5, tokens="prompt")]),
        Recipe([Add(V, 0.5, layers=[1])]),
        Recipe([Add(V, 1.0), Ablate(V, layers=[1], strength=0.3)]),
        Recipe([Add(V, 0.5, keep_norm=True)]),
        Recipe([Add(V, 0.5, gate=Gate(V))]),
        Recipe([Add(V, 0.5, gate=Gate(V, 1.0))]),
        Recipe([Add(V, 0.5, gate=Gate(W))]),
        Recipe([Add(V, 0.5, tokens=[-1])]),
        Recipe([Ablate([V, W])]),
        Recipe([Ablate([W, V])]),
    ]
    assert len({r.fingerprint for r in variants}) == len(set(variants)) == len(variants)
    renamed = Direction(V.vector, V.site, name="another name")
    assert Recipe([Add(renamed, 0.5)]) == Recipe([Add(V, 0.5)])


def test_damaged_files_say_so_at_every_cut(tmp_path: Path) -> None:
    path = RECIPES[2].save(tmp_path / "r.steer.json")
    whole = path.read_text()
    for cut in range(0, len(whole) - 2, 17):
        path.write_text(whole[:cut])
        with pytest.raises(FileError, match=r"r\.steer\.json.*truncated"):
            Recipe.load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format="steerlab.recipe/9"), "newer steerlab"),
        (lambda d: d["interventions"][0].update(strength=0.5), "altered after it was saved"),
        (lambda d: d["interventions"][0].update(kind="explode"), "damaged"),
        (lambda d: d["interventions"][0].update(directions=[5]), "damaged"),
        (lambda d: d["interventions"][1].pop("tokens"), "altered"),
        (lambda d: d["directions"][0].update(vector="!!"), "damaged"),
        (lambda d: d["directions"][0].update(vector="AADAfw=="), "damaged|altered"),
        (lambda d: d.pop("directions"), "damaged"),
    ],
)
def test_altered_files_are_refused(change: object, says: str) -> None:
    data = json.loads(RECIPES[2].to_json())
    change(data)  # type: ignore[operator]
    with pytest.raises(FileError, match=says):
        Recipe.from_json(json.dumps(data))


def test_a_file_with_a_step_that_is_no_longer_taken_says_what_to_do_instead() -> None:
    data = json.loads(Recipe([Ablate([V, W])]).to_json())
    data["interventions"][0].update(one_sided=True)  # as earlier versions took it
    with pytest.raises(FileError, match="one-sided ablation is of one direction, not of 2") as caught:
        Recipe.from_json(json.dumps(data))
    assert caught.value.fix == "Give one Ablate for each."


@pytest.mark.parametrize("text", ["[]", "null", "3", '{"cells": []}', '"text"'])
def test_other_json_is_no_recipe(text: str) -> None:
    with pytest.raises(FileError, match="no recipe"):
        Recipe.from_json(text)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere\.steer\.json"):
        Recipe.load(tmp_path / "nowhere.steer.json")


def test_conflicts_are_told() -> None:
    add, ablate, clamp = Add(V, 1.0), Ablate(V), Clamp(V, 1.0)
    assert conflicts(Recipe([ablate, add]), 4) == []
    assert conflicts(Recipe([ablate, ablate]), 4) == []
    assert conflicts(Recipe([add, Ablate(W)]), 4) == []
    assert conflicts(Recipe([Add(V, 1.0, tokens="prompt"), Ablate(V, tokens="generated")]), 4) == []
    for undone in (Recipe([add, ablate]), Recipe([ablate, clamp]), Recipe([clamp, clamp])):
        (told,) = conflicts(undone, 4)
        assert "is undone at resid_pre[2] by" in told
    (told,) = conflicts(Recipe([Add(V, 1.0, layers="all", sites=["resid_pre", "resid_post"])]), 4)
    assert "acts twice on one stream: output of block 0 = input of block 1" in told


def test_coefficients_can_be_given_in_residual_norms() -> None:
    known = Direction([3.0, 4.0], Site(2, "resid_pre"), residual_norm=20.0)
    assert known.coefficient(norms=0.5) == 2.0
    with pytest.raises(DirectionError, match=r"residual norm .* is not known"):
        V.coefficient(norms=0.5)
