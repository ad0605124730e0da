"""Sets of prompts as a person gives them in the panel: bundled, typed, or a file that the browser read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from steerlab import prompts
from steerlab.errors import PromptError
from steerlab.prompts import Prompt
from steerlab.ui.protocol import Wire


class PromptSet(Wire):
    """Prompts, and where they are from."""

    source: Literal["harmful", "harmless", "text", "prompt", "file"]
    """Bundled ones that a safe assistant refuses, or answers; text: one a line; prompt: one, all of the text; file:
    what stood in it."""
    n: Annotated[int, Field(ge=1, le=5000)] = 16
    """How many of the bundled ones."""
    held_out: bool = False
    """Whether bundled ones are of the wordings that the embedded model never saw."""
    text: str = ""
    file: str = ""
    """The file's name; its ending says of what kind it is."""
    column: str = ""
    """Of a table; empty where its name is a usual one."""


def prompts_of(given: PromptSet, what: str) -> list[Prompt]:
    """The prompts of a set. what: "harmful prompts", for the error. Raises PromptError for none, and FileError."""
    if given.source == "file":
        return prompts.parse(given.text, given.file, given.column or None)
    if given.source in ("text", "prompt"):
        texts = [given.text] if given.source == "prompt" else map(str.strip, given.text.splitlines())
        typed: list[Prompt] = [text for text in texts if text.strip()]
        if not typed:
            raise PromptError(
                f"there are no {what}", "Type some, one a line, or take a file or a bundled set."
            )
        return typed
    take = prompts.harmful if given.source == "harmful" else prompts.harmless
    return list(take(given.n, split="heldout" if given.held_out else "train"))


def words_of(prompt: Prompt) -> str:
    """A prompt in a line: of a conversation, its last words."""
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]
