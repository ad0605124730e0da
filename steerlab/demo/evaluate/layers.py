"""How the refusal direction differs from layer to layer, and what the paper's search makes of it."""

from __future__ import annotations

from steerlab.demo.evaluate.figure import Figure, refusals
from steerlab.estimators import DirectionMap
from steerlab.interventions import Ablate, Add
from steerlab.lab import Lab
from steerlab.metrics import Estimate
from steerlab.prompts import harmful, harmless
from steerlab.recipes import Recipe
from steerlab.selection import LAST_LAYERS, Selection


def by_layer(lab: Lab, found: DirectionMap, n: int = 50) -> dict[int, tuple[Estimate, Estimate]]:
    """For each layer's direction at the last token: refusals on harmful prompts with it ablated, on harmless ones
    with it added.
    """
    bad, good = harmful(n, split="heldout", seed=1), harmless(n, split="heldout", seed=1)
    table = {}
    for layer in range(found.n_layers):
        if found.differs(-1, layer):
            direction = found.at(-1, layer)
            ablated = refusals(lab, bad, Recipe([Ablate(direction)]))
            table[layer] = ablated, refusals(lab, good, Recipe([Add(direction)]))
    return table


def layer_figures(lab: Lab, found: DirectionMap, chosen: Selection, n: int) -> list[Figure]:
    """How much the layers differ, in effect and in direction, and what the paper's filter keeps.

    The map of cosines is that of the outputs of the blocks: at the input of block 0 the template's tokens do not
    differ yet, and there is no direction.
    """
    table = by_layer(lab, found, n)
    ablated, added = ([pair[i].value for pair in table.values()] for i in (0, 1))
    outputs = lab.difference_in_means(harmful(128), harmless(128), point="resid_post", positions=[-1])
    layer, last = chosen.best.layer, found.n_layers - 1
    cosines = outputs.cosines(-1)[layer - 1]  # its output is the input of the selected layer
    to_first, to_last = float(cosines[0]), float(cosines[last])
    reasons = {c.rejected.partition(" ")[0] for c in chosen.candidates}
    wanted = {"", "KL", "induce", "layer"}
    spread = (max(ablated) - min(ablated), max(added) - min(added))
    per_layer = ", ".join(f"{k}: {a.value:.0%}/{b.value:.0%}" for k, (a, b) in table.items())
    here = table[layer]
    return [
        Figure(f"by input of block, refused ablated/added (n = {n} each)", per_layer),
        Figure("layers differ, ablation", f"{spread[0]:.0%}", "60 points", spread[0] >= 0.6),
        Figure("layers differ, addition", f"{spread[1]:.0%}", "40 points", spread[1] >= 0.4),
        Figure("cosine of the best layer to the first", f"{to_first:.2f}", "below 0.5", to_first < 0.5),
        Figure("cosine of the best layer to the last", f"{to_last:.2f}", "below 0.75", to_last < 0.75),
        Figure(
            "the selected layer",
            f"{layer} of 0 to {last}, position {chosen.best.position}",
            "before 80% of the depth",
            layer < LAST_LAYERS * found.n_layers,
        ),
        Figure(
            "ablation and addition there, against the best of all layers",
            f"{here[0].value:.0%} against {min(ablated):.0%}, {here[1].value:.0%} against {max(added):.0%}",
            "within 5 points",
            here[0].value <= min(ablated) + 0.05 and here[1].value >= max(added) - 0.05,
        ),
        Figure(
            "the search keeps some candidates and rejects some for each reason",
            ", ".join(f"{_count(chosen, r)} {r or 'kept'}" for r in sorted(reasons)),
            "kept, KL, induce, layer",
            wanted <= reasons,
        ),
    ]


def _count(chosen: Selection, reason: str) -> int:
    return sum(c.rejected.partition(" ")[0] == reason for c in chosen.candidates)
