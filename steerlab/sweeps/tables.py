"""Tables: what was measured, row by row and cell by cell, and the run that fills them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from steerlab import metrics
from steerlab.backends.base import Backend, OnServer, encode_row, state_of
from steerlab.errors import ModelError, PromptError
from steerlab.estimators.about import short_hash
from steerlab.frames import estimated, heatmap, table
from steerlab.generations import Sampling
from steerlab.judges import Verdict
from steerlab.metrics import Estimate
from steerlab.progress import Progress, bar, counted
from steerlab.prompts import Prompt, several
from steerlab.rows import Row, occurrences, seeds
from steerlab.sweeps.cells import Cell
from steerlab.sweeps.files import EXACT, LOOSE, Key, ScoresFile, check_folder
from steerlab.sweeps.measuring import Measured, Meter, Metric
from steerlab.sweeps.weights import checksum

if TYPE_CHECKING:
    import pandas as pd

DEFAULT: tuple[Metric, ...] = ("refusal_score", "kl")
PROBE = "Hello"
WIDE = ("float32", "float64")  # types in which another device rounds little
# Of a batch: the more rows, the more of them start at the same layer; the fewer, the less a kill loses.
MOST_ROWS, LOGIT_BYTES = 512, 2**28


class Scores:
    """Cells x prompts, measured as far as `resume` has come. `lab.score` and `lab.sweep` make it and run it.

    cells: the recipes with their places in the table. metrics: their names. Rows are run prompt by prompt, so that what
    a prompt's rows share can be shared; cells with the same recipe share theirs, so the baseline is run once a prompt.

    n counts prompts as they are given, as in `effects.measure`. One that is given again is another sample where answers
    are sampled, with noise of its own. Greedy answers and what the logits say are the same again: such a row is run
    once and counted as often as its prompt is given, and the interval, which takes every prompt for a new one, is too
    narrow. Where nothing is sampled, give each prompt once.

    Memory: a finished row takes about 1 kB, its answer included. Logits live for a batch: at most two rows of
    vocabulary size in float32 for each row of the batch. A batch has `batch_rows` rows, by default 512, or as many as
    keep the logits within 256 MB (223 for a vocabulary of 150,000). Where answers are read for their cross-entropy,
    those of one pass live besides, as many as the free memory allows (`backends.budget`).
    """

    def __init__(
        self,
        backend: Backend,
        cells: Sequence[Cell],
        prompts: Sequence[Prompt],
        *,
        metrics: Sequence[Metric] = DEFAULT,
        sampling: Sampling = Sampling(48),  # noqa: B008  (frozen)
        seed: int = 0,
        refusal_tokens: Sequence[int] | None = None,
        path: str | Path | None = None,
        batch_rows: int | None = None,
    ) -> None:
        self.cells, self.prompts = tuple(cells), several(prompts)
        if batch_rows is not None and batch_rows < 1:
            raise PromptError(f"a batch has at least 1 row, not {batch_rows}")
        if path is not None:
            check_folder(path)
        recipes = {cell.recipe.fingerprint: cell.recipe for cell in self.cells}
        for recipe in recipes.values():
            backend.check(recipe)
        for prompt in self.prompts:
            encode_row(backend.tokenizer, Row(prompt), backend.info.context)
        # greedy answers do not depend on the seed
        self._backend, self._sampling = backend, (sampling, seed if sampling.temperature else None)
        taken = {"prompt", "text", "why", *(column for cell in self.cells for column in cell.place)}
        self._meter = Meter(backend, metrics, sampling, refusal_tokens=refusal_tokens, taken=taken)
        self.metrics = self._meter.names
        self.refusal_tokens = self._meter.refusal_tokens
        most = LOGIT_BYTES // (8 * len(backend.tokenizer))
        self._batch_rows = batch_rows or max(16, min(MOST_ROWS, most))
        sampled = self._meter.generates and sampling.temperature > 0
        self._asked = [(asked, nth if sampled else 0) for asked, nth in occurrences(self.prompts)]
        # every row once, those of a prompt together, with the number of the prompt
        self._rows: dict[Key, tuple[Row, int]] = {}
        for i, (prompt, noise) in enumerate(zip(self.prompts, seeds(self.prompts, seed), strict=True)):
            for fingerprint, recipe in recipes.items():
                self._rows.setdefault(Key(fingerprint, *self._asked[i]), (Row(prompt, recipe, noise), i))
        about: dict[str, Any] = {
            "model": backend.info.name,
            "revision": backend.info.revision,
            "dtype": backend.info.dtype,
            "metrics": self.metrics,
            "sampling": {**asdict(sampling), "seed": self._sampling[1]} if self._meter.generates else None,
            "refusal_tokens": self.refusal_tokens,
            "chat template hash": short_hash(backend.tokenizer.chat_template),
        }
        if self._meter.own:
            about["judges' code"] = self._meter.own
        if path is not None:  # models of one name are told apart by their weights and by what they say
            about["weights"] = checksum(backend)
            about[f"logits after {PROBE!r}"] = backend.score([Row(PROBE, chat=False)])[0, :8].tolist()
        self._state = state_of(backend)
        rounding = EXACT if backend.info.dtype in WIDE and not isinstance(backend, OnServer) else LOOSE
        self._file = None if path is None else ScoresFile(path, about, rounding=rounding)
        there = self._file.read() if self._file else {}
        self._found: dict[Key, Measured] = {key: there[key] for key in self._rows if key in there}

    @property
    def done(self) -> int:
        """How many rows are measured."""
        return len(self._found)

    @property
    def total(self) -> int:
        """How many rows there are to measure: one a prompt, or a sample of it, for each distinct recipe."""
        return len(self._rows)

    @property
    def finished(self) -> bool:
        """Whether every row is measured."""
        return self.done == self.total

    def resume(
        self,
        *,
        cancel: threading.Event | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Measure the rows that are missing, a batch at a time, and return this table.

        cancel: once set, ends the run; the batch in hand is lost, and so it is after Ctrl-C or a kill. progress: called
        with the rows done and their total, instead of a bar: after every batch, and within it as the model goes through
        its rows. Warns where a judge raised. Raises ModelError where rows are missing and the model is no longer in the
        state in which the table was begun: of its weights, adapters, hooks or chat template.
        """
        todo = [key for key in self._rows if key not in self._found]
        if todo and state_of(self._backend) != self._state:
            raise ModelError(
                "the model's weights, adapters, hooks or chat template have changed since this table was begun",
                "Measure it anew, and where it has a file, into another one.",
            )
        try:
            with bar() as shown:
                tell = progress or (lambda done, total: shown(done, total, "measuring"))
                for start in range(0, len(todo), self._batch_rows):
                    batch = todo[start : start + self._batch_rows]
                    with counted(partial(self._under_way, tell, self.done), len(batch) * self._meter.times):
                        if (cancel and cancel.is_set()) or not self._measure(batch, cancel):
                            break
                    tell(self.done, self.total)
        except BaseException as error:
            error.add_note(
                f"{self.done} of {self.total} rows are measured and kept; `resume()` of this table, which a lab keeps "
                "as `lab.scores`, goes on from there."
            )
            raise
        for judge in self._meter.judges:
            judge.tell("have no value in the table")
        return self

    def _under_way(self, tell: Progress, before: int, done: int, total: int) -> None:
        """Tell of the batch in hand as far as it is; its end is told once its rows are kept."""
        if 0 < done // self._meter.times < total // self._meter.times:
            tell(before + done // self._meter.times, self.total)

    def _measure(self, batch: Sequence[Key], cancel: threading.Event | None) -> bool:
        rows = [self._rows[key] for key in batch]
        measured = self._meter([row for row, _ in rows], [i for _, i in rows], cancel)
        if measured is None:
            return False
        if self._file:
            self._file.append([(key, row, m) for key, (row, _), m in zip(batch, rows, measured, strict=True)])
        self._found |= dict(zip(batch, measured, strict=True))
        return True

    def adopt(self, other: Scores) -> None:
        """Take over the rows of another table that say what they would say here, so that they are not measured again:
        of the same backend, weights and chat template, with all of these metrics. Nothing is taken where a metric is a
        function of one's own, or where what the metrics depend on differs: the refusal tokens, the sampling of answers
        and its seed.
        """
        same = (
            self._backend is other._backend
            and self._state == other._state
            and set(self.metrics) <= set(other.metrics)
            and not (self._meter.own or other._meter.own)
            and self.refusal_tokens in (None, other.refusal_tokens)
            and (not self._meter.generates or self._sampling == other._sampling)
        )
        if same:
            for key, found in other._found.items():
                if key in self._rows:
                    values = {name: found.values[name] for name in self.metrics}
                    why = {name: reason for name, reason in found.why.items() if name in values}
                    self._found.setdefault(
                        key, Measured(values, why, found.text if self._meter.judges else None)
                    )

    # ------------------------------------------------------------ what was found

    def values(self, metric: str, cell: Cell) -> list[Verdict]:
        """A metric's values over the prompts of a cell, of those that are measured and have one."""
        if metric not in self.metrics:
            raise PromptError(
                f"{metric!r} was not measured",
                f"This table has {', '.join(self.metrics)}: sweep again with it.",
            )
        values = [found.values[metric] for _, found in self._of(cell)]
        return [value for value in values if value == value]

    def estimate(self, metric: str, cell: Cell) -> Estimate:
        """A metric over the prompts of a cell: a share where every value is a bool, else a mean; NaN and n = 0 where no
        row has a value.
        """
        return metrics.estimate(self.values(metric, cell))

    def to_frame(self) -> pd.DataFrame:
        """A row per cell and prompt that is measured: the cell's place, the prompt, a column per metric, the answer
        where one was generated, and why a value is missing, "" where none is.
        """
        rows = []
        for cell in self.cells:
            for prompt, found in self._of(cell):
                text = {"text": found.text} if self._meter.judges else {}
                why = "; ".join(f"{name}: {reason}" for name, reason in found.why.items())
                rows.append({**cell.place, "prompt": prompt, **found.values, **text, "why": why})
        return table(rows)

    def summary(self) -> pd.DataFrame:
        """A row per cell: its place, each metric with its 95% interval and n, and why a metric has no value."""
        rows = []
        for cell in self.cells:
            row, why = dict(cell.place), []
            for name in self.metrics:
                estimate = self.estimate(name, cell)
                row |= estimated(name, estimate)
                if not estimate.n:
                    reasons = {found.why[name] for _, found in self._of(cell) if name in found.why}
                    why.append(f"{name}: {', '.join(sorted(reasons)) or 'not measured yet'}")
            rows.append({**row, "why": "; ".join(why)})
        return table(rows)

    def _of(self, cell: Cell) -> list[tuple[Prompt, Measured]]:
        """What is measured of a cell, in the order of the prompts."""
        fingerprint = cell.recipe.fingerprint
        keys = [
            (prompt, Key(fingerprint, *asked))
            for prompt, asked in zip(self.prompts, self._asked, strict=True)
        ]
        return [(prompt, self._found[key]) for prompt, key in keys if key in self._found]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self.cells)} cells x {len(self.prompts)} prompts: {', '.join(self.metrics)}; "
            f"{self.done} of {self.total} rows measured)"
        )


class Sweep(Scores):
    """Scores over layers x coefficients, `lab.sweep`'s table."""

    def plot(self, metric: str | None = None, *, control: bool = False, ax: Any = None) -> Any:
        """A map of layers x coefficients, a metric's mean as colour, by default the first one's; returns matplotlib's
        axes. control: the random directions' map instead. Cells without a value stay empty.
        """
        metric = metric or self.metrics[0]
        cells = [cell for cell in self.cells if cell.place.get("control", False) == control]
        if not cells:
            raise PromptError("this sweep has no random control", "Sweep again with control=True.")
        layers = list(dict.fromkeys(cell.place["layer"] for cell in cells))
        coefficients = sorted({cell.place["coefficient"] for cell in cells})
        values = [[math.nan] * len(layers) for _ in coefficients]
        for cell in cells:
            x, y = layers.index(cell.place["layer"]), coefficients.index(cell.place["coefficient"])
            values[y][x] = self.estimate(metric, cell).value
        named = [f"{c:g}" for c in coefficients]
        label = metric.replace("_", " ")
        ax = heatmap(values, columns=layers, rows=named, label=label, ax=ax, origin="lower")
        ax.set(xlabel="layer", ylabel="coefficient", title="random control" if control else "")
        return ax
