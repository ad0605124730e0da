"""A grid of layers x coefficients scored by the next token alone (refusal score and KL to the baseline), or by the
cross-entropy of the first two tokens that the baseline answers, against the loop over plain hooks: one forward pass for
every cell and prompt. Beside it stands a loop that takes all prompts of a cell in one pass.

Steered are the last position alone, generated tokens alone (the cross-entropy), or every position. In the last case
all that lies above the steered layer has to be computed anew in every cell: half of the layers is the floor. Of the
loops a random sample is run in every round, and their time is scaled to the whole; of a large model's grid with every
position steered, a quarter of the prompts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Literal, get_args

import torch
from common import Check, Figure, Options, interleaved, main
from oracle import hooks
from subjects import Subject, generate, prompts, subjects
from sweep import COEFFICIENTS
from torch import Tensor

import steerlab as sl

REFUSAL = (7, 11, 300)  # any tokens do
GOALS = {
    **{("embedded", scope): 10.0 for scope in ("last", "generated")},
    **{("50M", scope): 18.0 for scope in ("last", "generated")},
    ("embedded", "all"): 3.0,
    ("50M", "all"): 1.8,
}
Scope = Literal["last", "generated", "all"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
WORDS = {"last": "the last position", "generated": "generated tokens", "all": "every position"}
Scored = dict[tuple[int, float, int], Tensor]  # by layer, coefficient and prompt: a value per metric


def measure(options: Options) -> Iterator[Figure]:
    """Six figures per model."""
    for subject in subjects(options, "embedded", "50M"):
        for scope in SCOPES:
            yield from both(subject, scope, options)


def both(subject: Subject, scope: Scope, options: Options) -> list[Figure]:
    """The grid of one model, with some positions steered, against the two loops."""
    small = subject.name in ("embedded", "tiny")
    n, length, singles, sample = (
        (4, 24, 4, 2) if options.quick else (16, 32, 60, 12) if small else (16, 32, 24, 3)
    )
    n_ours = n // 4 if scope == "all" and not small else n
    coefficients = COEFFICIENTS[:3] if options.quick else COEFFICIENTS
    direction = subject.direction()
    cells = [(layer, c) for layer in range(subject.n_layers) for c in coefficients]
    texts = {i: prompts(n, length, seed=100 + i) for i in range(-1, options.rounds)}
    metrics, keep = (["cross_entropy"], 2) if scope == "generated" else (["refusal_score", "kl"], 1)
    lab = subject.lab()

    def recipe(layer: int, c: float) -> sl.Recipe:
        step = sl.Add(direction, c, layers=layer, tokens=(-1,) if scope == "last" else scope)
        return sl.Recipe([step])

    def grid(i: int) -> Scored:
        table = sl.Lab(lab.backend).sweep(
            recipe,
            coefficients=coefficients,
            prompts=texts[i][:n_ours],
            metrics=metrics,
            sampling=sl.Sampling(2),
            refusal_tokens=REFUSAL,
            progress=lambda _done, _total: None,
        )
        groups = table.to_frame().groupby(["layer", "coefficient"], sort=False)
        return {
            (*cell, p): torch.tensor(row)
            for cell, rows in groups
            for p, row in enumerate(rows[metrics].to_numpy())
        }

    @torch.no_grad()
    def loop(i: int) -> Scored:
        pick = random.Random(i)
        found: Scored = {}
        for p in range(n_ours):
            inputs, score = begun(subject, [texts[i][p]], scope)
            for layer, c in pick.sample(cells, singles // n_ours):
                with pushed(subject, c * direction.vector, layer, scope):
                    found[layer, c, p] = score(logits(subject, inputs, keep))[0]
        return found

    @torch.no_grad()
    def batched(i: int) -> Scored:
        inputs, score = begun(subject, texts[i], scope)
        found: Scored = {}
        for layer, c in random.Random(i).sample(cells, sample):
            with pushed(subject, c * direction.vector, layer, scope):
                rows = score(logits(subject, inputs, keep))
            found |= {(layer, c, p): row for p, row in enumerate(rows[:n_ours])}
        return found

    @torch.no_grad()
    def bare(i: int) -> None:
        """A forward pass of 16 rows, nothing steered."""
        logits(subject, subject.batch(texts[i]))

    rounds = interleaved({"loop": loop, "batched": batched, "grid": grid, "bare": bare}, options)
    apart = max(
        float((ours[cell] - row).abs().max())
        for name in ("loop", "batched")
        for ours, theirs in zip(rounds.results["grid"], rounds.results[name], strict=True)
        for cell, row in theirs.items()
    )
    n_cells, per_prompt = len(cells), singles // n_ours
    # every loop runs the baseline of each prompt once, too
    scales = {
        "loop": (n_cells + 1) / (per_prompt + 1),
        "batched": (n_cells + 1) / (sample + 1) * n_ours / n,
    }
    above = (subject.n_layers + 1) / (2 * subject.n_layers)
    of_bare = (
        n_cells * (n_ours / n) * above
    )  # how many of the bare passes lie above the steered layers of all cells
    loops = {
        "loop": ("one forward pass a cell and prompt", per_prompt * n_ours, n_cells * n_ours),
        "batched": (f"one forward pass of {n} prompts a cell", sample, n_cells),
    }
    return [
        Figure(
            f"score grid of {subject.n_layers} layers x {len(coefficients)} coefficients, {n} prompts of {length} "
            f"tokens, {WORDS[scope]} steered",
            f"the loop with raw hooks, {words}",
            subject.name,
            rounds.ratio(name, "grid", scale=scales[name]),
            "times less",
            GOALS.get((subject.name, scope)) if name == "loop" else None,
            checks=(Check(f"scores are equal to {apart:.0e}, 1e-4 asked for", apart < tolerance(options)),),
            floor=rounds.ratio(name, "bare", scale=scales[name] / of_bare).median if scope == "all" else None,
            floor_words=f"bare forward passes of {n} rows, from the steered layer up, and nothing else",
            note=f"loop: {part} of {whole} passes sampled in every round; the grid, over {n_ours} of {n} prompts, "
            f"took {rounds.median('grid'):.1f} s",
        )
        for name, (words, part, whole) in loops.items()
    ]


def tolerance(options: Options) -> float:
    """In bfloat16 two batches of the same rows differ in the second decimal."""
    return 1e-4 if options.device == "cpu" else 1.0


def begun(
    subject: Subject, texts: Sequence[str], scope: Scope
) -> tuple[dict[str, Tensor], Callable[[Tensor], Tensor]]:
    """The inputs of the passes over prompts, and what makes scores of their logits; the baseline is run for it."""
    inputs = subject.batch(texts)
    if scope != "generated":
        base = logits(subject, inputs)[:, -1]
        return inputs, lambda steered: scores(base, steered[:, -1])
    told = torch.tensor(generate(subject.plain, inputs, 2), device=subject.plain.device)
    ids = torch.cat([inputs["input_ids"], told[:, :1]], 1)

    def score(steered: Tensor) -> Tensor:
        logprobs = steered.double().log_softmax(-1).gather(-1, told[..., None])[..., 0]
        return -logprobs.mean(-1, keepdim=True).cpu()

    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, score


def logits(subject: Subject, inputs: dict[str, Tensor], keep: int = 1) -> Tensor:
    """Of the last positions, `[rows keep vocab]`."""
    out: Tensor = subject.plain(**inputs, use_cache=False, logits_to_keep=keep).logits
    return out


def pushed(subject: Subject, vector: Tensor, layer: int, scope: Scope) -> AbstractContextManager[None]:
    """A vector added at the input of a block."""

    def push(x: Tensor) -> Tensor:
        if scope == "all":
            return x + vector.to(x)
        x = x.clone()
        x[:, -1] += vector.to(x)
        return x

    return hooks([(subject.blocks[layer], push)], [])


def scores(base: Tensor, steered: Tensor) -> Tensor:
    """Refusal score and KL to the baseline, `[rows 2]`, as the paper's code has them."""
    p, q = base.double().softmax(-1), steered.double().softmax(-1)
    refusal = q[:, list(REFUSAL)].sum(-1)
    score = torch.log(refusal + 1e-8) - torch.log(1 - refusal + 1e-8)
    kl = (p * (torch.log(p + 1e-6) - torch.log(q + 1e-6))).sum(-1)
    return torch.stack([score, kl], 1).cpu()


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
