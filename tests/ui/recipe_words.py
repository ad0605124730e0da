"""Recipes, and what Python says of them: the viewer of JupyterLab, which is TypeScript, is tested with these.

`python tests/ui/recipe_words.py` writes them to js/tests/recipes.json again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steerlab import Ablate, Add, Clamp, Direction, Gate, Recipe, Site
from steerlab.recipes import describe
from steerlab.sites import POINTS

FIXTURE = Path(__file__).parents[2] / "js" / "tests" / "recipes.json"

V = Direction(
    [0.1, -2.5, 3e-9, 1e20],
    Site(6, "resid_pre"),
    name="refusal",
    model="tiny-chat",
    residual_norm=164.3466545914215,
    provenance={"method": "difference in means", "position": -4, "kept": {"harmful": "127 of 128"}},
)
W = Direction(
    [1, 2, 3, 4], name="wärme ☀", provenance={"loss": float("nan"), "seed": 2**63 + 1, "from": [1, 2]}
)
NUMBERS = (0, -0.0, 1, -1.5, 0.1 + 0.2, 1e-4, 9.9e-5, 123456.7, 1234567, 1e15, 1e16, 3.4e38, 5e-324)

RECIPES = {
    "nothing": Recipe(),
    "added where it was found": Recipe([Add(V)]),
    "the paper's ablation": Recipe([Ablate(V)]),
    "every number": Recipe([Add(V, number) for number in NUMBERS] + [Clamp(V, number) for number in NUMBERS]),
    "every option": Recipe(
        [
            Add(V, -2, keep_norm=True, tokens="prompt"),
            Ablate([V, W], strength=0.5, tokens="generated"),
            Ablate(W, one_sided=True, gate=Gate(V, -0.25)),
            Clamp(W, 3, layers=[9, 2, 2], sites=["resid_mid", Site(0, "resid_pre")], tokens=[-1]),
            Add(W, 0.1, layers=[], sites="attn_out", tokens=[-1, -3], gate=Gate(W)),
        ]
    ),
    "every point": Recipe([Ablate(V, layers=[0, 1, 2, 5], sites=[point]) for point in POINTS])
    + Recipe([Ablate(V, sites=[Site(3, point) for point in POINTS])]),
}


def said() -> list[dict[str, Any]]:
    """Each recipe as a file, with its fingerprint, the lines of its steps, and its directions' sites and norms."""
    return [
        {
            "name": name,
            "text": recipe.to_json(indent=None),
            "fingerprint": recipe.fingerprint,
            "lines": [describe(step) for step in recipe.interventions],
            "sites": [
                site.describe()
                for step in recipe.interventions
                for site in step.sites
                if isinstance(site, Site)
            ],
            "norms": {
                direction.name: f"{direction.norm:.4g}"
                for step in recipe.interventions
                for direction in step.involved
            },
        }
        for name, recipe in RECIPES.items()
    ]


if __name__ == "__main__":
    FIXTURE.write_text(json.dumps(said(), indent=2) + "\n")
