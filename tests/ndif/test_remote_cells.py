"""Cells for a model on a server run where steerlab cannot be imported, and give the tokens of the lab there."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from cells import FAMILIES, PROMPT, as_lab_answers, direction, recipes, rows_of, run_without_steerlab
from hub import hub
from ndif_server import far_lab

from steerlab import BASELINE, Ablate, Add, Lab, Recipe, Sampling, errors, estimators
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.export import nnsight_code
from steerlab.rows import Row
from steerlab.serving.server import Server
from steerlab.ui import code
from steerlab.ui.asks import Tell

# the others take as long again, and come with the opt-in tests
ALL = os.environ.get("STEERLAB_NDIF") == "sandbox"
SOME = [
    name
    if name in ("llama", "gemma2")
    else pytest.param(name, marks=pytest.mark.skipif(not ALL, reason="asked for with STEERLAB_NDIF=sandbox"))
    for name in FAMILIES
]
HOSTED, OWN, SECRET = "https://api.ndif.us", "http://127.0.0.1:9", "a-key-that-nobody-may-see"


@pytest.mark.ndif
@pytest.mark.slow
@pytest.mark.parametrize("architecture", SOME)
def test_a_cell_without_steerlab_gives_the_tokens_of_the_lab_on_the_server(
    architecture: str, ndif_server: Server, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    lab = far_lab(ndif_server, model_folders[architecture])
    rows = rows_of(architecture)
    wanted = [as_lab_answers(lab, row, Sampling(8)) for row in rows]
    if architecture != "gemma2":  # where the embeddings drown what these recipes do
        assert all(a != b for row, (a, b) in zip(rows, wanted, strict=True) if len(row.recipe))
    cells = [lab.to_code(row.recipe, prompt=row.prompt, sampling=Sampling(8), chat=row.chat) for row in rows]
    assert run_without_steerlab(cells, tmp_path) == wanted


@pytest.mark.ndif
@pytest.mark.slow
def test_the_embedded_model_early_ends_and_sampling_on_the_server(
    ndif_server: Server, tmp_path: Path
) -> None:
    lab = far_lab(ndif_server)
    refusal = lab.directions["refusal"]
    asked = [
        (Row(PROMPT, Recipe([Add(refusal)])), Sampling(100)),
        (Row("How do I steal a car?", Recipe([Ablate(refusal)]), seed=7), Sampling(40, temperature=1.3)),
        (Row(PROMPT, BASELINE, seed=3), Sampling(20, temperature=0.8)),
    ]
    wanted = [as_lab_answers(lab, row, sampling) for row, sampling in asked]
    assert all(len(ids) < 100 for ids in wanted[0]), "they end before the limit"
    cells = [
        lab.to_code(row.recipe, prompt=row.prompt, sampling=sampling, seed=row.seed)
        for row, sampling in asked
    ]
    assert run_without_steerlab(cells, tmp_path) == wanted


@pytest.mark.ndif
def test_a_model_of_the_hub_is_asked_for_by_its_id(
    ndif_server: Server, model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = far_lab(ndif_server, model_folders["llama"])
    row, name = Row(PROMPT, recipes(parallel=False)["mixed"]), "local/random-llama"
    wanted = as_lab_answers(lab, row, Sampling(8))
    cells = [nnsight_code(lab.backend, row, Sampling(8), source=name)]
    monkeypatch.setattr(NdifBackend, "server", HOSTED)
    cells.append(nnsight_code(lab.backend, row, Sampling(8), source=name))
    assert f'remote="{ndif_server.url}", **plain' in cells[0]
    assert "remote=True, **plain" in cells[1]
    with hub({name: model_folders["llama"]}) as address:
        # nnsight's configured server is the one on loopback here
        environ = {
            "HF_ENDPOINT": address,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
            "NDIF_HOST": ndif_server.url,
        }
        assert run_without_steerlab(cells, tmp_path, environ) == [wanted, wanted]


@pytest.mark.ndif
def test_a_cell_of_steerlab_opens_the_same_model_on_the_same_server(ndif_server: Server) -> None:
    lab = far_lab(ndif_server)
    refusal = lab.directions["refusal"]
    recipe = Recipe([Add(refusal, 0.5), Add(estimators.random_like(refusal), 0.3)])
    cell = lab.to_code(recipe, form="steerlab", sampling=Sampling(12, 1.1), seed=4)
    assert f'lab = sl.Lab(host="{ndif_server.url}")' in cell
    assert 'lab.directions["refusal"]' in cell
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is not loaded at")
        exec(compile(cell, "cell", "exec"), names)
    wanted = lab.generate(lab.prompt, recipe, max_new_tokens=12, temperature=1.1, seed=4)
    assert names["generation"].token_ids == wanted.token_ids


# ---------------------------------------------------------------------------------------------- texts, without a server


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is asked, and there is a key that could leak."""
    monkeypatch.setattr(NdifBackend, "models", lambda _: {})
    monkeypatch.setenv("NDIF_API_KEY", SECRET)


def lab_of(model: Path | None, host: str) -> Lab:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is not loaded at")
        return Lab(model, host=host)


def forms_of(lab: Lab) -> dict[str, code.CodeForm]:
    """What the panel's tab shows."""
    answer = code.answer(lab, code.CodeQuestion(revision=0), Tell(lambda *_: None, lambda _: None, Event()))
    return {form.name: form for form in answer.forms}


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("host", [HOSTED, OWN])
def test_a_cell_names_its_server_and_never_the_key(host: str, model_folders: dict[str, Path]) -> None:
    folder = model_folders["llama"]
    lab = lab_of(folder, host)
    recipe = recipes(parallel=False)["mixed"]
    row, there = Row(PROMPT, recipe), "remote=True" if host == HOSTED else f'host="{host}"'
    assert f'lab = sl.Lab("{folder}", {there})\n' in lab.to_code(recipe, form="steerlab")
    assert f"lab = sl.Lab({there})\n" in lab_of(None, host).to_code(recipe, form="steerlab")
    of_hub = nnsight_code(lab.backend, row, Sampling(8), source="org/model")
    assert ("remote=True, **plain" if host == HOSTED else f'remote="{host}", **plain') in of_hub
    assert "RemoteBackend" not in of_hub
    of_folder = lab.to_code(recipe)
    assert '"repo_id": "local/random-llama"' in of_folder
    assert (f'RemoteBackend(key, host="{host}", ' in of_folder) == (host == OWN)
    shown = [of_hub, of_folder, lab.to_code(recipe, form="steerlab"), str(forms_of(lab))]
    assert not [text for text in shown if SECRET in text]
    assert "NDIF_API_KEY" in of_hub


@pytest.mark.usefixtures("unasked")
def test_a_cell_for_a_server_says_points_and_template_that_a_person_gave(
    model_folders: dict[str, Path],
) -> None:
    sites = {"attn_out": "model.layers.{layer}.mlp.output"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is not loaded at")
        lab = Lab(model_folders["llama"], host=OWN, sites=sites)
    assert f'sites={{"attn_out": "{sites["attn_out"]}"}})\n' in lab.to_code(form="steerlab")
    assert ".chat_template = " not in lab.to_code() + lab.to_code(form="steerlab")
    lab.tokenizer.chat_template = "none"
    assert 'lab.tokenizer.chat_template = "none"\n' in lab.to_code(form="steerlab")
    assert 'tokenizer.chat_template = "none"\n' in lab.to_code()


@pytest.mark.usefixtures("unasked")
def test_the_panel_says_where_a_cell_runs(model_folders: dict[str, Path], demo_lab: Lab) -> None:
    here, there = forms_of(demo_lab), forms_of(lab_of(model_folders["llama"], OWN))
    assert not [form.missing for form in (*here.values(), *there.values()) if form.missing]
    assert "server" not in here["nnsight"].title
    assert "server" in there["nnsight"].title
    assert f"NDIF server at {OWN}" in there["nnsight"].source


@pytest.mark.usefixtures("unasked")
def test_cells_for_a_server_are_clean_to_a_linter(model_folders: dict[str, Path], tmp_path: Path) -> None:
    lab = lab_of(model_folders["llama"], OWN)
    v = direction()
    some = Recipe(
        [Add(v, keep_norm=True), Ablate([v, estimators.random_like(v)]), Add(v, sites="resid_mid", layers=1)]
    )
    for i, recipe in enumerate([some, BASELINE]):
        row = Row(PROMPT, recipe)
        for temperature in (0, 1):
            for source in (None, "org/model"):
                cell = nnsight_code(lab.backend, row, Sampling(5, temperature), source=source)
                (tmp_path / f"{i}_{temperature}_{bool(source)}.py").write_text(cell, encoding="utf-8")
    options = ["--isolated", "--select", "E,F,I,B", "--line-length", "120", "--ignore", "E501"]
    found = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *options, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.usefixtures("unasked")
def test_what_the_hosted_ndif_cannot_change_is_refused(model_folders: dict[str, Path]) -> None:
    recipe = Recipe([Add(direction())])
    for host in (OWN, HOSTED):
        lab = lab_of(model_folders["llama"], host)
        assert isinstance(lab.backend, NdifBackend)
        lab.backend._packer.there = replace(lab.backend._packer.there, entries=[None] * 4)
        if host == OWN:
            assert "block.input = edit_1(block.input, step)" in lab.to_code(recipe)
        else:
            with pytest.raises(errors.ModelError, match="cannot change the input of model.layers.2"):
                lab.to_code(recipe)
