"""Linear relations against finite differences and closed forms, and on facts that the embedded model knows."""

from __future__ import annotations

import models
import pytest
import reference
import torch
from torch import Tensor

from steerlab import Lab, Row, Site
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.demo.world.facts import CAPITALS
from steerlab.errors import DirectionError, PromptError
from steerlab.estimators import LinearRelation, linear_relation
from steerlab.prompts import Prompt, answered, encode, find_tokens

PROMPT = "The bread of Rome is"
POSITION = -12
STEP = 1e-2  # RMS norms compute in float32 in any model: a smaller step would drown in rounding


def states_around(
    architecture: str, source: Site, target: Site, way: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The state at the target and the last token, with the one at the source as it is, a step along `way`, and a step
    back, by plain hooks."""
    model = models.build(architecture).double()
    ids = encode(byte_tokenizer(), PROMPT)

    def after(step: float) -> Tensor:
        def edit(x: Tensor) -> Tensor:
            x = x.clone()
            x[:, POSITION] += step * way
            return x

        with reference.hooked(model, architecture, source, edit):
            return reference.read(model, architecture, ids, target)[-1].double()

    return after(0), after(STEP), after(-STEP)


@pytest.mark.parametrize(
    ("architecture", "point"),
    [
        (architecture, point)
        for architecture in ("llama", "qwen3", "gemma3", "olmo2", "gpt2", "gpt-neox", "falcon")
        for point in ("resid_pre", "resid_mid", "resid_post")
        if point != "resid_mid" or architecture not in models.PARALLEL
    ],
)
def test_the_jacobian_is_that_of_finite_differences(architecture: str, point: str) -> None:
    model = models.build(architecture)
    source, target = Site(1, point), Site(3, "resid_post")  # type: ignore[arg-type]
    found = LocalBackend(model, byte_tokenizer()).linearise(Row(PROMPT), source, POSITION, target)
    ways = torch.randn(3, models.D_MODEL, generator=torch.Generator().manual_seed(0)).double()
    for way in torch.nn.functional.normalize(ways, dim=-1):
        here, plus, minus = states_around(architecture, source, target, way)
        wanted = (plus - minus) / (2 * STEP)
        assert (found.jacobian @ way - wanted).norm() < 0.02 * wanted.norm()
        assert torch.allclose(found.value, here, atol=1e-3)
    at = reference.read(model, architecture, encode(byte_tokenizer(), PROMPT), source)[POSITION]
    assert torch.allclose(found.at, at.double(), atol=1e-4)
    assert all(p.grad is None and p.requires_grad for p in model.parameters()), "the model is as it was"


def test_the_jacobian_is_the_same_whatever_the_batch() -> None:
    whole, small = (
        LocalBackend(models.build("llama"), byte_tokenizer(), batch_rows=n).linearise(
            Row(PROMPT), Site(1, "resid_post"), POSITION, Site(3, "resid_post")
        )
        for n in (64, 5)
    )
    assert torch.allclose(whole.jacobian, small.jacobian, atol=1e-5)


EXAMPLES = [("The capital of Italy is", "Italy", "Rome"), ("The capital of Peru is", "Peru", "Lima")]


def test_a_relation_is_the_mean_of_its_examples() -> None:
    backend = LocalBackend(models.build("llama"), byte_tokenizer())
    source, target = Site(0, "resid_post"), Site(2, "resid_post")
    found = linear_relation(backend, EXAMPLES, source=source, target=target, chat=False, name="capital")
    # "Italy" ends four bytes before the end, as does "Peru": " is" has three
    parts = [backend.linearise(Row(p, chat=False), source, -4, target) for p, _, _ in EXAMPLES]
    assert torch.allclose(found.weight, (parts[0].jacobian + parts[1].jacobian) / 2)
    states = torch.stack([p.at for p in parts])
    errors = torch.stack([p.value for p in parts]) - torch.stack([p.jacobian @ p.at for p in parts])
    assert torch.allclose(found.bias, errors.mean(0))
    assert torch.allclose(found.predict(states), states @ found.weight.T + found.bias)
    assert found.residual_norm == pytest.approx(float(states.norm(dim=-1).mean()))
    assert list(found.objects) == ["Rome", "Lima"]
    assert torch.allclose(found.objects["Lima"], parts[1].value, atol=1e-4)
    one = linear_relation(backend, EXAMPLES, source=source, target=target, chat=False, linearise=1)
    assert torch.allclose(one.predict(states[0]), parts[0].value), "exact where it was linearised"
    assert (one.linearised, len(one.objects)) == (1, 2)


def planted(rank: int) -> LinearRelation:
    noise = torch.Generator().manual_seed(0)
    d = 12
    weight = torch.randn(d, rank, generator=noise).double() @ torch.randn(rank, d, generator=noise).double()
    objects = {name: torch.randn(d, generator=noise).double() for name in ("a", "b")}
    bias = torch.randn(d, generator=noise).double()
    return LinearRelation(
        weight, bias, Site(1, "resid_post"), Site(3, "resid_post"), objects, 2.0, 8, "r", "m"
    )


@pytest.mark.parametrize("rank", [12, 3])
def test_a_direction_is_the_pseudo_inverse_on_the_object(rank: int) -> None:
    relation = planted(rank)
    wanted = torch.linalg.pinv(relation.weight, rtol=1e-9) @ (relation.objects["a"] - relation.bias)
    found = relation.direction("a", rank=rank)
    assert torch.cosine_similarity(found.vector.double(), wanted, dim=0) > 0.9999
    assert found.norm == pytest.approx(1, abs=1e-5)
    assert (found.site, found.name, found.model) == (Site(1, "resid_post"), "a", "m")
    assert found.residual_norm == 2.0
    assert found.provenance["rank"] == rank
    assert relation.direction("a").provenance["rank"] == 1


def test_what_a_relation_cannot_invert_is_refused() -> None:
    with pytest.raises(DirectionError, match="'c' is the object of no example of 'r'.*'a', 'b'"):
        planted(3).direction("c")
    for rank in (0, 13):
        with pytest.raises(DirectionError, match="not between 1 and the width, 12"):
            planted(3).direction("a", rank=rank)


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        ([], "0 examples are not all"),
        ([("The capital of Italy is", "Italy")], "not all .prompt, subject, object."),
        (["abc"], "not all .prompt, subject, object."),
        ([("The capital of Italy is", "Spain", "Rome")], "does not hold 'Spain'"),
        ([("The capital of Italy is", "", "Rome")], "does not hold ''"),
        ([("", "Italy", "Rome")], "the prompt is empty"),
    ],
)
def test_examples_that_are_none_are_refused(examples: list[tuple[str, str, str]], says: str) -> None:
    backend = LocalBackend(models.build("llama"), byte_tokenizer())
    with pytest.raises(PromptError, match=says):
        linear_relation(backend, examples)
    with pytest.raises(PromptError, match="0 examples cannot be linearised"):
        linear_relation(backend, EXAMPLES, linearise=0)


def test_the_direction_of_a_capital_finds_its_country() -> None:
    """In prompts of another wording, and for countries that were not linearised; chance is 1 in 32."""
    lab = Lab()
    facts = list(CAPITALS.items())
    examples = [
        (answered(f"What is the capital of {country}?", f"The capital of {country} is"), country, city)
        for country, city in facts
    ]
    relation = lab.linear_relation(examples, linearise=8, name="capital")
    unseen = [fact for i, fact in enumerate(facts) if i not in {j * len(facts) // 8 for j in range(8)}]
    assert len(unseen) == len(facts) - 8

    def subject(country: str) -> Tensor:
        prompt: Prompt = f"Tell me a story about {country}."
        last = max(find_tokens(lab.tokenizer, prompt, country))
        values = lab.backend.capture([Row(prompt)], [relation.source], [last], values=True).values
        assert values is not None
        return values[0, 0, 0]

    states = torch.stack([subject(country) for country, _ in unseen])
    directions = torch.stack([relation.direction(city).vector for _, city in unseen])
    best = (directions @ states.T).argmax(1)
    assert float((best == torch.arange(len(unseen))).double().mean()) > 0.5
