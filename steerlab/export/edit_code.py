"""A recipe's arithmetic as the text of Python functions that edit the tensors of a Hugging Face model in a trace of
nnsight: one function for each sequence of steps that meets at a site, and `steer`, which visits the sites in order.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from steerlab import as_python
from steerlab.backends.architectures import Hook
from steerlab.backends.base import Backend, in_process
from steerlab.interventions import Ablate, Add, Clamp, Intervention
from steerlab.recipes import describe
from steerlab.sites import Site


class Edit(NamedTuple):
    """What is done at a site: steps in their order, and the name of the function that does it."""

    name: str
    steps: tuple[Intervention, ...]


def steering(
    backend: Backend, steps: Sequence[Intervention], known: as_python.Names
) -> tuple[list[str], list[str]]:
    """The functions that edit a tensor, one for each sequence of steps that meets at a site, and the function `steer`
    that visits the sites of one forward pass in order."""
    n_layers = backend.info.n_layers
    sites = sorted({site for one in steps for site in one.resolve(n_layers)})
    edits: dict[tuple[int, ...], Edit] = {}
    done: dict[int, list[tuple[Site, Edit]]] = {}
    for site in sites:
        here = tuple(one for one in steps if site in one.resolve(n_layers))
        key = tuple(map(id, here))
        edits.setdefault(key, Edit(f"edit_{len(edits) + 1}", here))
        done.setdefault(site.layer, []).append((site, edits[key]))
    if not sites:
        return [], []
    where = in_process(backend, "code for nnsight")
    blocks: dict[int, str] = {}
    visits: dict[int, tuple[str, ...]] = {}
    for layer, visited in done.items():
        blocks[layer] = where.hook(Site(layer, "resid_post")).path.rsplit(".", 1)[0]
        visits[layer] = tuple(
            line for site, edit in visited for line in _visit(where.hook(site), blocks[layer], edit, site)
        )
    written = [line for edit in edits.values() for line in _function(edit, known)]
    steer = [
        "def steer(step):",
        '    """One forward pass of generation: step 0 reads the prompt, each later one a new token."""',
    ]
    for lines, group in _runs(visits):
        path = f"model.{_attributes(blocks[group[0]])}"
        if len(group) == 1:
            steer += [f"    block = {path}[{group[0]}]", *(f"    {line}" for line in lines)]
        else:
            steer += [
                f"    for layer in {as_python.layers(group)}:",
                f"        block = {path}[layer]",
                *(f"        {line}" for line in lines),
            ]
    return ["", *written], [*steer, ""]


def _runs(visits: Mapping[int, tuple[str, ...]]) -> list[tuple[tuple[str, ...], list[int]]]:
    """Neighbouring layers at which the same lines are to be written, together."""
    return [
        (lines, list(group)) for lines, group in itertools.groupby(sorted(visits), key=lambda i: visits[i])
    ]


def _visit(hook: Hook, blocks: str, edit: Edit, site: Site) -> list[str]:
    """The lines that edit the tensor at a site of `block`."""
    inner = hook.path.removeprefix(f"{blocks}.").partition(".")[2]
    at = f"block.{_attributes(inner)}" if inner else "block"
    here = f"  # {site.point}"
    if hook.in_place:  # the residual branch shares this tensor, so it is overwritten
        return [f"x = {at}.{hook.side}{here}", f"x.copy_({edit.name}(x, step))"]
    if hook.wrapped:
        return [
            f"x = {at}.{hook.side}{here}",
            f"{at}.{hook.side} = ({edit.name}(x[0], step), *x[1:])",
        ]
    return [f"{at}.{hook.side} = {edit.name}({at}.{hook.side}, step){here}"]


def _attributes(path: str) -> str:
    """A module's path as Python writes it: numbers are indices."""
    return re.sub(r"\.(\d+)", r"[\1]", path)


def _function(edit: Edit, known: as_python.Names) -> list[str]:
    lines = [
        f"def {edit.name}(x, step):",
        '    """x: [1 tokens d_model]. In float32 at least, where bfloat16 would leave a part of what is ablated."""',
        "    y = x if x.dtype in (torch.float32, torch.float64) else x.float()",
    ]
    for one in edit.steps:
        lines += [f"    # {describe(one)}"]
        lines += [f"    {line}" for line in _scoped(one, _arithmetic(one, known), known)]
    return [*lines, "    return y.to(x.dtype)", "", ""]


def _arithmetic(one: Intervention, known: as_python.Names) -> tuple[list[str], str]:
    """Lines that prepare, and the expression of the edited y."""
    several = [known[id(d)] for d in one.directions]
    v = several[0]
    unit = [f"u = ({v} / {v}.norm()).to(y)"]
    match one:
        case Add():
            moved = f"y + {one.coefficient!r} * {v}.to(y)"
            return [], f"keep_norm({moved}, y)" if one.keep_norm else moved
        case Ablate():
            part = ".relu()" if one.one_sided else ""
            if len(several) > 1:
                return (
                    [f"u = basis({', '.join(several)}).to(y)"],
                    f"y - {one.strength!r} * (y @ u.mT){part} @ u",
                )
            return unit, f"y - {one.strength!r} * (y * u).sum(-1, keepdim=True){part} * u"
        case Clamp():
            return unit, f"y - ((y * u).sum(-1, keepdim=True) - {one.value!r}) * u"
    raise NotImplementedError(f"code for {type(one).__name__}")


def _scoped(one: Intervention, made: tuple[list[str], str], known: as_python.Names) -> list[str]:
    """The lines of a step, at the tokens and behind the gate that it has."""
    lines, new = made
    masks = []
    if isinstance(one.tokens, tuple):  # counted from the prompt's end
        lines = [*lines, f"at = torch.isin(torch.arange(-y.shape[1], 0), torch.tensor({list(one.tokens)}))"]
        masks.append("at[:, None].to(y.device)")
    if one.gate:
        g = known[id(one.gate.direction)]
        lines = [*lines, f"gate = ({g} / {g}.norm()).to(y)"]
        masks.append(f"((y * gate).sum(-1, keepdim=True) > {one.gate.threshold!r})")
    lines = [*lines, f"y = torch.where({' & '.join(masks)}, {new}, y)" if masks else f"y = {new}"]
    if one.tokens == "all":
        return lines
    guard = "if step > 0:" if one.tokens == "generated" else "if step == 0:"
    return [guard, *(f"    {line}" for line in lines)]
