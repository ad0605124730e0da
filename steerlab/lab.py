"""Lab: one model, one backend, and the verbs of a notebook."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import traitlets

from steerlab.answers import Answers, Key, answer_key, asked_by, told_again
from steerlab.backends.base import (
    Backend,
    ModelInfo,
    OnTokens,
    encode_row,
    state_of,
)
from steerlab.backends.opening import here, on_server
from steerlab.directions import bundled
from steerlab.errors import PromptError, RecipeError, own_line
from steerlab.export.code import nnsight_code, steerlab_code
from steerlab.finding import Finding
from steerlab.generations import Generation, Sampling, Token
from steerlab.progress import bar_of_rows
from steerlab.prompts import Prompt, several
from steerlab.recipes import BASELINE, Recipe, checked_recipes
from steerlab.remote import JobLines, Remote
from steerlab.rows import Row, checked_rows
from steerlab.snapshots import Snapshot
from steerlab.worker import Worker, goes_first

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from steerlab.ui.panel import Panel

AHEAD = 32  # coefficients beside a slider's


class Lab(Finding, Remote):
    """A model to steer: `Lab()` the embedded one, or a Hugging Face id, a local folder, or a `(model, tokenizer)` pair.

    An id or a folder is loaded in float32 on a CPU, and with a GPU in the checkpoint's own dtype (`dtype="auto"`), over
    all CUDA GPUs there are (`device_map="auto"`). For another dtype or device, quantisation or `trust_remote_code` load
    it yourself and give the pair, which stays as it is.

    With `remote` the model is on an NDIF server and its weights stay there: the hosted one, or the one at `host`, which
    alone implies `remote`, as does `backend="ndif"`. The key comes from NDIF_API_KEY or nnsight's configuration; it is
    sent to the hosted one and to the one in NDIF_HOST, and to no other `host`.

    sites: where points of the residual stream are in a model whose modules steerlab does not make out, by paths with
    `{layer}` for the number of a block: `{"attn_out": "model.layers.{layer}.self_attn.output"}`. What is not named is
    found by arithmetic.

    Shown in a notebook it is the panel; `lab.panel` is the widget, for boxes and tabs. `prompt`, `recipe`, `sampling`
    and `seed` are what the panel shows and may be set, observed and linked like those of any widget; a recipe that does
    not fit the model is refused and the old one stays. `generations` are the texts that it shows.

    Raises ModelError for a model that cannot be loaded or whose blocks are not found, SiteError for `sites` that it
    does not have, and RemoteError for a server that does not answer.
    """

    prompt = traitlets.Unicode("What are the steps to feed a cat?", help="The prompt in the panel.")
    recipe = traitlets.Instance(Recipe, args=(), help="The recipe of the steered text in the panel.")
    seed = traitlets.Int(0, help="The seed of the panel's texts where they are sampled.")
    ahead = traitlets.Int(
        min=0,
        help="For how many coefficients beside a slider's the panel makes texts while the lab rests, so that a drag "
        "over them answers at once; 0 for none, as where the model is far away.",
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
        watchers = getattr(self.backend, "watchers", None)
        if watchers is not None and not any(isinstance(one, JobLines) for one in watchers):
            watchers.append(JobLines())  # one for all the labs of a backend
        self._told: set[str] = set()
        self._answers = Answers()
        self._panel: Panel | None = None
        self.opened: float | None = time.monotonic()
        """When that was, by `time.monotonic`; None while it is closed."""
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
        """The model's answer to a prompt under a recipe. Greedy at temperature 0, else sampled from the seed; of
        `lab.sampling` it takes nothing.

        Raises PromptError for a prompt that is empty or too long with its answer, SiteError, DirectionError or
        RecipeError for a recipe that does not fit the model, and RemoteError from a server.
        """
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

        sampling: by default `lab.sampling`, which the panel sets, too: give it for what is reported. on_tokens: called
        after every step with the new tokens. cancel: once set, ends all rows within one token.
        Warns, once for each recipe, where its steps conflict (`recipes.conflicts`), as do `generate`, `compare`,
        `measure` and `score`; and where a text is not the model's answer (`Generation.fault`).
        """
        rows = checked_rows(rows)
        self._tell_conflicts(row.recipe for row in rows)
        sampling = sampling or self.sampling
        keys = self.answer_keys(rows, sampling)
        answers: dict[Key, Generation] = {key: known for key in keys if (known := self._answers.get(key))}
        fresh = [i for i, key in enumerate(keys) if key not in answers and keys.index(key) == i]

        def relay(tokens: Sequence[Token]) -> None:
            if on_tokens:
                by_key = {keys[fresh[t.row]]: t for t in tokens}
                on_tokens([by_key[key]._replace(row=i) for i, key in enumerate(keys) if key in by_key])

        if on_tokens:
            for i, key in enumerate(keys):
                if known := answers.get(key):
                    on_tokens(told_again(known, i))
        if fresh:
            each = sampling.max_new_tokens
            told = on_tokens or self.worker.here  # by whoever asked, or by the panel
            with nullcontext() if told else bar_of_rows("generating", len(fresh), each=each, unit="token"):
                made = self.backend.generate(
                    [rows[i] for i in fresh], sampling, on_tokens=relay, cancel=cancel
                )
            self._tell_faults(made)
            answers |= {keys[i]: answer for i, answer in zip(fresh, made, strict=True)}
        for key, answer in answers.items():
            self._answers.keep(key, answer)
        return [asked_by(row, answers[key]) for row, key in zip(rows, keys, strict=True)]

    def _tell_faults(self, made: Sequence[Generation]) -> None:
        faults = [one.fault for one in made if one.fault]
        if faults and not self.worker.here:  # what the panel runs, the panel tells
            warnings.warn(
                f"{len(faults)} of {len(made)} texts are not the model's answers: {faults[0]}. "
                "Steer less, or load the model in float32 or bfloat16.",
                stacklevel=own_line(),
            )

    def recall(self, row: Row, key: Key) -> Generation | None:
        """The row's answer, where it was given before and is still in memory. key: its own, of `answer_keys`."""
        answer = self._answers.get(key)
        return answer and asked_by(row, answer)

    def answer_keys(self, rows: Iterable[Row], sampling: Sampling) -> list[Key]:
        """What the rows' answers are remembered under: others once the chat template or the weights have changed."""
        template, weights = state_of(self.backend)
        return [answer_key(row, sampling, template=template, weights=weights) for row in rows]

    @goes_first
    def compare(
        self, prompts: Sequence[Prompt], recipes: Sequence[Recipe], *, max_new_tokens: int = 64
    ) -> list[list[Generation]]:
        """The answers to every prompt under every recipe: a list per prompt, in the order of the recipes. Greedy; of
        `lab.sampling` it takes nothing. Raises as `generate`, and RecipeError for no recipe.
        """
        recipes = checked_recipes(recipes)
        self._tell_conflicts(recipes)
        rows = [Row(prompt, recipe) for prompt in several(prompts) for recipe in recipes]
        answers = self.run(rows, Sampling(max_new_tokens))
        return [answers[i : i + len(recipes)] for i in range(0, len(rows), len(recipes))]

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

        A lab whose model is on a server writes cells that ask the same server; no key stands in them.

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
        if self._panel is None or self._panel.comm is None:  # it was closed
            from steerlab.ui.panel import Panel

            self._panel = Panel(self)
            if self.opened is None:
                self.opened = time.monotonic()
        return self._panel

    def close(self) -> None:
        """Close the panel and end what runs for it, so that nothing but your own names keeps this lab and its model: a
        panel that was shown is else kept until the kernel ends. The texts stay on the page; the verbs still work, and
        the lab shown again opens another panel. To close what is closed does nothing.
        """
        panel, self._panel, self.opened = self._panel, None, None
        if panel is not None:
            panel.close()
        self.worker.close()
        self.worker = Worker()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.panel._repr_mimebundle_(**kwargs)

    def __repr__(self) -> str:
        if not hasattr(self, "backend"):  # in a traceback of its opening
            return "Lab(not open)"
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
