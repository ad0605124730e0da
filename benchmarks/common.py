"""What the benchmarks share: their options, interleaved runs, ratios with their spread, and how a figure is told.

A figure is a ratio of two things measured in the same run: in CPU seconds of all threads on a CPU, in wall seconds up
to a synchronisation on a GPU. Every round runs each of them once, in an order that moves on from round to round, and
gives one ratio; a figure is the median of the ratios, and its spread their least and largest.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here needs the hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.append(str(Path(__file__).parents[1] / "tests"))  # for the oracle, whose hooks are the loops'

import torch

MISSING = "pip install -e '.[bench]' && pip install --no-deps -r benchmarks/requirements.txt"


DEFAULT_THREADS = torch.get_num_threads()  # what a program gets that asks for nothing


@dataclass(frozen=True)
class Options:
    """How a benchmark is run. models: names of `subjects.NAMES`, empty for the benchmark's own choice. quick: tiny
    sizes, to see that it works.
    """

    models: tuple[str, ...] = ()
    device: str = "cpu"
    rounds: int = 3
    quick: bool = False
    threads: int = 1


class Spread(NamedTuple):
    """A median over rounds, with the least and the largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


def number(x: float) -> str:
    """Two decimals, or fewer where they say nothing."""
    return f"{x:.2f}" if abs(x) < 10 else f"{x:.1f}" if abs(x) < 100 else f"{x:.0f}"


class Beside(NamedTuple):
    """Another's value in the same run, and in how many of the rounds it was better than ours."""

    value: Spread
    ahead: int
    rounds: int

    @property
    def better(self) -> bool:
        """Whether it was ahead in more rounds than coins would give: a one-sided sign test at 5%, which needs five."""
        n = self.rounds
        return sum(math.comb(n, k) for k in range(self.ahead, n + 1)) / 2**n < 0.05

    def __str__(self) -> str:
        return f"{self.value}, ahead in {self.ahead} of {self.rounds} rounds"


class Check(NamedTuple):
    """Something that has to be equal for the comparison to be fair, in words, and whether it is."""

    words: str
    holds: bool


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    work: what was done. against: what it is compared with. unit: what a value of 2 would mean. goal: None where the
    figure is only reported. better: whether more or less is. floor: the figure that the hardware allows, measured in
    the same run, where it says why a goal cannot be reached; floor_words: what was measured for it. beside: others,
    in the same run. first: the goal is, too, that none of them is better.
    """

    work: str
    against: str
    model: str
    value: Spread
    unit: str
    goal: float | None = None
    better: Literal["more", "less"] = "more"
    checks: tuple[Check, ...] = ()
    floor: float | None = None
    floor_words: str = ""
    note: str = ""
    beside: Mapping[str, Beside] = field(default_factory=dict)
    first: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached and every check holds; None without a goal, or where that cannot be told."""
        if self.goal is None and not self.first:
            return None
        if self.first and any(other.rounds < 5 for other in self.beside.values()):
            return None  # too few to say that none is better
        reached = self.goal is None or self.reaches(self.goal)
        ahead = not self.first or not any(other.better for other in self.beside.values())
        return reached and ahead and all(check.holds for check in self.checks)

    def reaches(self, value: float) -> bool:
        """Whether the median is that good."""
        return self.value.median >= value if self.better == "more" else self.value.median <= value

    @property
    def goal_words(self) -> str:
        """The goal for the table."""
        words = (
            [] if self.goal is None else [f"at {'least' if self.better == 'more' else 'most'} {self.goal:g}"]
        )
        return ", ".join([*words, *(["no package better"] if self.first else [])]) or "reported"


def tell(figure: Figure) -> None:
    """Print a figure."""
    verdict = {True: "met", False: "NOT MET", None: ""}[figure.met]
    print(f"{figure.work} [{figure.model}] against {figure.against}")
    print(f"    ratio {figure.value} {figure.unit}; goal: {figure.goal_words} {verdict}".rstrip())
    for check in figure.checks:
        print(f"    {'ok' if check.holds else 'DIFFERS'}: {check.words}")
    for name, other in figure.beside.items():
        print(f"    beside: {name} {other}")
    if figure.floor is not None:
        print(f"    floor about {number(figure.floor)}: {figure.floor_words}")
    if figure.note:
        print(f"    {figure.note}")
    sys.stdout.flush()


# ---------------------------------------------------------------------------------------------------- measuring


@dataclass
class Rounds:
    """Seconds and results by name, a value per round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    results: dict[str, list[Any]] = field(default_factory=dict)

    def ratio(self, over: str, under: str, scale: float = 1.0) -> Spread:
        """Of the seconds of two names, round by round, times `scale`."""
        pairs = zip(self.seconds[over], self.seconds[under], strict=True)
        return spread([scale * a / b for a, b in pairs])

    def beside(self, name: str, ours: str, over: str) -> Beside:
        """What `ratio` says of another, and in how many rounds it needed less than ours."""
        pairs = zip(self.seconds[name], self.seconds[ours], strict=True)
        ahead = [theirs < mine for theirs, mine in pairs]
        return Beside(self.ratio(over, name), sum(ahead), len(ahead))

    def median(self, name: str) -> float:
        """The median of the seconds of one name."""
        return statistics.median(self.seconds[name])


def spread(values: Sequence[float]) -> Spread:
    """The median and the ends."""
    return Spread(statistics.median(values), min(values), max(values))


class Timed(NamedTuple):
    """What a run gives that has timed itself, because not all of it counts."""

    seconds: float
    result: Any


def interleaved(
    runs: Mapping[str, Callable[[int], Any]],
    options: Options,
    *,
    rounds: int | None = None,
    warm: bool = True,
    before: Callable[[int], object] | None = None,
) -> Rounds:
    """Run each of `runs` once a round, with the number of the round, and time it. warm: a round before, not counted,
    whose number is -1. before: what every round needs and no time is taken of.
    """
    out = Rounds({name: [] for name in runs}, {name: [] for name in runs})
    names = list(runs)
    for i in range(-1 if warm else 0, rounds or options.rounds):
        if before:
            before(i)
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            began = clock(options.device)
            result = runs[name](i)
            took = clock(options.device) - began
            if isinstance(result, Timed):
                took, result = result
            if i >= 0:
                out.seconds[name].append(took)
                out.results[name].append(result)
    return out


def clock(device: str) -> float:
    """CPU seconds of all threads; on a GPU wall seconds, once it has done its work."""
    if not device.startswith("cuda"):
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def missing(what: str, notes: list[str]) -> Any:
    """A peer that is not installed is left out, and `notes` says so."""
    try:
        yield
    except ImportError as error:
        notes.append(f"{what} is not there ({error}): {MISSING}")


# ---------------------------------------------------------------------------------------------------- a script


def told(figures: Iterable[Figure]) -> list[Figure]:
    """All of them, each printed as soon as it is there."""
    found = []
    for figure in figures:
        tell(figure)
        found.append(figure)
    return found


def options_of(arguments: argparse.Namespace) -> Options:
    """From the command line."""
    return Options(
        tuple(arguments.model), arguments.device, arguments.rounds, arguments.quick, arguments.threads
    )


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The command line of every benchmark."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--model", action="append", default=[], help="embedded, 50M, 1.5B or tiny; may be repeated"
    )
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--threads", type=int, default=1, help="of torch; one makes CPU seconds the work alone")
    made.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    made.add_argument("--json", type=Path, help="a file that gets the figures, too")
    return made


def prepare(options: Options) -> None:
    """Threads and warnings, as every benchmark wants them."""
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")  # those of the peers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def main(doc: str | None, measure: Callable[[Options], Iterable[Figure]]) -> int:
    """A benchmark as a program: exits with 1 where a check does not hold."""
    arguments = parser(doc).parse_args()
    options = options_of(arguments)
    prepare(options)
    figures = told(measure(options))
    if arguments.json:
        arguments.json.write_text(json.dumps([record(f) for f in figures], indent=1), encoding="utf-8")
    return int(not all(check.holds for figure in figures for check in figure.checks))


def record(figure: Figure) -> dict[str, Any]:
    """A figure as JSON."""
    return {
        **asdict(figure),
        "value": figure.value._asdict(),
        "checks": [check._asdict() for check in figure.checks],
        "beside": {
            name: other._replace(value=other.value._asdict())._asdict()
            for name, other in figure.beside.items()
        },
    }


def figure_of(saved: Mapping[str, Any]) -> Figure:
    """A figure from what `record` made."""
    checks = tuple(Check(**check) for check in saved["checks"])
    beside = {
        name: Beside(**{**other, "value": Spread(**other["value"])})
        for name, other in saved["beside"].items()
    }
    return Figure(**{**saved, "value": Spread(**saved["value"]), "checks": checks, "beside": beside})
