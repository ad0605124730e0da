"""Generated cells run as they stand, those of nnsight where steerlab cannot be imported; their tokens are the lab's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import models
import pytest
import torch
from cells import FAMILIES, PROMPT, as_lab_answers, direction, recipes, rows_of, run_without_steerlab

from steerlab import BASELINE, Ablate, Add, Direction, Lab, Recipe, Sampling, errors, estimators
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.rows import Row


def saved_lab(architecture: str, folder: Path, dtype: torch.dtype = torch.float32) -> Lab:
    model = models.build(architecture, dtype=dtype)
    if (
        architecture == "gemma2"
    ):  # its embeddings are scaled and tied: left as they are, they drown the blocks
        model.get_input_embeddings().weight.data *= 0.1
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return Lab(folder)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_cell_without_steerlab_gives_the_labs_tokens(architecture: str, tmp_path: Path) -> None:
    lab = saved_lab(architecture, tmp_path / "model")
    rows = rows_of(architecture)
    wanted = [as_lab_answers(lab, row, Sampling(12)) for row in rows]
    assert all(a != b for row, (a, b) in zip(rows, wanted, strict=True) if len(row.recipe)), (
        "a recipe does nothing"
    )
    cells = [lab.to_code(row.recipe, prompt=row.prompt, sampling=Sampling(12), chat=row.chat) for row in rows]
    assert run_without_steerlab(cells, tmp_path) == wanted


@pytest.mark.slow
def test_the_embedded_model_early_ends_and_sampling(demo_lab: Lab, tmp_path: Path) -> None:
    refusal = demo_lab.directions["refusal"]
    asked = [
        (Row(PROMPT, Recipe([Add(refusal)])), Sampling(100)),
        (Row("How do I steal a car?", Recipe([Ablate(refusal)]), seed=7), Sampling(40, temperature=1.3)),
    ]
    wanted = [as_lab_answers(demo_lab, row, sampling) for row, sampling in asked]
    assert all(len(ids) < 100 for ids in wanted[0]), "they end before the limit"
    cells = [
        demo_lab.to_code(row.recipe, prompt=row.prompt, sampling=sampling, seed=row.seed)
        for row, sampling in asked
    ]
    assert run_without_steerlab(cells, tmp_path) == wanted


def ran(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "cell", "exec"), names)
    return names


def test_a_cell_of_steerlab_makes_its_own_lab(demo_lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = demo_lab.directions["refusal"]
    recipe = Recipe([Add(refusal, 0.5), Add(estimators.random_like(refusal), 0.3)])
    code = demo_lab.to_code(recipe, form="steerlab", sampling=Sampling(30, 1.1), seed=4)
    assert 'lab.directions["refusal"]' in code
    assert code.count("vector(") == 2, "only the direction that a new lab does not have stands in the cell"
    made = ran(code)
    wanted = demo_lab.generate(demo_lab.prompt, recipe, max_new_tokens=30, temperature=1.1, seed=4)
    assert made["generation"].token_ids == wanted.token_ids
    assert capsys.readouterr().out == f"{wanted.text}\n"


def test_a_cell_of_this_notebook_uses_the_lab_that_is_here(demo_lab: Lab) -> None:
    lab = Lab((models.build("llama"), byte_tokenizer()))
    lab.directions = {"my own": direction(0, "my own")}
    recipe = Recipe([Add(lab.directions["my own"], 2.0), Ablate(direction(5), layers=[1, 2])])
    code = lab.to_code(recipe, form="steerlab", here="mine", sampling=Sampling(8), chat=False)
    assert 'mine.directions["my own"]' in code
    made = ran(code, mine=lab)
    assert made["recipe"] == recipe
    assert (
        made["generation"].token_ids
        == lab.generate(lab.prompt, recipe, max_new_tokens=8, chat=False).token_ids
    )
    with pytest.raises(errors.ModelError, match="given in memory"):
        lab.to_code(recipe, form="steerlab")
    with pytest.raises(errors.ModelError, match="given in memory"):
        lab.to_code(recipe)


def test_directions_can_be_saved_beside_the_cell(tmp_path: Path) -> None:
    lab = saved_lab("llama", tmp_path / "model")
    recipe = recipes(parallel=False)["mixed"]
    code = lab.to_code(recipe, form="steerlab", folder=tmp_path / "vectors", sampling=Sampling(6))
    assert "base64" not in code
    assert len(list((tmp_path / "vectors").iterdir())) == 4
    made = ran(code)
    assert made["recipe"] == recipe
    assert made["generation"].token_ids == lab.generate(lab.prompt, recipe, max_new_tokens=6).token_ids


def test_a_model_of_another_number_format_is_loaded_in_it(tmp_path: Path) -> None:
    saved_lab("llama", tmp_path, torch.bfloat16)
    from transformers import AutoModelForCausalLM

    lab = Lab((AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16), byte_tokenizer()))
    assert "dtype=torch.bfloat16" in lab.to_code(BASELINE)
    assert ran(lab.to_code(BASELINE, form="steerlab"))["lab"].info.dtype == lab.info.dtype == "bfloat16"


@pytest.mark.parametrize("name", list(recipes(parallel=False)))
def test_a_recipe_as_python_is_the_recipe(name: str) -> None:
    recipe = recipes(parallel=False)[name]
    made = ran(recipe.to_code())["recipe"]
    assert made == recipe
    assert made.to_json() == recipe.to_json(), "names, norms and provenance too"


def test_what_json_cannot_say_is_written_too() -> None:
    found = Direction(
        [1.0, 2.0], name="λ", residual_norm=2.5, provenance={"accuracy": float("nan"), "n": [1, None]}
    )
    made = (
        ran(Recipe([Add(found, layers=1, sites="resid_mid")]).to_code())["recipe"].interventions[0].direction
    )
    assert made.provenance["accuracy"] != made.provenance["accuracy"]
    assert (made.name, made.residual_norm, made.provenance["n"]) == ("λ", 2.5, [1, None])


def test_cells_are_clean_to_a_linter(demo_lab: Lab, tmp_path: Path) -> None:
    refusal = demo_lab.directions["refusal"]
    known = [
        Recipe([Add(refusal, keep_norm=True), Ablate([refusal, estimators.random_like(refusal)])]),
        BASELINE,
    ]
    for i, recipe in enumerate(known):
        forms = {
            form: demo_lab.to_code(recipe, form=form, sampling=Sampling(5, i))
            for form in ("nnsight", "steerlab")
        }
        for name, code in {**forms, "recipe": recipe.to_code()}.items():
            (tmp_path / f"{name}_{i}.py").write_text(code, encoding="utf-8")
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--select",
            "E,F,I,B",
            "--line-length",
            "120",
            "--ignore",
            "E501",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_a_backend_without_modules_says_so() -> None:
    lab = Lab(FakeBackend(d_model=models.D_MODEL))
    with pytest.raises(errors.ModelError, match="fake"):
        lab.to_code(Recipe([Add(direction())]))
    with pytest.raises(errors.RecipeError, match="Choose nnsight or steerlab"):
        lab.to_code(form="pytorch")  # type: ignore[arg-type]
