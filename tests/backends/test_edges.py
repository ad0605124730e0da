"""The local backend where something runs out, is no number, or is changed under its hands."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import models
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, OPTConfig, PreTrainedModel

from steerlab import Add, Direction, Lab, Recipe, Row, Sampling, Site
from steerlab.backends import kv, looks
from steerlab.backends.budget import out_of_memory
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.errors import ModelError
from steerlab.lens import nearest_tokens

V = Direction(
    3 * torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(11)), Site(1, "resid_pre")
)
TAIL = models.N_LAYERS - 1


def backend_of(model: PreTrainedModel) -> LocalBackend:
    return LocalBackend(model, byte_tokenizer())


# ------------------------------------------------------------------------------------------ the end of the context


@pytest.mark.parametrize("resumable", [True, False])
def test_rows_go_on_beside_one_that_has_come_to_the_end_of_the_context(resumable: bool) -> None:
    torch.manual_seed(0)
    sizes = {"n_embd": models.D_MODEL, "n_head": 4, "n_layer": 3, "n_positions": 60}
    model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=len(byte_tokenizer()), **sizes)).eval()
    backend = backend_of(model)
    backend._lanes.resumable = backend._lanes.resumable and resumable
    backend.stop_tokens = set()
    rows = [Row("x" * n, chat=False) for n in (56, 3, 5, 7, 9, 11, 13, 15)]
    together = backend.generate(rows, Sampling(64))
    assert [len(answer.token_ids) for answer in together] == [60 - len(str(row.prompt)) for row in rows]
    alone = [backend.generate([row], Sampling(64))[0] for row in rows]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]


# ---------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 "
        "bytes. Error code 12 (Cannot allocate memory)",
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8.",
        "MPS backend out of memory (MPS allocated: 1 GB, other allocations: 1 GB, max allowed: 1 GB).",
    ],
)
def test_what_torch_says_where_memory_runs_out_is_known_on_every_system(said: str) -> None:
    assert out_of_memory(RuntimeError(said))


def test_torch_says_so_itself_on_this_system() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**61, dtype=torch.int8)
    assert out_of_memory(caught.value)


@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_whose_keys_and_values_do_not_fit_is_run_in_parts(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    backend, most = backend_of(models.build("llama")), 12
    prompts = ["How are you?"] if shared else ["Hi", "Hello", "How do you do?", "Good day"]
    rows = [Row(p, Recipe([Add(V, c / 10)])) for c in range(40 // len(prompts)) for p in prompts]
    whole = backend_of(models.build("llama")).generate(rows, Sampling(5))
    real = Tensor.new_zeros

    def new_zeros(self: Tensor, *size: Any, **options: Any) -> Tensor:
        if len(size) == 4 and size[0] > most:
            raise torch.OutOfMemoryError("keys and values")
        return real(self, *size, **options)

    monkeypatch.setattr(kv.Tensor, "new_zeros", new_zeros)
    told: list[tuple[int, int]] = []
    with pytest.warns(UserWarning, match="did not fit into memory"):
        parts = backend.generate(
            rows, Sampling(5), on_tokens=lambda tokens: told.extend((t.row, t.id) for t in tokens)
        )
    assert [answer.token_ids for answer in parts] == [answer.token_ids for answer in whole]
    for i, answer in enumerate(parts):
        assert tuple(token for row, token in told if row == i) == answer.token_ids
    assert backend._budget.most > most // 4, "no smaller than it has to be"


def test_one_row_whose_keys_and_values_do_not_fit_is_torch_s_own_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def new_zeros(self: Tensor, *size: Any, **options: Any) -> Tensor:
        raise torch.OutOfMemoryError("keys and values")

    backend = backend_of(models.build("llama"))
    monkeypatch.setattr(kv.Tensor, "new_zeros", new_zeros)
    with pytest.raises(torch.OutOfMemoryError):
        backend.generate([Row("Hi", Recipe([Add(V)]))], Sampling(3))


def test_what_is_kept_of_a_prompt_holds_nothing_of_the_prompts_beside_it() -> None:
    backend = backend_of(models.build("llama"))
    backend.score([Row(f"Prompt {i}") for i in range(20)])
    kept = [prefix.logits for prefix in backend._lanes.prefixes._kept.values()]
    assert len(kept) == 20
    for logits in kept:
        assert logits is not None
        assert logits.untyped_storage().nbytes() == logits.nbytes


# ---------------------------------------------------------------------------------------------- what is no number


def test_a_token_whose_logits_are_no_numbers_has_the_last_rank() -> None:
    sound = torch.tensor([[0.0, 3.0, 1.0, 1.0, 2.0]])
    assert looks.rank(sound, 2)[0].tolist() == [2]
    assert looks.rank(sound, 1)[0].tolist() == [0]
    assert looks.rank(torch.full((2, 5), torch.nan), 2)[0].tolist() == [5, 5]


def test_an_infinite_token_spoils_no_other_position() -> None:
    model = models.build("llama")
    tokenizer = byte_tokenizer()
    with torch.no_grad():
        model.model.embed_tokens.weight[tokenizer.encode("Z")[0]] = torch.inf
    row, sites = Row("abZcd", chat=False), [Site(0, "resid_pre")]
    got = LocalBackend.capture(_opened(model), [row], sites, [-5, -4, -3, -2, -1], values=True)
    assert got.values is not None
    assert got.values[0, 0].isfinite().all(-1).tolist() == [True, True, False, True, True]
    assert got.norm[0].isfinite().tolist() == [True, True, False, True, True]


def _opened(model: PreTrainedModel) -> LocalBackend:
    """A backend of a model whose sites were found before a weight of it became infinite."""
    rows = model.model.embed_tokens.weight
    with torch.no_grad():
        spoilt = ~rows.isfinite().all(-1)
        kept = rows[spoilt].clone()
        rows[spoilt] = 0.0
        backend = backend_of(model)
        rows[spoilt] = kept
    return backend


# ------------------------------------------------------------------------------------------- changed under its hands


def test_a_module_that_another_one_took_the_place_of_is_steered_no_more() -> None:
    model = models.build("llama")
    held = backend_of(model)
    rows = [Row("Hi", Recipe([Add(V, 1.0, sites=[Site(2, point)])])) for point in ("mlp_out", "resid_pre")]
    held.score(rows)
    model.model.layers[2].mlp = copy.deepcopy(model.model.layers[1].mlp)
    assert torch.allclose(held.score(rows), backend_of(model).score(rows), atol=1e-5)
    model.model.layers[2] = copy.deepcopy(model.model.layers[2])
    assert torch.allclose(held.score(rows), backend_of(model).score(rows), atol=1e-5)


def test_a_buffer_that_is_changed_in_place_is_a_change() -> None:
    model = models.build("llama")
    held = backend_of(model)
    rows = [Row("How are you?"), Row("How are you?", Recipe([Add(V, 1.0, layers=2)]))]
    before = held.score(rows)
    model.model.rotary_emb.inv_freq.mul_(3)
    assert not torch.allclose(before, held.score(rows), atol=1e-3)
    assert torch.allclose(held.score(rows), backend_of(model).score(rows), atol=1e-5)


def test_other_stop_tokens_end_the_next_answer() -> None:
    model = models.build("llama")
    lab = Lab((model, byte_tokenizer()))
    model.generation_config.eos_token_id = []
    whole = lab.generate("Hi", max_new_tokens=8)
    assert len(whole.token_ids) == 8
    third = whole.token_ids[2]
    model.generation_config.eos_token_id = [third]
    cut = lab.generate("Hi", max_new_tokens=8)
    assert cut.token_ids == whole.token_ids[: whole.token_ids.index(third) + 1]
    assert cut.finish == "stop"
    lab.backend.stop_tokens = {whole.token_ids[0]}
    assert len(lab.generate("Hi", max_new_tokens=8).token_ids) == 1


# ------------------------------------------------------------------------------------------------------------ others


@pytest.mark.parametrize("tokens", [(-2,), (-1,), (-3, -1), "prompt"])
def test_what_is_done_at_the_last_output_counts_as_done(tokens: Any) -> None:
    backend = backend_of(models.build("llama"))
    recipe = Recipe([Add(V, 1.0, sites=[Site(TAIL, "resid_post")], tokens=tokens)])
    answer = backend.generate([Row("How are you?", recipe)], Sampling(3))[0]
    assert answer.applied == (1, 1)


@pytest.mark.parametrize("ask", [lambda b: nearest_tokens(b, V), lambda b: b.token_rows([1], "embedding")])
def test_a_table_of_another_width_than_the_stream_is_told_of(ask: Callable[[LocalBackend], Any]) -> None:
    torch.manual_seed(0)
    sizes = {
        "num_hidden_layers": 2,
        "ffn_dim": 64,
        "num_attention_heads": 4,
        "vocab_size": len(byte_tokenizer()),
    }
    config = OPTConfig(hidden_size=models.D_MODEL, word_embed_proj_dim=24, **sizes)
    backend = backend_of(AutoModelForCausalLM.from_config(config).eval())
    with pytest.raises(ModelError, match=r"rows of 24 numbers, and the stream has 48.*by=\"head\""):
        ask(backend)
    assert nearest_tokens(backend, V, by="head")
