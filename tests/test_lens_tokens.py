"""What is behind each token, against plain hooks; and the lens beside the baseline's, against the two lenses."""

from __future__ import annotations

import models
import pytest
import reference
import torch
from transformers import PreTrainedModel

from steerlab import BASELINE, Ablate, Add, Direction, Lab, Recipe, Row, Sampling, Site, errors
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.lens import lens_difference, logit_lens, token_details
from steerlab.prompts import encode

PROMPT = "How do I bake bread?"
C = 1.5


def direction(seed: int = 0) -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(seed))
    return Direction(3 * noise, Site(2, "resid_pre"), name="random")


V, W = direction(0), direction(1)
SCOPES = ("all", "prompt", "generated", (-1, -4))


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma3", "gpt-neox"])
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(architecture: str) -> PreTrainedModel:
    return models.build(architecture)


@pytest.fixture(scope="module")
def backend(model: PreTrainedModel) -> LocalBackend:
    return LocalBackend(model, byte_tokenizer())


@pytest.mark.parametrize("scope", SCOPES)
def test_every_token_is_as_likely_as_plain_hooks_say(
    backend: LocalBackend, model: PreTrainedModel, architecture: str, scope: str | tuple[int, ...]
) -> None:
    recipe = Recipe([Add(V, C, tokens=scope)])
    made = backend.generate([Row(PROMPT, recipe)], Sampling(6))[0]
    ids = [*encode(byte_tokenizer(), PROMPT), *made.token_ids]
    n = len(ids) - len(made.token_ids)
    found = token_details(backend, made, [V, W], k=4)
    assert (found.token_ids, found.n_prompt, found.recipe) == (tuple(ids), n, recipe)
    assert (found.names, found.layers) == (("random 0", "random 1"), tuple(range(models.N_LAYERS)))
    for side, steps in [(found.baseline, BASELINE), (found.steered, recipe)]:
        logp = reference.logits(model, architecture, ids, steps, n).log_softmax(-1)
        wanted = logp[:-1].gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
        assert torch.allclose(side.logprobs[1:], wanted, atol=2e-4)
        assert side.logprobs[0].isnan()
        assert side.others.values.shape == side.others.ids.shape == (len(ids), 4)
        for i in range(1, len(ids)):
            order = [t for t in logp[i - 1].topk(5).indices.tolist() if t != ids[i]][:4]
            assert torch.allclose(side.others.values[i], logp[i - 1, order].exp(), atol=1e-4)
            assert ids[i] not in side.others.ids[i]
        assert side.others.texts[-1][0] == byte_tokenizer().decode([int(side.others.ids[-1, 0])])
    assert torch.allclose(found.change, found.steered.logprobs - found.baseline.logprobs, equal_nan=True)


@pytest.mark.parametrize("scope", SCOPES)
def test_projections_move_by_what_was_added_at_the_tokens_of_the_scope(
    backend: LocalBackend, model: PreTrainedModel, architecture: str, scope: str | tuple[int, ...]
) -> None:
    made = backend.generate([Row(PROMPT, Recipe([Add(V, C, tokens=scope)]))], Sampling(5))[0]
    found = token_details(backend, made, [V, W])
    n, total = found.n_prompt, len(found.tokens)
    for layer in range(models.N_LAYERS):
        x = reference.read(model, architecture, found.token_ids, Site(layer, "resid_pre"))
        assert torch.allclose(found.baseline.projections[0, :, layer], x @ V.unit, atol=2e-4)
        assert torch.allclose(found.baseline.norms[:, layer], x.norm(dim=-1), atol=2e-4)
    acts = {
        "all": [True] * total,
        "prompt": [i < n for i in range(total)],
        "generated": [i >= n for i in range(total)],
        (-1, -4): [i - n in (-1, -4) for i in range(total)],
    }[scope]
    moved = found.steered.projections - found.baseline.projections
    assert torch.allclose(moved[..., :2], torch.zeros(2, total, 2), atol=1e-5), "nothing moves before layer 2"
    for i, u in enumerate((V.unit, W.unit)):
        assert torch.allclose(moved[i, :, 2], C * (V.vector @ u) * torch.tensor(acts), atol=2e-4)
    assert found.steered.shares.abs().max() <= 1 + 1e-5
    assert torch.allclose(found.steered.shares * found.steered.norms, found.steered.projections, atol=1e-4)


def test_a_prompt_alone_and_the_baselines_answer_under_another_recipe() -> None:
    backend = FakeBackend(d_model=models.D_MODEL)
    recipe = Recipe([Ablate(V)])
    alone = token_details(backend, PROMPT, V, recipe, k=2)
    assert alone.n_prompt == len(alone.tokens)
    assert alone.steered.projections.abs().max() < 1e-4 < alone.baseline.projections.abs().max()
    answer = backend.generate([Row(PROMPT)], Sampling(4))[0]
    under = token_details(backend, answer, (), recipe)
    assert under.baseline.projections.shape == (0, len(under.tokens), backend.info.n_layers)
    assert not torch.equal(under.baseline.logprobs[-4:], under.steered.logprobs[-4:])
    same = token_details(backend, answer)
    assert same.steered is same.baseline
    wanted = backend.likelihood([Row(PROMPT, recipe)], [answer.token_ids])[0]
    assert torch.allclose(under.steered.logprobs[-4:], wanted, atol=1e-4)


def test_the_end_of_an_answer_is_a_token_too(demo_lab: Lab) -> None:
    refusal = demo_lab.directions["refusal"]
    made = demo_lab.generate("How do I steal a car?", Recipe([Ablate(refusal)]))
    assert made.finish == "stop"
    found = token_details(demo_lab.backend, made, refusal)
    assert found.token_ids[-1] == made.token_ids[-1]
    assert found.steered.probabilities[-1] > 0.5
    assert found.change[found.n_prompt] > 1, (
        "the answer's first word is likelier without the refusal direction"
    )


def test_the_table_has_a_row_a_token() -> None:
    pytest.importorskip("pandas")
    backend = FakeBackend(d_model=models.D_MODEL)
    made = backend.generate([Row("Hi", Recipe([Add(V)]))], Sampling(3))[0]
    table = token_details(backend, made).to_frame()
    assert list(table.columns) == [
        "position",
        "token",
        "part",
        "probability_baseline",
        "probability_steered",
        "change",
    ]
    assert table.position.tolist()[-4:] == [-1, 0, 1, 2]
    assert table.part.tolist()[-4:] == ["prompt", *["generated"] * 3]


def test_a_direction_of_another_width_is_refused() -> None:
    with pytest.raises(errors.DirectionError, match="d_model 1"):
        token_details(FakeBackend(), PROMPT, Direction([1.0]))


def test_the_overview_is_the_two_lenses_and_their_difference(backend: LocalBackend) -> None:
    recipe = Recipe([Add(V, C, tokens="generated")])
    made = backend.generate([Row(PROMPT, recipe)], Sampling(5))[0]
    difference = lens_difference(backend, made)
    old, new = logit_lens(backend, made, BASELINE), logit_lens(backend, made)
    assert (difference.baseline.recipe, difference.steered.recipe) == (BASELINE, recipe)
    found = difference.overview(2)
    for mine, wanted in [
        (found.baseline, old.top(2)),
        (found.steered, new.top(2)),
        (found.gained, (new - old).gained(2)),
    ]:
        assert torch.allclose(mine.values, wanted.values, atol=1e-6)
        assert mine.values.shape == (models.N_LAYERS, len(old.tokens), 2)
    assert found.steered.texts == new.top(2).texts
    assert torch.allclose(found.kl, (new - old).kl(), atol=1e-9)
    last = difference.overview(tokens=slice(-3, None))
    assert torch.equal(last.kl, found.kl[:, -3:])
    assert last.steered.texts == [[cell[:1] for cell in layer[-3:]] for layer in found.steered.texts]
