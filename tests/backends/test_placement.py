"""Models whose blocks are in several places, as `device_map="auto"` leaves them where one device does not hold all."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
import torch
from accelerate import dispatch_model

from steerlab import BASELINE, Ablate, Add, Direction, Recipe, Row, Sampling, Site
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend

V = Direction(
    3 * torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(5)), Site(2, "resid_pre")
)


@pytest.mark.parametrize("layer_on_disk", [1, 3])
def test_blocks_whose_weights_are_loaded_for_each_pass(tmp_path: Path, layer_on_disk: int) -> None:
    rows = [
        Row(prompt, recipe)
        for prompt in ("Hi", "How do I bake bread?")
        for recipe in (
            BASELINE,
            Recipe([Add(V, 1.0)]),
            Recipe([Ablate(V)]),
            Recipe([Add(V, 1.0, tokens="generated")]),
        )
    ]
    whole = LocalBackend(models.build("llama"), byte_tokenizer())
    places = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "cpu")
    places |= {f"model.layers.{i}": "disk" if i >= layer_on_disk else "cpu" for i in range(models.N_LAYERS)}
    spread = dispatch_model(
        models.build("llama"), places, main_device="cpu", offload_dir=tmp_path, force_hooks=True
    )
    backend = LocalBackend(spread, byte_tokenizer())
    assert any(p.device.type == "meta" for p in spread.parameters()), "no weight was taken away"
    assert backend._lanes.resumable
    assert torch.allclose(backend.score(rows), whole.score(rows), atol=1e-5)
    texts = [[a.token_ids for a in b.generate(rows, Sampling(5))] for b in (backend, whole)]
    assert texts[0] == texts[1]
