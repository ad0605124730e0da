"""The tab Snapshots: keep what is set under a name, go back to it, and see the texts of several side by side; share it
all as a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from weakref import WeakKeyDictionary

from pydantic import Field

from steerlab import snapshots
from steerlab.errors import PromptError
from steerlab.generations import Generation, Sampling, Token
from steerlab.lab import Lab
from steerlab.rows import Row
from steerlab.sharing import open_beside, share
from steerlab.snapshots import Snapshot
from steerlab.ui.asks import Handler, Tell
from steerlab.ui.panes import verdict_of
from steerlab.ui.protocol import Applied, Verdict, Wire

_EARLIER: WeakKeyDictionary[Lab, dict[str, Snapshot]] = WeakKeyDictionary()
"""The snapshots of each lab as they were before one was lost in the panel."""


class SnapshotQuestion(Wire):
    """Keep what is set under a name, go back to what was, forget it, or bring back what was lost of the name."""

    kind: Literal["snapshot"] = "snapshot"
    do: Literal["keep", "restore", "delete", "bring back"]
    name: Annotated[str, Field(max_length=80)]
    revision: int
    """What is set, or was when this was asked."""


class SnapshotAnswer(Wire):
    """It is done. lost: whether what had the name has it no more; it can be brought back until the next one is lost."""

    name: str
    lost: bool


class CompareQuestion(Wire):
    """What does the model write under each of these snapshots?"""

    kind: Literal["compare"] = "compare"
    names: list[str]
    fingerprints: list[str]
    """Of each, so that a name that means something else is asked about anew."""
    epoch: int
    """As in Info."""


class ComparedText(Wire):
    """The text of a snapshot."""

    name: str
    text: str
    finish: str
    verdict: Verdict | None
    """None for an empty text, and for a faulty one."""
    fault: str
    """Why the text is not the model's answer, as in `Generation`."""
    applied: Applied | None
    """None where nothing is steered."""


class CompareAnswer(Wire):
    """The texts, in the order of the names."""

    texts: list[ComparedText]


class ShareQuestion(Wire):
    """What is set, as a text for someone else."""

    kind: Literal["share"] = "share"
    revision: int


class ShareAnswer(Wire):
    """The text."""

    text: str


class OpenSharedQuestion(Wire):
    """Set what a shared text holds."""

    kind: Literal["open-shared"] = "open-shared"
    text: str


class OpenSharedAnswer(Wire):
    """It is set. warning: why the texts here may differ from those there; empty for no reason."""

    warning: str


def answer(lab: Lab, question: SnapshotQuestion, _tell: Tell) -> SnapshotAnswer:
    """Keep, restore, delete or bring back. Raises PromptError where there is nothing of the name."""
    name, before = question.name.strip(), lab.snapshots
    match question.do:
        case "keep":
            lab.snapshot(name)
        case "restore":
            lab.restore(name)
        case "delete":
            lab.snapshots = {key: one for key, one in before.items() if key != name}
        case "bring back":
            earlier = _EARLIER.get(lab, {})
            if name not in earlier:
                raise PromptError(f"no snapshot {name!r} was deleted or replaced last", "Keep it anew.")
            every = {**earlier, **before, name: earlier[name]}
            lab.snapshots = {key: one for key, one in every.items() if key == name or key in before}
    lost = name in before and lab.snapshots.get(name) is not before[name]
    if lost:
        _EARLIER[lab] = before
    return SnapshotAnswer(name=name, lost=lost)


def compare(lab: Lab, question: CompareQuestion, tell: Tell) -> CompareAnswer:
    """One batch for each sampling among them; what was answered before comes from memory."""
    missing = [name for name in question.names if name not in lab.snapshots]
    if missing:
        raise PromptError(
            f"there is no snapshot {missing[0]!r} any more", "Choose among those that are there."
        )
    chosen: list[Snapshot] = [lab.snapshots[name] for name in question.names]
    total, done = sum(one.sampling.max_new_tokens for one in chosen), 0

    def count(tokens: Sequence[Token]) -> None:
        nonlocal done
        done += len(tokens)
        tell.progress(min(done, total - 1), total, "writing the texts")

    def run(rows: Sequence[Row], sampling: Sampling) -> list[Generation]:
        return lab.run(rows, sampling, on_tokens=count, cancel=tell.cancel)

    made = snapshots.compare(run, chosen)
    return CompareAnswer(texts=[_text(name, one) for name, one in zip(question.names, made, strict=True)])


def _text(name: str, made: Generation) -> ComparedText:
    applied = made.applied
    return ComparedText(
        name=name,
        text=made.text,
        finish=made.finish,
        verdict=verdict_of(made) if made.text.strip() else None,
        fault=made.fault,
        applied=Applied(steps=applied.steps, of=applied.of) if len(made.recipe) else None,
    )


def shared(lab: Lab, _question: ShareQuestion, _tell: Tell) -> ShareAnswer:
    """`sl.share`."""
    return ShareAnswer(text=share(lab))


def opened(lab: Lab, question: OpenSharedQuestion, _tell: Tell) -> OpenSharedAnswer:
    """`sl.open_shared` into this lab."""
    return OpenSharedAnswer(warning=open_beside(question.text, lab)[1])


HANDLERS: list[Handler[Any, Any]] = [
    Handler(SnapshotQuestion, SnapshotAnswer, answer, lane=None),
    Handler(CompareQuestion, CompareAnswer, compare),
    Handler(ShareQuestion, ShareAnswer, shared),
    Handler(OpenSharedQuestion, OpenSharedAnswer, opened),
]
