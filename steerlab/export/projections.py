"""What a recipe asks of weights: which of the tensors that are added to the residual stream lose which directions.

The stream is a sum of what the embeddings, each attention and each MLP write. A recipe that takes a direction out of
these, and out of the stream only where nothing of it can arrive any more, is a change of weights; any other is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from steerlab.backends.architectures import SiteMap
from steerlab.errors import RecipeError
from steerlab.interventions import Ablate, basis
from steerlab.recipes import Recipe, describe
from steerlab.rows import Plan
from steerlab.sites import Site

EMBEDDINGS = Site(0, "resid_pre")
CLEAN = 1e-6  # what float32 leaves of the product of two orthogonal unit vectors


@dataclass(frozen=True)
class Projections:
    """writers: for each tensor that is added to the stream, the unit vectors `[d_model]` that it loses, in order.
    gone: for each site of the recipe, the unit vectors of which nothing may be left there.
    """

    writers: dict[Site, list[Tensor]]
    gone: dict[Site, list[Tensor]]


def projections(recipe: Recipe, sites: SiteMap, d_model: int, model: str | None = None) -> Projections:
    """The projections that express a recipe. Raises RecipeError where weights cannot, SiteError and DirectionError
    where the recipe does not fit the model. model: its name, where known, against which directions are checked.
    """
    steps = [_checked(step) for step in recipe.interventions]
    for site in Plan([recipe], n_layers=sites.n_layers, d_model=d_model, model=model).sites:
        sites.hook(site)
    writers: dict[Site, list[Tensor]] = {}
    asked = [(site, step) for step in steps for site in step.resolve(sites.n_layers)]
    if not asked:
        raise RecipeError(
            "the recipe touches nothing, so the weights would stay as they are", "Give an Ablate."
        )
    for site, step in asked:
        if site == EMBEDDINGS or site.point in ("attn_out", "mlp_out"):
            writers.setdefault(site, []).extend(basis(step.directions))
    gone: dict[Site, list[Tensor]] = {}
    for site, step in asked:
        units = basis(step.directions)
        leaking = [w for w in _before(site) if _left(units, writers.get(w, [])) > CLEAN]
        if not leaking:
            gone.setdefault(site, []).extend(units)
        elif site not in writers:
            raise _not_implied(site, step, leaking, sites.n_layers)
    return Projections(writers, gone)


def _checked(step: object) -> Ablate:
    if not isinstance(step, Ablate):
        raise RecipeError(
            f"weights cannot express {type(step).__name__}, only Ablate",
            "Steer with the recipe at run time, or leave this intervention out.",
        )
    if Recipe([step]) != Recipe([Ablate(step.directions, layers=step.layers, sites=step.sites)]):
        raise RecipeError(
            f"weights cannot {describe(step)}",
            "They take a direction out wholly, of every token: strength=1, tokens='all', two-sided and without a gate.",
        )
    return step


def _before(site: Site) -> Iterator[Site]:
    """What is added up in the tensor at a site: itself, or all that was written to the stream before."""
    if site.point in ("attn_out", "mlp_out"):
        yield site
        return
    yield EMBEDDINGS
    for layer in range(site.layer):
        yield Site(layer, "attn_out")
        yield Site(layer, "mlp_out")
    if site.point != "resid_pre":
        yield Site(site.layer, "attn_out")
    if site.point == "resid_post":
        yield Site(site.layer, "mlp_out")


def _left(units: Tensor, removed: list[Tensor]) -> float:
    """How much of the rows `units` is left in a tensor from which `removed` were taken in turn: |U P_n ... P_1|."""
    rows = units.double()
    for other in reversed(removed):
        rows = rows - (rows @ other.double())[:, None] * other.double()
    return float(rows.norm())


def _not_implied(site: Site, step: Ablate, leaking: list[Site], n_layers: int) -> RecipeError:
    names = ", ".join(map(str, leaking[:3])) + (f" and {len(leaking) - 3} more" if len(leaking) > 3 else "")
    if set(leaking) <= set(step.resolve(n_layers)):
        return RecipeError(
            f"the directions of the recipe are not orthogonal: at {names} a later ablation brings back a part of "
            f"{step.direction.name!r}, which no weights take out at {site}",
            "Ablate the subspace that they span, in one step: Ablate([a, b]).",
        )
    return RecipeError(
        f"weights cannot ablate {step.direction.name!r} at {site}: {names} still write(s) it to the stream",
        "Ablate the paper's set, Ablate(direction), or attn_out and mlp_out of some layers, with resid_pre at layer 0 "
        "for the embeddings.",
    )
