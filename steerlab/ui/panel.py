"""The panel: a widget over a Lab. Python validates and computes; `js/` draws.

It never computes on the thread that a message came in on: generation belongs to the lab's worker, so that neither a
slider nor a stop ever waits. What a front end sends is checked, and answered in words where it makes no sense.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from pydantic import ValidationError

from steerlab import metrics, prompts
from steerlab.errors import SteerlabError
from steerlab.generations import Generation, Sampling
from steerlab.lab import Lab
from steerlab.recipes import conflicts
from steerlab.sites import Site
from steerlab.ui import protocol, snapshot
from steerlab.ui.ahead import Ahead
from steerlab.ui.asks import Desk
from steerlab.ui.history import History, Moment
from steerlab.ui.preview import Preview, rows_of
from steerlab.ui.protocol import Info, PaneId, PanelState, Result, SteeringState, Trouble
from steerlab.ui.questions import TABLE
from steerlab.ui.translate import (
    beyond,
    direction_info,
    fresh_row,
    named,
    recipe_of,
    renames,
    snapshot_info,
    steering_of,
)
from steerlab.ui.troubles import misunderstood, trouble

PAUSE = 1.0  # seconds without a change, after which a linked widget begins another step of undo

_STATIC = Path(__file__).parent.parent / "static"
_NOT_BUILT = """export default { render({ el }) {
  el.textContent = "The panel is not built: run `npm ci && npm run build` in js/, then restart the kernel.";
} }"""


class Panel(anywidget.AnyWidget):
    """The panel of a lab: `lab` at the end of a cell shows it, as often as wanted.

    `state` may be set like any trait; `lab.prompt`, `lab.recipe` and `lab.sampling` are the same in the lab's words.
    `prompt` and `coefficient` are parts of it that other widgets can be linked to, in the browser too (`jslink`).
    """

    _esm = _STATIC / "widget.js" if (_STATIC / "widget.js").is_file() else _NOT_BUILT
    _css = _STATIC / "widget.css" if (_STATIC / "widget.css").is_file() else ""

    info = traitlets.Dict(help="The model, a protocol.Info.").tag(sync=True)
    directions: traitlets.List[Any] = traitlets.List(
        help="What can be steered with, each a protocol.DirectionInfo."
    ).tag(sync=True)
    examples = traitlets.List(traitlets.Unicode(), help="Prompts to start from.").tag(sync=True)
    state = traitlets.Dict(help="What is set, a protocol.PanelState.").tag(sync=True)
    result = traitlets.Dict(help="The last run's texts, a protocol.Result; written when a run ends.").tag(
        sync=True
    )
    snapshots: traitlets.List[Any] = traitlets.List(
        help="What was kept under a name, each a protocol.SnapshotInfo."
    ).tag(sync=True)
    page = traitlets.Unicode(help="The class of the static page, which a live view hides.").tag(sync=True)
    prompt = traitlets.Unicode(help="The prompt, as in `state`.").tag(sync=True)
    coefficient = traitlets.Float(
        help="The number of the first direction in the list, as in `state`; setting it ticks the row. 0 without a row."
    ).tag(sync=True)

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._lock = threading.RLock()  # messages and cells come in on different threads
        self._info = _info(lab)
        self._table = named(lab.recipe, lab.directions)
        self._known: dict[str, Any] = {name: getattr(lab, name) for name in ("prompt", "recipe", "sampling")}
        state = PanelState(steering=self._rows([]), **self._in_lab())
        self._history = History(Moment(state, lab.recipe))
        self._state = state.model_copy(update=self._told())
        self.last_exception: BaseException | None = None
        """What the last run or answer that failed raised, with its traceback."""
        self._renamed: dict[str, str] = {}  # old names of directions, which older moments know
        self._linked_at, self._link_gestures = float("-inf"), 0
        self._changes: dict[str, int] = {}  # the newest revision that came from each origin
        self._seen = False  # a front end said hello
        page = snapshot.new_class()
        self._static_page = snapshot.StaticPage(page, self._static)
        self._preview = Preview(lab, self._tell, self._ended, self._failed)
        self._ahead = Ahead(lab, self._preview, self._tell, self._failed)
        self._desk = Desk(lab, TABLE, self._tell, self._failed)
        super().__init__(
            info=self._info.model_dump(mode="json"),
            directions=self._listed(),
            examples=[*prompts.harmless(4, split="heldout"), *prompts.harmful(4, split="heldout")],
            state=self._state.model_dump(mode="json"),
            result=self._preview.result().model_dump(mode="json"),
            snapshots=[snapshot_info(name, one) for name, one in lab.snapshots.items()],
            page=page,
            **self._linkable(),
        )
        self.on_msg(self._on_message)
        self.observe(self._on_state, "state")
        self.observe(self._on_link, list(self._linkable()))
        lab.observe(self._on_lab, list(self._known))
        lab.observe(self._on_directions, "directions")
        lab.observe(self._on_seed, "seed")
        lab.observe(self._on_snapshots, "snapshots")
        lab.observe(self._on_ahead, "ahead")
        self._job = protocol.Job(stage="")
        if (watchers := getattr(lab.backend, "watchers", None)) is not None:
            watchers.append(self._on_job)

    # ------------------------------------------------------------------------------------------- from the front end

    def _on_message(self, _widget: object, content: Any, _buffers: object) -> None:
        try:
            message = protocol.front_end_message.validate_python(content)
        except ValidationError as error:
            self._tell(protocol.Complaint(error=misunderstood(error)))
            return
        match message:
            case protocol.Hello():
                with self._lock:
                    first, self._seen = not self._seen, True
                    self._tell(self._preview.snapshot(self._state, self._desk.asking()))
                    if self._job.stage:
                        self._tell(self._job)
                    if first:
                        self._start()
            case protocol.Run(state=state, gesture=gesture):
                self._take(state, gesture)
            case protocol.Stop():
                self._ahead.drop()
                self._preview.stop()
            case protocol.Scrub():
                self._scrub(message)
            case protocol.Undo():
                self._restore(self._history.undo)
            case protocol.Redo():
                self._restore(self._history.redo)
            case protocol.Ask():
                self._desk.ask(message)
                self._ahead.resume()
            case protocol.Cancel(id=id):
                self._desk.cancel(id)

    def _take(self, state: PanelState, gesture: str) -> None:
        """Adopt what a front end sent, unless the state was changed from elsewhere after that front end last saw it."""
        with self._lock:
            elsewhere = max((n for origin, n in self._changes.items() if origin != state.origin), default=0)
            if state.revision < elsewhere:
                return  # the newer state is on its way there
            try:
                self._adopt(state, gesture)
            except SteerlabError as error:
                self._tell(protocol.Complaint(error=trouble(error)))

    def _scrub(self, scrub: protocol.Scrub) -> None:
        """Make texts ahead, unless what they are neighbours of is gone."""
        with self._lock:
            state, lab = self._state, self._lab
            if scrub.revision != state.revision or scrub.row >= len(state.steering):
                return
            wanted = {}
            for coefficient in scrub.coefficients[: lab.ahead]:
                row = state.steering[scrub.row].model_copy(
                    update={"coefficient": coefficient, "enabled": True}
                )
                steering = [*state.steering[: scrub.row], row, *state.steering[scrub.row + 1 :]]
                recipe = recipe_of(steering, self._table, self._info.n_layers, lab.recipe)
                rows = rows_of(state.prompt, recipe, state.seed, control=state.control)
                wanted[coefficient] = {name: row for name, row in rows.items() if name != "baseline"}
            self._ahead.plan(state, scrub.row, wanted, self._known["sampling"])

    def _on_state(self, change: Any) -> None:
        with self._lock:
            if change["new"] == self._state.model_dump(mode="json"):
                return
            try:
                self._adopt(PanelState.model_validate({**change["new"], "origin": ""}))
            except (ValidationError, SteerlabError) as error:
                what = misunderstood(error) if isinstance(error, ValidationError) else trouble(error)
                self._tell(protocol.Complaint(error=what))
                self.state = self._state.model_dump(mode="json")

    def _linkable(self) -> dict[str, Any]:
        """The parts of the state that are traits of their own."""
        first = next(iter(self._state.steering), None)
        return {"prompt": self._state.prompt, "coefficient": first.coefficient if first else 0.0}

    def _on_link(self, change: Any) -> None:
        """A linked widget, or a cell, set a part of the state. What it sets without a pause is undone as one."""
        name, new = change["name"], change["new"]
        with self._lock:
            if new == self._linkable()[name]:
                return
            try:
                if name == "prompt":
                    update: dict[str, Any] = {name: new}
                else:
                    rows = [row.model_dump() for row in self._state.steering]
                    update = {
                        "steering": [{**row, name: new, "enabled": True} for row in rows[:1]] + rows[1:]
                    }
                wanted = {**self._state.model_dump(), **update, "origin": ""}
                self._adopt(PanelState.model_validate(wanted), self._link_gesture(name))
            except (ValidationError, SteerlabError) as error:
                what = misunderstood(error) if isinstance(error, ValidationError) else trouble(error)
                self._tell(protocol.Complaint(error=what))
            self.set_trait(name, self._linkable()[name])

    def _link_gesture(self, name: str) -> str:
        now = time.monotonic()
        if now - self._linked_at > PAUSE:
            self._link_gestures += 1
        self._linked_at = now
        return f"linked {name} {self._link_gestures}"

    def _adopt(self, state: PanelState, gesture: str = "") -> None:
        """Make this the state, in the lab too, and run it. Raises SteerlabError where it does not fit the model."""
        lab, before = self._lab, self._known
        self._known = {
            "prompt": state.prompt,
            "recipe": recipe_of(state.steering, self._table, self._info.n_layers, lab.recipe),
            "sampling": Sampling(state.max_new_tokens, state.temperature),
        }
        try:
            lab.recipe = self._known["recipe"]
        except SteerlabError:
            self._known = before
            raise
        lab.prompt, lab.sampling = self._known["prompt"], self._known["sampling"]
        state = self._without_row(state)
        self._history.put(Moment(state, self._known["recipe"]), gesture)
        self._renew(state)

    def _restore(self, step: Callable[[], Moment | None]) -> None:
        """Go back to a moment, or forward again. Directions that are gone since keep their place in the recipe."""
        with self._lock:
            moment = step()
            if moment is None:
                return
            state, lab = moment.state, self._lab
            self._known = {
                "prompt": state.prompt,
                "recipe": moment.recipe,
                "sampling": Sampling(state.max_new_tokens, state.temperature),
            }
            lab.recipe, lab.prompt, lab.sampling = (self._known[n] for n in ("recipe", "prompt", "sampling"))
            self._relist()
            state = _called(state, self._renamed)
            rows = self._rows(state.steering, state.unlisted)
            self._renew(state.model_copy(update={"steering": rows, "origin": ""}))

    # -------------------------------------------------------------------------------------------------- from Python

    def _on_lab(self, change: Any) -> None:
        with self._lock:
            if change["new"] == self._known[change["name"]]:
                return
            # all of it, for what was set together is one change
            now = {name: getattr(self._lab, name) for name in self._known}
            recipe_changed = now["recipe"] != self._known["recipe"]
            self._known = now
            steering = self._state.steering
            if recipe_changed:
                self._relist()
                steering = self._rows(steering, self._state.unlisted)
            state = self._state.model_copy(update={"steering": steering, "origin": "", **self._in_lab()})
            self._history.put(Moment(state, self._known["recipe"]))
            self._renew(state)

    def _on_seed(self, change: Any) -> None:
        with self._lock:
            if change["new"] != self._state.seed:
                state = self._state.model_copy(update={"seed": change["new"], "origin": ""})
                self._history.put(Moment(state, self._known["recipe"]))
                self._renew(state)

    def _on_ahead(self, change: Any) -> None:
        with self._lock:
            self._ahead.drop()
            self._info = self._info.model_copy(update={"ahead": change["new"]})
            self.info = self._info.model_dump(mode="json")

    def _on_directions(self, _change: object) -> None:
        with self._lock:
            before = self._table
            self._relist()
            renamed = renames(before, self._table)
            self._renamed = {old: renamed.get(new, new) for old, new in self._renamed.items()} | renamed
            # a name that means another vector now starts anew
            same = {name for name, d in self._table.items() if before.get(name) is d} | set(renamed.values())
            state = _called(self._state, renamed)
            kept = [row for row in state.steering if row.direction in same]
            unlisted = [name for name in state.unlisted if name in same]
            rows = self._rows(kept, unlisted)
            state = state.model_copy(update={"steering": rows, "unlisted": unlisted, "origin": ""})
            self._history.amend(Moment(state, self._known["recipe"]))
            self._renew(state)

    def _on_snapshots(self, _change: object) -> None:
        self.snapshots = [snapshot_info(name, one) for name, one in self._lab.snapshots.items()]

    def _on_job(self, status: Any) -> None:
        """A server said where a job is (`backends.ndif`); what is over is no job any more."""
        over = status.over
        job = protocol.Job(stage="" if over else status.stage, position=None if over else status.position)
        if job != self._job:
            self._job = job
            self._tell(job)

    def _in_lab(self) -> dict[str, Any]:
        sampling = self._known["sampling"]
        return {
            "prompt": self._known["prompt"],
            "max_new_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "seed": self._lab.seed,
        }

    def _told(self) -> dict[str, Any]:
        """What the kernel adds to what was set: what the rows do not show of the recipe, and what can be undone."""
        recipe, history = self._lab.recipe, self._history
        return {
            "beyond": beyond(recipe),
            "conflicts": conflicts(recipe, self._info.n_layers),
            "undoable": history.undoable,
            "redoable": history.redoable,
        }

    def _relist(self) -> None:
        self._table = named(self._lab.recipe, self._lab.directions)
        self.directions = self._listed()

    def _listed(self) -> list[dict[str, Any]]:
        return [direction_info(name, d).model_dump(mode="json") for name, d in self._table.items()]

    def _rows(self, before: Sequence[SteeringState], unlisted: Collection[str] = ()) -> list[SteeringState]:
        before = [row for row in before if row.direction in self._table]  # else it is gone
        rows = steering_of(self._lab.recipe, self._table, self._info.n_layers, before)
        listed = {row.direction for row in rows}
        new = {name: d for name, d in self._table.items() if name not in listed and name not in unlisted}
        return rows + [fresh_row(name, d) for name, d in new.items()]

    def _without_row(self, state: PanelState) -> PanelState:
        listed = {row.direction for row in state.steering}
        return state.model_copy(update={"unlisted": [name for name in self._table if name not in listed]})

    # ------------------------------------------------------------------------------------------------ to the front end

    def _renew(self, state: PanelState) -> None:
        """Number the state, show it everywhere, and generate once somebody looks."""
        self._ahead.drop()
        self._state = state.model_copy(update={"revision": self._state.revision + 1, **self._told()})
        self._changes[state.origin] = self._state.revision
        self.state = self._state.model_dump(mode="json")
        for name in self._linkable():
            self.set_trait(
                name, self._linkable()[name]
            )  # as it is now: an observer of the other may have set it
        self._lab.seed = self._state.seed
        if self._seen:
            self._start()

    def _start(self) -> None:
        state, known = self._state, self._known
        self._static_page.leave()
        self._preview.start(
            state.prompt,
            known["recipe"],
            known["sampling"],
            state.seed,
            control=state.control,
            origin=state.origin,
            edit=state.edit,
        )

    def _failed(self, error: Exception) -> Trouble:
        self.last_exception = error
        return trouble(error)

    def _tell(self, message: protocol.KernelMessage) -> None:
        self.send(message.model_dump(mode="json"))

    def _ended(self, result: Result, texts: dict[PaneId, Generation], written: bool) -> None:
        try:
            self._lab.set_trait("generations", texts)
        finally:  # whatever an observer raises
            self.result = result.model_dump(mode="json")
            self._static_page.renew(at_once=written)

    def _static(self) -> str:
        return snapshot.render(self.page, self._info, self._state, self._preview.result())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        self._static_page.place()
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            bundle[0]["text/plain"] = repr(self._lab)
        return bundle

    # ---------------------------------------------------------------------------------------------- kernel subshells

    def open(self) -> None:
        """Open the connection to the front end."""
        super().open()
        self._unpin()

    def _send(self, msg: Any, buffers: Any = None) -> None:
        super()._send(msg, buffers)
        self._unpin()

    def _unpin(self) -> None:
        # ipykernel (from 7.4) hands the front end's next message to whichever shell sent last on this connection.
        # After a send from a cell that stays busy, slider and stop would wait for that cell. Forgotten, the
        # message's own header decides, which names a free subshell.
        getattr(self.comm, "__dict__", {}).pop("_reply_subshell_id", None)


def _info(lab: Lab) -> Info:
    about = asdict(lab.info)
    sites = [
        [Site(layer, point).describe() for layer in range(lab.info.n_layers)] for point in lab.info.points
    ]
    return Info(**about, sites=sites, refusals=list(metrics.REFUSALS), ahead=lab.ahead)


def _called(state: PanelState, names: Mapping[str, str]) -> PanelState:
    """A state with directions by other names."""
    rows = [
        row.model_copy(update={"direction": names.get(row.direction, row.direction)})
        for row in state.steering
    ]
    unlisted = [names.get(name, name) for name in state.unlisted]
    return state.model_copy(update={"steering": rows, "unlisted": unlisted})
