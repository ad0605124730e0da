"""A model whose blocks lie on several devices, as `device_map="auto"` spreads one over GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import models
import pretend
import pytest
import torch

from steerlab import BASELINE, Ablate, Add, Clamp, Direction, Recipe, Row, Sampling, Site
from steerlab.backends import loading
from steerlab.backends.architectures import find_blocks
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.sites import POINTS

V = Direction(
    3 * torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(5)), Site(2, "resid_pre")
)
RECIPES = [
    BASELINE,
    Recipe([Add(V, 1.0)]),
    Recipe([Ablate(V)]),
    Recipe([Add(V, 1.0, tokens="generated")]),
    Recipe([Clamp(V, 2.0, layers=3)]),
]
ROWS = [Row(prompt, recipe) for prompt in ("Hi", "How do I bake bread?") for recipe in RECIPES]
# enough of them, and of one length, that they share their prompts' keys and values
MANY = [
    Row(prompt, Recipe([Add(V, c, layers=layer)]))
    for prompt in ("Hi there", "Hello you")
    for c in (0.5, 1, 2, 3, 4)
    for layer in range(models.N_LAYERS)
]


def backends(name: str, first: str, second: str) -> tuple[LocalBackend, LocalBackend]:
    """A model in halves on two devices, and the same model whole on the CPU."""
    model = models.build(name)
    path, blocks = find_blocks(model)
    stack, *_ = path.rpartition(".")
    places = {
        f"{stack}.{n}".lstrip("."): first for n, m in model.get_submodule(stack).named_children() if n != path
    }
    del places[path]
    places |= {f"{path}.{i}": first if i < len(blocks) // 2 else second for i in range(len(blocks))}
    others = [n for n, _ in model.named_children() if n != path.split(".")[0]]
    places |= dict.fromkeys(others, second)
    return (
        LocalBackend(pretend.spread(model, places), byte_tokenizer()),
        LocalBackend(models.build(name), byte_tokenizer()),
    )


@pytest.fixture(scope="module", params=["llama", "gemma2", "gpt2", "gpt-neox"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[LocalBackend, LocalBackend]]:
    with pretend.devices() as there:
        yield backends(request.param, "pretend:0", "pretend:1")
    assert {"pretend:0", "pretend:1"} <= there.seen


def test_two_devices_are_told_apart() -> None:
    with pretend.devices():
        one, other = torch.ones(2, device="pretend:0"), torch.ones(2, device="pretend:1")
        assert (one + other.to("pretend:0")).tolist() == [2, 2]
        with pytest.raises(RuntimeError, match="same device"):
            one + other
        with pytest.raises(RuntimeError, match="same device"):
            one * torch.ones(2)


def test_texts_are_those_of_one_device(both: tuple[LocalBackend, LocalBackend]) -> None:
    spread, whole = both
    for rows, sampling in ((ROWS, Sampling(6)), (ROWS, Sampling(6, temperature=1.0)), (MANY, Sampling(3))):
        texts = [[a.token_ids for a in b.generate(rows, sampling)] for b in both]
        assert texts[0] == texts[1]
    assert torch.allclose(spread.score(ROWS), whole.score(ROWS), atol=1e-4)
    assert all(a.applied.steps == a.applied.of for a in spread.generate(ROWS, Sampling(6)))


def test_what_is_read_is_that_of_one_device(both: tuple[LocalBackend, LocalBackend]) -> None:
    spread, whole = both
    sites = [Site(i, p) for i in range(models.N_LAYERS) for p in POINTS if p in whole.info.points]
    one, other = (b.capture(ROWS, sites, (-2, -1), values=True) for b in both)
    assert one.values is not None
    assert other.values is not None
    assert torch.allclose(one.values, other.values, atol=1e-4)
    assert torch.allclose(one.mean, other.mean, atol=1e-4)
    tails = [[5, 6, 7]] * len(ROWS)
    pairs = zip(spread.likelihood(ROWS, tails), whole.likelihood(ROWS, tails), strict=True)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)
    last = other.values[:, sites.index(Site(models.N_LAYERS - 1, "resid_post"))]
    assert torch.allclose(spread.decode(last), whole.decode(last), atol=1e-4)
    for table in ("embedding", "unembedding"):
        assert torch.equal(spread.token_rows([3, 4], table), whole.token_rows([3, 4], table))
        assert torch.equal(spread.nearest(V.vector, table, 5)[1], whole.nearest(V.vector, table, 5)[1])


def test_the_jacobian_is_that_of_one_device() -> None:
    """In a process of its own: the engine of autograd counts the devices once, at its first backward pass."""
    run = [sys.executable, "-c", "import test_several_devices; test_several_devices.compare_jacobians()"]
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent)))}
    done = subprocess.run(run, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def compare_jacobians() -> None:
    """Of a model of which one half is on a device and one on the CPU; autograd knows no second pretended device."""
    with pretend.devices():
        source, target = Site(1, "resid_pre"), Site(models.N_LAYERS - 1, "resid_post")
        both = [b.linearise(Row("Hi"), source, -1, target) for b in backends("llama", "pretend:0", "cpu")]
    assert torch.allclose(both[0].jacobian, both[1].jacobian, atol=1e-5)


@pytest.mark.parametrize(("gpus", "given"), [(True, None), (True, torch.float16), (False, None)])
def test_a_model_is_spread_over_all_gpus_there_are(
    gpus: bool, given: torch.dtype | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.build("llama").save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    monkeypatch.setattr(
        loading.AutoModelForCausalLM, "from_pretrained", lambda model, **where: asked.append(where)
    )
    loading.load(tmp_path, dtype=given)
    on_gpus = {"dtype": given or "auto", "device_map": "auto"}
    assert asked == [on_gpus if gpus else {"dtype": torch.float32}]
