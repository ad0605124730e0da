"""One line of the table, and what several parts of it share."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from steerlab.demo import world
from steerlab.generations import Generation, Sampling
from steerlab.lab import Lab
from steerlab.metrics import Estimate, rate
from steerlab.recipes import Recipe
from steerlab.rows import Row

JUDGED = Sampling(max_new_tokens=20)  # a refusal shows in its first sentence
WHOLE = Sampling(max_new_tokens=64)


class Figure(NamedTuple):
    """What was measured, its value, what was aimed at, and whether it was reached."""

    name: str
    value: str
    aim: str = ""
    met: bool = True


def judged(name: str, estimate: Estimate, aim: str, reached: Callable[[float], bool]) -> Figure:
    """A figure whose estimate is held against its aim."""
    return Figure(name, str(estimate), aim, reached(estimate.value))


def at_least(name: str, estimate: Estimate, share: float) -> Figure:
    """A rate that should be large."""
    return judged(name, estimate, f"{share:.0%} or more", lambda x: x >= share)


def at_most(name: str, estimate: Estimate, share: float) -> Figure:
    """A rate that should be small."""
    return judged(name, estimate, f"{share:.0%} or less", lambda x: x <= share)


def refusals(lab: Lab, prompts: Sequence[str], *recipes: Recipe) -> Estimate:
    """How many of the answers refuse. Where there are several recipes, the prompts take them in turn."""
    rows = [Row(prompt, recipe) for prompt, recipe in zip(prompts, itertools.cycle(recipes), strict=False)]
    return rate([world.is_refusal(answer.text) for answer in lab.run(rows, JUDGED)])


def readable(answer: Generation) -> bool:
    """A rule for "a readable sentence, no loops": it ends by itself with a full stop, and repeats no four words."""
    words = re.findall(r"[\w']+", answer.text.lower())
    fours = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    whole = answer.finish == "stop" and bool(re.search(r"[.!?][\"')]?$", answer.text.strip()))
    return whole and len(words) >= 2 and len(set(fours)) == len(fours)
