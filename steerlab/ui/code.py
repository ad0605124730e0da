"""The tab Code: the recipe as a program."""

from __future__ import annotations

from typing import Literal

from steerlab.errors import SteerlabError
from steerlab.lab import Lab
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
    return CodeAnswer(
        forms=[
            CodeForm(
                name="steerlab",
                title="For this notebook: the recipe, and the answer to the prompt under it",
                language="python",
                source=lab.to_code(form="steerlab", here="lab"),
            ),
            CodeForm(
                name="nnsight",
                title="A program of torch, transformers and nnsight that says the same; it needs no steerlab",
                language="python",
                source=_without_steerlab(lab),
            ),
            CodeForm(
                name="JSON",
                title="The recipe with its vectors: sl.Recipe.from_json reads it, and so does a .steer.json file",
                language="json",
                source=lab.recipe.to_json(indent=2),
            ),
        ]
    )


def _without_steerlab(lab: Lab) -> str:
    try:
        return lab.to_code()
    except SteerlabError as error:  # a model that no code can load: the reason stands where the code would
        return "".join(f"# {line}\n" for line in str(error).splitlines())


HANDLERS = [Handler(CodeQuestion, CodeAnswer, answer, lane=None)]
