"""The tab Code: the recipe as a program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from steerlab.backends.base import OnServer
from steerlab.errors import SteerlabError
from steerlab.lab import Lab
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.protocol import Trouble, Wire
from steerlab.ui.troubles import trouble


class CodeQuestion(Wire):
    """What program is the recipe of this revision?"""

    kind: Literal["code"] = "code"
    revision: int
    seed: int = 0
    """Of sampled answers."""


class CodeForm(Wire):
    """One way of writing it."""

    name: str
    title: str
    """What it is and where it runs, in a line."""
    language: Literal["python", "json"]
    source: str
    missing: Trouble | None = None
    """Why it cannot be written this way; `source` is empty then."""


class CodeAnswer(Wire):
    """The ways of writing the recipe."""

    forms: list[CodeForm]


def answer(lab: Lab, _question: CodeQuestion, _tell: Tell) -> CodeAnswer:
    """Write the lab's recipe and prompt in every form."""
    here = partial(lab.to_code, form="steerlab", here="lab")
    alone = "Runs without steerlab: torch, transformers and nnsight"
    if isinstance(lab.backend, OnServer):
        alone += ", with the model on the same server"
    return CodeAnswer(
        forms=[
            _form("steerlab", "For this notebook, where lab is the lab of this panel", "python", here),
            _form("nnsight", alone, "python", lab.to_code),
            _form(
                "JSON",
                "The recipe with its vectors, as a .steer.json file has it",
                "json",
                lab.recipe.to_json,
            ),
        ]
    )


def _form(name: str, title: str, language: Literal["python", "json"], write: Callable[[], str]) -> CodeForm:
    try:
        return CodeForm(name=name, title=title, language=language, source=write())
    except SteerlabError as error:  # what one form lacks is no reason to withhold the others
        return CodeForm(name=name, title=title, language=language, source="", missing=trouble(error))


HANDLERS = [Handler(CodeQuestion, CodeAnswer, answer, lane=None)]
