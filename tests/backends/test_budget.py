"""What is held at once, and what is done where it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import models
import pytest
import torch
from memory import peak
from torch import Tensor
from transformers import PreTrainedModel

from steerlab import Add, Direction, Recipe, Row, Site
from steerlab.backends.base import readers
from steerlab.backends.budget import Budget
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend

NOISE = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(7))
V = Direction(3 * NOISE, Site(1, "resid_pre"))
ROWS = [Row(prompt, Recipe([Add(V, c)])) for prompt in ("Hi", "Hello there", "And you?") for c in (1.0, 2.0)]
TAILS = [list(range(65, 66 + n)) for n in (4, 0, 2, 6, 1, 3)]
SITES = [Site(1, "resid_pre"), Site(2, "resid_post")]


def captured(backend: LocalBackend) -> Tensor:
    values = backend.capture(ROWS, SITES, "response", values=True, continuations=TAILS).values
    assert values is not None
    return values


VERBS: dict[str, Callable[[LocalBackend], Tensor]] = {
    "score": lambda backend: backend.score(ROWS),
    "likelihood": lambda backend: torch.cat(backend.likelihood(ROWS, TAILS)),
    "capture": captured,
    "decode": lambda backend: backend.decode(V.vector * torch.arange(10.0).reshape(2, 5, 1)),
    "linearise": lambda backend: backend.linearise(ROWS[0], SITES[0], -1, SITES[1]).jacobian.float(),
}


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return models.build("gpt2")


@pytest.fixture
def crowded(model: PreTrainedModel) -> Iterator[LocalBackend]:
    """A backend of a model whose forward raises for more than two rows."""
    backend = LocalBackend(model, byte_tokenizer())

    def refuse(_: Any, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        if len(args[0] if args else kwargs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("no room")

    handle = model.transformer.register_forward_pre_hook(refuse, with_kwargs=True)
    yield backend
    handle.remove()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_done_in_parts_where_memory_does_not_suffice(
    verb: str, model: PreTrainedModel, crowded: LocalBackend
) -> None:
    with pytest.warns(UserWarning, match="did not fit into memory"):
        found = VERBS[verb](crowded)
    model.transformer._forward_pre_hooks.clear()
    assert torch.allclose(found, VERBS[verb](LocalBackend(model, byte_tokenizer())), atol=1e-4)


def test_kept_logits_count_for_how_many_rows_fit(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(model, None)
    monkeypatch.setattr(budget, "_free", lambda: 1e7)
    assert budget.rows(10, 10, keep=10) < budget.rows(10, 10) < budget.most


def test_likelihood_holds_the_logits_of_one_pass(model: PreTrainedModel) -> None:
    backend = LocalBackend(model, byte_tokenizer(), batch_rows=4, prefix_bytes=0)
    rows, tail = [Row(f"{i:03}", ROWS[0].recipe) for i in range(64)], list(range(60, 160))
    few, many = (peak(partial(backend.likelihood, rows[:n], [tail] * n)) for n in (8, 64))
    assert many < 1.2 * few


def test_a_position_of_a_long_prompt_is_read_without_a_square_matrix() -> None:
    ids = [65] * 20_000
    made = peak(lambda: readers(byte_tokenizer(), [Row("a")], [ids], [-1, -3]))
    assert made < 2**20
    (weight,) = readers(byte_tokenizer(), [Row("a")], [ids], [-1, -3])
    assert weight.nonzero().tolist() == [[0, len(ids) - 1], [1, len(ids) - 3]]
