"""A prompt of 512 tokens: the first new token after the strength of a recipe changed, against a full prefill.

The baseline and one strength have been answered before, as in a panel; every measured change goes to a strength that
was never used. Two recipes: an addition from the middle layer up, and one on generated tokens alone, whose first
token that can change is the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from common import Check, Figure, Options, interleaved, main
from oracle import added
from subjects import Subject, generate, prompts, subjects
from torch import Tensor

import steerlab as sl

GOALS = {("50M", "middle"): 0.5, ("50M", "generated"): 0.1}


def measure(options: Options) -> Iterator[Figure]:
    """Two figures per model."""
    for subject in subjects(options, "50M"):
        yield from both(subject, options)


def both(subject: Subject, options: Options) -> list[Figure]:
    """The two recipes, in the same rounds."""
    length = 48 if options.quick else 512
    middle = subject.n_layers // 2
    direction = subject.direction(layer=middle)
    rounds = options.rounds if options.quick else max(7, options.rounds)
    texts = {i: prompts(1, length, seed=300 + i)[0] for i in range(-1, rounds)}
    lab = subject.lab()

    def answer(i: int, scope: str, strength: float, n: int) -> tuple[int, ...]:
        step = sl.Add(direction, strength, tokens="generated" if scope == "generated" else "all")
        return lab.run([sl.Row(texts[i], sl.Recipe([step]))], sl.Sampling(n))[0].token_ids

    seen: dict[int, tuple[Tensor, dict[str, Any]]] = {}

    @torch.no_grad()
    def before(i: int) -> None:
        def keep(_: object, args: tuple[Tensor], rest: dict[str, Any]) -> None:
            seen[i] = args[0], {**rest, "past_key_values": None}

        handle = subject.blocks[middle].register_forward_pre_hook(keep, with_kwargs=True)
        subject.plain(**subject.batch([texts[i]]), use_cache=False, logits_to_keep=1)
        handle.remove()
        lab.run([sl.Row(texts[i])], sl.Sampling(2))
        answer(i, "middle", 0.5, 1)
        answer(i, "generated", 0.5, 2)

    @torch.no_grad()
    def prefill(i: int) -> int:
        out = subject.plain(**subject.batch([texts[i]]), use_cache=True, logits_to_keep=1)
        return int(out.logits[0, -1].argmax())

    @torch.no_grad()
    def above(i: int) -> int:
        """The upper half of the blocks alone, from the stream that a prefill brought there; the last MLP, whose other
        outputs nobody reads, over the last token.
        """
        x, rest = seen[i]
        *most, last = subject.blocks[middle:]
        for block in most:
            x = block(x, **rest)
        x = x + last.self_attn(last.input_layernorm(x), **rest)[0]
        x = x[:, -1:]
        x = x + last.mlp(last.post_attention_layernorm(x))
        return int(subject.plain.lm_head(subject.plain.model.norm(x)).argmax())

    runs = {
        "prefill": prefill,
        "above": above,
        "middle": lambda i: answer(i, "middle", 1.0, 1),
        "generated": lambda i: answer(i, "generated", 1.0, 2),
    }
    found = interleaved(runs, options, rounds=rounds, before=before)
    right = 0
    for i, ours in enumerate(found.results["middle"]):
        with added(subject.plain, direction.vector, middle):
            right += tuple(generate(subject.plain, subject.batch([texts[i]]), 1)[0]) == ours
    alike = sum(
        ours[0] == first
        for ours, first in zip(found.results["generated"], found.results["prefill"], strict=True)
    )
    words = {
        "middle": (
            "a recipe from the middle layer up",
            f"{right} of {rounds} tokens are those of plain hooks",
            right,
        ),
        "generated": (
            "a recipe on generated tokens",
            f"{alike} of {rounds} first tokens are the baseline's, as they must be",
            alike,
        ),
    }
    return [
        Figure(
            f"prompt of {length} tokens, first new token after a change of {what}",
            "a full prefill",
            subject.name,
            found.ratio(scope, "prefill"),
            "of its time",
            GOALS.get((subject.name, scope)),
            "less",
            checks=(Check(said, count == rounds),),
            floor=found.ratio("above", "prefill").median if scope == "middle" else None,
            floor_words="what of the plain model lies above the middle and is read",
            note=f"the prefill took {1000 * found.median('prefill'):.0f} ms",
        )
        for scope, (what, said, count) in words.items()
    ]


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
