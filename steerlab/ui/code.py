"""The tab Code: the recipe as a program."""

from __future__ import annotations

import json
from typing import Literal

from steerlab.interventions import PAPER_POINTS, Ablate, Add, Clamp, Intervention
from steerlab.lab import Lab
from steerlab.recipes import Recipe
from steerlab.sites import Site
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.protocol import Wire


class CodeQuestion(Wire):
    """What program is the recipe of this revision?"""

    kind: Literal["code"] = "code"
    revision: int


class CodeForm(Wire):
    """One way of writing it."""

    name: str
    title: str
    """What it is and where it runs, in a line."""
    language: Literal["python", "json"]
    source: str


class CodeAnswer(Wire):
    """The ways of writing the recipe."""

    forms: list[CodeForm]


def answer(lab: Lab, _question: CodeQuestion, _tell: Tell) -> CodeAnswer:
    """Write the lab's recipe in every form."""
    recipe = lab.recipe
    return CodeAnswer(
        forms=[
            CodeForm(
                name="steerlab",
                title="For this notebook: the recipe, and the answer to the prompt under it",
                language="python",
                source=steerlab_code(lab, recipe),
            ),
            CodeForm(
                name="JSON",
                title="The recipe with its vectors: sl.Recipe.from_json reads it, and so does a .steer.json file",
                language="json",
                source=recipe.to_json(indent=2),
            ),
        ]
    )


HANDLERS = [Handler(CodeQuestion, CodeAnswer, answer, lane=None)]


def steerlab_code(lab: Lab, recipe: Recipe) -> str:
    """Python that makes the recipe again in the notebook of `lab`, and generates with it."""
    sampling = f"max_new_tokens={lab.sampling.max_new_tokens}"
    if lab.sampling.temperature:
        sampling += f", temperature={lab.sampling.temperature}"
    lines = ["import steerlab as sl", "", *_recipe_lines(lab, recipe), ""]
    lines.append(f"print(lab.generate({_quoted(lab.prompt)}, recipe, {sampling}))")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A string of Python in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _recipe_lines(lab: Lab, recipe: Recipe) -> list[str]:
    """`recipe = …`, by the names of the lab's directions; one with others, or with gates, is read from its JSON."""
    names = {id(direction): name for name, direction in lab.directions.items()}
    steps = recipe.interventions
    if not all(step.gate is None and all(id(d) in names for d in step.directions) for step in steps):
        return [f"recipe = sl.Recipe.from_json({recipe.to_json(indent=None)!r})"]
    if not steps:
        return ["recipe = sl.BASELINE"]
    written = [_step(step, [names[id(d)] for d in step.directions]) for step in steps]
    if len(written) == 1:
        return [f"recipe = sl.Recipe([{written[0]}])"]
    return ["recipe = sl.Recipe(", "    [", *(f"        {line}," for line in written), "    ]", ")"]


def _step(step: Intervention, names: list[str]) -> str:
    """The call that makes an intervention, without what goes without saying."""
    directions = [f"lab.directions[{_quoted(name)}]" for name in names]
    arguments = [directions[0] if len(directions) == 1 else f"[{', '.join(directions)}]"]
    match step:
        case Add():
            arguments.append(f"coefficient={step.coefficient!r}")
        case Ablate() if step.strength != 1:
            arguments.append(f"strength={step.strength!r}")
        case Clamp():
            arguments.append(f"value={step.value!r}")
    whole = step.layers == "all" and step.sites == PAPER_POINTS
    if not (whole if isinstance(step, Ablate) else step.sites == (step.direction.site,)):
        if not all(isinstance(site, Site) for site in step.sites):
            layers = '"all"' if step.layers == "all" else list(step.layers)
            arguments.append(f"layers={layers}")
        sites = [
            f"sl.Site({site.layer}, {_quoted(site.point)})" if isinstance(site, Site) else _quoted(site)
            for site in step.sites
        ]
        arguments.append(f"sites={sites[0] if len(sites) == 1 else '[' + ', '.join(sites) + ']'}")
    if step.tokens != "all":
        tokens = _quoted(step.tokens) if isinstance(step.tokens, str) else list(step.tokens)
        arguments.append(f"tokens={tokens}")
    if isinstance(step, Add) and step.keep_norm:
        arguments.append("keep_norm=True")
    if isinstance(step, Ablate) and step.one_sided:
        arguments.append("one_sided=True")
    return f"sl.{type(step).__name__}({', '.join(arguments)})"
