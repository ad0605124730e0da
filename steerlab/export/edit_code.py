"""A recipe's arithmetic as the text of Python functions that edit the tensors of a Hugging Face model in a trace of
nnsight: one function for each sequence of steps that meets at a module, and `steer`, which visits these in order.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from steerlab import as_python
from steerlab.backends.visits import Visit
from steerlab.export.places import Place
from steerlab.interventions import Ablate, Add, Clamp, Intervention
from steerlab.recipes import describe
from steerlab.sites import Site

BEFORE = -1  # the layer of what comes before the blocks


class Edit(NamedTuple):
    """What is done at a module: steps in their order, and the name of the function that does it."""

    name: str
    steps: tuple[Intervention, ...]


def steering(
    place: Place, n_layers: int, steps: Sequence[Intervention], known: as_python.Names
) -> tuple[list[str], list[str]]:
    """The functions that edit a tensor, one for each sequence of steps that meets at a module, and the function `steer`
    that visits the modules of one forward pass in order."""
    sites = sorted({site for one in steps for site in one.resolve(n_layers)})
    if not sites:
        return [], []
    given = {site: [one for one in steps if site in one.resolve(n_layers)] for site in sites}
    edits: dict[tuple[int, ...], Edit] = {}

    def named(some: Sequence[Intervention]) -> str:
        if not some:
            return ""
        return edits.setdefault(tuple(map(id, some)), Edit(f"edit_{len(edits) + 1}", tuple(some))).name

    stack = place.hook(Site(sites[0].layer, "resid_post")).path.rsplit(".", 1)[0]
    lines: dict[int, tuple[str, ...]] = {}
    for visit in place.visits(given):
        layer, at = _place(visit.hook.path, stack)
        written = _visit(visit, layer, at, named(visit.given), named(visit.middle))
        lines[layer] = (*lines.get(layer, ()), *written)
    steer = [
        "def steer(step):",
        '    """One forward pass of generation: step 0 reads the prompt, each later one a new token."""',
    ]
    path = f"model.{_attributes(stack)}"
    for some, group in _runs(lines):
        if group == [BEFORE]:
            steer += [f"    {line}" for line in some]
        elif len(group) == 1:
            steer += [f"    block = {path}[{group[0]}]", *(f"    {line}" for line in some)]
        else:
            steer += [
                f"    for layer in {as_python.layers(group)}:",
                f"        block = {path}[layer]",
                *(f"        {line}" for line in some),
            ]
    functions = [line for edit in edits.values() for line in _function(edit, known)]
    return ["", *functions], [*steer, ""]


def _runs(lines: Mapping[int, tuple[str, ...]]) -> list[tuple[tuple[str, ...], list[int]]]:
    """Neighbouring layers at which the same lines are to be written, together."""
    return [(some, list(group)) for some, group in itertools.groupby(sorted(lines), key=lambda i: lines[i])]


def _place(path: str, stack: str) -> tuple[int, str]:
    """The layer in which a module is, or BEFORE, and its expression."""
    if not path.startswith(f"{stack}."):
        return BEFORE, f"model.{_attributes(path)}"
    layer, _, inner = path.removeprefix(f"{stack}.").partition(".")
    return int(layer), f"block.{_attributes(inner)}" if inner else "block"


def _visit(visit: Visit[Intervention], layer: int, at: str, edit: str, middle: str) -> list[str]:
    """The lines that edit the tensor of a module, in `layer` at `at`, with the functions of those names."""
    hook, here = visit.hook, f"{at}.{visit.hook.side}"
    later = " of the next block"
    names = [s.point + later * (layer not in (BEFORE, s.layer)) for s in visit.edited]
    about = "  # " + (", ".join(names) or "what the next block reads")
    if hook.in_place:  # the residual branch shares this tensor, so it is overwritten
        return [f"x = {here}{about}", f"x.copy_({edit}(x, step))"]
    new = "x[0]" if hook.wrapped else here
    new = f"{edit}({new}, step)" if edit else new
    new = f"around_mid({new}, start, {middle}, step)" if middle else new
    changed = bool(edit or middle)
    if not hook.wrapped:
        return [" = ".join([*([here] * changed), *(["start"] * visit.keep), new]) + about]
    kept = [f"start = {new}"] * visit.keep
    return [
        f"x = {here}{about}",
        *kept,
        *([f"{here} = ({'start' if kept else new}, *x[1:])"] * changed),
    ]


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
            if len(several) > 1:
                return (
                    [f"u = basis({', '.join(several)}).to(y)"],
                    f"y - {one.strength!r} * (y @ u.mT) @ u",
                )
            part = ".relu()" if one.one_sided else ""
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
