"""The logit lens against plain hooks and the model's own logits; projections; probes on planted features and noise."""

from __future__ import annotations

import math
from dataclasses import replace

import models
import numpy as np
import pytest
import reference
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from steerlab import BASELINE, Ablate, Add, Direction, Recipe, Row, Sampling, Site, errors
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.generations import Applied, Generation
from steerlab.lens import lens_difference, linear_probe, logit_lens, probe, projections
from steerlab.prompts import encode

PROMPT = "How do I bake bread?"
STEERED_AT = 2


@pytest.fixture(scope="module", params=models.ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(architecture: str) -> PreTrainedModel:
    return models.build(architecture)


@pytest.fixture(scope="module")
def backend(model: PreTrainedModel) -> LocalBackend:
    return LocalBackend(model, byte_tokenizer())


@pytest.fixture(scope="module")
def llama() -> LocalBackend:
    return LocalBackend(models.build("llama"), byte_tokenizer())


def direction(seed: int = 0, name: str = "random") -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(seed))
    return Direction(3 * noise, Site(STEERED_AT, "resid_pre"), name=name)


def said(text: str, recipe: Recipe) -> Generation:
    """An answer to PROMPT that ended by itself."""
    tokenizer = byte_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = (*text, *[""] * (len(ids) - len(text)), "")
    stop = int(tokenizer.eos_token_id)
    return Generation(PROMPT, recipe, (*ids, stop), pieces, "stop", Applied(0, 0))


def norm_and_head(model: PreTrainedModel) -> tuple[nn.Module, nn.Module]:
    head = model.get_output_embeddings()
    assert head is not None
    base = model.base_model
    (norm,) = (getattr(base, n) for n in ("norm", "ln_f", "final_layer_norm") if hasattr(base, n))
    return norm, head


def recipes() -> list[Recipe]:
    return [BASELINE, Recipe([Add(direction(), 2.0)]), Recipe([Ablate(direction())])]


def test_the_last_layer_is_the_model(
    backend: LocalBackend, model: PreTrainedModel, architecture: str
) -> None:
    ids = encode(byte_tokenizer(), PROMPT)
    for recipe in recipes():
        lens = logit_lens(backend, PROMPT, recipe)
        assert lens.token_ids == tuple(ids)
        expected = reference.logits(model, architecture, ids, recipe)
        assert torch.allclose(lens.logits(models.N_LAYERS - 1), expected, atol=1e-4)


@torch.no_grad()
def test_every_layer_is_the_norm_and_the_head_on_what_hooks_read(
    backend: LocalBackend, model: PreTrainedModel, architecture: str
) -> None:
    norm, head = norm_and_head(model)
    ids = encode(byte_tokenizer(), PROMPT)
    for point in ("resid_pre", "resid_post"):
        lens = logit_lens(backend, PROMPT, point=point)
        for layer in range(models.N_LAYERS):
            plain = head(norm(reference.read(model, architecture, ids, Site(layer, point))))
            if cap := getattr(model.config, "final_logit_softcapping", None):
                plain = cap * (plain / cap).tanh()
            assert torch.allclose(lens.logits(layer), plain, atol=1e-4)


def test_a_steered_lens_differs_from_the_steered_layer_on(backend: LocalBackend) -> None:
    steered = logit_lens(backend, PROMPT, Recipe([Add(direction(), 2.0)]))
    baseline = logit_lens(backend, PROMPT)
    kl = (steered - baseline).kl()
    assert kl.shape == (models.N_LAYERS, len(baseline.tokens))
    assert torch.equal(steered.resid[:STEERED_AT], baseline.resid[:STEERED_AT])
    assert kl[:STEERED_AT].abs().max() == 0
    assert (kl[STEERED_AT:].max(-1).values > 1e-3).all()


def test_top_rank_and_probability_agree_with_the_logits(llama: LocalBackend) -> None:
    lens = logit_lens(llama, PROMPT, layers=[1, 3])
    p = torch.stack([lens.logits(layer) for layer in (1, 3)]).softmax(-1)
    top = lens.top(4)
    assert torch.allclose(top.values, p.sort(-1, descending=True).values[..., :4])
    assert torch.allclose(p.gather(-1, top.ids), top.values)
    assert top.texts[1][2][3] == byte_tokenizer().decode([int(top.ids[1, 2, 3])])
    (e,) = byte_tokenizer()("e", add_special_tokens=False)["input_ids"]
    assert torch.allclose(lens.probability("e"), p[..., e])
    assert torch.equal(lens.probability("e"), lens.probability(e))
    assert lens.rank(int(top.ids[0, 5, 2]))[0, 5] == 2
    with pytest.raises(errors.PromptError, match="not one token but 3"):
        lens.rank("the")


def test_cells_are_decoded_in_chunks_that_fit(llama: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    steered, baseline = (logit_lens(llama, PROMPT, r) for r in (Recipe([Ablate(direction())]), BASELINE))
    whole = steered.top(3), (steered - baseline).kl()
    monkeypatch.setattr("steerlab.backends.cells.DECODED", 7 * len(byte_tokenizer()))
    assert torch.equal(steered.top(3).ids, whole[0].ids)
    assert torch.allclose((steered - baseline).kl(), whole[1], atol=1e-6)


def test_what_gained_and_what_lost(llama: LocalBackend) -> None:
    steered, baseline = logit_lens(llama, PROMPT, Recipe([Add(direction(), 2.0)])), logit_lens(llama, PROMPT)
    difference = steered - baseline
    gained, lost = difference.gained(2), difference.lost(2)
    last = models.N_LAYERS - 1
    shift = steered.logits(last).softmax(-1) - baseline.logits(last).softmax(-1)
    assert torch.allclose(gained.values[last, :, 0], shift.max(-1).values, atol=1e-6)
    assert torch.allclose(lost.values[last, :, 0], shift.min(-1).values, atol=1e-6)
    token = int(gained.ids[last, -1, 0])
    assert torch.isclose(difference.probability(token)[last, -1], gained.values[last, -1, 0], atol=1e-6)
    with pytest.raises(errors.PromptError, match="do not read the same tokens"):
        steered - logit_lens(llama, "Hi")


@pytest.mark.parametrize("chat", [True, False])
def test_a_generation_is_read_with_its_tokens(chat: bool) -> None:
    backend = FakeBackend(d_model=models.D_MODEL)
    recipe = Recipe([Ablate(direction(), strength=0.5)])
    made = said("Yes, with flour", recipe)
    lens = logit_lens(backend, made, chat=chat)
    assert lens.recipe == recipe
    n = len(made.token_ids) - 1
    assert (made.finish, lens.token_ids[-n:]) == ("stop", made.token_ids[:-1])
    before = logit_lens(backend, PROMPT, recipe, chat=chat)
    assert lens.token_ids[:-n] == before.token_ids
    assert torch.allclose(lens.resid[:, :-n], before.resid, atol=1e-5)
    logprobs = lens.logits(backend.info.n_layers - 1).log_softmax(-1)
    along = torch.stack([logprobs[-n - 1 + i, made.token_ids[i]] for i in range(n)])
    wanted = backend.likelihood([Row(PROMPT, recipe, chat=chat)], [made.token_ids])[0]
    assert torch.allclose(along, wanted[:-1], atol=1e-4)
    assert logit_lens(backend, made, BASELINE, chat=chat).recipe == BASELINE


SCOPED: dict[str, Recipe] = {
    "all": Recipe([Add(direction(), 2.0)]),
    "prompt": Recipe([Add(direction(), 2.0, tokens="prompt")]),
    "generated": Recipe([Add(direction(), 2.0, tokens="generated")]),
    "chosen": Recipe([Add(direction(), 2.0, tokens=[-1, -3])]),
    "both": Recipe([Ablate(direction(), tokens="prompt"), Add(direction(1), 2.0, tokens="generated")]),
}


@pytest.mark.parametrize("scope", SCOPED)
def test_a_generation_is_read_as_its_tokens_were_steered(
    backend: LocalBackend, model: PreTrainedModel, architecture: str, scope: str
) -> None:
    """Against plain hooks, and against the answer itself: the last layer's best guesses are the tokens that came."""
    recipe = SCOPED[scope]
    made = backend.generate([Row(PROMPT, recipe)], Sampling(6))[0]
    ids = encode(byte_tokenizer(), PROMPT)
    new = list(made.token_ids[:-1] if made.finish == "stop" else made.token_ids)
    lens = logit_lens(backend, made)
    assert lens.token_ids == (*ids, *new)
    last = lens.logits(models.N_LAYERS - 1)
    wanted = reference.logits(model, architecture, [*ids, *new], recipe, len(ids))
    assert torch.allclose(last, wanted, atol=2e-4)
    assert last.argmax(-1)[len(ids) - 1 :][: len(made.token_ids)].tolist() == list(made.token_ids)
    x = projections(backend, made, direction(2), layers=[STEERED_AT, models.N_LAYERS - 1], point="resid_post")
    assert torch.allclose(x.values[1, :, 0], lens.resid[-1] @ direction(2).unit, atol=1e-4)


def test_the_scopes_of_a_generation_are_told_apart(llama: LocalBackend) -> None:
    """Read under one recipe after another: the stream at the steered layer moves at the tokens of the scope alone."""
    made = llama.generate([Row(PROMPT)], Sampling(4))[0]
    n, plain = (
        len(encode(byte_tokenizer(), PROMPT)),
        logit_lens(llama, made, layers=[STEERED_AT], point="resid_pre"),
    )
    every = set(range(len(plain.tokens)))
    for scope, wanted in [
        ("all", every),
        ("prompt", set(range(n))),
        ("generated", every - set(range(n))),
        ("chosen", {n - 3, n - 1}),
    ]:
        steered = logit_lens(llama, made, SCOPED[scope], layers=[STEERED_AT], point="resid_pre")
        moved = (steered.resid - plain.resid)[0].norm(dim=-1) > 1
        assert set(moved.nonzero()[:, 0].tolist()) == wanted, scope


def test_a_generation_that_its_text_does_not_give_back_is_read_all_the_same(llama: LocalBackend) -> None:
    half = said("Ü", BASELINE)
    half = replace(half, token_ids=(half.token_ids[0], *half.token_ids[-1:]), pieces=("\ufffd", ""))
    assert logit_lens(llama, half).token_ids[-1] == half.token_ids[0]
    empty = replace(half, token_ids=half.token_ids[-1:], pieces=("",))
    assert logit_lens(llama, empty).token_ids == logit_lens(llama, PROMPT).token_ids


def test_projections_are_dot_products(
    backend: LocalBackend, model: PreTrainedModel, architecture: str
) -> None:
    ids, two = encode(byte_tokenizer(), PROMPT), [direction(0, "a"), direction(1, "b")]
    for point in ("resid_pre", "mlp_out"):
        found = projections(backend, PROMPT, two, point=point)
        assert found.values.shape == (models.N_LAYERS, len(ids), 2)
        for layer in range(models.N_LAYERS):
            x = reference.read(model, architecture, ids, Site(layer, point))
            for i, v in enumerate(two):
                assert torch.allclose(found.values[layer, :, i], x @ v.vector / v.vector.norm(), atol=1e-4)
    gone = projections(backend, PROMPT, two, Recipe([Ablate(two[0])]))
    assert gone.values[..., 0].abs().max() < 1e-4 < gone.values[..., 1].abs().max()


def test_tables(llama: LocalBackend) -> None:
    pytest.importorskip("pandas")
    lens, steered = logit_lens(llama, PROMPT), logit_lens(llama, PROMPT, Recipe([Add(direction(), 2.0)]))
    cells, top = lens.resid.shape[0] * lens.resid.shape[1], lens.top(2)
    table = lens.to_frame(2)
    assert list(table.columns) == ["layer", "position", "token", "rank", "next", "probability"]
    assert len(table) == 2 * cells
    row = table[(table.layer == 3) & (table.position == -1) & (table["rank"] == 1)].iloc[0]
    assert (row.next, row.probability) == (top.texts[3][-1][1], pytest.approx(float(top.values[3, -1, 1])))
    assert row.token == lens.tokens[-1]
    assert len((steered - lens).to_frame()) == cells
    found = projections(llama, PROMPT, [direction(0), direction(1, "other"), direction(2)])
    assert list(found.to_frame().columns[3:]) == ["random 0", "other", "random 2"]
    one = found.to_frame().iloc[-1]
    assert (one.layer, one.position) == (models.N_LAYERS - 1, -1)
    assert one.other == pytest.approx(float(found.values[-1, -1, 1]))


def test_layers_and_tokens_are_given_as_to_an_intervention(llama: LocalBackend) -> None:
    for layers, wanted in [(2, (2,)), (np.int64(2), (2,)), (np.arange(1, 3), (1, 2)), ("all", (0, 1, 2, 3))]:
        assert logit_lens(llama, PROMPT, layers=layers).layers == wanted
        assert projections(llama, PROMPT, direction(), layers=layers).layers == wanted
        assert lens_difference(llama, PROMPT, layers=layers).steered.layers == wanted
    assert all(type(one) is int for one in logit_lens(llama, PROMPT, layers=np.arange(3)).layers)
    lens = logit_lens(llama, PROMPT)
    assert torch.equal(lens.rank(np.int64(65)), lens.rank(65))
    for layers in ("last", [1.5], 1.5):
        with pytest.raises(errors.SiteError, match="is not known"):
            logit_lens(llama, PROMPT, layers=layers)  # type: ignore[arg-type]
    with pytest.raises(errors.PromptError, match="a token is its text or its id, not 6.5"):
        lens.rank(6.5)  # type: ignore[arg-type]


def test_names_of_directions_stand_for_one_column_each(llama: LocalBackend) -> None:
    pytest.importorskip("pandas")
    names = ["a", "token", "a", "a 0", "layer", "self"]
    found = projections(llama, PROMPT, [direction(i, name) for i, name in enumerate(names)])
    assert found.names == ("a 1", "token 1", "a 2", "a 0", "layer 4", "self")
    frame = found.to_frame()
    assert list(frame.columns) == ["layer", "position", "token", *found.names]
    assert frame.token.iloc[-1] == found.tokens[-1]


def test_bad_lenses_are_refused(llama: LocalBackend) -> None:
    for call, error, says in [
        (lambda: logit_lens(llama, PROMPT, point="mlp_out"), errors.SiteError, "a part of the stream"),
        (lambda: logit_lens(llama, PROMPT, layers=[4]), errors.SiteError, "out of range"),
        (lambda: logit_lens(llama, PROMPT, layers=[]), errors.SiteError, "no layer"),
        (
            lambda: logit_lens(llama, PROMPT, layers=[1, 3]).logits(2),
            errors.SiteError,
            r"layer 2 was not read. This lens has the layers \[1, 3\]",
        ),
        (lambda: projections(llama, PROMPT, Direction([1.0])), errors.DirectionError, "d_model 1"),
    ]:
        with pytest.raises(error, match=says):
            call()


# ------------------------------------------------------------------------------------------------------------ probes


def planted(n: int, d: int, strength: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Noise at layer 0 and, at layer 1, the same with a feature along a unit vector for the rows with label 1."""
    noise = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, 2, d, generator=noise), torch.randint(2, (n,), generator=noise)
    u = torch.nn.functional.normalize(torch.randn(d, generator=noise), dim=0)
    x[:, 1] += strength * (2 * y[:, None] - 1) * u
    return x, y, u


@pytest.mark.parametrize(("n", "d"), [(400, 16), (200, 500)], ids=["narrow", "wider than rows"])
def test_a_planted_feature_is_found_and_noise_is_chance(n: int, d: int) -> None:
    x, y, u = planted(n, d, strength=6.0)
    noise, signal = linear_probe(x + 50, y)
    assert noise.accuracy.low < 0.5 < noise.accuracy.high
    assert noise.accuracy.n == signal.accuracy.n == pytest.approx(n / 4, abs=2)
    assert signal.accuracy.value > 0.95
    assert signal.accuracy.low > signal.chance
    assert abs(signal.direction(1).cosine(Direction(u))) > 0.6
    assert signal.direction(1).cosine(Direction(u)) == pytest.approx(
        -signal.direction(0).cosine(Direction(u))
    )
    assert np.mean(np.array(signal.predict(x[:, 1] + 50)) == y.numpy()) > 0.95


def test_a_probe_is_the_logistic_regression_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    noise = torch.Generator().manual_seed(3)
    x, y = torch.randn(120, 10, generator=noise).double(), torch.randint(3, (120,), generator=noise)
    x += y[:, None] * torch.randn(10, generator=noise)
    (mine,) = linear_probe(x, y, held_out=0.01, l2=0.5)
    train = [i for i in range(120) if i not in _test_rows(y)]
    scale = float((x[train] - x[train].mean(0)).square().mean().sqrt())
    theirs = linear_model.LogisticRegression(C=2.0, tol=1e-8, max_iter=5000).fit(x[train] / scale, y[train])
    assert np.allclose(mine.weights * scale, theirs.coef_, atol=1e-3)
    assert mine.predict(x) == theirs.predict(x / scale).tolist()


def _test_rows(y: Tensor) -> set[int]:
    from steerlab.lens.probes import _split

    return set(_split(y, [0, 1, 2], 0.01, 0)[1].tolist())


def test_probes_of_a_backend_know_their_sites() -> None:
    backend = FakeBackend(d_model=models.D_MODEL)
    prompts = [f"{word} {i}" for i in range(20) for word in ("yes", "no")]
    probes = probe(backend, prompts, ["yes", "no"] * 20, position=-8, point="resid_post")
    assert [p.site for p in probes] == [Site(i, "resid_post") for i in range(4)]
    assert probes[-1].labels == ("no", "yes")
    found = probes[-1].direction()
    assert (found.name, found.site) == ("yes", Site(3, "resid_post"))
    assert found.provenance["label"] == "yes"
    assert (found.provenance["position"], found.provenance["point"]) == (-8, "resid_post")
    assert found.model == backend.info.name
    stream = backend.capture([Row(p) for p in prompts], [Site(3, "resid_post")], (-8,)).norm
    assert found.residual_norm == pytest.approx(float(stream), rel=1e-5)
    assert found.coefficient(norms=1) > 0


def test_the_split_is_by_label_and_the_seeds_own() -> None:
    x, _, _ = planted(40, 8, strength=0.0)
    y = ["rare"] * 4 + ["common"] * 36
    one, again, other = (linear_probe(x, y, seed=seed)[0] for seed in (0, 0, 1))
    assert one.accuracy == again.accuracy
    assert torch.equal(one.weights, again.weights)
    assert not torch.equal(one.weights, other.weights)
    assert one.accuracy.n == 10
    assert one.chance == 0.9


def test_a_stream_without_differences_is_chance() -> None:
    (flat,) = linear_probe(torch.ones(40, 8), [0, 1, 1, 1] * 10)
    assert flat.accuracy.value == flat.chance == 0.8


def test_rows_without_a_finite_stream_are_left_out_of_their_layer() -> None:
    x, y, _ = planted(80, 8, strength=6.0)
    x[:10, 1] = torch.nan
    x[10, 1, 3] = torch.inf
    with pytest.warns(UserWarning, match=r"of 80 rows, .* left out of the probes: 11 at layer 1$"):
        whole, part = linear_probe(x, y)
    assert whole.accuracy == linear_probe(x[:, 0], y)[0].accuracy
    assert part.accuracy.n < whole.accuracy.n
    assert part.accuracy.value > 0.9
    assert part.weights.isfinite().all()


@pytest.mark.filterwarnings("ignore:of 40 rows")
@pytest.mark.parametrize("of", ["all rows", "a label"])
def test_a_layer_without_finite_rows_has_no_accuracy(of: str) -> None:
    x, y, _ = planted(40, 8, strength=6.0)
    x[y == 1 if of == "a label" else slice(None), 1] = torch.nan
    probe = linear_probe(x, y)[1]
    assert math.isnan(probe.accuracy.value)
    assert probe.accuracy.n == 0
    assert math.isnan(probe.chance)
    with pytest.raises(errors.PromptError, match="the probe of layer 1 was not fitted"):
        probe.predict(x[:, 1])
    with pytest.raises(errors.DirectionError, match="NaN or infinite"):
        probe.direction()


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (torch.zeros(3, 2), [0, 1], "do not go together"),
        (torch.zeros(3), [0, 1, 1], "do not go together"),
        (torch.zeros(3, 2), [1, 1, 1], "the one label"),
        (torch.zeros(3, 2), [0, 1, 1], "label 0 has only one row"),
    ],
)
def test_rows_that_no_probe_can_learn_from_are_refused(x: Tensor, y: list[int], says: str) -> None:
    with pytest.raises(errors.PromptError, match=says):
        linear_probe(x, y)
    with pytest.raises(errors.PromptError, match="between 0 and 1"):
        linear_probe(torch.zeros(4, 2), [0, 1, 0, 1], held_out=1.0)
