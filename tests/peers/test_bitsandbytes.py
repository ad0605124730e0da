"""Checkpoints that bitsandbytes quantised are opened from their folder, and steered as raw hooks steer them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from conftest import peer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from steerlab import BASELINE, Ablate, Add, Direction, Lab, Recipe, Row, Sampling, Site, export
from steerlab.backends.fake import byte_tokenizer
from steerlab.errors import ModelError
from steerlab.prompts import encode

WIDTH = 128  # its layers are quantised in blocks of 64, and multiplied in blocks of 32
# With a threshold LLM.int8() takes outlying columns out of a whole batch, so that its rows depend on one another: plain
# transformers, too, answers otherwise in a batch than one by one.
KINDS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32},
    "int8": {"load_in_8bit": True, "llm_int8_threshold": 0.0},
}
PROMPTS = ["Hi", "How do I bake bread?", "What is the tallest of the mountains?"]
R = torch.randn(WIDTH, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama in a quantised checkpoint."""
    peer("bitsandbytes")
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    plain, made = (tmp_path_factory.mktemp(name) for name in ("plain", request.param))
    LlamaForCausalLM(config).save_pretrained(plain)
    how = BitsAndBytesConfig(**KINDS[request.param])
    model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=how, device_map="cpu")
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


def test_a_quantised_checkpoint_is_steered_as_by_raw_hooks(folder: Path) -> None:
    lab = Lab(folder)
    model: Any = lab.model._module
    assert model.model.layers[0].mlp.up_proj.weight.element_size() == 1
    assert lab.info.dtype == "float32"
    v = Direction(R, Site(2, "resid_pre"))
    assert lab.backend.token_rows([1, 7], "unembedding").shape == (2, WIDTH)
    ids = [encode(lab.tokenizer, prompt) for prompt in PROMPTS]
    recipes = [BASELINE, Recipe([Add(v, 2.0)]), Recipe([Ablate(v)])]
    found = lab.backend.score([Row(prompt, recipe) for recipe in recipes for prompt in PROMPTS])
    wanted = [oracle.last_logits(model, ids)]
    with oracle.added(model, 2.0 * R, 2):
        wanted.append(oracle.last_logits(model, ids))
    with oracle.ablated(model, R):
        wanted.append(oracle.last_logits(model, ids))
    assert torch.allclose(found.double(), torch.cat(wanted), atol=1e-5)


def test_its_texts_are_those_of_one_row_at_a_time(folder: Path) -> None:
    backend = Lab(folder).backend
    v = Direction(R, Site(2, "resid_pre"))
    recipes = [
        BASELINE,
        Recipe([Add(v, 1.0)]),
        Recipe([Ablate(v)]),
        Recipe([Add(v, 1.0, tokens="generated")]),
    ]
    rows = [Row(prompt, recipe) for prompt in PROMPTS for recipe in recipes]
    together = [answer.token_ids for answer in backend.generate(rows, Sampling(6))]
    assert together == [Lab(folder).backend.generate([row], Sampling(6))[0].token_ids for row in rows]
    assert len(set(together)) > len(PROMPTS)


def test_its_weights_are_not_exported(folder: Path, tmp_path: Path) -> None:
    lab = Lab(folder)
    with pytest.raises(ModelError, match="the weights are quantised"):
        export.weights(lab, Recipe([Ablate(Direction(R, Site(2, "resid_pre")))]), tmp_path / "new")
