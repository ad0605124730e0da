"""What a person gives in another shape than is asked for: an error in words, before the model runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from steerlab import (
    Ablate,
    Add,
    Clamp,
    ContrastSet,
    Direction,
    Gate,
    Lab,
    Recipe,
    Row,
    Sampling,
    Site,
    errors,
    lens,
    metrics,
)
from steerlab.backends.base import Activations
from steerlab.backends.fake import FakeBackend
from steerlab.lens import linear_probe, nearest_tokens, token_details
from steerlab.selection import select

V = Direction(range(1, 17), Site(1, "resid_pre"), name="v")
PUSH = Recipe([Add(V)])
TALK = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


class Unused(FakeBackend):
    """A model that nothing may be asked."""

    def score(self, rows: Sequence[Row]) -> Tensor:
        raise AssertionError

    def capture(self, *given: Any, **options: Any) -> Activations:
        raise AssertionError


@pytest.fixture
def lab() -> Lab:
    return Lab(Unused())


Takes = Callable[[Lab, Any], object]
LISTS: dict[str, Takes] = {
    "compare": lambda lab, given: lab.compare(given, [PUSH]),
    "score": lambda lab, given: lab.score(given, [PUSH]),
    "sweep": lambda lab, given: lab.sweep(V, prompts=given),
    "measure harmful": lambda lab, given: lab.measure(PUSH, given, ["Hi"]),
    "measure harmless": lambda lab, given: lab.measure(PUSH, ["Hi"], given),
    "surgical harmful": lambda lab, given: lab.surgical(V, given, ["Hi", "Ho"]),
    "surgical harmless": lambda lab, given: lab.surgical(V, ["Hi", "Ho"], given),
    "calibrate": lambda lab, given: lab.calibrate(V, given, most=1.0),
    "probe": lambda lab, given: lab.probe(given, [0, 1, 0, 1, 0]),
    "mean_projection": lambda lab, given: lab.mean_projection(V, given),
    "find_direction harmful": lambda lab, given: lab.find_direction(given, ["Hi", "Ho"]),
    "find_direction harmless": lambda lab, given: lab.find_direction(["Hi", "Ho"], given),
    "difference_in_means": lambda lab, given: lab.difference_in_means(given, ["Hi"]),
    "principal_component": lambda lab, given: lab.principal_component(["Hi"], given),
    "logistic_probe": lambda lab, given: lab.logistic_probe(given, ["Hi"]),
    "ContrastSet": lambda _, given: ContrastSet(["Hi"], given),
    "select": lambda lab, given: select(lab.backend, None, given, ["Hi"]),  # type: ignore[arg-type]
    "texts": lambda lab, given: lab.measure(PUSH, ["Hi"], ["Ho"], texts=given),
    "refusal_rate": lambda _, given: metrics.refusal_rate(given),
}


@pytest.mark.parametrize("verb", LISTS)
def test_one_text_is_no_list_of_its_letters(lab: Lab, verb: str) -> None:
    with pytest.raises(errors.PromptError, match=r"is one text, 'Hello'\. Give a list"):
        LISTS[verb](lab, "Hello")


@pytest.mark.parametrize("verb", LISTS)
def test_one_conversation_is_no_list_of_its_turns(lab: Lab, verb: str) -> None:
    with pytest.raises(errors.PromptError, match=r"is one conversation\. Give a list, also of one"):
        LISTS[verb](lab, TALK)


@pytest.mark.parametrize("kind", [tuple, iter, np.array], ids=["tuple", "iterator", "array"])
def test_a_list_of_prompts_may_be_of_any_kind(kind: Callable[[list[str]], Any]) -> None:
    lab = Lab(FakeBackend())
    prompts = ["Hi", "Hello"]
    wanted = lab.score(prompts, [PUSH], ["kl"]).summary()
    assert lab.score(kind(prompts), [PUSH], ["kl"]).summary().equals(wanted)


REFUSED: list[tuple[type[Exception], str, Callable[[Lab], object]]] = [
    (errors.PromptError, "max_new_tokens is a whole number from 1, not 2.5", lambda _: Sampling(2.5)),  # type: ignore[arg-type]
    (errors.PromptError, "max_new_tokens is a whole number from 1, not '3'",
     lambda lab: lab.generate("Hi", max_new_tokens="3")),  # type: ignore[arg-type]
    (errors.PromptError, "max_new_tokens is a whole number from 1, not True", lambda _: Sampling(True)),
    (errors.PromptError, "temperature is a number from 0 up, not 'hot'",
     lambda lab: lab.generate("Hi", temperature="hot")),  # type: ignore[arg-type]
    (errors.PromptError, "temperature is a number from 0 up, not nan", lambda _: Sampling(1, math.nan)),
    (errors.PromptError, "temperature is a number from 0 up, not -1", lambda _: Sampling(1, -1)),
    (errors.RecipeError, "a strength is a finite number of 32 bits, not 1e\\+300",
     lambda _: Ablate(V, strength=1e300)),
    (errors.RecipeError, "a coefficient is a finite number of 32 bits, not 'x'", lambda _: Add(V, "x")),  # type: ignore[arg-type]
    (errors.RecipeError, "a coefficient is a finite number of 32 bits, not tensor",
     lambda _: Add(V, torch.ones(2))),  # type: ignore[arg-type]
    (errors.RecipeError, "a value is a finite number of 32 bits, not None", lambda _: Clamp(V, None)),  # type: ignore[arg-type]
    (errors.RecipeError, "a threshold is a finite number of 32 bits, not inf", lambda _: Gate(V, math.inf)),
    (errors.RecipeError, "recipes is one Direction. Give a list",
     lambda lab: lab.score(["Hi"], V)),  # type: ignore[arg-type]
    (errors.RecipeError, "a recipe is needed here, not Direction",
     lambda lab: lab.score(["Hi"], {"v": V})),  # type: ignore[dict-item]
    (errors.RecipeError, "recipes is one Recipe. Give a list", lambda lab: lab.compare(["Hi"], PUSH)),  # type: ignore[arg-type]
    (errors.PromptError, r"'Hi' is no row. Give a prompt with a recipe: Row\(prompt, recipe\)",
     lambda lab: lab.run(["Hi"])),  # type: ignore[list-item]
    (errors.PromptError, "'Hi' is no row", lambda lab: lab.submit(["Hi"])),  # type: ignore[list-item]
    (errors.PromptError, "rows is one Row. Give a list", lambda lab: lab.run(Row("Hi"))),  # type: ignore[arg-type]
    (errors.PromptError, "prompts is None, which is no list", lambda lab: lab.score(None, [PUSH])),  # type: ignore[arg-type]
    (errors.PromptError, "method='window' is not known. Choose windows or greedy",
     lambda lab: lab.surgical(V, ["a", "b"], ["c", "d"], method="window")),  # type: ignore[arg-type]
    (errors.PromptError, "by='x' is not known. Choose unembedding, embedding, head",
     lambda lab: nearest_tokens(lab.backend, V, by="x")),  # type: ignore[arg-type]
    (errors.PromptError, "k is a whole number from 1, not -1", lambda lab: nearest_tokens(lab.backend, V, k=-1)),
    (errors.PromptError, "k is a whole number from 0, not -1",
     lambda lab: token_details(lab.backend, "Hi", k=-1)),
    (errors.PromptError, "table='x' is not known. Choose embedding or unembedding",
     lambda lab: lab.token_row("a", table="x", site=Site(1, "resid_pre"))),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("error", "says", "call"), REFUSED, ids=[says for _, says, _ in REFUSED])
def test_what_is_not_asked_for_is_told_before_the_model_runs(
    lab: Lab, error: type[Exception], says: str, call: Callable[[Lab], object]
) -> None:
    with pytest.raises(error, match=says):
        call(lab)


def test_one_coefficient_stands_for_a_list_of_it() -> None:
    lab = Lab(FakeBackend(n_layers=3))
    for one in (1.0, 1, np.float32(1), np.int64(1)):
        sweep = lab.sweep(V, layers=1, coefficients=one, prompts=["Hi"], metrics=["kl"])
        assert [cell.place for cell in sweep.cells] == [{"layer": 1, "coefficient": 1.0}]


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    assert Sampling(np.int64(3), np.float32(0.5)) == Sampling(3, 0.5)  # type: ignore[arg-type]
    assert Add(V, torch.tensor(2.0)).coefficient == Add(V, np.float64(2)).coefficient == 2  # type: ignore[arg-type]


def test_a_lens_tells_at_least_one_token() -> None:
    backend = FakeBackend()
    both = lens.lens_difference(backend, "Hi", PUSH)
    for call in (both.steered.top, both.steered.to_frame, both.gained, both.lost, both.overview):
        for k in (0, -1, 1.5):
            with pytest.raises(errors.PromptError, match=f"k is a whole number from 1, not {k}"):
                call(k)  # type: ignore[operator]


def test_a_probe_says_what_it_reads_and_what_it_tells() -> None:
    noise = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    (found,) = linear_probe(noise, [0, 1] * 4)
    assert len(found.predict(noise)) == 8
    for x in (noise[0], noise[:, :3], noise[None]):
        with pytest.raises(errors.PromptError, match=r"of shape .* does not fit .* d_model is 4 here"):
            found.predict(x)
    with pytest.raises(errors.DirectionError, match=r"tells no label 'zz' apart. It has \[0, 1\]"):
        found.direction("zz")
    assert found.direction(0).cosine(found.direction(1)) == pytest.approx(-1)
