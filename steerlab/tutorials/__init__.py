"""What the tutorial notebooks say of an answer: a module per notebook, a function per exercise.

A cell ends in `check.something(answer)`, and shows whether the answer is right; where it is not, what is wrong and what
to look at. A check measures what was given on the model itself and compares it with nothing that was written down, so
that any right answer is right. It changes neither the lab nor the answer, and a wrong answer never raises.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, SupportsFloat, TypeVar

from steerlab.errors import SteerlabError
from steerlab.sites import whole

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class Checked:
    """Whether an answer is right, and why. Shown in a notebook as a line; true where it is right."""

    right: bool
    says: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'✓' if self.right else '✗'} {self.says}"

    def _repr_html_(self) -> str:
        colour = "success" if self.right else "warn"
        return (
            f'<p style="border-left: 4px solid var(--jp-{colour}-color1, currentColor); padding-left: 8px">'
            f"{html.escape(repr(self))}</p>"
        )


class WrongAnswerError(Exception):
    """Ends a check: what is wrong with the answer, and what to look at."""


def exercise(check: Callable[..., str]) -> Callable[..., Checked]:
    """A check that a cell can end in, from a function that returns what it says of a right answer or raises
    WrongAnswerError.
    """

    @functools.wraps(check)
    def checked(*answers: object) -> Checked:
        if any(answer is ... for answer in answers):
            return Checked(False, "Put your answer in the place of the three dots, and run the cell again.")
        try:
            return Checked(True, check(*answers))
        except (WrongAnswerError, SteerlabError) as error:
            return Checked(False, str(error))

    return checked


def wanted(answer: object, kind: type[T], what: str) -> T:
    """The answer, where it is of the kind that the exercise asks for. Raises WrongAnswerError, which names both."""
    return answer if isinstance(answer, kind) else _no(answer, what)


def whole_number(answer: object, what: str) -> int:
    """The answer, where it is a whole number, as Python's own. Raises WrongAnswerError as `wanted` does."""
    number = whole(answer)
    return _no(answer, what) if number is None else number


def number(answer: object, what: str) -> float:
    """The answer, where it is a number, as Python's own. Raises WrongAnswerError as `wanted` does."""
    if isinstance(answer, str | bool) or not isinstance(answer, SupportsFloat):
        _no(answer, what)
    return float(answer)


def _no(answer: object, what: str) -> NoReturn:
    raise WrongAnswerError(f"This is {type(answer).__name__}; wanted is {what}.")
