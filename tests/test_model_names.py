"""What a model is called, and that what was found, shared or measured under its shorter name fits it still."""

from __future__ import annotations

import warnings
from pathlib import Path

import models
import pytest
import torch

from steerlab import Add, Direction, Lab, Recipe, Sampling, Site, errors, open_shared, share
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.rows import same_model


def lab(path: str, name: str | None = None) -> Lab:
    """A lab of a model that transformers loaded from here."""
    model = models.build("llama")
    model.name_or_path = path
    return Lab(LocalBackend(model, byte_tokenizer(), name=name) if name else (model, byte_tokenizer()))


def test_a_pair_has_the_name_that_its_id_or_folder_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    names = {
        "org/tiny": "org/tiny",
        "gpt2": "gpt2",
        str(tmp_path / "mine"): "mine",
        ".": "mine",
        "../mine": "mine",
        str(tmp_path / "gone"): "gone",
        "./runs/gone": "gone",
        "": "LlamaForCausalLM",
    }
    assert {path: lab(path).info.name for path in names} == names


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("org/tiny", "org/tiny", True),
        ("org/tiny", "tiny", True),
        ("org/tiny", "other/tiny", False),
        ("org/tiny", "iny", False),
        ("tiny", "small", False),
        ("tiny", "", False),
    ],
)
def test_names_of_one_model(one: str, other: str, same: bool) -> None:
    assert same_model(one, other) is same_model(other, one) is same


@pytest.mark.parametrize("names", [("org/tiny", "tiny"), ("tiny", "org/tiny"), ("org/tiny", "org/tiny")])
def test_what_was_made_under_one_name_fits_under_the_other(names: tuple[str, str], tmp_path: Path) -> None:
    there, here = (lab("org/tiny", name) for name in names)
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(0))
    found = Direction(noise, Site(1, "resid_pre"), name="v", model=there.info.name)
    recipe = Recipe([Add(found)])
    assert (
        here.generate("Hi", recipe, max_new_tokens=3).token_ids
        == there.generate("Hi", recipe, max_new_tokens=3).token_ids
    )
    there.recipe = recipe
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_shared(share(there), here).recipe == recipe
    path = tmp_path / "sweep.jsonl"
    first, again = (
        one.sweep(found, prompts=["Hi"], metrics=["kl"], coefficients=[1], sampling=Sampling(3), path=path)
        for one in (there, here)
    )
    assert first.to_frame().equals(again.to_frame())
    assert path.read_text().count("\n") == 1 + len(first.to_frame())


def test_another_model_of_the_same_last_name_is_refused() -> None:
    foreign = Direction(torch.ones(models.D_MODEL), Site(1, "resid_pre"), model="other/tiny")
    with pytest.raises(errors.RecipeError, match="found in other/tiny, and this model is org/tiny"):
        lab("org/tiny").generate("Hi", Recipe([Add(foreign)]), max_new_tokens=3)
