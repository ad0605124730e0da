"""Where a server's job is, in the panel."""

from __future__ import annotations

from collections.abc import Callable

import scripted
from wires import Wire

from steerlab.backends.ndif.wire import JobStatus


def test_the_panel_follows_a_job_through_the_queue_and_forgets_it_at_its_end() -> None:
    lab = scripted.lab()
    watchers: list[Callable[[JobStatus], None]] = []
    lab.backend.watchers = watchers  # type: ignore[attr-defined]
    wire = Wire(lab)
    assert len(watchers) == 1
    for status in (
        JobStatus("queued", "a", 3, 0.1),
        JobStatus("queued", "a", 3, 0.9),
        JobStatus("queued", "a", 1, 1.2),
        JobStatus("running", "a", None, 2.0),
    ):
        watchers[0](status)
    told = [(m["stage"], m["position"]) for m in wire.kinds("job")]
    assert told == [("queued", 3), ("queued", 1), ("running", None)]
    wire.messages.clear()
    wire.say(kind="hello")  # a page that was reloaded hears of it, too
    assert [m["stage"] for m in wire.kinds("job")] == ["running"]
    for stage in ("completed", "cancelled", "failed"):
        watchers[0](JobStatus("running", "b", None, 0.0))
        watchers[0](JobStatus(stage, "b", None, 0.1))
        assert wire.kinds("job")[-1]["stage"] == ""
