"""Memory that does not grow with the number of prompts: every estimator streams."""

from __future__ import annotations

from collections.abc import Callable

import models
import numpy as np
import pytest
import torch
from memory import peak
from torch import Tensor

from steerlab import ContrastSet
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.estimators import (
    caa,
    difference_in_means,
    linear_relation,
    logistic_probe,
    principal_component,
)
from steerlab.lens import linear_probe, probe


def test_what_is_held_counts_and_what_is_dropped_does_not() -> None:
    held: list[Tensor] = []

    def keep() -> None:
        held.extend(torch.zeros(1000) for _ in range(10))

    def drop() -> None:
        for _ in range(10):
            torch.zeros(1000)

    assert peak(keep) == 40_000
    assert peak(drop) < 9000


def sides(n: int) -> ContrastSet:
    """Prompts of one length."""
    return ContrastSet([f"Do it {i:04}!" for i in range(n)], [f"What is {i:04}" for i in range(n)])


def pairs(n: int) -> list[tuple[str, str]]:
    contrast = sides(n)
    return list(zip(map(str, contrast.positive), map(str, contrast.negative), strict=True))


ESTIMATORS: dict[str, Callable[[LocalBackend, int], object]] = {
    "difference in means": lambda backend, n: difference_in_means(backend, sides(n)),
    "principal component": lambda backend, n: principal_component(backend, sides(n)),
    "caa": lambda backend, n: caa(backend, [(a, "(A)", "(B)") for a, _ in pairs(n)]),
    "logistic probe": lambda backend, n: logistic_probe(backend, sides(n), positions=[-1]),
    "probe": lambda backend, n: probe(
        backend, [p for pair in pairs(n) for p in pair], ["yes", "no"] * n, point="resid_post"
    ),
    "relation": lambda backend, n: linear_relation(
        backend, [(a, "it", "ab"[i % 2]) for i, (a, _) in enumerate(pairs(n))], linearise=1
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_memory_does_not_grow_with_the_number_of_prompts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in ("lens.probes.CAPTURED", "lens.probes.CHUNK", "estimators.relations.CHUNK"):
        monkeypatch.setattr(f"steerlab.{at}", 4)
    for at in ("CHUNK", "KEPT"):
        monkeypatch.setattr(f"steerlab.estimators.components.{at}", 4)
    backend = LocalBackend(models.build("llama"), byte_tokenizer(), batch_rows=4)
    few, many = (peak(lambda n=n: ESTIMATORS[name](backend, n)) for n in (24, 56))  # type: ignore[misc]
    held = 4 * 32 * models.N_LAYERS * models.D_MODEL  # bytes of what 32 more prompts have at one position
    assert few > 0
    assert many - few < held / 4, f"{few} bytes with 24 prompts a side, {many} with 56"


def test_a_probe_from_a_file_chunk_by_chunk_is_that_of_all_rows_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    noise = torch.Generator().manual_seed(0)
    for n, d in ((150, 12), (60, 200)):
        x, y = torch.randn(n, 2, d, generator=noise), torch.randint(3, (n,), generator=noise)
        x[:, 1] += 2 * y[:, None] * torch.randn(d, generator=noise)
        whole = linear_probe(x, y)
        monkeypatch.setattr("steerlab.lens.probes.CHUNK", 7)
        stored = np.memmap(f"{tmp_path}/{n}", dtype=np.float32, mode="w+", shape=tuple(x.shape))
        stored[:] = x.numpy()
        for one, other in zip(whole, linear_probe(stored, y), strict=True):
            assert torch.allclose(one.weights, other.weights, atol=1e-6)
            assert torch.allclose(one.bias, other.bias, atol=1e-5)
            assert one.accuracy == other.accuracy
        monkeypatch.undo()


def test_the_probe_of_few_prompts_at_a_time_is_the_probe_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalBackend(models.build("llama"), byte_tokenizer())

    def found() -> tuple[Tensor, Tensor]:
        one = logistic_probe(backend, sides(20))
        return one.vectors, one.residual_norms

    vectors, norms = found()
    monkeypatch.setattr("steerlab.lens.probes.CAPTURED", 3)
    monkeypatch.setattr("steerlab.lens.probes.CHUNK", 5)
    again, norms_again = found()
    assert torch.allclose(vectors, again, atol=1e-4)
    assert torch.allclose(norms, norms_again, rtol=1e-5)
