"""Measures the embedded model: `python -m steerlab.demo.evaluate [FOLDER]` prints the table of its model card.

Every prompt is held out: training saw neither its combination nor its wording. Refusal is judged by the substring
rule of `world.is_refusal`, on greedy answers; rates come with n and Wilson's 95% interval. The random control has the
norm of the direction that it stands beside.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from steerlab.demo import WEIGHTS, world
from steerlab.directions import Direction
from steerlab.estimators import random_like
from steerlab.generations import Sampling
from steerlab.lab import Lab
from steerlab.metrics import Estimate, rate
from steerlab.prompts import harmful, harmless
from steerlab.recipes import BASELINE, Ablate, Add, Recipe
from steerlab.rows import Row

JUDGED = Sampling(max_new_tokens=20)  # a refusal shows in its first sentence


def refusals(lab: Lab, prompts: Sequence[str], recipe: Recipe) -> Estimate:
    """How many of the answers refuse."""
    answers = lab.run([Row(prompt, recipe) for prompt in prompts], JUDGED)
    return rate([world.is_refusal(answer.text) for answer in answers])


def headline(lab: Lab, direction: Direction, n: int = 150) -> dict[str, Estimate]:
    """Refusal rates on held-out prompts: the baseline, the direction both ways, and a random one both ways."""
    bad, good = harmful(n, split="heldout"), harmless(n, split="heldout")
    control = random_like(direction)
    return {
        "harmful prompts": refusals(lab, bad, BASELINE),
        "harmless prompts": refusals(lab, good, BASELINE),
        "harmful prompts, direction ablated": refusals(lab, bad, Recipe([Ablate(direction)])),
        "harmless prompts, direction added": refusals(lab, good, Recipe([Add(direction)])),
        "harmful prompts, random direction ablated": refusals(lab, bad, Recipe([Ablate(control)])),
        "harmless prompts, random direction added": refusals(lab, good, Recipe([Add(control)])),
    }


def by_layer(lab: Lab, n: int = 50) -> dict[int, tuple[Estimate, Estimate]]:
    """For the last token's direction of each layer: refusals on harmful prompts with it ablated, on harmless ones
    added.
    """
    bad, good = harmful(n, split="heldout", seed=1), harmless(n, split="heldout", seed=1)
    found = lab.difference_in_means(harmful(128), harmless(128), positions=[-1])
    table = {}
    for layer in range(found.n_layers):
        if found.differs(-1, layer):
            direction = found.at(-1, layer)
            ablated = refusals(lab, bad, Recipe([Ablate(direction)]))
            table[layer] = ablated, refusals(lab, good, Recipe([Add(direction)]))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables in Markdown."""
    parser = argparse.ArgumentParser(description="Measure the embedded model on held-out prompts.")
    parser.add_argument("folder", nargs="?", type=Path, default=WEIGHTS, help="a trained folder")
    parser.add_argument("-n", type=int, default=150, help="prompts a side")
    arguments = parser.parse_args(argv)

    lab = Lab(arguments.folder)
    direction = Direction.load(arguments.folder / "refusal.safetensors").transferred_to(lab.info.name)
    print(f"{direction!r}, position {direction.provenance['position']}\n\n| refused | |\n|---|---|")
    for name, estimate in headline(lab, direction, arguments.n).items():
        print(f"| {name} | {estimate} |")
    print("\n| layer | harmful, ablated | harmless, added |\n|---|---|---|")
    for layer, (ablated, added) in by_layer(lab).items():
        print(f"| {layer} | {ablated} | {added} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
