"""Apple GPUs have no float64: what is summed or sampled there is widened on the CPU. Played by tensors that refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import models
import pytest
import torch
from torch import Tensor

from steerlab import Add, Direction, Recipe, Row, Sampling, Site
from steerlab.backends import jacobians
from steerlab.backends.base import wide
from steerlab.backends.batch import Batch
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.export import helpers

ROWS = [Row("Hi"), Row("How do I bake bread?")]
AT = [Site(1, "resid_pre"), Site(3, "resid_post")]


class Narrow(Tensor):
    """A tensor that is float64 on the CPU alone."""

    def double(self) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor)


class Apple(Narrow):
    """The same, which says where it is."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("mps")


@pytest.fixture
def backend() -> LocalBackend:
    return LocalBackend(models.build("llama"), byte_tokenizer())


def test_a_tensor_is_widened_where_that_is_possible() -> None:
    x = torch.randn(3)
    assert wide(x).dtype == wide(x.as_subclass(Apple)).dtype == torch.float64
    assert torch.equal(wide(x.as_subclass(Apple)), x.double())


def test_sums_of_streams_are_exact(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = backend.capture(ROWS, AT, [-1])
    read = backend._read
    monkeypatch.setattr(
        backend,
        "_read",
        lambda *given: {site: [x.as_subclass(Apple) for x in both] for site, both in read(*given).items()},
    )
    found = backend.capture(ROWS, AT, [-1])
    assert torch.equal(found.mean, wanted.mean)
    assert torch.equal(found.norm, wanted.norm)


def test_gradients_are_exact(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = backend.linearise(ROWS[0], AT[0], -1, AT[1])
    run = jacobians.differentiable

    def differentiable(*given: Any) -> tuple[Tensor, Tensor]:
        start, end = run(*given)
        return start, end.as_subclass(Apple)

    monkeypatch.setattr(jacobians, "differentiable", differentiable)
    for one, other in zip(backend.linearise(ROWS[0], AT[0], -1, AT[1]), wanted, strict=True):
        assert torch.equal(one, other)


def test_samples_are_those_of_the_cpu(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(0))
    rows = [*ROWS, Row("Hi", Recipe([Add(Direction(noise, AT[0]))]), seed=3)]
    wanted = backend.generate(rows, Sampling(5, temperature=1.2))

    def there(verb: Callable[..., tuple[Tensor, Any]]) -> Callable[..., tuple[Tensor, Any]]:
        def told(*given: Any) -> tuple[Tensor, Any]:
            logits, done = verb(*given)
            return logits.as_subclass(Apple), done

        return told

    for verb in (Batch.prompt, Batch.next):
        monkeypatch.setattr(Batch, verb.__name__, there(verb))
    assert backend.generate(rows, Sampling(5, temperature=1.2)) == wanted


def test_cells_of_nnsight_sample_there_too() -> None:
    names: dict[str, Any] = {"torch": torch, "LogitsProcessor": object}
    exec(helpers.NOISE + helpers.SAMPLE.format(temperature=1.5), names)
    logits = torch.randn(1, 2, 50, generator=torch.Generator().manual_seed(0))
    found, wanted = (
        names["Noise"](seed=1, temperature=1.5)(None, one)
        for one in (logits[:, -1].as_subclass(Narrow), logits[:, -1])
    )
    assert torch.equal(found, wanted)
    names["sample"](logits.as_subclass(Narrow), torch.Generator().manual_seed(1))
    assert logits[0, -1].argmax() == wanted.argmax()
