"""Directions and interventions as Python text, for recipes and cells that a person reads, runs and changes."""

from __future__ import annotations

import base64
import builtins
import json
import keyword
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steerlab.directions import Direction
from steerlab.interventions import PAPER_POINTS, Ablate, Add, Clamp, Intervention, Layers
from steerlab.sites import Site

# The Python name of each direction, by its id().
Names = Mapping[int, str]

READ_VECTOR = '''
def vector(text):
    """[d_model] numbers, from the base64 of little-endian float32."""
    return np.frombuffer(base64.b64decode(text), "<f4").copy()
'''


def vectors(steps: Iterable[Intervention]) -> list[Direction]:
    """Every direction of the interventions once, gates included, in order."""
    return list({id(d): d for one in steps for d in one.involved}.values())


def names(directions: Sequence[Direction], taken: Iterable[str] = ()) -> Names:
    """A Python name for each direction, made of its own name; none is in `taken` or means something to Python."""
    used = {*taken, *keyword.kwlist, *dir(builtins)}
    found: dict[int, str] = {}
    for direction in directions:
        word = re.sub(r"\W+", "_", direction.name, flags=re.ASCII).strip("_").lower() or "direction"
        word = stem = f"v_{word}" if word[0].isdigit() else word
        count = 1
        while word in used:
            count += 1
            word = f"{stem}_{count}"
        used.add(word)
        found[id(direction)] = word
    return found


def encoded(direction: Direction) -> str:
    """The call of `vector` (READ_VECTOR) that gives the direction's numbers, bit for bit."""
    text = base64.b64encode(direction.numpy().astype("<f4").tobytes()).decode()
    return f'vector("{text}")'


def direction(given: Direction) -> str:
    """The expression that makes a direction again, vector and provenance included."""
    about: dict[str, Any] = {"name": given.name, "model": given.model, "residual_norm": given.residual_norm}
    about["provenance"] = dict(given.provenance)
    options = [f"{key}={literal(value)}" for key, value in about.items() if value not in (None, {})]
    where = [] if given.site is None else [_site(given.site)]
    return "sl.Direction(\n    " + ",\n    ".join([encoded(given), *where, *options]) + ",\n)"


def literal(value: Any) -> str:
    """A value of JSON's types as Python, numbers that are none of JSON's included."""
    match value:
        case dict():
            return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(literal, value)) + "]"
        case str():
            return json.dumps(value, ensure_ascii=False)  # in double quotes, as formatters write them
        case bool() | None:
            return repr(value)
        case int():
            return repr(int(value))
    number = float(value)
    return repr(number) if math.isfinite(number) else f'float("{number}")'


def recipe(steps: Sequence[Intervention], known: Names) -> str:
    """The expression that makes a recipe of the interventions, with directions by their names."""
    if not steps:
        return "sl.BASELINE"
    return "sl.Recipe(\n    [\n" + "".join(f"        {step(one, known)},\n" for one in steps) + "    ]\n)"


def step(one: Intervention, known: Names) -> str:
    """The expression that makes an intervention; what is its default is left out."""
    several = [known[id(d)] for d in one.directions]
    options: list[str] = [several[0] if len(several) == 1 else f"[{', '.join(several)}]"]
    match one:
        case Add():
            options += [f"coefficient={one.coefficient!r}", *(["keep_norm=True"] if one.keep_norm else [])]
        case Ablate():
            options += [f"strength={one.strength!r}"] if one.strength != 1 else []
            options += ["one_sided=True"] if one.one_sided else []
        case Clamp():
            options += [f"value={one.value!r}"]
    options += _where(one)
    if one.tokens != "all":
        options.append(f"tokens={literal(one.tokens)}")
    if one.gate:
        options.append(f"gate=sl.Gate({known[id(one.gate.direction)]}, {one.gate.threshold!r})")
    return f"sl.{type(one).__name__}({', '.join(options)})"


def layers(given: Layers | Sequence[int]) -> str:
    """Layers as a person would write them: one number, a range, or a list."""
    if isinstance(given, str):
        return literal(given)
    if len(given) == 1:
        return repr(given[0])
    if len(given) > 2 and list(given) == list(range(given[0], given[-1] + 1)):
        return f"range({given[0]}, {given[-1] + 1})"
    return repr(list(given))


def _where(one: Intervention) -> list[str]:
    own = one.direction.site
    if isinstance(one, Ablate):
        by_default = (one.layers, one.sites) == ("all", PAPER_POINTS)
    else:
        by_default = own is not None and (one.layers, one.sites) == ((own.layer,), (own,))
    if by_default:
        return []
    written = [_site(s) if isinstance(s, Site) else literal(s) for s in one.sites]
    return [
        f"layers={layers(one.layers)}",
        f"sites={written[0] if len(written) == 1 else '[' + ', '.join(written) + ']'}",
    ]


def _site(site: Site) -> str:
    return f'sl.Site({site.layer}, "{site.point}")'
