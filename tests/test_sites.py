from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from steerlab import Site
from steerlab.errors import SiteError
from steerlab.sites import POINTS


def test_names_go_out_and_come_back() -> None:
    for point in POINTS:
        site = Site(12, point)
        assert site.name == f"blocks.12.hook_{point}"
        assert Site.parse(site.name) == Site.parse(str(site)) == site


def test_sites_sort_as_a_forward_pass_meets_them() -> None:
    shuffled = [
        Site(1, "resid_pre"),
        Site(0, "resid_post"),
        Site(0, "mlp_out"),
        Site(0, "attn_out"),
        Site(0, "resid_mid"),
    ]
    assert [str(s) for s in sorted(shuffled)] == [
        "attn_out[0]",
        "resid_mid[0]",
        "mlp_out[0]",
        "resid_post[0]",
        "resid_pre[1]",
    ]


def test_descriptions_leave_no_doubt_about_the_layer() -> None:
    assert Site(12, "resid_pre").describe() == "input of block 12 = output of block 11"
    assert Site(0, "resid_pre").describe() == "input of block 0 = the embeddings"
    assert Site(11, "resid_post").describe().startswith("output of block 11 = input of block 12")


@pytest.mark.parametrize("layer", [np.int64(3), np.array(3), torch.tensor(3), np.uint8(3)])
def test_a_layer_of_numpy_or_torch_is_one_of_python(layer: int) -> None:
    site = Site(layer, "resid_pre")
    assert site == Site(3, "resid_pre")
    assert json.dumps(site.layer) == "3"


@pytest.mark.parametrize(
    "layer", [-1, 1.0, True, "3", None, np.int64(-1), np.float64(1), np.bool_(True), torch.tensor(True)]
)
def test_a_layer_is_a_whole_number_from_zero(layer: object) -> None:
    with pytest.raises(SiteError, match="whole number from 0"):
        Site(layer, "resid_pre")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["", "blocks.2", "blocks.x.hook_resid_pre", "blocks.2.hook_resid_pre.1", "resid_pre 2"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(SiteError, match="does not name a site"):
        Site.parse(name)


def test_unknown_points_are_refused_with_the_list() -> None:
    for make in (lambda: Site(0, "resid"), lambda: Site.parse("blocks.0.hook_z")):  # type: ignore[arg-type]
        with pytest.raises(SiteError, match="resid_pre, attn_out, resid_mid"):
            make()
