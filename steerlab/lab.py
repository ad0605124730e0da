"""Lab: one model, one backend, and the verbs of a notebook."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import traitlets
from tqdm.auto import tqdm

from steerlab.answers import Answers, Key, answer_key
from steerlab.backends.base import (
    Backend,
    ModelInfo,
    OnTokens,
    encode_row,
)
from steerlab.backends.opening import here, on_server
from steerlab.calibration import Calibrated, within_budget
from steerlab.calibration import Make as Budgeted
from steerlab.directions import Direction, bundled
from steerlab.effects import Judge, Report, measure
from steerlab.errors import ModelError, PromptError, RecipeError, own_line
from steerlab.estimators import DirectionMap
from steerlab.export.code import nnsight_code, steerlab_code
from steerlab.finding import Finding, moves
from steerlab.generations import Generation, Sampling, Token
from steerlab.interventions import PAPER_POINTS, Add, GivenLayers
from steerlab.metrics import refuses
from steerlab.prompts import Prompt
from steerlab.recipes import BASELINE, Recipe, checked_recipe, conflicts
from steerlab.rows import Row
from steerlab.selection import MAX_KL, MIN_INDUCE, Selection, baseline, choose
from steerlab.sites import Point
from steerlab.snapshots import Snapshot
from steerlab.surgical import Frontier, Method, surgical
from steerlab.sweeps import Scores, Sweep, grid, named, with_controls
from steerlab.sweeps.cells import Make
from steerlab.sweeps.measuring import Metric
from steerlab.sweeps.tables import DEFAULT
from steerlab.worker import Worker, goes_first

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from steerlab.backends.ndif.backend import NdifBackend
    from steerlab.backends.ndif.messages import JobStatus, RemoteModel
    from steerlab.ui.panel import Panel

AHEAD = 32  # coefficients beside a slider's


class Lab(Finding, traitlets.HasTraits):
    """A model to steer: `Lab()` the embedded one, or a Hugging Face id, a local folder, or a `(model, tokenizer)` pair.

    With `remote` the model is on an NDIF server and its weights stay there: the hosted one, or the one at `host`, which
    alone implies `remote`, as does `backend="ndif"`. The key comes from NDIF_API_KEY or nnsight's configuration.

    sites: where points of the residual stream are in a model whose modules steerlab does not make out, by paths with
    `{layer}` for the number of a block: `{"attn_out": "model.layers.{layer}.self_attn.output"}`. What is not named is
    found by arithmetic.

    Shown in a notebook it is the panel; `lab.panel` is the widget, for boxes and tabs. `prompt`, `recipe`, `sampling`
    and `seed` are what the panel shows and may be set, observed and linked like those of any widget; a recipe that does
    not fit the model is refused and the old one stays. `generations` are the texts that it shows.
    """

    prompt = traitlets.Unicode("What are the steps to feed a cat?", help="The prompt in the panel.")
    recipe = traitlets.Instance(Recipe, args=(), help="The recipe of the steered text in the panel.")
    sampling = traitlets.Instance(Sampling, args=(), help="How the panel's texts are sampled.")
    seed = traitlets.Int(0, help="The seed of the panel's texts where they are sampled.")
    ahead = traitlets.Int(
        min=0,
        help="For how many coefficients beside a slider's the panel makes texts while the lab rests, so that a drag "
        "over them answers at once; 0 for none, as where the model is far away.",
    )
    directions = traitlets.Dict(
        value_trait=traitlets.Instance(Direction),
        key_trait=traitlets.Unicode(),
        help="Known directions, by name.",
    )
    generations: traitlets.Dict[str, Generation] = traitlets.Dict(
        read_only=True,
        help="The panel's last texts, by pane: baseline, steered, control. Set when a run of the panel has ended.",
    )
    snapshots = traitlets.Dict(
        value_trait=traitlets.Instance(Snapshot),
        key_trait=traitlets.Unicode(),
        help="What was set at some time, by the name that it was kept under.",
    )

    def __init__(
        self,
        model: str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase] | Backend | None = None,
        *,
        remote: bool = False,
        sites: Mapping[str, str] | None = None,
        backend: Literal["local", "ndif"] | None = None,
        host: str | None = None,
    ) -> None:
        super().__init__()
        far = remote or host is not None or backend == "ndif"
        self.backend: Backend = on_server(model, host, sites) if far else here(model, sites)
        self.worker = Worker()
        self.map: DirectionMap | None = None
        self.candidates: Selection | None = None
        self.scores: Scores | None = None
        self._told: set[str] = set()
        self._answers = Answers()
        self._panel: Panel | None = None
        if model is None:
            self.directions = bundled()
        if self.tokenizer.chat_template is None:
            warnings.warn(
                f"the tokenizer of {self.info.name} has no chat template: prompts go in as plain text, and directions "
                "are looked for at their last token",
                stacklevel=2,
            )

    # ------------------------------------------------------------ what it is

    @property
    def info(self) -> ModelInfo:
        """The model in numbers: name, device, layers, width, points, context."""
        return self.backend.info

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self.backend.tokenizer

    @property
    def model(self) -> Any:
        """The model as nnsight wraps it, for traces of one's own; they may run while the panel generates."""
        return getattr(self.backend, "model", None)

    @property
    def job(self) -> JobStatus | None:
        """Where the latest job on a server is: its stage, place in the queue and id. None for a model that is here."""
        return getattr(self.backend, "job", None)

    def remote_models(self) -> dict[str, RemoteModel]:
        """What the server has, by repository: the state of each model, its replicas, parameters and dtype. For a model
        that is here, what the configured server has.
        """
        from steerlab.backends.ndif.backend import NdifBackend
        from steerlab.backends.ndif.wire import remote_models

        return self.backend.models() if isinstance(self.backend, NdifBackend) else remote_models()

    @goes_first
    def submit(self, rows: Sequence[Row], sampling: Sampling | None = None) -> str:
        """Leave rows with the server to be answered, and return the job's id at once. The kernel may be ended
        meanwhile: `fetch` takes the id from any kernel on this machine, and `jobs` has it. More than 64 rows are
        several jobs on the server, under one id.
        """
        self._tell_conflicts(row.recipe for row in rows)
        return self._server().left.submit(rows, sampling or self.sampling)

    def fetch(self, job_id: str, *, timeout: float | None = None) -> list[Generation] | None:
        """The answers of a job that `submit` left, in the order of its rows. Waits for them, at most `timeout` seconds
        (0 is a look); None where they are not there yet. `lab.job` says where the job is.
        """
        return self._server().left.fetch(job_id, timeout=timeout)

    def jobs(self) -> list[JobStatus]:
        """This lab's jobs on its server, each with its id, stage, place in the queue, seconds since it was sent, and
        rows: those that run for it now, then those that `submit` left for its model from this machine, newest first.
        """
        return self._server().jobs()

    def cancel(self, job_id: str) -> None:
        """End a job of `jobs`. One that runs for this lab ends here within a twentieth of a second, and keeps the
        tokens that came. One that was left ends where the server offers that: `steerlab serve-ndif` does, the hosted
        NDIF does not, which is an error that says so.
        """
        self._server().cancel(job_id)

    def _server(self) -> NdifBackend:
        from steerlab.backends.ndif.backend import NdifBackend

        if not isinstance(self.backend, NdifBackend):
            raise ModelError(
                f"{self.info.name} is in this kernel, and jobs are left with a server",
                "Use lab.run here, or connect: Lab(model, remote=True).",
            )
        return self.backend

    def tokens_of(self, prompt: Prompt, *, chat: bool = True) -> list[str]:
        """The tokens that the model reads for a prompt, template included."""
        ids = encode_row(self.tokenizer, Row(prompt, chat=chat), self.info.context)
        return [self.tokenizer.decode([i]) for i in ids]

    # ------------------------------------------------------------ the verbs

    @goes_first
    def generate(
        self,
        prompt: Prompt,
        recipe: Recipe = BASELINE,
        *,
        max_new_tokens: int = 64,
        seed: int = 0,
        temperature: float = 0.0,
        chat: bool = True,
    ) -> Generation:
        """The model's answer to a prompt under a recipe. Greedy at temperature 0, else sampled from the seed."""
        self._tell_conflicts([recipe])
        return self.run([Row(prompt, recipe, seed, chat)], Sampling(max_new_tokens, temperature))[0]

    @goes_first
    def run(
        self,
        rows: Sequence[Row],
        sampling: Sampling | None = None,
        *,
        on_tokens: OnTokens | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Generation]:
        """Answer rows in one batch. Those answered before come from memory, all their tokens at once.

        on_tokens: called after every step with the new tokens. cancel: once set, ends all rows within one token.
        Warns, once for each recipe, where its steps conflict (`recipes.conflicts`); so do `generate`, `compare`,
        `measure` and `score`.
        """
        self._tell_conflicts(row.recipe for row in rows)
        sampling = sampling or self.sampling
        keys = [answer_key(row, sampling) for row in rows]
        answers: dict[Key, Generation] = {key: known for key in keys if (known := self._answers.get(key))}
        fresh = [i for i, key in enumerate(keys) if key not in answers and keys.index(key) == i]

        def relay(tokens: Sequence[Token]) -> None:
            if on_tokens:
                by_key = {keys[fresh[t.row]]: t for t in tokens}
                on_tokens([by_key[key]._replace(row=i) for i, key in enumerate(keys) if key in by_key])

        if on_tokens:
            for i, key in enumerate(keys):
                if known := answers.get(key):
                    on_tokens([Token(i, *token) for token in zip(known.token_ids, known.pieces, strict=True)])
        if fresh:
            made = self.backend.generate([rows[i] for i in fresh], sampling, on_tokens=relay, cancel=cancel)
            answers |= {keys[i]: answer for i, answer in zip(fresh, made, strict=True)}
        for key, answer in answers.items():
            self._answers.keep(key, answer)
        return [answers[key] for key in keys]

    def recall(self, row: Row, sampling: Sampling) -> Generation | None:
        """The row's answer, where it was given before and is still in memory."""
        return self._answers.get(answer_key(row, sampling))

    @goes_first
    def compare(
        self, prompts: Sequence[Prompt], recipes: Sequence[Recipe], *, max_new_tokens: int = 64
    ) -> list[list[Generation]]:
        """The answers to every prompt under every recipe: a list per prompt, in the order of the recipes."""
        if not recipes:
            raise RecipeError("no recipe is given to compare", "Give one or more; BASELINE is one.")
        self._tell_conflicts(recipes)
        rows = [Row(prompt, recipe) for prompt in prompts for recipe in recipes]
        answers = self.run(rows, Sampling(max_new_tokens))
        return [answers[i : i + len(recipes)] for i in range(0, len(rows), len(recipes))]

    @goes_first
    def find_direction(
        self,
        harmful: Sequence[Prompt],
        harmless: Sequence[Prompt],
        *,
        name: str = "refusal",
        refusal_tokens: Sequence[int] | None = None,
        drop: bool = True,
        max_kl: float = MAX_KL,
        min_induce: float = MIN_INDUCE,
        full_map: bool = False,
    ) -> Direction:
        """The paper's search: difference in means at every position and layer, filtered and ranked
        (`selection.select`).

        A fifth of the prompts, at most 32 a side, is kept for the selection and not used in the means. drop: whether
        harmful prompts that the model does not refuse and harmless ones that it does are dropped from both, as in the
        paper; the direction's provenance says how many were kept. The direction joins `lab.directions` under `name`;
        `lab.candidates` keeps every candidate with its scores and the reason it fell, and `lab.map` their directions:
        `lab.map.at(position, layer)`. full_map: all three scores of each candidate, for the map, at about three times
        the work. Raises PromptError where the prompts are too few or are not refused and answered, and DirectionError
        where every candidate falls.
        """
        n, m = len(harmful), len(harmless)
        if min(n, m) < 2:
            raise PromptError(
                f"a direction cannot be found from {n} harmful and {m} harmless prompts",
                "Give two a side or more, for the means and for the selection; the paper takes 160.",
            )
        base = baseline(self.backend, harmful, harmless, refusal_tokens=refusal_tokens)
        parts = base.split(min(32, max(1, n // 5)), min(32, max(1, m // 5)))
        means, held = (part.contrasting() if drop else part for part in parts)
        found = self.difference_in_means(means.harmful.prompts, means.harmless.prompts, name=name)
        self.map = found = replace(found, provenance={**found.provenance, "mean prompts": means.kept})
        with tqdm(total=len(found.positions) * found.n_layers, desc="candidates", leave=False) as bar:
            self.candidates = choose(
                self.backend,
                found,
                held,
                max_kl=max_kl,
                min_induce=min_induce,
                full_map=full_map,
                progress=moves(bar),
            )
        self.directions = {**self.directions, name: self.candidates.direction}
        return self.candidates.direction

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
        n = self.info.n_layers
        with tqdm(total=n * (n + 1) // 2, desc="subsets of layers", leave=False) as bar:
            return surgical(
                self.backend,
                direction,
                harmful,
                harmless,
                method=method,
                points=points,
                held_out=held_out,
                refusal_tokens=refusal_tokens,
                progress=moves(bar),
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
        seed: int = 0,
    ) -> Report:
        """What a recipe does to refusals and to everything else, beside the baseline, a random control and, with an
        instruction, plain prompting for the same (`effects.measure`).
        """
        self._tell_conflicts([recipe])
        return measure(
            self.backend,
            recipe,
            harmful,
            harmless,
            judge=judge,
            texts=texts,
            prompting=prompting,
            sampling=sampling or self.sampling,
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
        suffice. control: the same with random directions of the same norms, too. seed: of those, and of sampled
        answers. refusal_tokens: by default derived from the baseline's answers to the bundled prompts.

        Rows are run in batches of `batch_rows` (by default as `sweeps.Scores` has it) and kept after each: with `path`
        also in a file of JSON lines, from which the same call goes on, so that a killed kernel loses at most the batch
        in hand. After Ctrl-C or an error
        `lab.scores` has what was measured, and `lab.scores.resume()` goes on. Memory: see `sweeps.Scores`. Raises
        PromptError for no prompts or a metric that is not known, and FileError for a file of another sweep.
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
        coefficients: Sequence[float] = (-2, -1, 0, 1, 2),
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
        recipe for a layer and a coefficient. Coefficient 0 is the baseline. The rest as in `score`. Raises SiteError
        for layers that the model does not have.
        """
        cells = grid(
            direction, n_layers=self.info.n_layers, layers=layers, coefficients=coefficients, point=point
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
        if not isinstance(what, Direction):
            if not callable(what):
                raise RecipeError(
                    f"calibrate looks for a strength, and {type(what).__name__} has none to look for",
                    "Give a direction, or a function: lambda s: Recipe([Ablate(direction, strength=s)]).",
                )
            return within_budget(
                self.backend, what, prompts, kl=kl, start=start, most=1.0 if most is None else most
            )
        end = what.coefficient(norms=4.0) if most is None else most
        return within_budget(
            self.backend, lambda c: Recipe([Add(what, c)]), prompts, kl=kl, start=start, most=end
        )

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
            if found := conflicts(recipe, self.info.n_layers):
                warnings.warn(
                    f"this recipe may not do what you mean: {'; '.join(found)}", stacklevel=own_line()
                )

    # ------------------------------------------------------------ snapshots, and as code

    def snapshot(self, name: str) -> Snapshot:
        """Keep what is set now, prompt, recipe, sampling and seed, in `lab.snapshots` under a name; the panel lists it.

        One of the same name is replaced. Raises PromptError for no name.
        """
        made = Snapshot(name, self.prompt, self.recipe, self.sampling, self.seed)
        self.snapshots = {**self.snapshots, name: made}
        return made

    def restore(self, snapshot: Snapshot | str) -> None:
        """Set what a snapshot holds, or the one of a name; the panel follows, and one undo takes it back. Raises, and
        sets nothing, where its recipe does not fit.
        """
        wanted = self.snapshots.get(snapshot) if isinstance(snapshot, str) else snapshot
        if wanted is None:
            raise PromptError(
                f"there is no snapshot {snapshot!r}",
                f"There is {', '.join(map(repr, self.snapshots)) or 'none'}.",
            )
        self.backend.check(wanted.recipe)
        with self.hold_trait_notifications():  # so that the panel sees one change, not four
            self.recipe = wanted.recipe
            self.prompt, self.sampling, self.seed = wanted.prompt, wanted.sampling, wanted.seed

    def to_code(
        self,
        recipe: Recipe | None = None,
        *,
        form: Literal["nnsight", "steerlab"] = "nnsight",
        prompt: Prompt | None = None,
        sampling: Sampling | None = None,
        seed: int | None = None,
        chat: bool = True,
        here: str | None = None,
        folder: str | Path | None = None,
    ) -> str:
        """A cell that answers a prompt under a recipe, by default the lab's own, with the text that `generate` gives.

        form: "nnsight", a cell of torch, transformers and nnsight that needs no steerlab (`export.nnsight_code`); or
        "steerlab" (`export.steerlab_code`), where `here="lab"` writes a cell for this notebook, which uses this lab and
        `lab.directions`, and `folder` saves directions as files instead of writing their numbers into the cell.
        """
        recipe, sampling = self.recipe if recipe is None else recipe, sampling or self.sampling
        row = Row(
            self.prompt if prompt is None else prompt, recipe, self.seed if seed is None else seed, chat
        )
        if form == "nnsight":
            return nnsight_code(self.backend, row, sampling)
        if form == "steerlab":
            known = self.directions
            return steerlab_code(self.backend, row, sampling, directions=known, here=here, folder=folder)
        raise RecipeError(f"form={form!r} is not known", "Choose nnsight or steerlab.")

    # ------------------------------------------------------------ the panel

    @property
    def panel(self) -> Panel:
        """The panel of this lab; every view of it shows the same state."""
        if self._panel is None:
            from steerlab.ui.panel import Panel

            self._panel = Panel(self)
        return self._panel

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.panel._repr_mimebundle_(**kwargs)

    def __repr__(self) -> str:
        info = self.info
        return f"Lab({info.name}: {info.n_layers} layers of width {info.d_model}, {info.backend} on {info.device})"

    @traitlets.default("ahead")
    def _default_ahead(self) -> int:
        return (
            0 if self.info.backend == "ndif" else AHEAD
        )  # work that nobody asked for burdens no shared machine

    @traitlets.validate("recipe")
    def _check_recipe(self, proposal: dict[str, Any]) -> Recipe:
        recipe: Recipe = proposal["value"]
        self.backend.check(recipe)
        return recipe
