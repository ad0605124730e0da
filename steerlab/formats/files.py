"""What the formats share: opening files that nobody vouches for, and the layers that a recipe adds to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steerlab.directions import Direction
from steerlab.errors import DirectionError, FileError, RecipeError, SiteError, SteerlabError
from steerlab.interventions import Add
from steerlab.recipes import Recipe
from steerlab.sites import POINTS, Point, Site, check_point

# What can be written as a vector for each layer: a recipe that only adds, or directions at their own sites.
Additions = Recipe | Direction | Iterable[Direction]

# What a file may leave open.
Answers = Literal["site", "point", "layer", "position", "feature"]

_HOOK = re.compile(r"blocks\.(\d{1,9})\.(.+)", re.ASCII)
_ANY_LAYER = 10**9  # how many layers the model has is not known here


class QuestionError(FileError):
    """A file that does not say all that is to be known: `asks` names the argument that answers it, and `choices` what
    it may be, where the file says that much.
    """

    def __init__(self, what: str, fix: str, *, asks: Answers, choices: Sequence[int | str] = ()) -> None:
        super().__init__(what, fix)
        self.asks = asks
        self.choices = choices


@contextmanager
def opening(path: Path, kind: str) -> Iterator[None]:
    """While open, whatever goes wrong with a file becomes a FileError in words. kind: "a GGUF file", …"""
    try:
        yield
    except SteerlabError:
        raise
    except FileNotFoundError as error:
        raise FileError(f"there is no file {path}") from error
    except Exception as error:
        # parsers of other packages fail in any way on a damaged or hostile file, and it is always the file's fault
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileError(
            f"{path} is damaged or not {kind} ({reason})", "Write, copy or download it again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises FileError for anything else."""
    with opening(path, "a JSON file"):
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(data, dict):
        raise FileError(f"{path} holds {type(data).__name__} where a JSON object was expected")
    return data


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """An open safetensors file. Raises FileError for anything else, and for what goes wrong inside the block."""
    with opening(path, "a safetensors file"):
        if path.is_dir():
            raise FileError(f"{path} is a folder, not a safetensors file", "Name the file in it.")
        try:
            file = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise FileError(
                f"{path} is damaged or not a safetensors file ({error})",
                "Write, copy or download it again; of a pickle, save its tensors as safetensors first.",
            ) from error
        with file:
            yield file


def plain(tensor: object, path: Path) -> Tensor:
    """The tensor, where it is an ordinary one with all its numbers in memory. Raises FileError for any other object."""
    if not isinstance(tensor, Tensor):
        raise FileError(
            f"{path} holds {type(tensor).__name__}, not a tensor",
            "Save the vector alone: torch.save(vector, path).",
        )
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise FileError(f"{path} holds a tensor without plain numbers: {tensor.dtype}, {tensor.layout}")
    # a few bytes can claim to be any size by a stride of zero, and a copy would then fill the memory
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise FileError(
            f"{path} claims {tensor.numel()} numbers and holds fewer", "Save the vector's clone() instead."
        )
    return tensor


def agreed(path: Path, said: Site | None, answer: Site | None, question: str) -> Site:
    """The site that a file says, or the caller's answer where it says none.

    Raises SiteError where the two differ, and FileError with the question where there is neither.
    """
    if said is not None and answer is not None and said != answer:
        raise SiteError(
            f"{path} says {said} ({said.describe()}), and site={answer} ({answer.describe()}) was given",
            "Leave site= out to believe the file.",
        )
    site = said or answer
    if site is None:
        raise QuestionError(
            f"{path} does not say {question}",
            'Answer with the site: site=Site(12, "resid_pre").',
            asks="site",
        )
    return site


def hook_site(path: Path, hook: object) -> Site | None:
    """The site of a TransformerLens hook name; None for what is no such name.

    Raises SiteError for a hook inside a block that is not of the residual stream, whose width may well be the same.
    """
    match = _HOOK.fullmatch(hook) if isinstance(hook, str) else None
    if not match:
        return None
    if match[2].removeprefix("hook_") not in POINTS:
        raise SiteError(
            f"{path} is of {hook}, which is not of the residual stream",
            f"The points of the residual stream are {', '.join(POINTS)}.",
        )
    return Site(int(match[1]), check_point(match[2].removeprefix("hook_")))


def by_layer(
    vectors: Mapping[int, Tensor], point: Point, origin: str, provenance: Mapping[str, Any]
) -> dict[int, Direction]:
    """The directions of a file of many layers, in order. origin: names the file in errors and in the directions' names.

    A layer whose vector is zero everywhere adds nothing and is left out. Raises DirectionError where a number is NaN,
    where all are zero, or where the widths differ.
    """
    found = {
        layer: Direction(
            vectors[layer],
            Site(layer, point),
            name=f"{Path(origin).stem} {layer}",
            provenance={**provenance, "layer": layer},
        )
        for layer in sorted(vectors)
        if vectors[layer].any()
    }
    if not found:
        raise DirectionError(f"every direction of {origin} is zero everywhere", "It would change nothing.")
    widths = sorted({d.d_model for d in found.values()})
    if len(widths) > 1:
        raise DirectionError(
            f"{origin} has directions of different widths, {widths}", "They are of two models."
        )
    return found


def recipe_of(additions: Additions) -> Recipe:
    """A recipe as it is, or one that adds each of some directions at its own site."""
    if isinstance(additions, Recipe):
        return additions
    return Recipe([Add(d) for d in ([additions] if isinstance(additions, Direction) else additions)])


def outputs(recipe: Recipe, kind: str) -> dict[int, Tensor]:
    """What a recipe adds to the output of each block, `{layer: [d_model]}`; several additions to one are summed.

    An addition to the input of block n is one to the output of block n - 1. Raises RecipeError or SiteError for what
    cannot be said by adding a vector to a block's output at every token. kind: names the format in errors.
    """
    sums: dict[int, Tensor] = {}
    for one in recipe.interventions:
        if not isinstance(one, Add):
            raise RecipeError(
                f"{kind} can only add, and the recipe has {one.kind!r}",
                "Write the additions alone, or keep the whole with recipe.save(path).",
            )
        if one.tokens != "all" or one.gate or one.keep_norm:
            raise RecipeError(
                f"{kind} adds the same vector at every token, and the recipe has one with chosen tokens, a gate or "
                "keep_norm",
                "Leave these out, or keep the whole with recipe.save(path).",
            )
        if one.layers == "all" and not all(isinstance(site, Site) for site in one.sites):
            raise RecipeError(
                f"{kind} has a vector for each layer, and layers='all' does not say how many there are",
                "Name them: layers=range(1, lab.info.n_layers).",
            )
        for site in one.resolve(_ANY_LAYER):
            layer = site.layer - 1 if site.point == "resid_pre" else site.layer
            if site.point not in ("resid_pre", "resid_post") or layer < 0:
                raise SiteError(
                    f"{kind} adds to the output of a block, and cannot say {site} ({site.describe()})",
                    "Add at resid_post, or at resid_pre of layer 1 or later.",
                )
            shift = one.coefficient * one.direction.vector.double()
            if any(shift.shape != other.shape for other in sums.values()):
                raise DirectionError(
                    "the directions have different widths", "They are of two models: write two files."
                )
            sums[layer] = sums[layer] + shift if layer in sums else shift
    vectors = {layer: sums[layer].float() for layer in sorted(sums) if sums[layer].any()}
    if not vectors:
        raise RecipeError(f"the recipe adds nothing, and {kind} only adds", "There is nothing to write.")
    return vectors
