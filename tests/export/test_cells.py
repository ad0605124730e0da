"""Generated cells run as they stand, those of nnsight where steerlab cannot be imported; their tokens are the lab's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import pytest
import torch
from cells import FAMILIES, PROMPT, as_lab_answers, direction, recipes, rows_of, run_without_steerlab

from steerlab import BASELINE, Ablate, Add, Direction, Lab, Recipe, Sampling, errors, estimators
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.export import nnsight_code
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


def pair_of(folder: Path, dtype: torch.dtype = torch.float32) -> Lab:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return Lab((model, AutoTokenizer.from_pretrained(folder)))


@pytest.mark.parametrize("opened", [Lab, pair_of])
def test_a_chat_template_that_was_changed_in_memory_is_the_cells(
    opened: Callable[[Path], Lab], tmp_path: Path
) -> None:
    saved_lab("llama", tmp_path)
    lab = opened(tmp_path)
    assert ".chat_template = " not in lab.to_code(BASELINE) + lab.to_code(BASELINE, form="steerlab")
    lab.tokenizer.chat_template = "{% for m in messages %}\n<{{ m['content'] }}>{% endfor %}"
    wanted = lab.generate(lab.prompt, max_new_tokens=8)
    made = ran(lab.to_code(BASELINE, form="steerlab", sampling=Sampling(8)))
    assert made["lab"].tokens_of(lab.prompt) == lab.tokens_of(lab.prompt)
    assert made["generation"].token_ids == wanted.token_ids
    alone = lab.to_code(BASELINE)
    template = lab.tokenizer.chat_template
    assert f"tokenizer.chat_template = {json.dumps(template)}\n" in alone


def test_a_template_that_cannot_be_looked_up_is_written(tmp_path: Path) -> None:
    lab = saved_lab("llama", tmp_path)
    cell = nnsight_code(lab.backend, Row("Hi"), Sampling(4), source="nobody/has-this")
    assert "tokenizer.chat_template = " in cell


def test_a_cell_says_where_its_weights_may_be_others(tmp_path: Path) -> None:
    said = f"# the weights are those of {str(tmp_path)!r}: what was changed of them in memory is not in this cell\n"
    loaded = saved_lab("llama", tmp_path)
    for form in ("nnsight", "steerlab"):
        assert said not in loaded.to_code(BASELINE, form=form)
        assert said in pair_of(tmp_path).to_code(BASELINE, form=form)
    with torch.no_grad():
        next(iter(loaded.backend._hf.parameters())).mul_(2)
    for form in ("nnsight", "steerlab"):
        assert said in loaded.to_code(BASELINE, form=form)


def test_a_pair_on_a_gpu_is_loaded_in_its_own_number_format(tmp_path: Path) -> None:
    saved_lab("llama", tmp_path, torch.bfloat16)
    lab = pair_of(tmp_path)
    lab.backend.info = replace(lab.info, device="cuda:0")
    there = f'"{tmp_path}", dtype=torch.float32, device_map="auto")'
    assert f"model = AutoModelForCausalLM.from_pretrained({there}\n" in lab.to_code(BASELINE, form="steerlab")


def test_a_cell_says_where_the_points_are_that_a_person_named(tmp_path: Path) -> None:
    saved_lab("llama", tmp_path)
    sites = {"attn_out": "model.layers.{layer}.mlp.output"}
    recipe = Recipe([Add(direction(), 2.0, layers=1, sites="attn_out")])
    for lab in (
        Lab(tmp_path, sites=sites),
        Lab((pair_of(tmp_path).backend._hf, byte_tokenizer()), sites=sites),
    ):
        made = ran(lab.to_code(recipe, form="steerlab", sampling=Sampling(8)))
        assert made["lab"].backend.given_sites == sites
        assert made["generation"].token_ids == lab.generate(lab.prompt, recipe, max_new_tokens=8).token_ids


def test_a_model_that_was_quantised_in_memory_is_no_cell(tmp_path: Path) -> None:
    saved_lab("llama", tmp_path)
    model = pair_of(tmp_path).backend._hf
    model.quantization_method = "bitsandbytes"
    lab = Lab((model, byte_tokenizer()))
    for form in ("nnsight", "steerlab"):
        with pytest.raises(errors.ModelError, match="was quantised in memory"):
            lab.to_code(BASELINE, form=form)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    quantised = {**config, "quantization_config": {"quant_method": "bitsandbytes"}}
    (tmp_path / "config.json").write_text(json.dumps(quantised), encoding="utf-8")
    assert "from_pretrained" in lab.to_code(BASELINE), "as it is where it is saved"


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
