"""Rows that share what they have in common, against hooks and full forward passes, one row at a time."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import models
import pytest
import reference
import torch
from transformers import PreTrainedModel

from steerlab import BASELINE, Ablate, Add, Clamp, Direction, Gate, Recipe, Row, Sampling, Site
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.generations import Token
from steerlab.prompts import encode

PROMPTS = ["Hi", "How do I bake bread?", "Tell me a long story about the sea, please."]
FAMILIES = ("llama", "gpt2", "gemma2", "gemma3", "qwen3-moe", "gpt-neox", "falcon")
NEW = 6


def direction(seed: int = 0, scale: float = 3.0) -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(200 + seed))
    return Direction(scale * noise, Site(2, "resid_pre"), name=f"random {seed}")


V, W = direction(0), direction(1)
RECIPES = [
    BASELINE,
    Recipe([Add(V, 0.0)]),
    *[Recipe([Add(V, c, layers=layer)]) for layer in range(models.N_LAYERS) for c in (-1.0, 0.5)],
    *[
        Recipe([Add(V, 1.0, sites=[Site(layer, point)])])
        for layer in (1, 3)
        for point in ("attn_out", "mlp_out")
    ],
    *[Recipe([Add(V, 1.0, sites=[Site(layer, "resid_post")])]) for layer in (1, models.N_LAYERS - 1)],
    Recipe([Add(V, 1.5, tokens="generated")]),
    Recipe([Add(V, 1.5, tokens="prompt")]),
    Recipe([Add(V, 1.5, layers=1, tokens=[-1])]),
    Recipe([Add(V, 1.5, tokens=[-3, -2]), Ablate(W, layers=[3], tokens="generated")]),
    Recipe([Ablate(W)]),
    Recipe([Ablate([V, W], layers=[2, 3])]),
    Recipe([Clamp(W, 2.0), Add(V, 1.0, keep_norm=True, gate=Gate(W, 0.1))]),
]
ROWS = [Row(prompt, recipe) for recipe in RECIPES for prompt in PROMPTS]


@pytest.fixture(scope="module", params=FAMILIES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(architecture: str) -> PreTrainedModel:
    return models.build(architecture)


@pytest.fixture(scope="module")
def backend(model: PreTrainedModel) -> LocalBackend:
    return LocalBackend(model, byte_tokenizer())


def expected(model: PreTrainedModel, architecture: str, row: Row) -> torch.Tensor:
    return reference.logits(model, architecture, encode(byte_tokenizer(), row.prompt), row.recipe)[-1]


def test_mixed_rows_score_as_one_at_a_time(
    backend: LocalBackend, model: PreTrainedModel, architecture: str
) -> None:
    wanted = torch.stack([expected(model, architecture, row) for row in ROWS])
    cold, warm = backend.score(ROWS), backend.score(list(reversed(ROWS))).flip(0)
    assert torch.allclose(cold, wanted, atol=2e-4)
    assert torch.allclose(warm, wanted, atol=2e-4)
    n = len(PROMPTS)
    assert torch.equal(cold[:n], cold[n : 2 * n]), "coefficient 0 is the baseline bit for bit"


def test_mixed_rows_are_generated_as_one_at_a_time(
    backend: LocalBackend, model: PreTrainedModel, architecture: str
) -> None:
    stop = byte_tokenizer().eos_token_id
    for answer in backend.generate(ROWS, Sampling(NEW)):
        ids = encode(byte_tokenizer(), answer.prompt)
        wanted = reference.greedy(model, architecture, ids, answer.recipe, NEW, stop)
        assert list(answer.token_ids) == wanted, answer
        assert answer.applied.steps == answer.applied.of
        if not any(step.tokens == "generated" for step in answer.recipe.interventions):
            assert bool(answer.applied.of) == bool(len(answer.recipe))


def test_likelihood_shares_prompts_and_steers_what_follows(
    backend: LocalBackend, model: PreTrainedModel, architecture: str
) -> None:
    tails = [[20, 30, 40], [50], [7, 8, 9, 10, 11]]
    rows = [row for row in ROWS if len(row.recipe)] + ROWS[: len(PROMPTS)]
    told = [tails[PROMPTS.index(str(row.prompt))] for row in rows]
    for row, tail, got in zip(rows, told, backend.likelihood(rows, told), strict=True):
        prompt = encode(byte_tokenizer(), row.prompt)
        logits = reference.logits(model, architecture, prompt + tail, row.recipe, len(prompt))
        wanted = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(-1, torch.tensor(tail)[:, None])[:, 0]
        assert torch.allclose(got, wanted, atol=3e-4), row.recipe


def test_a_model_that_cannot_be_resumed_gives_the_same(model: PreTrainedModel, backend: LocalBackend) -> None:
    whole = LocalBackend(model, byte_tokenizer())
    whole._lanes.resumable = False
    rows = ROWS[::3] + ROWS[1::5]
    assert torch.allclose(whole.score(rows), backend.score(rows), atol=2e-4)
    texts = [[a.token_ids for a in b.generate(rows, Sampling(NEW))] for b in (whole, backend)]
    assert texts[0] == texts[1]


# ------------------------------------------------------------------------------------------------ what is computed


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return models.build("llama")


@pytest.fixture
def passes(llama: PreTrainedModel) -> Iterator[list[tuple[int, tuple[int, int]]]]:
    """What went through each block: its layer, and the rows and tokens."""
    seen: list[tuple[int, tuple[int, int]]] = []

    def note(layer: int) -> Any:
        def hook(_: Any, args: Any, kwargs: Any) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            seen.append((layer, tuple(x.shape[:2])))

        return hook

    # nnsight leaves out what is inside a block, not the block's own hooks
    handles = [
        block.mlp.register_forward_pre_hook(note(i), with_kwargs=True)
        for i, block in enumerate(llama.model.layers)
    ]
    yield seen
    for handle in handles:
        handle.remove()


def work(seen: list[tuple[int, tuple[int, int]]]) -> int:
    return sum(rows * tokens for _, (rows, tokens) in seen)


def test_what_lies_below_a_recipe_is_computed_once(
    llama: PreTrainedModel, passes: list[tuple[int, tuple[int, int]]]
) -> None:
    backend = LocalBackend(llama, byte_tokenizer())
    assert backend._lanes.resumable
    n, n_layers = len(encode(byte_tokenizer(), PROMPTS[1])), models.N_LAYERS
    passes.clear()
    backend.score([Row(PROMPTS[1], Recipe([Add(V, c, layers=3)])) for c in (1.0, 2.0, 3.0)])
    assert work(passes) == 3 * n + 3 * n, "three blocks of the baseline, one of each row"
    passes.clear()
    backend.score([Row(PROMPTS[1], Recipe([Add(V, 4.0, layers=3)]))])
    assert work(passes) == n, "the baseline is known"
    passes.clear()
    backend.score([Row(PROMPTS[1], Recipe([Add(V, c, layers=2, tokens=[-1])])) for c in (1.0, 2.0)])
    assert work(passes) == n_layers * n + 2 * 2, (
        "one token of two blocks of each row, and the baseline's keys"
    )
    passes.clear()
    backend.generate([Row(PROMPTS[1], Recipe([Add(V, 1.0, tokens="generated")]))], Sampling(3))
    assert work(passes) == 2 * n_layers, "two new tokens: the prompt's baseline is known"
    passes.clear()
    backend.generate([Row(PROMPTS[0], r) for r in (BASELINE, Recipe([Add(V, 0.0)]), BASELINE)], Sampling(3))
    n = len(encode(byte_tokenizer(), PROMPTS[0]))
    assert work(passes) == n_layers * (n + 2), "equal rows are one"


def test_the_last_mlp_runs_over_no_more_tokens_than_are_read(llama: PreTrainedModel) -> None:
    backend, row = LocalBackend(llama, byte_tokenizer()), Row(PROMPTS[1], Recipe([Add(V, 1.0, layers=2)]))
    seen: list[int] = []
    # inside the MLP, which nnsight hands the last tokens
    inner = llama.model.layers[-1].mlp.down_proj
    with inner.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[1])):
        backend.score([row])
        assert seen == [1], "the baseline ends at block 2"
        seen.clear()
        backend.likelihood([row], [[20, 30, 40]])
        assert seen == [1 + 3]
        seen.clear()
        backend.generate([Row(PROMPTS[2])], Sampling(2))
        assert seen == [1, 1], "a prompt's baseline, too"
        seen.clear()
        backend.capture([row], [Site(models.N_LAYERS - 1, "resid_post")], [-1])
        assert seen == [len(encode(byte_tokenizer(), PROMPTS[1]))], "who reads the stream reads all of it"


def test_rows_that_have_ended_leave_the_batch(
    llama: PreTrainedModel, passes: list[tuple[int, tuple[int, int]]]
) -> None:
    backend = LocalBackend(llama, byte_tokenizer())
    rows = [Row(p, Recipe([Add(V, c)])) for p in PROMPTS for c in (1.0, 2.0)]
    long = backend.generate(rows, Sampling(12))
    backend.stop_tokens = {answer.token_ids[2] for answer in long[:3]}
    passes.clear()
    short = backend.generate(rows, Sampling(12))
    assert {len(a.token_ids) for a in short} != {12}, "some ended early"
    for one, other in zip(short, long, strict=True):
        assert one.token_ids == other.token_ids[: len(one.token_ids)]
    assert len({rows for layer, (rows, tokens) in passes if layer == 0 and tokens == 1}) > 1


def test_prompts_are_kept_within_their_budget(llama: PreTrainedModel) -> None:
    free, tight, none = (LocalBackend(llama, byte_tokenizer(), prefix_bytes=b) for b in (2**30, 100_000, 0))
    answers = [backend.score(ROWS) for backend in (free, tight, none)]
    assert torch.allclose(answers[0], answers[1], atol=1e-4)
    assert torch.allclose(answers[0], answers[2], atol=1e-4)
    assert free._lanes.prefixes.nbytes > 100_000 >= tight._lanes.prefixes.nbytes > 0
    assert none._lanes.prefixes.nbytes == 0
    texts = [[a.token_ids for a in b.generate(ROWS, Sampling(4))] for b in (free, tight, none)]
    assert texts[0] == texts[1] == texts[2]


def test_threads_share_prompts_that_are_forgotten_meanwhile(llama: PreTrainedModel) -> None:
    backend = LocalBackend(llama, byte_tokenizer(), prefix_bytes=100_000)
    rows = ROWS[::2]
    wanted = [a.token_ids for a in LocalBackend(llama, byte_tokenizer()).generate(rows, Sampling(3))]
    found: list[list[tuple[int, ...]]] = []

    def answer() -> None:
        both = rows, list(reversed(rows))
        found.extend([a.token_ids for a in backend.generate(some, Sampling(3))] for some in both)

    threads = [threading.Thread(target=answer) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(one in (wanted, wanted[::-1]) for one in found)


# ------------------------------------------------------------------------------------------------- out of memory


@pytest.fixture(params=[torch.OutOfMemoryError, RuntimeError])
def small(request: pytest.FixtureRequest, llama: PreTrainedModel) -> Iterator[tuple[LocalBackend, list[int]]]:
    """A backend whose forward raises where more than three rows share a pass, and a way to make that fewer."""
    backend, most = LocalBackend(llama, byte_tokenizer()), [3]

    def refuse(_: Any, args: Any, kwargs: Any) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        if len(x) > most[0]:
            raise request.param("[enforce fail] not enough memory: you tried to allocate 9 bytes")

    handle = llama.model.layers[2].register_forward_pre_hook(refuse, with_kwargs=True)
    yield backend, most
    handle.remove()


def test_a_batch_that_does_not_fit_is_halved_and_says_so(
    small: tuple[LocalBackend, list[int]], llama: PreTrainedModel
) -> None:
    backend, most = small
    rows = [
        Row(p, Recipe([Add(V, c, layers=layer)]))
        for p in PROMPTS
        for c in (1.0, 2.0, 3.0, 4.0)
        for layer in (1, 2)
    ]
    with pytest.warns(UserWarning, match="did not fit into memory") as warned:
        scores = backend.score(rows)
    assert len(warned) == 1
    most[0] = 99
    assert torch.allclose(LocalBackend(llama, byte_tokenizer()).score(rows), scores, atol=1e-4)


def test_memory_that_runs_out_while_tokens_stream_repeats_none(
    small: tuple[LocalBackend, list[int]], llama: PreTrainedModel
) -> None:
    backend, most = small
    most[0] = 99
    rows = [Row(p, Recipe([Add(V, c)])) for p in PROMPTS for c in (1.0, 2.0)]
    whole = LocalBackend(llama, byte_tokenizer()).generate(rows, Sampling(8))
    streamed: list[Token] = []

    def shrink(tokens: Sequence[Token]) -> None:
        streamed.extend(tokens)
        most[0] = 2 if len(streamed) > 3 * len(rows) else most[0]

    with pytest.warns(UserWarning, match="at most 1 are run at a time|at most 2 are run at a time"):
        answers = backend.generate(rows, Sampling(8), on_tokens=shrink)
    assert [a.token_ids for a in answers] == [a.token_ids for a in whole]
    streamed.sort(key=lambda token: token.row)
    for row, mine in itertools.groupby(streamed, key=lambda token: token.row):
        assert tuple(token.id for token in mine) == whole[row].token_ids
