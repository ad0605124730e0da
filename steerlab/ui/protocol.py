"""Every type that crosses the wire between the kernel and the panel, written once.

Traits are what must survive without a kernel: `info`, `directions`, `examples`, `state`, `result`,
`snapshots`. Everything that
streams is a message, with the run it belongs to. `python -m steerlab.ui.typescript` writes the same types in
TypeScript, for `js/src/protocol.ts`.

Panes are data: a pane is named by an id ("baseline", "steered", "control"), and the front end does not count on which
ones there are. What a tab asks, and what it is answered, stands in the tab's own module (`asks`, `questions`).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema

from steerlab.generations import Finish
from steerlab.interventions import Scope
from steerlab.sites import Point

PaneId = str
Cell = tuple[Annotated[int, Field(ge=0)], Point]
Mode = Literal["add", "ablate", "clamp"]
# As in a recipe: a scope, or chosen tokens of the prompt, counted from its end; none of them is nothing to act on.
Tokened = Scope | list[Annotated[int, Field(lt=0)]]
Status = Literal["idle", "running", "done", "stopped", "error"]


class Wire(BaseModel):
    """The root of the wire types: no unknown fields, no infinite numbers, nothing changed after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _figure(x: object) -> object:
    if not isinstance(x, float):
        return x
    return float(f"{x:.5g}") if math.isfinite(x) else None


# A measured number as a person reads it: five digits, and None for NaN and the infinite, which JSON does not have.
Figure = Annotated[float | None, BeforeValidator(_figure)]


class Info(Wire):
    """The model that the panel steers."""

    name: str
    """Its Hugging Face id, its folder's name, or "tiny-chat" for the embedded one."""
    backend: str
    """Where it runs: "local", "ndif"."""
    device: str
    dtype: str
    n_layers: int
    d_model: int
    points: list[Point]
    """The points that its blocks have, in forward order."""
    sites: list[list[str]]
    """What each site is, in words: by point (in the order of `points`), then by layer."""
    context: int
    """The longest text it can read, in tokens."""
    revision: str | None = None
    """The commit of its repository on the hub, where that is known."""
    refusals: list[str] = []
    """The phrases by which a text is told to refuse (`metrics.REFUSALS`)."""
    ahead: int = 0
    """For how many coefficients of a slider texts are made ahead (`Lab.ahead`)."""
    epoch: int = 0
    """How often a run saw other weights or another chat template than the one before: older figures are of those."""
    map: str = ""
    """The fingerprint of `Lab.map`; empty for no map."""


class DirectionInfo(Wire):
    """A direction that can be used in the panel."""

    name: str
    layer: int | None = None
    """Where it was found; None where that is not known."""
    point: Point | None = None
    norm: float
    """The Euclidean norm |v|."""
    residual_norm: float | None = None
    """The mean norm of the residual stream at its site: |v| times the coefficient over this is the scale of a push."""
    fingerprint: str = ""
    """Of its numbers, by which a question says which vector a name meant."""
    description: str = ""


class SnapshotInfo(Wire):
    """What was set at some time, under the name that it was kept under."""

    name: str
    prompt: str
    steps: list[str]
    """Of its recipe, each in a line; none for the baseline."""
    max_new_tokens: int
    temperature: float
    seed: int
    fingerprint: str
    """Of all that its answer depends on."""


class SteeringState(Wire):
    """One row of the panel's list: a direction and what is done with it."""

    direction: str
    mode: Mode = "add"
    coefficient: float = 0.0
    """add: multiples of the vector as it is, 0 does nothing. ablate: the strength, 1 removes the component wholly.
    clamp: the projection on the unit vector that every token gets, 0 removes the component."""
    cells: list[Cell] = []
    """The sites it acts at, as (layer, point)."""
    tokens: Tokened = "all"
    """The tokens it acts on. A list chooses tokens of the prompt by their place from its end: -1 is the last."""
    enabled: bool = True
    """An unticked row keeps its settings and does nothing."""


class PanelState(Wire):
    """What a person has set. The kernel numbers its changes: an answer cannot undo a newer move of the slider."""

    prompt: str = ""
    steering: list[SteeringState] = []
    """In the order in which they act. A direction may have several rows."""
    unlisted: list[str] = []
    """Directions of the lab without a row, because a person took it away; the kernel keeps this list."""
    beyond: list[str] = []
    """Steps of the recipe that have no row, each in a line; they act, and only Python changes them."""
    conflicts: list[str] = []
    """What the recipe does that may not be meant, each in a line: a step undone by a later one, or acting twice."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy decoding."""
    seed: int = 0
    control: bool = True
    """Whether a pane shows the recipe with random directions of the same norms."""
    undoable: bool = False
    """Whether there is a change to undo, which the kernel knows."""
    redoable: bool = False
    revision: int = 0
    """Counted up by the kernel with every change; a front end sends the one that it last saw."""
    origin: str = ""
    """The id of the front end that made the change; empty for Python."""
    edit: int = 0
    """Counted up by that front end with each of its changes, so that it knows the run of its newest one."""


class Trouble(Wire):
    """An error in words."""

    what: str
    hint: str = ""
    """What to do about it."""


class Applied(Wire):
    """On how many forward passes the recipe was applied."""

    steps: int
    of: int


class Verdict(Wire):
    """Whether a text refuses: it does where it holds a phrase of `Info.refusals`."""

    refuses: bool
    phrase: str | None
    """The first of the phrases that it holds."""


class PaneEnd(Wire):
    """How a pane's text ended, and what is said of it; while it is written, what is known so far."""

    finish: Finish | None = None
    applied: Applied | None = None
    """None where the recipe touches nothing."""
    tokens_per_second: float | None = None
    """None where the text was ready before it was asked for, and where it has one token."""
    verdict: Verdict | None = None
    """None where the text was stopped, is empty or is faulty."""
    fault: str = ""
    """Why the text is not the model's answer, as in `Generation`."""
    kl: Figure = None
    """KL(baseline || this pane) of the first token's distribution, in nats; None where nothing is steered."""
    cross_entropy: Figure = None
    """The mean of -log p over the tokens of the baseline's text, p being their probability under this pane's recipe, in
    nats, as in `Effect`; of a long text over its first tokens. None where it is not known or empty, and on a server."""


class PaneResult(PaneEnd):
    """A pane's last text, with how it ended."""

    tokens: list[str] = []


class Result(Wire):
    """What the last run left: enough to show the panel again without a kernel."""

    panes: dict[PaneId, PaneResult] = {}
    prompt_tokens: list[str] = []
    """The prompt with its chat template, token by token, as the model reads it."""
    status: Status = "idle"
    error: Trouble | None = None


class Hello(Wire):
    """Front end -> kernel: a view appeared; answered by a Snapshot."""

    kind: Literal["hello"] = "hello"
    control: bool | None = None
    """Whether a person wants the random control in panels where nobody has set anything; None where that is not set."""


class Run(Wire):
    """Front end -> kernel: this is the state now, generate."""

    kind: Literal["run"] = "run"
    state: PanelState
    gesture: str = ""
    """Changes of one gesture, like a drag of the slider, are undone together; empty for one that stands alone."""


class Stop(Wire):
    """Front end -> kernel: stop what is running, keep its text."""

    kind: Literal["stop"] = "stop"


class Scrub(Wire):
    """Front end -> kernel: nothing is going on, so make these texts ahead; answered by Ready. Any new state ends it."""

    kind: Literal["scrub"] = "scrub"
    revision: int
    """Of the state that they are neighbours of; of an older one nothing is made."""
    row: Annotated[int, Field(ge=0)]
    """Whose slider it is."""
    coefficients: Annotated[list[float], Field(max_length=1024)]
    """The most wanted first."""


class Undo(Wire):
    """Front end -> kernel: take the last change back, whoever made it; answered by a Snapshot where there is none."""

    kind: Literal["undo"] = "undo"


class Redo(Wire):
    """Front end -> kernel: make the change again that was taken back last; answered as Undo is."""

    kind: Literal["redo"] = "redo"


class Ask(Wire):
    """Front end -> kernel: a question, answered under its id by any number of Progress and Part, and then by one Answer
    or Failure. A question that equals one being answered joins it."""

    kind: Literal["ask"] = "ask"
    id: str
    what: Annotated[dict[str, Any], WithJsonSchema({"typescript": "Question"})]
    join: bool = False
    """Only join the answer that is on its way, or take the one that is kept; begin nothing."""


class Cancel(Wire):
    """Front end -> kernel: the answer is not wanted under this id any more. Once nobody wants it, its work ends."""

    kind: Literal["cancel"] = "cancel"
    id: str
    everyone: bool = False
    """A person ends it, for everyone who asked."""


class Start(Wire):
    """Kernel -> front end: a run begins. Panes that are not named are ready as they stand."""

    kind: Literal["start"] = "start"
    run: int
    shown: list[PaneId]
    """Every pane that there is now, in order."""
    panes: list[PaneId]
    """Written anew: their old text stays until the first token."""
    resumed: list[PaneId] = []
    """Go on where they were cut short."""
    ready: dict[PaneId, PaneResult] = {}
    """Their whole text was known already."""
    origin: str = ""
    """Of the state that is run."""
    edit: int = 0
    """Of the state that is run."""


class PromptTokens(Wire):
    """Kernel -> front end: the prompt as the model reads it."""

    kind: Literal["prompt"] = "prompt"
    run: int
    tokens: list[str]


class Tokens(Wire):
    """Kernel -> front end: new tokens, some panes at once, at most 30 times a second."""

    kind: Literal["tokens"] = "tokens"
    run: int
    seq: int
    """Counted from 1 within a run; a gap makes the front end say hello again."""
    panes: dict[PaneId, list[str]]
    so_far: dict[PaneId, PaneEnd]
    """Of each of these panes: how often its recipe was applied, and how fast it is written."""


class End(Wire):
    """Kernel -> front end: the run is over. After an error the panes keep their last good text."""

    kind: Literal["end"] = "end"
    run: int
    status: Literal["done", "stopped", "error"]
    panes: dict[PaneId, PaneEnd] = {}
    error: Trouble | None = None


class Figures(Wire):
    """Kernel -> front end: what was measured of a run's texts when they rested."""

    kind: Literal["figures"] = "figures"
    run: int
    cross_entropy: dict[PaneId, Figure]


class ReadyText(Wire):
    """What the panes will show at a coefficient. Panes that are not named stay as they are."""

    coefficient: float
    panes: dict[PaneId, PaneResult]


class Ready(Wire):
    """Kernel -> front end: texts that were made ahead, in answer to a Scrub. The front end may show one at once; the
    run that its change asks for then begins with the same text.
    """

    kind: Literal["ready"] = "ready"
    state: PanelState
    """They hold for it, but for the coefficient of the row, which is on."""
    row: int
    texts: list[ReadyText]


class Complaint(Wire):
    """Kernel -> front end: what was asked for cannot be done. Nothing changes, a run that is going on goes on."""

    kind: Literal["complaint"] = "complaint"
    error: Trouble


class Job(Wire):
    """Kernel -> front end: where the job is that a server computes for this lab."""

    kind: Literal["job"] = "job"
    stage: str
    """"sending", the server's own stages in lower case, "fetching"; "" where there is no job any more."""
    position: int | None = None
    """Its place in the queue, from 1, where the server said one."""
    seconds: int = 0
    """Since it was sent, or since its model began to be loaded."""
    usual: int | None = None
    """While its model is being loaded: how many seconds that took the last time."""


class Snapshot(Wire):
    """Kernel -> front end: everything that there is, in answer to a hello."""

    kind: Literal["snapshot"] = "snapshot"
    run: int
    seq: int
    """Of the last Tokens message of this run."""
    pending: list[PaneId]
    """Panes of a running run that have no token of it yet: their text is the one before."""
    state: PanelState
    result: Result
    asking: list[Ask] = []
    """Questions that are being answered, then those whose answer is kept: whoever asks one of them with `join` takes
    part."""


class Progress(Wire):
    """Kernel -> front end: how far an answer is, at most 10 times a second."""

    kind: Literal["progress"] = "progress"
    id: str
    done: int
    total: int
    """0 where it is not known."""
    text: str = ""
    """What is being done, in a few words."""


class Part(Wire):
    """Kernel -> front end: a part of an answer that is ready, in order."""

    kind: Literal["part"] = "part"
    id: str
    part: Annotated[dict[str, Any], WithJsonSchema({"typescript": "Asks[keyof Asks]['part']"})]


class Answer(Wire):
    """Kernel -> front end: the answer to a question."""

    kind: Literal["answer"] = "answer"
    id: str
    answer: Annotated[dict[str, Any], WithJsonSchema({"typescript": "Asks[keyof Asks]['answer']"})]


class Failure(Wire):
    """Kernel -> front end: there will be no answer."""

    kind: Literal["failure"] = "failure"
    id: str
    error: Trouble
    gone: bool = False
    """Whether nothing is wrong, but the answer that somebody wanted to join is not kept any more."""


FromFrontEnd = Hello | Run | Stop | Scrub | Undo | Redo | Ask | Cancel
KernelMessage = (
    Start
    | PromptTokens
    | Tokens
    | End
    | Figures
    | Ready
    | Complaint
    | Job
    | Snapshot
    | Progress
    | Part
    | Answer
    | Failure
)

front_end_message: TypeAdapter[FromFrontEnd] = TypeAdapter(
    Annotated[FromFrontEnd, Field(discriminator="kind")]
)


class Traits(Wire):
    """The widget's traits, as both sides see them."""

    info: Info
    directions: list[DirectionInfo]
    examples: list[str]
    state: PanelState
    result: Result
    snapshots: list[SnapshotInfo]
    page: str
    """The class of the static page that stands in for the panel without a kernel."""
