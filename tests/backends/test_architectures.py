"""Module trees that steerlab does not know: the error shows them, and a person can say where the sites are."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
import reference
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    Gemma4TextConfig,
    GraniteConfig,
    MiniMaxConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from steerlab import Ablate, Add, Direction, Lab, Recipe, Row, Sampling, Site, export
from steerlab.backends.fake import byte_tokenizer
from steerlab.errors import ModelError, SiteError
from steerlab.interventions import PAPER_POINTS
from steerlab.lens import logit_lens
from steerlab.prompts import encode
from steerlab.sites import POINTS

PROMPT = "How do I bake bread?"
V = Direction(
    3 * torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(100)), Site(2, "resid_pre")
)
BLOCK = "model.layers.{layer}"
STREAM = {"resid_pre": f"{BLOCK}.input", "resid_post": f"{BLOCK}.output"}


def stacked_otherwise() -> PreTrainedModel:
    """A Llama whose blocks are not in a ModuleList."""
    model = models.build("llama")
    model.model.layers = nn.Sequential(*model.model.layers)
    return model


def of_family(config: type[PretrainedConfig], *, seed: int = 0, **own: object) -> PreTrainedModel:
    """A random model of another family, of the sizes of `models.CONFIGS`."""
    torch.manual_seed(seed)
    shared = models.CONFIGS["llama"].to_dict()
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    made = config(
        **{name: shared[name] for name in names},
        intermediate_size=80,
        max_position_embeddings=256,
        initializer_range=0.2,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=byte_tokenizer().eos_token_id,
        **own,
    )
    return AutoModelForCausalLM.from_config(made, dtype=torch.float32).eval()


def scaled(by: float = 0.3) -> PreTrainedModel:
    """A family that scales what its sublayers wrote before it is added: no module writes what reaches the stream."""
    return of_family(GraniteConfig, residual_multiplier=by)


def test_an_unknown_tree_is_shown_with_what_to_pass() -> None:
    with pytest.raises(ModelError) as caught:
        Lab((stacked_otherwise(), byte_tokenizer()))
    assert "(self_attn): LlamaAttention" in caught.value.what
    assert f'sites={{"resid_pre": "{BLOCK}.input", "resid_post": "{BLOCK}.output"}}' in caught.value.fix


@pytest.mark.parametrize("sites", [STREAM, {"resid_post": f"{BLOCK}.output"}], ids=["both", "one"])
def test_what_the_error_says_can_be_passed(sites: dict[str, str]) -> None:
    lab = Lab((stacked_otherwise(), byte_tokenizer()), sites=sites)
    known = Lab((models.build("llama"), byte_tokenizer()))
    assert lab.info == known.info
    for recipe in (Recipe([Add(V, 2.0)]), Recipe([Ablate(V)]), Recipe([Add(V, 2.0, sites="resid_mid")])):
        rows = [Row(PROMPT, recipe), Row("Hi", recipe)]
        assert torch.allclose(lab.backend.score(rows), known.backend.score(rows), atol=1e-5)
        assert (
            lab.generate(PROMPT, recipe, max_new_tokens=6).text
            == known.generate(PROMPT, recipe, max_new_tokens=6).text
        )
    ours, theirs = (logit_lens(one.backend, PROMPT).logits(1) for one in (lab, known))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_site_that_arithmetic_does_not_find_can_be_named() -> None:
    model = scaled()
    lab = Lab((model, byte_tokenizer()))
    assert lab.info.points == ("resid_pre", "resid_post")
    with pytest.raises(SiteError) as caught:
        lab.generate(PROMPT, Recipe([Ablate(V, sites="attn_out")]))
    assert "(self_attn): GraniteAttention" in caught.value.what
    assert f'sites={{"attn_out": "{BLOCK}' in caught.value.fix

    named = {
        "attn_out": f"{BLOCK}.self_attn.output",
        "resid_mid": f"{BLOCK}.post_attention_layernorm.input",
        "mlp_out": f"{BLOCK}.mlp.output",
    }
    lab = Lab((model, byte_tokenizer()), sites=named)
    assert lab.info.points == ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
    ids = encode(byte_tokenizer(), PROMPT)
    baseline = lab.backend.score([Row(PROMPT)])[0]
    for point in lab.info.points:
        for recipe in (Recipe([Add(V, 2.0, sites=point)]), Recipe([Ablate(V, sites=point)])):
            steered = lab.backend.score([Row(PROMPT, recipe)])[0]
            wanted = reference.logits(model, "llama", ids, recipe)[-1]
            assert torch.allclose(steered, wanted, atol=1e-4), recipe
            assert (steered - baseline).abs().max() > 1e-3, f"{recipe} changed nothing"
    answer = lab.backend.generate([Row(PROMPT, Recipe([Ablate(V)]))], Sampling(6))[0]
    stop = byte_tokenizer().eos_token_id
    assert list(answer.token_ids) == reference.greedy(model, "llama", ids, Recipe([Ablate(V)]), 6, stop)


def test_an_export_finds_the_sites_of_its_lab(tmp_path: Path) -> None:
    lab = Lab((stacked_otherwise(), byte_tokenizer()), sites=STREAM)
    export.weights(lab, Recipe([Ablate(V)]), tmp_path / "out")
    assert (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize(
    ("sites", "says"),
    [
        ({"resid_pre": "model.layers.0.input"}, "does not say where resid_pre is"),
        ({"resid_pre": f"{BLOCK}"}, "does not say where resid_pre is"),
        ({"resid_pre": "model.layers{layer}.input"}, "does not say where resid_pre is"),
        ({"resid_pre": f"{BLOCK}.weight"}, "does not say where resid_pre is"),
        ({"resid": f"{BLOCK}.input"}, "resid"),
        ({"resid_pre": "model.blocks.{layer}.input"}, r"no blocks model.blocks.0"),
        (
            {"mlp_out": f"{BLOCK}.ffn.output"},
            r"no stream .* output of model.layers.0.ffn, which should be mlp_out",
        ),
        ({"mlp_out": f"{BLOCK}.mlp.up_proj.output"}, r"is \[1, 5, 80\], and the stream is \[1, 5, 48\]"),
        ({"resid_pre": f"{BLOCK}.input", "mlp_out": "other.{layer}.mlp.output"}, "several stacks"),
    ],
)
def test_places_that_are_none_are_refused(sites: dict[str, str], says: str) -> None:
    with pytest.raises(SiteError, match=says):
        Lab((models.build("llama"), byte_tokenizer()), sites=sites)


def test_a_module_that_writes_nearly_what_is_added_is_none() -> None:
    assert "attn_out" not in Lab((scaled(by=0.9), byte_tokenizer())).info.points


STATE_SPACE = {"mamba_d_ssm": 48, "mamba_n_heads": 4, "mamba_d_head": 12, "mamba_d_state": 8}


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_left_of_what_is_ablated_beside_a_third_sublayer(seed: int) -> None:
    lab = Lab((of_family(FalconH1Config, seed=seed, **STATE_SPACE), byte_tokenizer()))
    points = [point for point in PAPER_POINTS if point in lab.info.points]
    sites = [Site(layer, "resid_pre") for layer in range(models.N_LAYERS)]
    rows = [Row(PROMPT, Recipe([Ablate(V, sites=points)]))]
    values = lab.backend.capture(rows, sites, [-1], values=True).values
    assert values is not None
    x = values[0, :, 0]
    assert ((x @ V.unit).abs() / x.norm(dim=-1)).max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_attention_is_not_taken_for_all_that_comes_before_the_mlp_where_a_small_sublayer_is_beside_it(
    dtype: torch.dtype,
) -> None:
    model = of_family(FalconH1Config, **STATE_SPACE)
    with torch.no_grad():
        for block in model.model.layers:
            block.self_attn.o_proj.weight *= 30
            block.mamba.out_proj.weight *= 3
    points = Lab((model.to(dtype), byte_tokenizer())).info.points
    assert "attn_out" not in points


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sublayers_are_found_that_add_little_to_a_long_stream_in_half_precision(dtype: torch.dtype) -> None:
    model = models.build("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight *= 1000
    assert Lab((model.to(dtype), byte_tokenizer())).info.points == POINTS


def test_blocks_that_share_keys_and_values_are_read_at_every_position() -> None:
    model = of_family(
        Gemma4TextConfig,
        head_dim=16,
        global_head_dim=16,
        sliding_window=8,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=len(byte_tokenizer()),
        num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )
    backend = Lab((model, byte_tokenizer())).backend
    ids = torch.tensor([encode(byte_tokenizer(), PROMPT)])
    with torch.no_grad():
        streams = model(input_ids=ids, output_hidden_states=True).hidden_states
    sites = [Site(layer, "resid_pre") for layer in range(models.N_LAYERS)]
    values = backend.capture([Row(PROMPT)], sites, [-3, -1], values=True).values
    assert values is not None
    for layer in range(models.N_LAYERS):
        assert torch.allclose(values[0, layer], streams[layer][0, [-3, -1]], atol=1e-4)
    early = Recipe([Add(V, 1.0, layers=2, sites="resid_pre", tokens=[-2])])
    scores = backend.score([Row(PROMPT), Row(PROMPT, early)])
    assert torch.allclose(scores[0], model(input_ids=ids).logits[0, -1], atol=1e-4)
    answer = backend.generate([Row(PROMPT)], Sampling(5))[0]
    plain = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False)
    assert list(answer.token_ids) == plain[0, ids.shape[1] :].tolist()


def test_a_model_with_a_memory_of_its_own_kind_generates_what_plain_hooks_do() -> None:
    model = of_family(MiniMaxConfig, head_dim=16, num_local_experts=2, num_experts_per_tok=1)
    backend = Lab((model, byte_tokenizer())).backend
    recipes = (Recipe(), Recipe([Add(V)]), Recipe([Ablate(V, sites="resid_pre")]))
    rows = [Row(p, r) for p in (PROMPT, "Hi") for r in recipes]
    stop = byte_tokenizer().eos_token_id
    for row, answer in zip(rows, backend.generate(rows, Sampling(6)), strict=True):
        ids = encode(byte_tokenizer(), row.prompt)
        assert list(answer.token_ids) == reference.greedy(model, "minimax", ids, row.recipe, 6, stop)


def test_activations_that_are_not_finite_are_told_of_at_once() -> None:
    model = models.build("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"not finite, in model.layers.1 for the first"):
        Lab((model, byte_tokenizer()))
