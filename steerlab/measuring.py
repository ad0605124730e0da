"""The verbs of a Lab that measure: what recipes do, over prompts, layers and strengths."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import traitlets

from steerlab.backends.base import Backend
from steerlab.calibration import Calibrated, most_rows, within_budget
from steerlab.calibration import Make as Budgeted
from steerlab.directions import Direction
from steerlab.effects import Judge, Report, measure, rows_measured
from steerlab.errors import RecipeError, own_line
from steerlab.generations import Sampling
from steerlab.interventions import PAPER_POINTS, Add, GivenLayers
from steerlab.metrics import refuses
from steerlab.progress import bar, bar_of_rows
from steerlab.prompts import Prompt
from steerlab.recipes import Recipe, checked_recipe, conflicts
from steerlab.sites import Point
from steerlab.surgical import Frontier, Method, surgical
from steerlab.sweeps import Scores, Sweep, grid, named, with_controls
from steerlab.sweeps.cells import Make
from steerlab.sweeps.measuring import Metric
from steerlab.sweeps.tables import DEFAULT
from steerlab.worker import Worker, goes_first


class Measuring(traitlets.HasTraits):
    """What a Lab has of `effects`, `sweeps`, `surgical` and `calibration`."""

    sampling = traitlets.Instance(
        Sampling,
        args=(),
        help="How the panel's texts are sampled. What is set in the panel is set here, and run, measure, score, sweep "
        "and submit take it where they are given no sampling; generate and compare do not.",
    )
    backend: Backend
    worker: Worker
    scores: Scores | None = None
    _told: set[str]

    @goes_first
    def surgical(
        self,
        direction: Direction,
        harmful: Sequence[Prompt],
        harmless: Sequence[Prompt],
        *,
        method: Method = "greedy",
        points: Sequence[Point] = PAPER_POINTS,
        held_out: float = 0.5,
        refusal_tokens: Sequence[int] | None = None,
    ) -> Frontier:
        """How few layers of ablation suffice, and what each subset costs: refusal against KL, found on a part of the
        prompts and measured again on the `held_out` rest (`surgical.surgical`).
        """
        with bar("subset") as shown:
            return surgical(
                self.backend,
                direction,
                harmful,
                harmless,
                method=method,
                points=points,
                held_out=held_out,
                refusal_tokens=refusal_tokens,
                progress=lambda done, total: shown(done, total, "ablating subsets of layers"),
            )

    @goes_first
    def measure(
        self,
        recipe: Recipe,
        harmful: Sequence[Prompt],
        harmless: Sequence[Prompt],
        *,
        judge: Judge = refuses,
        texts: Sequence[str] = (),
        prompting: str | None = None,
        sampling: Sampling | None = None,
        refusal_tokens: Sequence[int] | None = None,
        seed: int = 0,
    ) -> Report:
        """What a recipe does to refusals and to everything else, beside the baseline, a random control and, with an
        instruction, plain prompting for the same (`effects.measure`).

        sampling: by default `lab.sampling`, which the panel sets, too: give it for numbers that are reported.
        refusal_tokens: ids of the tokens that begin a refusal, for the refusal score; by default derived from the
        baseline's answers to these prompts.
        """
        self._tell_conflicts([recipe])
        rows = rows_measured(len(harmful), len(harmless), len(texts), prompting=prompting is not None)
        with bar_of_rows("measuring", rows):
            return measure(
                self.backend,
                recipe,
                harmful,
                harmless,
                judge=judge,
                texts=texts,
                prompting=prompting,
                sampling=sampling or self.sampling,
                refusal_tokens=refusal_tokens,
                seed=seed,
            )

    @goes_first
    def score(
        self,
        prompts: Sequence[Prompt],
        recipes: Sequence[Recipe] | Mapping[str, Recipe],
        metrics: Sequence[Metric] = DEFAULT,
        *,
        control: bool = False,
        sampling: Sampling | None = None,
        seed: int = 0,
        refusal_tokens: Sequence[int] | None = None,
        path: str | Path | None = None,
        batch_rows: int | None = None,
        cancel: threading.Event | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Scores:
        """Measure every prompt under every recipe; `.to_frame()` has a row for each, `.summary()` intervals.

        recipes: a list, or names with recipes. metrics: "refusal_score" and "kl" to the baseline, of the next token's
        logits; "refusal_rate" and "repetition", of generated answers; "cross_entropy", of the baseline's own answers;
        and judges: your own functions of a Generation that give a bool or a number. Nothing is generated where logits
        suffice. control: the same with random directions of the same norms, too. sampling: by default `lab.sampling`,
        which the panel sets, too: give it for numbers that are reported. seed: of the controls, and of sampled answers.
        refusal_tokens: ids, by default derived from the baseline's answers to the bundled prompts.

        Rows are run in batches of `batch_rows` (by default as `sweeps.Scores` has it) and kept after each: with `path`
        also in a file of JSON lines, from which the same call goes on, so that a killed kernel loses at most the batch
        in hand; several kernels may add to one file at a time, each with the rows that it is asked for. After Ctrl-C or
        an error `lab.scores` has what was measured, and `lab.scores.resume()` goes on. Memory, and what n is of prompts
        that are given again: see `sweeps.Scores`. Raises PromptError for no prompts or a metric that is not known, and
        FileError for a file of another sweep.
        """
        cells = named(recipes)
        self._tell_conflicts(cell.recipe for cell in cells)
        self.scores = scores = Scores(
            self.backend,
            with_controls(cells, seed=seed) if control else cells,
            prompts,
            metrics=metrics,
            sampling=sampling or self.sampling,
            seed=seed,
            refusal_tokens=refusal_tokens,
            path=path,
            batch_rows=batch_rows,
        )
        return scores.resume(cancel=cancel, progress=progress)

    @goes_first
    def sweep(
        self,
        direction: Direction | Make,
        *,
        layers: GivenLayers = "all",
        coefficients: float | Sequence[float] = (-2, -1, 0, 1, 2),
        prompts: Sequence[Prompt],
        metrics: Sequence[Metric] = DEFAULT,
        point: Point | None = None,
        control: bool = False,
        sampling: Sampling | None = None,
        seed: int = 0,
        refusal_tokens: Sequence[int] | None = None,
        path: str | Path | None = None,
        batch_rows: int | None = None,
        cancel: threading.Event | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Sweep:
        """Layers x coefficients x prompts: `score` over the addition of a direction at one layer at a time, with
        `.plot()`.

        direction: what is added, at `point`, by default the point where it was found; or a function that gives the
        recipe for a layer and a coefficient. layers: "all", one, or several. coefficients: one or several; 0 is the
        baseline. The rest as in `score`. Raises SiteError for layers that the model does not have, and RecipeError for
        no layer or coefficient, for what is no number, for a direction without a site where `point` is not given, and
        for a function that gives no recipe.
        """
        cells = grid(
            direction,
            n_layers=self.backend.info.n_layers,
            layers=layers,
            coefficients=coefficients,
            point=point,
        )
        self.scores = sweep = Sweep(
            self.backend,
            with_controls(cells, seed=seed) if control else cells,
            prompts,
            metrics=metrics,
            sampling=sampling or self.sampling,
            seed=seed,
            refusal_tokens=refusal_tokens,
            path=path,
            batch_rows=batch_rows,
        )
        return sweep.resume(cancel=cancel, progress=progress)

    @goes_first
    def calibrate(
        self,
        what: Direction | Budgeted,
        prompts: Sequence[Prompt],
        *,
        kl: float = 0.1,
        start: float = 0.0,
        most: float | None = None,
    ) -> Calibrated:
        """The largest strength whose mean KL on harmless prompts stays within a budget, in nats, with its recipe.

        what: a direction, whose coefficient of addition is looked for; or a function that gives the recipe for a
        strength, `lambda s: Recipe([Ablate(refusal, strength=s)])`. most: where the search ends, by default at four
        times the residual norm for a direction and at 1 for a function; one below `start` searches downwards.
        (`calibration.within_budget`)
        """
        if not isinstance(what, Direction) and not callable(what):
            raise RecipeError(
                f"calibrate looks for a strength, and {type(what).__name__} has none to look for",
                "Give a direction, or a function: lambda s: Recipe([Ablate(direction, strength=s)]).",
            )
        make: Budgeted = (lambda c: Recipe([Add(what, c)])) if isinstance(what, Direction) else what
        if most is None:
            most = what.coefficient(norms=4.0) if isinstance(what, Direction) else 1.0
        with bar_of_rows("measuring the KL", most_rows(len(prompts))):
            return within_budget(self.backend, make, prompts, kl=kl, start=start, most=most)

    def _tell_conflicts(self, recipes: Iterable[Recipe]) -> None:
        """Warn of what steps do to each other, once for each recipe."""
        if self.worker.here:
            return  # what the panel runs, the panel tells
        given = {id(recipe): checked_recipe(recipe) for recipe in recipes}
        for recipe in filter(len, given.values()):
            if recipe.fingerprint in self._told:
                continue
            self.backend.check(recipe)
            self._told.add(recipe.fingerprint)
            if found := conflicts(recipe, self.backend.info.n_layers):
                warnings.warn(
                    f"this recipe may not do what you mean: {'; '.join(found)}", stacklevel=own_line()
                )
