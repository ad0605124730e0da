"""The panel: a widget over a Lab. Python validates and computes; `js/` draws.

It never computes on the thread that a message came in on: generation belongs to the lab's worker, so that neither a
slider nor a stop ever waits. What a front end sends is checked, and answered in words where it makes no sense.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anywidget
import traitlets
from pydantic import ValidationError

from steerlab import prompts
from steerlab.backends.base import state_of
from steerlab.errors import SteerlabError
from steerlab.generations import Generation, Sampling
from steerlab.lab import Lab
from steerlab.recipes import Recipe, conflicts
from steerlab.ui import protocol, snapshot
from steerlab.ui.ahead import Ahead
from steerlab.ui.asks import Desk
from steerlab.ui.history import History, Moment
from steerlab.ui.jobs import NewestJob
from steerlab.ui.panes import rows_of
from steerlab.ui.preview import Preview
from steerlab.ui.protocol import PaneId, PanelState, Result, SteeringState, Trouble
from steerlab.ui.questions import TABLE
from steerlab.ui.translate import (
    beyond,
    called,
    direction_info,
    fingerprint,
    fresh_row,
    model_info,
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

    # anywidget would follow a path's file, and keep every panel for it
    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)

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
        self._ties = ExitStack()  # by which the lab and its backend know this panel
        self._lab = lab
        self._lock = threading.RLock()  # messages and cells come in on different threads
        self._info, self._model = model_info(lab), state_of(lab.backend)
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
        self._untouched = 0  # the revision up to which nobody set anything
        self._setting = False  # what is set in the panel is being set in the lab
        widget = uuid4().hex
        page = snapshot.class_of(widget)
        self._static_page = snapshot.StaticPage(page, self._static)
        self._preview = Preview(lab, self._tell, self._ended, self._failed)
        self._ahead = Ahead(lab, self._preview, self._tell, self._failed)
        self._desk = Desk(lab, TABLE, self._tell, self._failed)
        self._job = NewestJob(self._tell)
        super().__init__(
            model_id=widget,
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
        self._follow(self._on_lab, *self._known)
        self._follow(self._on_directions, "directions")
        self._follow(self._on_seed, "seed")
        self._follow(self._on_snapshots, "snapshots")
        self._follow(self._on_ahead, "ahead")
        self._follow(self._on_map, "map")
        if (watchers := getattr(lab.backend, "watchers", None)) is not None:
            watchers.append(self._job.follow)
            self._ties.callback(watchers.remove, self._job.follow)

    def _follow(self, handler: Callable[[Any], None], *names: str) -> None:
        self._lab.observe(handler, names)
        self._ties.callback(self._lab.unobserve, handler, names)

    def close(self) -> None:
        """Close every view, end what runs for them, and follow the lab no more."""
        self._ties.close()
        self._ahead.drop()
        self._preview.stop()
        super().close()

    @traitlets.default("_esm")
    def _script(self) -> str:
        return _built("widget.js") or _NOT_BUILT

    @traitlets.default("_css")
    def _styles(self) -> str:
        return _built("widget.css")

    # ------------------------------------------------------------------------------------------- from the front end

    def _on_message(self, _widget: object, content: Any, _buffers: object) -> None:
        try:
            message = protocol.front_end_message.validate_python(content)
        except ValidationError as error:
            self._tell(protocol.Complaint(error=misunderstood(error)))
            return
        match message:
            case protocol.Hello(control=control):
                with self._lock:
                    if control is not None:
                        self._prefer(control)
                    first, self._seen = not self._seen, True
                    self._greet()
                    if self._job.told.stage:
                        self._tell(self._job.told)
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
            case protocol.Cancel(id=id, everyone=everyone):
                self._desk.cancel(id, everyone=everyone)

    def _prefer(self, control: bool) -> None:
        """Show the random control or do not, where nobody has set anything yet. Nobody did now, either: no undo."""
        if self._state.revision != self._untouched or control == self._state.control:
            return
        state = self._state.model_copy(update={"control": control})
        self._history.amend(Moment(state, self._known["recipe"]))
        self._renew(state)
        self._untouched = self._state.revision

    def _take(self, state: PanelState, gesture: str) -> None:
        """Adopt what a front end sent, unless the state was changed from elsewhere after that front end last saw it."""
        with self._lock:
            elsewhere = max((n for origin, n in self._changes.items() if origin != state.origin), default=0)
            if state.revision < elsewhere:
                return  # the newer state is on its way there
            with self._in_words():
                self._adopt(state, gesture)

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
        """Make this the state, in the lab too, and run it. Raises SteerlabError where it does not fit the model; and,
        once all is done, what an observer raised.
        """
        recipe = recipe_of(state.steering, self._table, self._info.n_layers, self._lab.recipe)
        self._lab.backend.check(recipe)
        try:
            self._set_in_lab(state, recipe)
        finally:
            state = self._without_row(self._in_step(state))
            self._history.put(Moment(state, self._known["recipe"]), gesture)
            self._renew(state)

    def _restore(self, step: Callable[[], Moment | None]) -> None:
        """Go back to a moment, or forward again, where there is one."""
        with self._lock:
            moment = step()
            if moment is None:
                self._greet()  # no answer would look like a kernel that is busy
                return
            with self._in_words():
                self._return_to(moment)

    def _return_to(self, moment: Moment) -> None:
        """Directions that are gone since keep their place in the recipe."""
        try:
            self._set_in_lab(moment.state, moment.recipe)
        finally:
            self._relist()
            state = called(moment.state, self._renamed)
            rows = self._rows(state.steering, state.unlisted)
            state = state.model_copy(update={"steering": rows, "origin": ""})
            now = self._in_step(state)
            if now is not state:
                self._history.amend(Moment(now, self._known["recipe"]))
            self._renew(now)

    def _set_in_lab(self, state: PanelState, recipe: Recipe) -> None:
        """Set in the lab what is set in the panel, all before its observers hear of any. They may set more."""
        lab, before = self._lab, self._setting
        sampling = Sampling(state.max_new_tokens, state.temperature)
        self._known = {"prompt": state.prompt, "recipe": recipe, "sampling": sampling}
        self._setting = True
        try:
            with lab.hold_trait_notifications():
                lab.recipe, lab.prompt, lab.sampling, lab.seed = recipe, state.prompt, sampling, state.seed
        finally:
            self._setting = before

    def _in_step(self, state: PanelState) -> PanelState:
        """The state with what is set in the lab, where anything else is set there by now."""
        now = {name: getattr(self._lab, name) for name in self._known}
        if now == self._known and self._lab.seed == state.seed:
            return state
        recipe_changed = now["recipe"] != self._known["recipe"]
        self._known = now
        steering = state.steering
        if recipe_changed:
            self._relist()
            steering = self._rows(steering, state.unlisted)
        return state.model_copy(update={"steering": steering, "origin": "", **self._in_lab()})

    # -------------------------------------------------------------------------------------------------- from Python

    def _on_lab(self, change: Any) -> None:
        with self._lock:
            if self._setting or change["new"] == self._known[change["name"]]:
                return
            state = self._in_step(self._state)  # all of it, for what was set together is one change
            self._history.put(Moment(state, self._known["recipe"]))
            self._renew(state)

    def _on_seed(self, change: Any) -> None:
        with self._lock:
            if not self._setting and change["new"] != self._state.seed:
                state = self._state.model_copy(update={"seed": change["new"], "origin": ""})
                self._history.put(Moment(state, self._known["recipe"]))
                self._renew(state)

    def _on_ahead(self, change: Any) -> None:
        with self._lock:
            self._ahead.drop()
            self._inform(ahead=change["new"])

    def _on_map(self, change: Any) -> None:
        with self._lock:
            self._inform(map=fingerprint(change["new"]) if change["new"] else "")

    def _inform(self, **changes: Any) -> None:
        self._info = self._info.model_copy(update=changes)
        self.info = self._info.model_dump(mode="json")

    def _on_directions(self, _change: object) -> None:
        with self._lock:
            before = self._table
            self._relist()
            renamed = renames(before, self._table)
            self._renamed = {old: renamed.get(new, new) for old, new in self._renamed.items()} | renamed
            # a name that means another vector now starts anew
            same = {name for name, d in self._table.items() if before.get(name) is d} | set(renamed.values())
            state = called(self._state, renamed)
            kept = [row for row in state.steering if row.direction in same]
            unlisted = [name for name in state.unlisted if name in same]
            rows = self._rows(kept, unlisted)
            state = state.model_copy(update={"steering": rows, "unlisted": unlisted, "origin": ""})
            self._history.amend(Moment(state, self._known["recipe"]))
            self._renew(state)

    def _on_snapshots(self, _change: object) -> None:
        self.snapshots = [snapshot_info(name, one) for name, one in self._lab.snapshots.items()]

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
        try:
            self.state = self._state.model_dump(mode="json")
            for name in self._linkable():  # each as it is now: an observer of the other may have set it
                self.set_trait(name, self._linkable()[name])
        finally:  # whatever an observer raises
            if self._seen:
                self._start()

    def _start(self) -> None:
        state, known = self._state, self._known
        if (model := state_of(self._lab.backend)) != self._model:
            self._model = model
            self._ahead.drop()
            self._inform(epoch=self._info.epoch + 1)
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

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """What is raised within is told to the front end."""
        try:
            yield
        except Exception as error:
            self._tell(protocol.Complaint(error=self._failed(error)))

    def _greet(self) -> None:
        self._tell(self._preview.snapshot(self._state, self._desk.asking()))

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

    @traitlets.observe("comm")
    def _on_comm(self, _change: object) -> None:
        # ipykernel (from 7.4) hands the front end's next message to whichever shell sent last on this connection, or
        # sent last of the same question. After a send from a cell that stays busy, slider, stop and cancel would wait
        # for that cell. The message's own header, which names a free subshell, is to decide.
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = lambda _data, of_header: of_header


def _built(name: str) -> str:
    file = _STATIC / name
    return file.read_text("utf-8") if file.is_file() else ""
