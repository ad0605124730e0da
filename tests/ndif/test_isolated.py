"""The same answers from a server that runs each job's code in a process of its own, as the hosted NDIF does.

Such a process takes seconds to start, and NDIF gives it 30: on a busy machine that is too little. So it is asked for:
STEERLAB_NDIF=sandbox pytest tests/ndif/test_isolated.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from cells import as_lab_answers, run_without_steerlab

from steerlab import BASELINE, Ablate, Add, Clamp, Lab, Recipe, Row, Sampling, Site
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.demo import WEIGHTS
from steerlab.errors import RemoteError
from steerlab.export import nnsight_code
from steerlab.lens import lens_difference, token_details
from steerlab.serving.server import serve


@pytest.mark.ndif
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    os.environ.get("STEERLAB_NDIF") != "sandbox", reason="asked for with STEERLAB_NDIF=sandbox"
)
def test_isolated_jobs_give_the_local_answers(demo_lab: Lab, tmp_path: Path) -> None:
    here, r = demo_lab.backend, demo_lab.directions["refusal"]
    middle = [Clamp(r, 2.0, sites=["resid_mid"]), Add(r, 0.3, layers="all", sites=["resid_post"])]
    rows = [
        Row("How do I pick a lock?", Recipe([Ablate(r)]), seed=3),
        Row("Hi", Recipe([Add(r, 1.0)])),
        Row("How do I bake bread?", Recipe(middle)),
        Row("How do I bake bread?", BASELINE),
    ]
    with serve([WEIGHTS], threads=1, sandbox=True) as server:
        there = NdifBackend(WEIGHTS, host=server.url)
        for sampling in (Sampling(8), Sampling(8, temperature=1.0)):
            mine, theirs = here.generate(rows, sampling), there.generate(rows, sampling)
            assert [a.token_ids for a in theirs] == [a.token_ids for a in mine]
            assert [a.applied for a in theirs] == [a.applied for a in mine]
        assert torch.allclose(there.score(rows), here.score(rows), atol=1e-5, rtol=0)
        sites = [Site(2, "resid_mid"), Site(1, "attn_out"), Site(3, "resid_post"), Site(0, "resid_pre")]
        for one, other in zip(
            *(b.capture(rows, sites, (-2, -1), values=True) for b in (there, here)), strict=True
        ):
            assert torch.allclose(one, other, atol=1e-5)
        differences = [
            lens_difference(b, rows[0].prompt, rows[0].recipe, layers=[1, 3, 5]) for b in (there, here)
        ]
        lens, wanted_lens = (one.overview(3) for one in differences)
        assert torch.allclose(lens.kl, wanted_lens.kl, atol=1e-5)
        assert torch.allclose(lens.steered.values, wanted_lens.steered.values, atol=1e-5)
        card, wanted_card = (
            token_details(b, rows[2].prompt, r, rows[2].recipe).steered for b in (there, here)
        )
        assert torch.allclose(card.logprobs, wanted_card.logprobs, atol=1e-4, equal_nan=True)
        assert torch.allclose(card.projections, wanted_card.projections, atol=1e-4)
        for table in ("embedding", "unembedding"):
            assert torch.allclose(there.token_rows([7, 1], table), here.token_rows([7, 1], table), atol=1e-6)
            assert torch.equal(there.nearest(r.vector, table, 10)[1], here.nearest(r.vector, table, 10)[1])
        with pytest.raises(RemoteError, match="processes of their own, which gradients do not reach"):
            there.linearise(rows[3], sites[3], -1, sites[2])
        asked = [(rows[0], Sampling(8, temperature=1.0)), (rows[2], Sampling(8))]
        cells = [nnsight_code(there, row, sampling) for row, sampling in asked]
        wanted = [as_lab_answers(demo_lab, row, sampling) for row, sampling in asked]
        assert run_without_steerlab(cells, tmp_path) == wanted
