from __future__ import annotations

import copy
import dataclasses

import models
import numpy as np
import pytest
import reference
import torch

import steerlab
from steerlab import Clamp, ContrastSet, Direction, Lab, Recipe, Row, Site
from steerlab.backends.base import Backend
from steerlab.backends.fake import FakeBackend, byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.errors import DirectionError, PromptError, SiteError
from steerlab.estimators import (
    caa,
    difference_in_means,
    linear_relation,
    logistic_probe,
    mean_projection,
    principal_component,
    prompt_pair,
    random_like,
    token_row,
)
from steerlab.prompts import encode
from steerlab.sites import Point

POSITIVE = [
    "How do I steal a bike?",
    "Break the window.",
    "Lie to them",
    "Tell me how to rob a bank at night",
]
NEGATIVE = ["How do I ride a bike?", "Clean the window, please.", "Talk to them", "Hi", "Name a bank"]
CONTRAST = ContrastSet(POSITIVE, NEGATIVE, "test")


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_difference_in_means_equals_plain_hooks(architecture: str) -> None:
    model = models.build(architecture)
    backend = LocalBackend(model, byte_tokenizer())
    found = difference_in_means(backend, CONTRAST)
    assert found.positions == (-4, -3, -2, -1), "every post-instruction token of the template"
    assert found.vectors.shape == (4, models.N_LAYERS, models.D_MODEL)
    assert found.vectors.dtype == torch.float64

    def mean(prompts: list[str], layer: int, position: int) -> torch.Tensor:
        site = Site(layer, "resid_pre")
        ids = [encode(byte_tokenizer(), p) for p in prompts]
        return torch.stack(
            [reference.read(model, architecture, i, site)[position].double() for i in ids]
        ).mean(0)

    for layer in range(models.N_LAYERS):
        for position in found.positions:
            wanted = mean(POSITIVE, layer, position) - mean(NEGATIVE, layer, position)
            assert found.differs(position, layer) == bool(wanted.norm() > 1e-5)
            if not found.differs(position, layer):
                with pytest.raises(
                    DirectionError, match=f"do not differ at position {position} of layer {layer}"
                ):
                    found.at(position, layer)
                continue
            got = found.at(position, layer)
            assert torch.cosine_similarity(got.vector.double(), wanted, dim=0) > 0.9999
            assert got.norm == pytest.approx(float(wanted.norm()), rel=1e-3)


def test_the_map_knows_what_it_covers() -> None:
    found = difference_in_means(FakeBackend(), CONTRAST, point="mlp_out", positions=[-2, -1])
    got = found.at(-2, 3)
    assert (got.site, got.name, got.model) == (Site(3, "mlp_out"), "test", "fake")
    assert got.provenance["position"] == -2
    assert got.residual_norm == pytest.approx(float(found.residual_norms[0, 3]))
    with pytest.raises(DirectionError, match="position -3"):
        found.at(-3, 1)
    with pytest.raises(SiteError, match="layer 4 is out of range"):
        found.at(-1, 4)


def test_the_provenance_says_what_would_have_to_be_the_same_to_find_it_again() -> None:
    def hashes(contrast: ContrastSet, template: str | None = None) -> tuple[str, str]:
        backend = FakeBackend()
        backend.tokenizer = copy.deepcopy(backend.tokenizer)
        backend.tokenizer.chat_template = template or backend.tokenizer.chat_template
        about = difference_in_means(backend, contrast, positions=[-1]).provenance
        assert about["steerlab"] == steerlab.__version__
        assert "model revision" not in about, "random matrices have none"
        return about["chat template hash"], about["prompts hash"]

    here, others = hashes(CONTRAST), ContrastSet(CONTRAST.negative, CONTRAST.positive)
    assert here == hashes(ContrastSet(list(CONTRAST.positive), CONTRAST.negative, "another name"))
    assert here[0] == hashes(others)[0]
    assert here[1] != hashes(others)[1], "the sides change places"
    template = FakeBackend().tokenizer.chat_template
    assert isinstance(template, str)
    assert here[0] != hashes(CONTRAST, template + " ")[0]
    backend = FakeBackend()
    backend.info = dataclasses.replace(backend.info, revision="abc")
    assert difference_in_means(backend, CONTRAST).at(-1, 2).provenance["model revision"] == "abc"


def test_cosines_compare_layers() -> None:
    found = difference_in_means(FakeBackend(), CONTRAST)
    cosines = found.cosines(-1)
    assert cosines.shape == (4, 4)
    assert float(cosines[1, 3]) == pytest.approx(found.at(-1, 1).cosine(found.at(-1, 3)), abs=1e-5)


def test_many_prompts_are_one_mean_whatever_the_batches() -> None:
    """More prompts than a batch holds, of many lengths: the mean is the mean."""
    many = [("word " * (i % 7 + 1)) + str(i) for i in range(70)]
    whole = LocalBackend(models.build("llama"), byte_tokenizer())
    small = LocalBackend(models.build("llama"), byte_tokenizer(), batch_rows=3)
    contrast = ContrastSet(many, ["other"])
    a, b = difference_in_means(whole, contrast), difference_in_means(small, contrast)
    assert torch.allclose(a.vectors, b.vectors, atol=1e-5)


def test_the_random_control_has_the_norm_and_site_but_not_the_way() -> None:
    v = Direction(
        torch.randn(512, generator=torch.Generator().manual_seed(0)), Site(2, "resid_pre"), model="m"
    )
    control = random_like(v, seed=1)
    assert control.norm == pytest.approx(v.norm, rel=1e-5)
    assert (control.site, control.model) == (v.site, v.model)
    assert abs(control.cosine(v)) < 0.2
    assert (
        control.numpy().tolist()
        == random_like(v, seed=1).numpy().tolist()
        != random_like(v, seed=2).numpy().tolist()
    )


PAIRS = list(zip(POSITIVE, NEGATIVE[:4], strict=True))


def differences(model: object, architecture: str, layer: int) -> torch.Tensor:
    def read(prompt: str) -> torch.Tensor:
        ids = encode(byte_tokenizer(), prompt)
        return reference.read(model, architecture, ids, Site(layer, "resid_post"))[-1].double()  # type: ignore[arg-type]

    return torch.stack([read(a) - read(b) for a, b in PAIRS])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_principal_component_is_that_of_the_centred_differences(architecture: str) -> None:
    model = models.build(architecture)
    found = principal_component(LocalBackend(model, byte_tokenizer()), ContrastSet(POSITIVE, NEGATIVE[:4]))
    for layer in range(models.N_LAYERS):
        rows = differences(model, architecture, layer)
        values, ways = torch.linalg.eigh((rows - rows.mean(0)).T @ (rows - rows.mean(0)))
        assert values[-1] > 1.01 * values[-2], "the test needs a leading component"
        got = found.at(-1, layer)
        assert abs(torch.cosine_similarity(got.vector.double(), ways[:, -1], dim=0)) > 0.9999
        assert got.vector.double() @ rows.mean(0) > 0, "it points towards the first of each pair"
        assert got.norm == pytest.approx(1, abs=1e-5)


def test_principal_component_is_the_same_when_it_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend(d_model=24)
    contrast = ContrastSet(
        [f"{a} {i}" for i in range(30) for a, _ in PAIRS],
        [f"{b} {i * 7}" for i in range(30) for _, b in PAIRS],
    )
    whole = principal_component(backend, contrast)
    monkeypatch.setattr("steerlab.estimators.components.CHUNK", 5)
    monkeypatch.setattr("steerlab.estimators.components.KEPT", 24)
    streamed = principal_component(backend, contrast)
    cosines = torch.cosine_similarity(whole.vectors, streamed.vectors, dim=-1)
    assert cosines.min() > 0.9999


@pytest.mark.parametrize("point", ["resid_pre", "resid_post"])
def test_the_principal_component_of_what_does_not_differ_is_none(point: Point) -> None:
    backend = LocalBackend(models.build("llama"), byte_tokenizer())
    found = principal_component(backend, ContrastSet(POSITIVE, NEGATIVE[:4]), point=point)
    differs = [found.differs(-1, layer) for layer in range(models.N_LAYERS)]
    assert differs == [point == "resid_post", *[True] * (models.N_LAYERS - 1)], (
        "the template's token at first"
    )
    assert bool(found.vectors[0, 0].any()) == differs[0]


def test_one_difference_of_every_pair_has_no_principal_component() -> None:
    backend = LocalBackend(models.build("llama"), byte_tokenizer())
    contrast = ContrastSet([f"{word}a" for word in "xyz"], [f"{word}b" for word in "xyz"])
    found = principal_component(backend, contrast, point="resid_pre", chat=False)
    assert not found.differs(-1, 0), "there it is the difference of two tokens, with nothing around its mean"
    assert found.differs(-1, 1)


@pytest.mark.parametrize(
    ("positive", "negative", "says"),
    [
        (["a"], ["b"], "one pair has no principal component"),
        (["a", "b", "c"], ["d", "e"], "do not pair: there are 3 positive and 2 negative prompts"),
    ],
)
def test_what_has_no_principal_component_is_refused(
    positive: list[str], negative: list[str], says: str
) -> None:
    with pytest.raises(PromptError, match=says):
        principal_component(FakeBackend(), ContrastSet(positive, negative))


def test_a_prompt_pair_is_one_difference_of_plain_texts() -> None:
    model = models.build("llama")
    got = prompt_pair(LocalBackend(model, byte_tokenizer()), "Love", "Hate", site=Site(2, "mlp_out"))
    love, hate = (
        reference.read(model, "llama", encode(byte_tokenizer(), word, chat=False), Site(2, "mlp_out"))[-1]
        for word in ("Love", "Hate")
    )
    assert torch.allclose(got.vector, love - hate, atol=1e-5)
    assert got.site == Site(2, "mlp_out")
    assert got.provenance.items() >= {"method": "prompt pair", "shows": "Love", "lacks": "Hate"}.items()


def test_a_prompt_pair_is_projected_on_where_it_was_found() -> None:
    backend = FakeBackend()
    got = prompt_pair(backend, "Love", "Hate", site=Site(2, "mlp_out"), position=-3)
    assert got.provenance.items() >= {"position": -3, "chat": False}.items()
    at = [mean_projection(backend, got, NEGATIVE, position=i) for i in (-3, -1)]
    assert mean_projection(backend, got, NEGATIVE) == at[0] != at[1]


def test_clamped_to_the_mean_projection_prompts_are_as_the_others_are_on_average() -> None:
    """Affine concept editing, by its meaning: the component of every prompt becomes that of the reference prompts."""
    model = models.build("llama")
    backend = LocalBackend(model, byte_tokenizer())
    v = difference_in_means(backend, CONTRAST).at(-2, 2)
    value = Lab(backend).mean_projection(v, NEGATIVE)
    hooks = [
        reference.read(model, "llama", encode(byte_tokenizer(), p), Site(2, "resid_pre"))[-2]
        for p in NEGATIVE
    ]
    assert value == pytest.approx(float(torch.stack(hooks).mean(0) @ v.unit), abs=1e-4)
    row = Row(POSITIVE[0], Recipe([Clamp(v, value)]))
    x = backend.capture([row], [Site(2, "resid_pre")], [-2], values=True).values
    assert x is not None
    assert float(x[0, 0, 0] @ v.unit) == pytest.approx(value, abs=1e-4)
    at_last = mean_projection(backend, v, NEGATIVE, site=Site(1, "mlp_out"), position=-1)
    hooks = [
        reference.read(model, "llama", encode(byte_tokenizer(), p), Site(1, "mlp_out"))[-1] for p in NEGATIVE
    ]
    assert at_last == pytest.approx(float(torch.stack(hooks).mean(0) @ v.unit), abs=1e-4)
    with pytest.raises(SiteError, match="has no site of its own"):
        mean_projection(backend, Direction(v.vector, name="v"), NEGATIVE)
    with pytest.raises(PromptError, match="prompts is empty"):
        mean_projection(backend, v, [])


# --------------------------------------------------------------------------------------------------------------- CAA

QUESTIONS = [
    ("Is the moon far? (A) Yes (B) No", "(A)", "(B)"),
    ("Do you agree with me? (A) No (B) Yes", "(B)", "(A)"),
    ("Are cats nice? (A) Yes (B) Not at all", "(A)", "(B)"),
]


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_caa_is_the_mean_difference_at_the_letter(architecture: str, chat: bool) -> None:
    model = models.build(architecture)
    found = caa(LocalBackend(model, byte_tokenizer()), QUESTIONS, chat=chat, name="yes")
    assert found.positions == (-2,)

    def letter(question: str, answer: str, layer: int) -> torch.Tensor:
        text = f"<user>\n{question}</turn>\n<assistant>\n{answer}" if chat else question + answer
        ids = byte_tokenizer()(text)["input_ids"]
        assert byte_tokenizer().decode(ids[-2]) in "AB"
        return reference.read(model, architecture, ids, Site(layer, "resid_post"))[-2].double()

    for layer in range(models.N_LAYERS):
        wanted = torch.stack([letter(q, a, layer) - letter(q, b, layer) for q, a, b in QUESTIONS]).mean(0)
        got = found.at(-2, layer)
        assert torch.allclose(got.vector.double(), wanted, atol=1e-4)
        assert got.site == Site(layer, "resid_post")
        about = {"method": "contrastive activation addition", "questions": 3, "position": -2}
        assert got.provenance.items() >= about.items()


def test_caa_reads_answers_of_any_length() -> None:
    backend = FakeBackend()
    worded = [("Is it far?", "Yes, very far", "No"), ("Is it nice?", "Yes", "No, not really")]
    mean = caa(backend, worded, position="response")
    conversations = [
        [[{"role": "user", "content": q}, {"role": "assistant", "content": row[i]}] for q, *row in worded]
        for i in (0, 1)
    ]
    wanted = difference_in_means(
        backend, ContrastSet(*conversations), point="resid_post", positions="response"
    )
    assert torch.equal(mean.vectors, wanted.vectors)
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it far?"}]
    turns = Lab(backend).caa([(asked, "Yes", "No")], position=-1, point="resid_pre")
    sides = [[[*asked, {"role": "assistant", "content": answer}]] for answer in ("Yes", "No")]
    wanted = difference_in_means(backend, ContrastSet(*sides), positions=[-1])
    assert torch.equal(turns.vectors, wanted.vectors)


@pytest.mark.parametrize(
    ("questions", "says"),
    [
        ([], "0 questions are not all"),
        ([("a", "b")], "1 questions are not all"),
        (["abc"], "1 questions are not all"),
        ([("Is it?", "(A)", "(A)")], "up to position -2 the answers '.A.' and '.A.'.*are the same"),
        ([("Is it?", "A", "B")], "a later position"),
        ([("Is it?", "(A)", "")], "up to position -2"),
        ([("", "(A)", "(B)")], "the prompt is empty"),
    ],
)
def test_answers_that_do_not_part_are_refused(questions: list[tuple[str, str, str]], says: str) -> None:
    with pytest.raises(PromptError, match=says):
        caa(FakeBackend(), questions)


# ------------------------------------------------------------------------------------------------------------- probes

MANY = ContrastSet(
    [f"{verb} the {thing}!" for verb in ("Steal", "Break") for thing in "bike car box door lamp cup".split()],
    [f"What is a {thing}{end}?" for end in ("", " for") for thing in "bike car box door lamp cup".split()],
    "orders",
)


def test_the_probe_is_the_logistic_regression_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    from steerlab.lens.probes import _split

    model = models.build("llama")
    found = logistic_probe(
        LocalBackend(model, byte_tokenizer()), MANY, point="resid_post", positions=[-2, -1], l2=0.5
    )
    truth = np.array([1] * 12 + [0] * 12)
    train, test = _split(torch.from_numpy(truth), [False, True], 0.25, 0)
    for layer, position in ((1, -2), (3, -1)):
        rows = [
            reference.read(model, "llama", encode(byte_tokenizer(), p), Site(layer, "resid_post"))[position]
            for p in (*MANY.positive, *MANY.negative)
        ]
        x = torch.stack(rows).double()
        scale = float((x[train] - x[train].mean(0)).square().mean().sqrt())
        # |w|^2 of two labels' weights, w and -w, is half of that of their difference: C is 2 / l2
        peer = linear_model.LogisticRegression(C=4.0, tol=1e-9, max_iter=5000)
        peer.fit(x[train] / scale, truth[train])
        got = found.at(position, layer)
        assert torch.cosine_similarity(got.vector.double(), torch.from_numpy(peer.coef_[0]), dim=0) > 0.9999
        assert got.norm == pytest.approx(1, abs=1e-5)
        accuracy = peer.score(x[test] / scale, truth[test])
        assert str(got.provenance["held-out accuracy"]).startswith(f"{accuracy:.1%} [")
        assert got.provenance["held-out accuracy"].endswith(f"n = {len(test)}")
        assert got.residual_norm == pytest.approx(float(x.norm(dim=-1).mean()), rel=1e-4)


def test_the_probe_points_towards_the_positive_side() -> None:
    backend = FakeBackend()
    found = logistic_probe(backend, MANY)
    swapped = logistic_probe(backend, ContrastSet(MANY.negative, MANY.positive))
    means = difference_in_means(backend, MANY)
    assert found.positions == means.positions
    for layer in (1, 3):
        got = found.at(-1, layer)
        assert float(got.vector.double() @ means.vectors[-1, layer]) > 0
        assert float(got.vector.double() @ swapped.at(-1, layer).vector.double()) < 0
        assert got.provenance["positive prompts"] == 12
        assert got.name == "orders"


def test_the_probe_of_a_template_token_is_none() -> None:
    """At the input of the first block the template's last token is the same after any prompt."""
    found = logistic_probe(LocalBackend(models.build("llama"), byte_tokenizer()), MANY, positions=[-1])
    with pytest.raises(DirectionError, match="do not differ at position -1 of layer 0"):
        found.at(-1, 0)
    assert found.differs(-1, 1)


# --------------------------------------------------------------------------------------------------------- token rows


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_an_unembedding_row_is_what_its_logit_reads(architecture: str) -> None:
    model = models.build(architecture)
    backend = LocalBackend(model, byte_tokenizer())
    site = Site(models.N_LAYERS - 1, "resid_post")
    got = token_row(backend, "y", minus="n", site=site)
    ids = encode(byte_tokenizer(), "Is it?")
    head, seen = model.get_output_embeddings(), []
    handle = head.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, -1]))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    handle.remove()
    if cap := getattr(model.config, "final_logit_softcapping", None):
        logits = cap * torch.atanh(logits / cap)
    y, n = (byte_tokenizer().convert_tokens_to_ids(letter) for letter in "yn")
    assert float(got.vector @ seen[0]) == pytest.approx(float(logits[y] - logits[n]), abs=1e-3)
    assert (got.site, got.name, got.model) == (site, "y - n", backend.info.name)


def test_an_embedding_row_is_what_enters_the_first_block() -> None:
    model = models.build("llama")
    backend = LocalBackend(model, byte_tokenizer())
    ids = byte_tokenizer()("yes", add_special_tokens=False)["input_ids"]
    entering = reference.read(model, "llama", ids, Site(0, "resid_pre"))
    lab = Lab(backend)
    one = lab.token_row("e", table="embedding", site=Site(0, "resid_pre"))
    assert torch.equal(one.vector, entering[1])
    mean = token_row(backend, list("yes"), table="embedding", site=Site(0, "resid_pre"), name="yes")
    assert torch.allclose(mean.vector, entering.mean(0))
    assert mean.name == "yes"
    about = {"method": "token row", "table": "embedding", "tokens": ["y", "e", "s"], "minus": []}
    assert mean.provenance.items() >= about.items()
    assert torch.equal(token_row(backend, ids[0], table="embedding", site=one.site).vector, entering[0])  # type: ignore[arg-type]


def test_what_is_no_token_is_refused() -> None:
    backend = LocalBackend(models.build("llama"), byte_tokenizer())
    site = Site(1, "resid_pre")
    with pytest.raises(PromptError, match=r"'yes' is not one token but 3: \['y', 'e', 's'\]"):
        token_row(backend, "yes", site=site)
    for tokens, says in (([], "no token is given"), ("", "not one token but 0"), (10**6, "no token 1000000")):
        with pytest.raises(PromptError, match=says):
            token_row(backend, tokens, site=site)  # type: ignore[arg-type]
    with pytest.raises(SiteError, match="layer 9 is out of range"):
        token_row(backend, "y", site=Site(9, "resid_pre"))
    with pytest.raises(DirectionError, match="zero everywhere"):
        token_row(backend, "y", minus="y", site=site)


# ----------------------------------------------------------------------------------------- prompts that are no prompts


@pytest.mark.parametrize("empty", ["", "  "])
def test_a_prompt_without_tokens_is_an_error_in_words(empty: str) -> None:
    backend: Backend = LocalBackend(models.build("llama"), byte_tokenizer())
    for call in (
        lambda: difference_in_means(backend, ContrastSet(["a", empty], ["b"])),
        lambda: principal_component(backend, ContrastSet(["a", "c"], ["b", empty])),
        lambda: prompt_pair(backend, "Love", empty, site=Site(1, "resid_pre")),
        lambda: logistic_probe(backend, ContrastSet(["a", "b"], ["c", empty])),
        lambda: caa(backend, [(empty, "(A)", "(B)")]),
        lambda: caa(backend, [("a", "(A)", "(B)"), (empty, "(A)", "(B)")], chat=False),
        lambda: linear_relation(backend, [(empty, "a", "b")]),
    ):
        with pytest.raises(PromptError, match="empty"):
            call()


def test_sides_that_are_too_few_are_an_error_in_words() -> None:
    for call, says in (
        (lambda: ContrastSet([], ["a"]), "the positive side of the contrast set is empty"),
        (lambda: ContrastSet("How?", ["a"]), "the positive side of the contrast set is one text"),
        (lambda: logistic_probe(FakeBackend(), ContrastSet(["a"], ["b", "c"])), "has only one row"),
        (
            lambda: difference_in_means(FakeBackend(), CONTRAST, positions=[-99]),
            "the shortest prompt has",
        ),
    ):
        with pytest.raises(PromptError, match=says):
            call()
