"""What the peers write, steerlab reads, and what steerlab writes the peers read, number for number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import torch

from steerlab import Add, Direction, Recipe, Row, Site, formats
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend

PAIRS = [("I love it", "I hate it"), ("Yes!", "No."), ("Good day to you", "Go away")]


@pytest.fixture(scope="module")
def control(repeng: Any) -> Any:
    """A control vector that repeng found."""
    data = [repeng.DatasetEntry(*pair) for pair in PAIRS]
    return repeng.ControlVector.train(models.build("llama"), byte_tokenizer(), data)


def test_a_control_vector_of_repeng_is_read(control: Any, tmp_path: Path) -> None:
    control.export_gguf(tmp_path / "v.gguf")
    found = formats.load_layers(tmp_path / "v.gguf")
    assert list(found) == [1, 2, 3]
    for layer, d in found.items():
        assert d.site == Site(layer, "resid_post")
        assert d.numpy().tolist() == control.directions[layer].tolist()
        assert d.provenance["model_hint"] == "llama"


def test_repeng_reads_what_steerlab_writes(repeng: Any, control: Any, tmp_path: Path) -> None:
    control.export_gguf(tmp_path / "v.gguf")
    found = formats.gguf.read(tmp_path / "v.gguf")
    formats.gguf.write(tmp_path / "w.gguf", list(found.values()))
    assert repeng.ControlVector.import_gguf(tmp_path / "w.gguf") == control
    fresh = [Direction(np.arange(1.0, 6.0), Site(n, "resid_pre")) for n in (2, 9)]  # type: ignore[arg-type]
    formats.gguf.write(tmp_path / "x.gguf", Recipe([Add(d, -2.0) for d in fresh]), model_hint="qwen2")
    back = repeng.ControlVector.import_gguf(tmp_path / "x.gguf")
    assert back.model_type == "qwen2"
    assert {n: v.tolist() for n, v in back.directions.items()} == {n: [-2, -4, -6, -8, -10] for n in (1, 8)}


def test_a_file_of_repeng_steers_as_repeng_does(repeng: Any, control: Any, tmp_path: Path) -> None:
    (control * 4.0).export_gguf(tmp_path / "v.gguf")
    found = formats.load_layers(tmp_path / "v.gguf")
    backend = LocalBackend(models.build("llama"), byte_tokenizer())
    steered = backend.score([Row("Hello", Recipe([Add(d) for d in found.values()]), chat=False)])
    wrapped = repeng.ControlModel(models.build("llama"), [1, 2, 3])
    wrapped.set_control(control, 4.0)
    with torch.no_grad():
        peer = wrapped(**byte_tokenizer()("Hello", return_tensors="pt")).logits[:, -1]
    assert (steered - peer).abs().max() < 1e-4


def test_steering_vectors_go_in_and_out(steering_vectors: Any, tmp_path: Path) -> None:
    peer = steering_vectors.train_steering_vector(models.build("llama"), byte_tokenizer(), PAIRS)
    found = formats.steering_vectors.from_object(peer)
    assert [d.site for d in found.values()] == [Site(n, "resid_post") for n in range(models.N_LAYERS)]
    path = formats.steering_vectors.write(tmp_path / "v.safetensors", list(found.values()))
    for directions in (found, formats.load_layers(path)):
        arguments = formats.steering_vectors.arguments(list(directions.values()))
        back = steering_vectors.SteeringVector(**arguments)
        assert back.layer_type == peer.layer_type
        assert all(torch.equal(back.layer_activations[n], v) for n, v in peer.layer_activations.items())


def test_vectors_of_neuronpedia_go_in_and_out(
    vector_request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its client sends for a new vector, caught before it leaves."""
    sent: list[dict[str, Any]] = []

    class Sent(Exception):  # noqa: N818
        pass

    def catch(self: object, *, json: dict[str, Any], **_: object) -> None:
        sent.append(json)
        raise Sent

    monkeypatch.setattr(vector_request, "send_request", catch)
    client = vector_request(api_key="none")
    with pytest.raises(Sent):
        client.new("calm", "gpt2-small", 6, "hook_resid_post", [0.25, -1.5, 2.0])
    path = tmp_path / "v.json"
    path.write_text(json.dumps(sent[0]))
    d = formats.load(path)
    assert (d.site, d.name, d.numpy().tolist()) == (Site(6, "resid_post"), "calm", [0.25, -1.5, 2.0])
    written = json.loads(formats.neuronpedia.write(tmp_path / "w.json", d).read_text())
    with pytest.raises(Sent):
        client.new(*(written[k] for k in ("vectorLabel", "modelId", "layerNumber", "hookType", "vector")))
    assert sent[1] == sent[0]
