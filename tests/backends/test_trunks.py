"""Rows that share trunks while they are generated, against rows that are generated one at a time."""

from __future__ import annotations

import models
import pytest
import torch
from transformers import PreTrainedModel

from steerlab import BASELINE, Ablate, Add, Direction, Recipe, Row, Sampling, Site
from steerlab.backends import batch as batches
from steerlab.backends import local
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.backends.trunks import Trunks

PROMPTS = ["Good morning", "Bread or tea"]  # of one length
NEW = 12


def direction(scale: float) -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(7))
    return Direction(scale * noise, Site(2, "resid_pre"), name="random")


V = direction(0.6)
RECIPES = [
    BASELINE,
    *[Recipe([Add(V, c, layers=layer)]) for layer in range(models.N_LAYERS) for c in (-1.0, 0.1, 0.5, 4.0)],
    *[Recipe([Add(V, c, sites=[Site(layer, "resid_post")])]) for layer in (1, 3) for c in (0.1, 2.0)],
    *[Recipe([Add(V, 2.0, sites=[Site(layer, "mlp_out")])]) for layer in (0, 2)],
    *[Recipe([Add(V, 2.0, layers=2, tokens=scope)]) for scope in ("generated", "prompt")],
    Recipe([Add(V, 2.0, layers=3, tokens=[-1]), Ablate(V, layers=[2], tokens="generated")]),
    Recipe([Ablate(V)]),
]
ROWS = [Row(prompt, recipe, seed=seed) for seed, recipe in enumerate(RECIPES) for prompt in PROMPTS]


def count(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """For every step of a batch: its trunks, and the rows of its first block."""
    seen: list[tuple[int, int]] = []
    layout = Trunks.layout

    def watched(self: Trunks, rows: slice) -> object:
        found = layout(self, rows)
        seen.append((len(self.carried), len(found.heads)))
        return found

    monkeypatch.setattr(Trunks, "layout", watched)
    return seen


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3-moe", "gpt-neox", "falcon"])
@pytest.mark.parametrize("sampling", [Sampling(NEW), Sampling(NEW, temperature=1.0)])
def test_rows_that_share_trunks_are_those_that_run_alone(
    architecture: str, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(models.build(architecture), byte_tokenizer())
    assert backend._growable == (architecture != "falcon")  # whose mask is by rows
    steps = count(monkeypatch)
    shared = backend.generate(ROWS, sampling)
    assert any(trunks for trunks, _ in steps) == backend._growable
    alone = [backend.generate([row], sampling)[0] for row in ROWS]
    assert [a.token_ids for a in shared] == [a.token_ids for a in alone]
    assert [a.pieces for a in shared] == [a.pieces for a in alone]
    assert [a.applied for a in shared] == [a.applied for a in alone]


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return models.build("llama")


def test_one_text_is_one_row_below_the_first_change(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(llama, byte_tokenizer())
    assert backend._growable
    steps = count(monkeypatch)
    backend.generate(ROWS, Sampling(NEW))
    first = sum(any(site.layer == 0 and site.point != "resid_post" for site in _sites(row)) for row in ROWS)
    trunks, rows = steps[0]
    assert rows == trunks + first
    assert rows < len(ROWS)


def _sites(row: Row) -> list[Site]:
    return [site for step in row.recipe.interventions for site in step.resolve(models.N_LAYERS)]


def test_rows_that_end_early_leave_their_trunks(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(llama, byte_tokenizer())
    long = backend.generate(ROWS, Sampling(NEW))
    backend.stop_tokens = {answer.token_ids[3] for answer in long[::3]}
    steps = count(monkeypatch)
    short = backend.generate(ROWS, Sampling(NEW))
    assert len({len(answer.token_ids) for answer in short}) > 2
    for one, other in zip(short, long, strict=True):
        assert one.token_ids == other.token_ids[: len(one.token_ids)]
    assert steps[-1][1] < steps[0][1]


def test_trunks_whose_memory_runs_out_are_run_in_parts(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(llama, byte_tokenizer())
    whole = backend.generate(ROWS, Sampling(NEW))
    run = batches.Batch._pass

    def tight(self: batches.Batch, tokens: torch.Tensor, rows: slice) -> object:
        if rows.stop - rows.start > 9:
            raise torch.OutOfMemoryError("no room")
        return run(self, tokens, rows)

    monkeypatch.setattr(batches.Batch, "_pass", tight)
    with pytest.warns(UserWarning, match="did not fit into memory"):
        parts = LocalBackend.generate(backend, ROWS, Sampling(NEW))
    assert [a.token_ids for a in parts] == [a.token_ids for a in whole]


@pytest.mark.parametrize("architecture", ["gemma2", "falcon"])  # windows that slide, and a mask by rows
def test_models_whose_blocks_need_one_number_of_rows_share_no_trunks(architecture: str) -> None:
    backend = LocalBackend(models.build(architecture), byte_tokenizer())
    assert not backend._growable
    assert len(backend.generate(ROWS, Sampling(2))) == len(ROWS)


def test_prompts_of_several_lengths_share_with_those_of_their_own(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(llama, byte_tokenizer())
    longer = [Row(f"{row.prompt}, and more of it", row.recipe) for row in ROWS]
    few = [Row("Hi", recipe) for recipe in RECIPES[:3]]
    mixed = [*few, *[row for pair in zip(ROWS, longer, strict=True) for row in pair]]
    steps = count(monkeypatch)
    shared = backend.generate(mixed, Sampling(4))
    # a batch for each of the two lengths that many rows have, and one for the rest
    assert len({rows for trunks, rows in steps if trunks}) >= 2
    assert any(not trunks for trunks, _ in steps)
    monkeypatch.setattr(local, "SHARED_ROWS", 10**6)
    apart = backend.generate(mixed, Sampling(4))
    assert [a.token_ids for a in shared] == [a.token_ids for a in apart]


def test_a_trunk_that_splits_moves_one_other_for_each_end_below_its_own() -> None:
    begins = [block for block in (1, 2, 3) for _ in range(10)]
    one = 29  # the text of a row that begins in each block
    trunks = Trunks(sorted([*begins, 1, 2]), [*range(10), one, *range(10, 20), one, *range(20, 30)], 4)
    n = len(trunks.carried)
    was = trunks.part({row: row for row in range(32)})
    assert n == 30
    assert was is not None
    assert sorted(was) == sorted([*range(30), *[next(i for i in was if was.count(i) == 3)] * 2])
    stay = [at - len(was) == i - n for at, i in enumerate(was)]
    assert stay.count(False) <= 2 * 3  # for each of two that come, one of each end
    assert [trunks.top(rows) for rows in trunks.carried] == sorted(trunks.begins)
