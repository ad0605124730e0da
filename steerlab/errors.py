"""Every error that steerlab raises on purpose.

    SteerlabError
    ├── ModelError        a model that cannot be found, loaded or understood
    ├── SiteError         a layer or a point that the model does not have
    ├── DirectionError    a vector that is no direction: wrong width, not finite, zero
    ├── RecipeError       interventions that contradict each other or do not fit the model
    ├── PromptError       prompts that are empty or too long, contrast sets that do not contrast
    ├── FileError         a file that is truncated, of another kind, or of a newer version
    └── RemoteError       a server that cannot be reached, refuses, falls silent or fails

Each says what failed, what was given and what to do; the panel shows the two halves, `what` and `fix`, apart.
"""

from __future__ import annotations

import sys


class SteerlabError(Exception):
    """The root: `what` failed, with what was given, and `fix`, what to do about it."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}. {self.fix}" if self.fix else self.what


class ModelError(SteerlabError):
    """A model that cannot be found, loaded or understood."""


class SiteError(SteerlabError, ValueError):
    """A layer or a point that the model does not have."""


class DirectionError(SteerlabError, ValueError):
    """A vector that is no direction: wrong width, not finite, zero."""


class RecipeError(SteerlabError, ValueError):
    """Interventions that contradict each other or do not fit the model."""


class PromptError(SteerlabError, ValueError):
    """Prompts that are empty or too long, contrast sets that do not contrast."""


class FileError(SteerlabError, ValueError):
    """A file that is truncated, of another kind, or of a newer version."""


class RemoteError(SteerlabError):
    """A server that cannot be reached, refuses, falls silent or fails.

    generations: where answers were on their way, what of them had come: those that were not whole with finish
    "cancelled".
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what, fix)
        self.generations: list[object] = []


def own_line() -> int:
    """The `stacklevel` of a warning by the caller that is to point at the person's own line: the innermost one that is
    not steerlab's.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] == "steerlab":
        frame, level = frame.f_back, level + 1
    return level
