"""A model is known from its configuration: no weights are loaded, and its sites are those that weights show."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from urllib.parse import urlparse

import models
import pytest
import torch
from hub import hub
from huggingface_hub.utils import validate_repo_id
from misbehaving import Misbehaving, misbehave
from nnsight import save
from transformers import AutoConfig, AutoModelForCausalLM

from steerlab import Row, Site, errors
from steerlab.backends.architectures import find_sites
from steerlab.backends.base import encode_row
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.backends.ndif import travelling
from steerlab.backends.ndif.distant import (
    describe,
    find_tables,
    model_key,
    narrow,
    sites_without_weights,
)
from steerlab.backends.ndif.names import DEMO, allowed, repository
from steerlab.backends.ndif.packing import Packer
from steerlab.demo import WEIGHTS


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_the_sites_are_those_found_with_weights(architecture: str) -> None:
    full = models.build(architecture)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(full.config)
    state = torch.random.get_rng_state()
    (found, entries), wanted = sites_without_weights(empty, full.config), find_sites(full)
    assert torch.equal(torch.random.get_rng_state(), state), "nobody's random numbers are touched"
    assert found.points == wanted.points
    sites = [Site(layer, point) for layer in range(models.N_LAYERS) for point in wanted.points]
    assert [found.hook(site) for site in sites] == [wanted.hook(site) for site in sites]
    assert entries[1:] == [wanted.hook(Site(layer, "resid_post")) for layer in range(models.N_LAYERS - 1)]
    assert entries[0] is not None
    assert entries[0].path not in {hook.path for hook in entries[1:] if hook}


def test_wide_models_are_narrowed_with_all_of_their_layers() -> None:
    config = AutoConfig.for_model(
        "llama", hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, vocab_size=128256,
    )  # fmt: skip
    small = narrow(config)
    assert small.num_hidden_layers == 80
    assert sum(p.numel() for p in AutoModelForCausalLM.from_config(small).parameters()) < 3_000_000
    assert config.hidden_size == 8192, "the configuration itself is left alone"


def test_a_wide_model_has_the_sites_of_its_architecture() -> None:
    """Experts, groups of heads and a window on every other layer, at the sizes that models have."""
    shapes = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 6, "vocab_size": 32000}
    kinds = {
        "qwen3": {"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128},
        "gemma2": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
        "mixtral": {"num_attention_heads": 16, "num_key_value_heads": 8, "num_local_experts": 8},
        "qwen3_moe": {
            "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 16,
            "num_experts_per_tok": 8, "moe_intermediate_size": 768,
        },
        "phi3": {"num_attention_heads": 32, "num_key_value_heads": 32, "pad_token_id": 31999},
    }  # fmt: skip
    for kind, more in kinds.items():
        config = AutoConfig.for_model(kind, **{**shapes, **more})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        found, _ = sites_without_weights(model, config)
        assert found.points == ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"), kind


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_rows_of_tokens_are_the_same_through_the_modules(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a job has no weights: from what an embedding makes of ids, and a head, with a bias, of unit vectors."""
    full = models.build(architecture)
    full.get_output_embeddings().bias = torch.nn.Parameter(torch.randn(len(byte_tokenizer())))  # type: ignore[union-attr]
    here = LocalBackend(full, byte_tokenizer())
    tables = find_tables(full)
    assert set(tables) == {"embedding", "unembedding"}
    for table, (path, rows, scale) in tables.items():
        assert rows == len(byte_tokenizer())
        for which, ids in (([7, 1], [7, 1]), (None, range(9))):
            wanted = here.token_rows(ids, table)
            for isolated in (False, True):
                monkeypatch.setattr(travelling, "isolated", lambda _, isolated=isolated: isolated)
                with here.model.trace("Hi"):
                    found = save(travelling.rows_of(here.model, (path, scale, models.D_MODEL, 9), which))
                assert torch.allclose(found, wanted, atol=1e-6, rtol=1e-6), (table, isolated)


def test_what_scales_an_embedding_is_taken_out_as_it_was_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    full = models.build("gemma2").bfloat16()
    full.model.embed_tokens.scalar_embed_scale = 33.94  # that is 34 in bfloat16
    full.model.embed_tokens.embed_scale.fill_(33.94)
    here = LocalBackend(full, byte_tokenizer())
    path, rows, scale = find_tables(full)["embedding"]
    monkeypatch.setattr(travelling, "isolated", lambda _: True)
    with here.model.trace("Hi"):
        found = save(travelling.rows_of(here.model, (path, scale, models.D_MODEL, rows), None))
    wanted = here.token_rows(range(rows), "embedding")
    assert ((found * wanted).sum() / wanted.square().sum()).item() == pytest.approx(1, abs=2e-4)
    assert torch.allclose(found, wanted, rtol=2**-8)


def test_tokens_that_the_model_does_not_have_are_not_asked_for(tmp_path: Path) -> None:
    config, tokenizer = models.build("llama").config, copy.deepcopy(byte_tokenizer())
    tokenizer.add_tokens(["<one more>"])
    config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    there = describe(tmp_path)
    assert len(there.tokenizer) == config.vocab_size + 1
    packer = Packer(there, host="nowhere")
    assert [packer.matrix(table)[-1] for table in ("embedding", "unembedding")] == [config.vocab_size] * 2


def test_no_weights_are_read(tmp_path: Path) -> None:
    models.build("llama").config.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    there = describe(tmp_path)
    assert all(p.is_meta for p in there.model._module.parameters())
    assert (there.d_model, there.context) == (models.D_MODEL, 256)
    assert there.stop_tokens == {byte_tokenizer().eos_token_id}
    with pytest.raises(errors.SiteError, match="layer 9 is out of range"):
        there.sites.hook(Site(9, "resid_pre"))


OPENED = """
import sys, urllib.request, warnings
import steerlab as sl
name, url, hub = sys.argv[1:]
warnings.filterwarnings("ignore", message=".* is not loaded at")
lab = sl.Lab(name, host=url)
print(lab.info.n_layers, lab.info.d_model, lab.info.backend, lab.tokens_of("Hi"))
urllib.request.urlopen(hub + "/api/models/" + name + "?opened").close()
there = len(sl.Lab(name).tokens_of("Hi"))
print(there)
"""
WEIGHTS_OF = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".index.json")


def test_a_model_of_the_hub_is_opened_by_small_files_and_no_weights_are_asked_for(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    """In a process with an empty cache. Then the same model is opened here, which does ask for them."""
    name, asked = "some/llama", []
    with misbehave(Misbehaving()) as server, hub({name: model_folders["llama"]}, asked) as address:
        environ = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
        told = subprocess.run(
            [sys.executable, "-c", OPENED, name, server.url, address],
            env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert not told.returncode, told.stderr
    here = LocalBackend(models.build("llama"), byte_tokenizer())
    ids = encode_row(here.tokenizer, Row("Hi"), 256)
    tokens = [here.tokenizer.decode([i]) for i in ids]
    assert "<user>" in "".join(tokens), "the template is there"
    assert told.stdout.splitlines()[0] == f"{models.N_LAYERS} {models.D_MODEL} ndif {tokens}"
    opened = asked.index(f"/api/models/{name}?opened")
    files = [urlparse(path).path.rpartition("/")[2] for path in asked]
    assert {"config.json", "tokenizer.json"} <= {*files[:opened]}
    assert not [file for file in files[:opened] if file.endswith(WEIGHTS_OF)]
    assert "model.safetensors" in files[opened:]


def test_a_model_that_is_nowhere_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(errors.ModelError, match="there is no folder"):
        describe(tmp_path / "nowhere")
    with pytest.raises(errors.ModelError, match="nobody/no-such-model.*could not be loaded"):
        describe("nobody/no-such-model")


def test_names_on_a_server(tmp_path: Path) -> None:
    assert repository("org/model") == "org/model"
    assert repository(WEIGHTS) == DEMO
    (tmp_path / "mine").mkdir()
    assert repository(tmp_path / "mine") == "local/mine"
    assert model_key("org/model") == (
        'nnsight.modeling.transformers.TransformersModel:{"repo_id": "org/model", "revision": null, '
        '"task": "text-generation"}'
    )


@pytest.mark.parametrize(
    "name",
    ["my model", "a--b", "a..b", ".hidden", "model.git", "m" * 97, "-", "modèle", "模型", "a\nb", "a-"],
)
def test_a_folder_whose_name_is_none_for_a_hub_has_another_on_a_server(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    found = repository(folder)
    validate_repo_id(found)
    assert re.fullmatch(r"local/([A-Za-z0-9]+-)*[0-9a-f]{8}", found)
    other = tmp_path / f"{name} "
    other.mkdir()
    assert repository(other) != found


def test_a_folders_name_is_one_on_a_mac_and_on_linux() -> None:
    assert allowed(unicodedata.normalize("NFD", "modèle")) == allowed("modèle")


@pytest.mark.parametrize("name", ["mine", "Qwen2.5-0.5B_x", "m" * 96, "_m_"])
def test_a_name_that_a_hub_allows_stays(name: str) -> None:
    validate_repo_id(f"local/{name}")
    assert allowed(name) == name
