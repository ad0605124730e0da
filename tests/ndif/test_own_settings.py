"""What a model's own settings ask of `generate` changes no text: a server, and a cell for it, give the local tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from cells import as_lab_answers, run_without_steerlab
from ndif_server import far_lab, serve
from transformers import AutoModelForCausalLM, GenerationConfig

import steerlab as sl
from steerlab import Sampling
from steerlab.backends.base import encode_row
from steerlab.backends.decoding import PLAIN
from steerlab.demo import WEIGHTS

PROMPT = "How do I bake some bread?"


@pytest.fixture
def lab() -> sl.Lab:
    return sl.Lab()


def settings(likeliest: list[int]) -> dict[str, object]:
    """What a `generation_config.json` may ask for, against the tokens that would come."""
    return {
        "suppress_tokens": likeliest[:1],
        "begin_suppress_tokens": likeliest[:1],
        "bad_words_ids": [likeliest[1:2]],
        "sequence_bias": [[likeliest[2:3], -50.0]],
        "forced_eos_token_id": likeliest[2],
        "exponential_decay_length_penalty": [1, 9.0],
        "guidance_scale": 3.0,
        "repetition_penalty": 5.0,
        "no_repeat_ngram_size": 1,
        "max_time": 1e-9,
        "prompt_lookup_num_tokens": 3,
        "remove_invalid_values": True,
    }


@pytest.mark.parametrize("name", settings([1, 2, 3]))
def test_no_setting_of_a_model_changes_the_likeliest_tokens(name: str, lab: sl.Lab) -> None:
    wanted = lab.generate(PROMPT, max_new_tokens=4).token_ids
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    model.generation_config = GenerationConfig(**{name: settings([*wanted])[name]}, pad_token_id=0)
    ids = torch.tensor([encode_row(lab.tokenizer, sl.Row(PROMPT), lab.info.context)])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, **PLAIN)
    assert tuple(made[0, ids.shape[1] :].tolist()) == wanted


@pytest.mark.ndif
@pytest.mark.slow
def test_a_server_and_a_cell_for_it_give_the_local_tokens(
    ndif_server: object, lab: sl.Lab, tmp_path: Path
) -> None:
    folder = tmp_path / "particular"
    shutil.copytree(WEIGHTS, folder)
    wanted = lab.generate(PROMPT, max_new_tokens=4).token_ids
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings([*wanted])))
    with serve([folder], threads=1) as server:
        far = far_lab(server, folder)
        assert far.generate(PROMPT, max_new_tokens=4).token_ids == wanted
        refusal = lab.directions["refusal"]
        row = sl.Row(PROMPT, sl.Recipe([sl.Add(sl.Direction(refusal.vector, refusal.site))]))
        cell = far.to_code(row.recipe, prompt=PROMPT, sampling=Sampling(4))
        assert run_without_steerlab([cell], tmp_path) == [as_lab_answers(lab, row, Sampling(4))]
