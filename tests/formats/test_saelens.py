"""Rows of autoencoders. The files in files/ were written by SAELens 6.54.12 itself:

StandardSAE(StandardSAEConfig(d_in=8, d_sae=3)), and Transcoder(TranscoderConfig(d_in=8, d_sae=3, d_out=8,
apply_b_dec_to_input=False)), their W_dec filled with 1 to 24, their metadata with the hooks, and then save_model.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import harm
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from steerlab import Direction, Site
from steerlab.errors import DirectionError, FileError, SiteError
from steerlab.formats import saelens

FILES = Path(__file__).parent / "files"
CONFIG = {"d_in": 4, "d_sae": 3, "hook_name": "blocks.7.hook_resid_post"}


def make(folder: Path, config: dict[str, Any] | None = CONFIG, **tensors: torch.Tensor) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    save_file(tensors or {"W_dec": torch.arange(1.0, 13.0).reshape(3, 4)}, folder / "sae_weights.safetensors")
    if config is not None:
        (folder / "cfg.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_row_written_by_saelens_is_a_direction_at_its_hook() -> None:
    d = saelens.read(FILES / "saelens", 1)
    assert d.site == Site(12, "resid_pre")
    assert d.numpy().tolist() == [9, 10, 11, 12, 13, 14, 15, 16]
    assert d.provenance["model_name"] == "gpt2-small"
    assert d.model is None, "the name that another library has for a model is not steerlab's"
    assert saelens.read(FILES / "saelens" / "sae_weights.safetensors", 2).numpy()[0] == 17


def test_the_rows_of_a_transcoder_act_at_its_output() -> None:
    """It reads the MLP's normalised input, and its rows are what the MLP adds."""
    assert saelens.read(FILES / "saelens-transcoder", 0).site == Site(5, "mlp_out")


@pytest.mark.parametrize("point", ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"])
def test_the_hook_decides_the_site(tmp_path: Path, point: Any) -> None:
    hook = f"blocks.3.hook_{point}"
    for config in ({"hook_name": hook}, {"hook_point": hook}, {"metadata": {"hook_name": hook}}):
        assert saelens.read(make(tmp_path, config), 0).site == Site(3, point)


@pytest.mark.parametrize(
    "hook",
    [
        "blocks.3.attn.hook_z",
        "blocks.3.hook_mlp_in",
        "blocks.3.ln2.hook_normalized",
        "blocks.3.mlp.hook_post",
    ],
)
def test_a_hook_inside_a_block_is_refused_whatever_the_answer(tmp_path: Path, hook: str) -> None:
    """The width is often that of the residual stream, so nothing else would show the mistake."""
    folder = make(tmp_path, {"hook_name": hook})
    for site in (None, Site(3, "attn_out")):
        with pytest.raises(SiteError, match=f"is of {hook}, which is not of the residual stream"):
            saelens.read(folder, 0, site=site)


@pytest.mark.parametrize("config", [None, {}, {"hook_name": "model.layers.3"}, {"hook_name": 3}])
def test_without_a_known_hook_the_site_is_asked_for(tmp_path: Path, config: dict[str, Any] | None) -> None:
    folder = make(tmp_path, config)
    with pytest.raises(FileError, match=r"at which hook .*site=Site\(12, \"resid_pre\"\)"):
        saelens.read(folder, 0)
    assert saelens.read(folder, 0, site=Site(3, "resid_post")).site == Site(3, "resid_post")


def test_the_feature_is_asked_for(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with pytest.raises(FileError, match=r"3 features.*feature=0"):
        saelens.read(folder)
    for feature in (-1, 3):
        with pytest.raises(FileError, match=f"features 0 to 2, not {feature}"):
            saelens.read(folder, feature)
    with pytest.raises(SiteError, match=r"says resid_post\[7\]"):
        saelens.read(folder, 0, site=Site(7, "resid_pre"))


@pytest.mark.parametrize(
    ("config", "tensors", "says"),
    [
        (CONFIG, {"W_dec": torch.ones(4, 3)}, r"shape \[4, 3\], and a row of 4"),
        (CONFIG, {"W_dec": torch.ones(4)}, r"shape \[4\]"),
        (CONFIG, {"W_enc": torch.ones(4, 3)}, "no W_dec.*W_enc"),
        ({**CONFIG, "normalize_activations": "covariance_whitening"}, {}, "whitened"),
    ],
)
def test_what_has_no_rows_of_the_residual_stream_is_refused(
    tmp_path: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], says: str
) -> None:
    with pytest.raises(FileError, match=says):
        saelens.read(make(tmp_path, config, **tensors), 0)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    rows = torch.tensor([[1.0, float("nan")], [1.0, 2.0], [0.0, 0.0]])
    folder = make(tmp_path, {"hook_name": "blocks.0.hook_resid_pre"}, W_dec=rows)
    assert saelens.read(folder, 1).d_model == 2, "only the row asked for matters"
    with pytest.raises(DirectionError, match="NaN"):
        saelens.read(folder, 0)
    with pytest.raises(DirectionError, match="zero everywhere"):
        saelens.read(folder, 2)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]))
def test_every_row_is_read_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, dtype: torch.dtype
) -> None:
    n, d = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    rows = (torch.randn(n, d, generator=torch.Generator().manual_seed(n * 10 + d)) + 3).to(dtype)
    folder = make(tmp_path_factory.mktemp("sae"), {**CONFIG, "d_in": d}, W_dec=rows)
    feature = data.draw(st.integers(0, n - 1))
    assert saelens.read(folder, feature).numpy().tolist() == rows[feature].float().tolist()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    shutil.copytree(FILES / "saelens", tmp_path, dirs_exist_ok=True)

    def read(path: Path) -> Direction:
        return saelens.read(path, 1)

    path = tmp_path / "sae_weights.safetensors"
    harm.check_cuts(path, read)
    harm.check_flips(path, read)
    harm.check_noise(path, read, b"")
    harm.check_noise(path, read, b"\x40\0\0\0\0\0\0\0{")
    path.unlink()
    harm.check_missing(path, read)
    shutil.copytree(FILES / "saelens", tmp_path, dirs_exist_ok=True)
    config = tmp_path / "cfg.json"
    text = config.read_text()
    for end in range(0, len(text) - 1, 7):
        config.write_text(text[:end])
        with pytest.raises(FileError, match=r"cfg\.json"):
            read(path)
