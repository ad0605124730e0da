"""Forward passes visit what they are told, leave other modules as they are, and say so where they do not come by."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import models
import pytest
import torch
from nnsight.intervention.interleaver import OutOfOrderError
from nnsight.intervention.source import Controller
from torch import Tensor

from steerlab import Add, Direction, Generation, Lab, Recipe, Row, Sampling, Site
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.local import LocalBackend
from steerlab.errors import ModelError


@pytest.fixture
def backend() -> LocalBackend:
    backend = Lab().backend
    assert isinstance(backend, LocalBackend)
    return backend


def test_nnsight_looks_only_at_modules_that_a_recipe_touches(backend: LocalBackend) -> None:
    direction = Direction(torch.ones(backend.info.d_model), Site(0, "resid_pre"), name="ones")
    lab = Lab(backend)
    lab.generate("Hello", Recipe([Add(direction, 0.1, layers=0)]), max_new_tokens=3)
    hf = backend._traced.hf
    seen = {
        name for name, module in hf.named_modules() if isinstance(vars(module).get("forward"), Controller)
    }
    # blocks are left out where a model is opened, and the last MLP runs over the last token of a prompt
    ours = {backend.hook(Site(layer, "resid_post")).path for layer in range(backend.info.n_layers)}
    ours.add(backend.hook(Site(backend.info.n_layers - 1, "mlp_out")).path)
    assert backend.hook(Site(0, "resid_pre")).path in seen <= ours
    assert lab.model is not None  # a person's own traces see every module
    assert all(isinstance(vars(module).get("forward"), Controller) for module in hf.modules())


def test_a_pass_that_does_not_come_to_a_place_is_an_error_and_the_next_one_works(
    backend: LocalBackend,
) -> None:
    traced = backend._traced
    inputs = traced.inputs(torch.tensor([[3, 5, 7]]))
    with pytest.raises(OutOfOrderError, match="nowhere.output"):
        traced.through(inputs, {"nowhere.output": [lambda value: value]})
    assert traced.through(inputs, {}).logits.shape[:2] == (1, 1)


def test_a_stopped_pass_runs_no_block_above_its_last_visit(backend: LocalBackend) -> None:
    traced, ran = backend._traced, []
    visits = traced.visits([(Site(1, "resid_pre"), lambda _: ran.append(1))])
    above = traced.hf.get_submodule(backend.hook(Site(1, "resid_post")).path)
    handle = above.register_forward_hook(lambda *_: ran.append(2))
    assert traced.through(traced.inputs(torch.tensor([[3, 5]])), visits, stop=True) is None
    handle.remove()
    assert ran == [1]


def test_a_forward_on_another_thread_is_not_steered_and_takes_no_visit(backend: LocalBackend) -> None:
    traced, seen, ran = backend._traced, [], []
    inputs = traced.inputs(torch.tensor([[3, 5, 7]]))
    plain = traced.hf(**inputs).logits

    def meanwhile(x: Tensor) -> Tensor:
        other = threading.Thread(target=lambda: seen.append(traced.hf(**inputs).logits))
        other.start()
        other.join()
        return x + 1

    def later(x: Tensor) -> Tensor:
        ran.append(x)
        return x + 1

    ours = traced.through(
        inputs, traced.visits([(Site(1, "resid_pre"), meanwhile), (Site(3, "resid_pre"), later)])
    )
    assert torch.equal(seen[0], plain)
    assert len(ran) == 1
    assert not torch.allclose(ours.logits, plain)


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_a_verb_inside_a_persons_own_trace_leaves_the_trace_alone(first: str) -> None:
    lab = Lab()
    push = Recipe([Add(lab.directions["refusal"], 1.0, layers=3, sites="mlp_out")])
    answer = Lab().generate("Hello", push, max_new_tokens=4)
    with torch.no_grad(), lab.model.trace("Hello"):
        expected = lab.model.model.layers[2].output.save()
    again = Lab()
    if first == "ours":
        again.generate("Hi", push, max_new_tokens=2)
    inside: list[Generation] = []
    with torch.no_grad(), again.model.trace("Hello"):
        again.model.model.layers[0].output.save()
        inside.append(again.generate("Hello", push, max_new_tokens=4))
        hidden = again.model.model.layers[2].output.save()
    assert inside[0].token_ids == answer.token_ids
    assert torch.equal(hidden, expected)


def test_a_callback_makes_ordinary_tensors(backend: LocalBackend) -> None:
    made: list[Tensor] = []
    Lab(backend).run([Row("Hello")], Sampling(2), on_tokens=lambda _: made.append(torch.ones(2)))
    assert made
    assert not any(one.is_inference() for one in made)


def test_the_cache_goes_in_by_either_name_and_is_never_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers 5.24 calls it `cache`; without one every token would be answered as if it were the first."""

    def answer() -> tuple[int, ...]:
        backend = LocalBackend(models.build("llama"), byte_tokenizer())
        return backend.generate([Row("Hi")], Sampling(6))[0].token_ids

    expected, kind = answer(), type(models.build("llama"))
    forward = kind.forward
    inside = "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"

    def renamed(name: str) -> Any:
        def taking(self: Any, *, input_ids: Any = None, **kwargs: Any) -> Any:
            return forward(
                self, input_ids=input_ids, **{inside if k == name else k: v for k, v in kwargs.items()}
            )

        names = ["input_ids", "attention_mask", "position_ids", "logits_to_keep", "use_cache", name]
        taking.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
            + [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None) for n in names]
        )
        return taking

    for name in ("past_key_values", "cache"):
        monkeypatch.setattr(kind, "forward", renamed(name))
        assert answer() == expected
    monkeypatch.setattr(kind, "forward", renamed("memory"))
    with pytest.raises(ModelError, match="takes no keys and values of earlier tokens"):
        answer()
