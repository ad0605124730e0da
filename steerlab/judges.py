"""Judges: functions of an answer that a person brings, which may raise. One bad answer must not cost the others."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable
from functools import partial
from types import CellType, CodeType, EllipsisType, FunctionType
from typing import Any

from steerlab.backends.base import nobody, rows_done
from steerlab.errors import own_line
from steerlab.generations import Generation

Verdict = bool | float
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


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
    """What a judge is called, the same in every process: a function's name, behind a partial too; how an object prints,
    or its class where that has an address.
    """
    if isinstance(judge, partial):
        return name_of(judge.func)
    name: str = getattr(judge, "__name__", None) or repr(judge)
    return type(judge).__qualname__ if ADDRESS.search(name) else name


def code_hash(judge: object) -> str | None:
    """16 hex digits that stand for what a judge's own lines do, under this version of Python; None where it is written
    in another language. The defaults of its arguments, what a partial gives it and the variables of the functions
    around it are part of it: values that cannot change, and of others, which may be a judge's own notes, the type. What
    it calls, what an object holds, and global variables are not looked at.
    """
    made: tuple[object, ...]
    if isinstance(judge, partial):
        made = code_hash(judge.func), judge.args, tuple(sorted(judge.keywords.items()))
    else:
        known: Any = judge if hasattr(judge, "__code__") else type(judge).__call__
        if not isinstance(getattr(known, "__code__", None), CodeType):
            return None
        keywords = tuple((known.__kwdefaults__ or {}).items())
        made = known.__code__, known.__defaults__, keywords, known.__closure__
    return hashlib.sha256(repr(_plain(made)).encode()).hexdigest()[:16]


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


def yes_or_no(given: Any) -> bool:
    """A verdict that counts in a rate. Raises TypeError for what is neither a bool nor 0 or 1."""
    value = _verdict(given)
    if value not in (0, 1):
        raise TypeError(f"a judge of refusals gives True or False, not {given!r}")
    return bool(value)
