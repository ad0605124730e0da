"""Judges: functions of an answer that a person brings, which may raise. One bad answer must not cost the others."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from types import CellType, CodeType, EllipsisType, FunctionType
from typing import Any

from steerlab.backends.base import nobody, rows_done
from steerlab.errors import own_line
from steerlab.generations import Generation

Verdict = bool | float


class Asked:
    """A judge and how it fared: an answer at which it raised has no verdict and stands in `raised` with the error.

    judge: from an answer to a bool or a number, NumPy's and torch's among them. name: what messages call it.
    """

    def __init__(self, judge: Callable[[Generation], Any], name: str) -> None:
        self.name = name
        self.raised: list[tuple[Generation, Exception]] = []
        self._judge = judge
        self._answers = 0

    def __call__(self, answer: Generation) -> Verdict | None:
        """The verdict on an answer, None where the judge raised or gave something else."""
        self._answers += 1
        before = rows_done.set(nobody)  # a judge may ask a model, whose rows are no part of the work
        try:
            return _verdict(self._judge(answer))
        except Exception as error:  # the judge is the user's own
            self.raised.append((answer, error))
            return None
        finally:
            rows_done.reset(before)

    @property
    def why(self) -> str:
        """What it raised last."""
        error = self.raised[-1][1]
        return f"{type(error).__name__}: {error}"

    def tell(self, where: str) -> None:
        """Warn where it raised, with the first prompt and recipe at which it did. where: what became of the answers."""
        if not self.raised:
            return
        answer, error = self.raised[0]
        warnings.warn(
            f"the judge {self.name} raised on {len(self.raised)} of {self._answers} answers, which {where}; first "
            f"{type(error).__name__}: {error}, on the prompt {str(answer.prompt)[:80]!r} with the answer "
            f"{answer.text[:80]!r} under {answer.recipe}",
            stacklevel=own_line(),
        )


def name_of(judge: object) -> str:
    """What a judge is called: a function's name, or how it prints."""
    return getattr(judge, "__name__", None) or repr(judge)


def code_hash(judge: object) -> str | None:
    """16 hex digits that stand for what a judge's own lines do, under this version of Python; None where it is no
    function. The defaults of its arguments and the variables of the functions around it are part of it: values that
    cannot change, and of others, which may be a judge's own notes, the type. What it calls, and global variables, are
    not looked at.
    """
    code = getattr(judge, "__code__", None)
    if not isinstance(code, CodeType):
        return None
    known: Any = judge
    keywords = tuple((known.__kwdefaults__ or {}).items())
    made = _plain((code, known.__defaults__, keywords, known.__closure__))
    return hashlib.sha256(repr(made).encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    """What prints the same in every process: code without its address, sets in an order, of an object its type."""
    match value:
        case CodeType():
            return value.co_code, value.co_names, [_plain(one) for one in value.co_consts]
        case FunctionType():
            return _plain(value.__code__)
        case CellType():
            try:
                return _plain(value.cell_contents)
            except ValueError:  # a variable that has no value yet
                return ()
        case frozenset():
            return sorted(repr(_plain(one)) for one in value)
        case tuple():
            return [_plain(one) for one in value]
        case None | bool() | int() | float() | complex() | str() | bytes() | EllipsisType():
            return value
        case _:
            return type(value).__qualname__


def _verdict(given: Any) -> Verdict:
    value = given.item() if hasattr(given, "item") else given
    if not isinstance(value, bool | int | float):
        raise TypeError(f"a judge gives a bool or a number, not {given!r}")
    return value if isinstance(value, bool) else float(value)
