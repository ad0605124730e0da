"""The reach of a recipe: what it really does in a model of so many layers, and where that begins.

A step of strength zero changes nothing, and some ablations repeat what holds already. Both are left out, and before the
first site and the first token that remain, the computation is that of the unsteered model.
"""

from __future__ import annotations

from dataclasses import dataclass

from steerlab.interventions import Ablate, Add, Intervention
from steerlab.recipes import BASELINE, Recipe
from steerlab.sites import POINTS, Site

# Every step of a recipe at the sites that it touches, in the recipe's order.
Steps = dict[Site, tuple[Intervention, ...]]


@dataclass(frozen=True)
class Reach:
    """A recipe without the steps that change nothing, and the steps at each site. Equal keys have equal effects."""

    recipe: Recipe
    steps: Steps
    key: str

    def begins(self, n_layers: int, *, generated: bool = False) -> tuple[int, int | None]:
        """The first block whose input or inside differs from the baseline's, and the first token, counted from the
        prompt's end; None for the first there is. `n_layers` where no token of the prompt, or with `generated` none
        at all, is touched.
        """
        acting = [
            (site, step)
            for site, steps in self.steps.items()
            for step in steps
            if generated or step.tokens != "generated"
        ]
        layers = [site.layer + (site.point == "resid_post") for site, _ in acting]
        tokens = [_first_token(step) for _, step in acting]
        known = [token for token in tokens if token is not None]
        return min(layers, default=n_layers), min(known) if known and len(known) == len(tokens) else None

    def sites(self, *, generated: bool) -> set[Site]:
        """The sites where something acts on tokens of the prompt, or on generated ones."""
        return {site for site, steps in self.steps.items() if any(acts(step, generated) for step in steps)}


def reach(recipe: Recipe, n_layers: int, *, fold: bool = False, whole: bool = False) -> Reach:
    """What a recipe does in a model of `n_layers` layers.

    whole: keep the steps that change nothing. fold: leave out ablations of a stream to which nothing has been added
    along the component since the last one: with `attn_out` and `mlp_out` ablated everywhere, `resid_pre` needs it at
    the first layer alone. What is left is the same up to rounding, so it is for models that calculate in float32: a
    sum in half precision brings back a little of the component.
    """
    acting = [step for step in recipe.interventions if whole or not _idle(step)]
    kept = recipe if len(acting) == len(recipe) else Recipe(acting) if acting else BASELINE
    steps: Steps = {}
    for step in acting:
        for site in step.resolve(n_layers):
            steps[site] = (*steps.get(site, ()), step)
    if fold:
        for step in acting:
            if isinstance(step, Ablate) and step.strength == 1 and not step.one_sided and not step.gate:
                _fold(step, steps, n_layers)
    return Reach(kept, steps, kept.fingerprint if acting else "")


def touches(recipe: Recipe, *, generated: bool) -> bool:
    """Whether a recipe as it is written acts on the prompt, or on generated tokens: what "applied" is counted by."""
    return any(acts(step, generated) and _somewhere(step) for step in recipe.interventions)


def finds(recipe: Recipe, length: int) -> bool:
    """Whether a prompt of so many tokens has of each step's chosen ones any: it is not applied where it has none."""
    return not any(
        isinstance(step.tokens, tuple) and max(step.tokens) < -length and _somewhere(step)
        for step in recipe.interventions
    )


def acts(step: Intervention, generated: bool) -> bool:
    """Whether a step acts on tokens of the prompt, or on generated ones."""
    return step.tokens in ("all", "generated") if generated else step.tokens != "generated"


def _somewhere(step: Intervention) -> bool:
    return bool(step.layers) or any(isinstance(site, Site) for site in step.sites)


def _idle(step: Intervention) -> bool:
    return (isinstance(step, Add) and step.coefficient == 0) or (
        isinstance(step, Ablate) and step.strength == 0
    )


def _first_token(step: Intervention) -> int | None:
    if isinstance(step.tokens, tuple):
        return min(step.tokens)
    return 0 if step.tokens == "generated" else None


def _fold(step: Ablate, steps: Steps, n_layers: int) -> None:
    """Take an ablation away wherever the stream is known to be free of the component."""
    free = False
    for layer in range(n_layers):
        for point in POINTS:
            here = steps.get(site := Site(layer, point), ())
            last = bool(here) and here[-1] is step
            if point in ("attn_out", "mlp_out"):
                free = free and last
            elif free and here == (step,):
                del steps[site]
            elif here:
                free = last
