"""What else the model holds: concepts that a coefficient grades, facts that a probe reads, answers that form layer by
layer."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from steerlab.demo import world
from steerlab.demo.evaluate.figure import Figure, readable
from steerlab.directions import Direction
from steerlab.generations import Sampling
from steerlab.interventions import Add
from steerlab.lab import Lab
from steerlab.metrics import rate
from steerlab.prompts import answered
from steerlab.recipes import Recipe
from steerlab.rows import Row
from steerlab.sites import Site

DEPTH = 0.7  # where concepts are steered: after it, too few blocks are left to make words of them
STEPS = {"happy": 6.0, "sea": 6.0, "formal": 3.0}  # between the five coefficients of a concept
TOO_MUCH = 32.0
SAMPLED = Sampling(max_new_tokens=64, temperature=0.7)
ASKED = {
    "happy": ["Tell me a story.", "Write a short story.", "How was your day?", "Do you like winter?"],
    "sea": ["Tell me a story.", "Write a short story.", "Can you tell me a tale?", "Write me a story."],
    "formal": [
        "How do I bake a cake?",
        "Tell me how to paint a chair.",
        "Teach me to swim.",
        "How can I save money?",
    ],
}
SEEDS = 15


def concept_direction(lab: Lab, concept: str, layer: int, n: int = 100) -> Direction:
    """A concept's direction, from means over answers that show it and answers that do not."""
    pairs = world.concept_pairs(concept, n)
    found = lab.difference_in_means(
        [answered(prompt, shows) for prompt, shows, _ in pairs],
        [answered(prompt, lacks) for prompt, _, lacks in pairs],
        name=concept,
        positions="response",
    )
    return found.at("response", layer)


def concept_figures(lab: Lab) -> list[Figure]:
    """How further concepts grow with the coefficient, and where fluency ends; steered in the middle of the model."""
    figures = []
    for concept, prompts in ASKED.items():
        coefficients = [STEPS[concept] * i for i in range(-2, 3)]
        direction, shown = (
            concept_direction(lab, concept, int(DEPTH * lab.info.n_layers)),
            world.shows(concept),
        )
        found, fluent = [], []
        for coefficient in (*coefficients, TOO_MUCH):
            recipe = Recipe([Add(direction, coefficient, tokens="generated")])
            answers = lab.run([Row(p, recipe, seed) for p in prompts for seed in range(SEEDS)], SAMPLED)
            found.append(rate([shown(answer.text) for answer in answers]))
            fluent.append(rate([readable(answer) for answer in answers]))
        curve = ", ".join(f"{c:+g}: {s.value:.0%}" for c, s in zip(coefficients, found, strict=False))
        values = [s.value for s in found[: len(coefficients)]]
        rising = all(a <= b for a, b in itertools.pairwise(values)) and values[0] + 0.4 <= values[-1]
        figures += [
            Figure(
                f"{concept}: answers that show it, by coefficient (n = {found[0].n} each)",
                curve,
                "monotone",
                rising,
            ),
            Figure(
                f"{concept}: readable answers",
                f"{fluent[2]} at 0, {fluent[-1]} at {TOO_MUCH:+g}",
                "breaks when too large",
                fluent[-1].value <= fluent[2].value - 0.2,
            ),
        ]
    return figures


def probe_figures(lab: Lab, kind: str = "colour") -> list[Figure]:
    """A linear probe for a fact's value at the last token, at the input of every block: trained on some
    wordings, tested on another.
    """
    rng = random.Random(1)
    train, test = ([world.fact(rng, split, kind) for _ in range(300)] for split in ("train", "heldout"))
    names = sorted({fact.value for fact in train})
    sites = [Site(layer, "resid_pre") for layer in range(lab.info.n_layers)]

    def read(facts: Sequence[world.Fact]) -> tuple[Tensor, Tensor]:
        values = lab.backend.capture([Row(f.question) for f in facts], sites, (-1,), values=True).values
        assert values is not None
        return values[:, :, 0].double(), torch.tensor([names.index(f.value) for f in facts])

    (x, y), (x_test, y_test) = read(train), read(test)
    accuracy = [rate((_predicted(x[:, i], y, x_test[:, i]) == y_test).tolist()) for i in range(len(sites))]
    chance = float((y_test == y.mode().values).double().mean())
    curve = ", ".join(f"{layer}: {a.value:.0%}" for layer, a in enumerate(accuracy))
    best = max(accuracy, key=lambda a: a.value)
    rises = best.value >= 0.9 and accuracy[0].value <= chance + 0.1
    return [
        Figure(
            f"linear probe, {kind} (chance {chance:.0%})",
            f"{curve}; best {best}",
            "from chance to 90%",
            rises,
        )
    ]


def _predicted(x: Tensor, y: Tensor, x_test: Tensor) -> Tensor:
    """The classes that ridge regression onto one-hot classes gives the test rows."""
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x, x_test = (torch.nn.functional.pad((part - mean) / scale, (0, 1), value=1.0) for part in (x, x_test))
    onehot = torch.nn.functional.one_hot(y).double()
    weights = torch.linalg.solve(x.T @ x + 10.0 * torch.eye(x.shape[1], dtype=x.dtype), x.T @ onehot)
    predicted: Tensor = (x_test @ weights).argmax(-1)
    return predicted


def lens_figures(lab: Lab, n: int = 60) -> list[Figure]:
    """Where in the depth the answer to a question for a capital forms: the rank that the logit lens gives it."""
    rng = random.Random(2)
    facts = [world.fact(rng, "heldout", "capital") for _ in range(n)]
    rows = [
        Row(answered(f.question, f.answer.rpartition(" ")[0])) for f in facts
    ]  # "The capital of France is"
    sites = [Site(layer, "resid_post") for layer in range(lab.info.n_layers)]
    values = lab.backend.capture(rows, sites, (-1,), values=True).values
    assert values is not None
    words = [lab.tokenizer(f" {f.value}", add_special_tokens=False)["input_ids"][0] for f in facts]
    target = torch.tensor(words)[:, None]
    ranks = []
    for layer in range(len(sites)):
        logits = lab.backend.decode(values[:, layer, 0])
        ranks.append(float((logits > logits.gather(1, target)).sum(1).double().median()))
    curve = ", ".join(f"{layer}: {rank:.0f}" for layer, rank in enumerate(ranks))
    forms = ranks[0] > 10 and min(ranks[:-1]) <= 1
    return [
        Figure(
            f"logit lens, median rank of the capital (n = {n})",
            curve,
            "1 or less before the last layer",
            forms,
        )
    ]
