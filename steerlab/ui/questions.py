"""The one table of what can be asked: each tab's module lists its own handlers."""

from __future__ import annotations

from typing import Any

from steerlab.ui import code, directions, files, find, frontier, jobs, lens, scale, snapshots, sweep, tokens
from steerlab.ui.asks import Handler

TABLE: dict[str, Handler[Any, Any]] = {
    handler.kind: handler
    for handlers in (
        code.HANDLERS,
        lens.HANDLERS,
        tokens.HANDLERS,
        files.HANDLERS,
        directions.HANDLERS,
        snapshots.HANDLERS,
        scale.HANDLERS,
        sweep.HANDLERS,
        frontier.HANDLERS,
        find.HANDLERS,
        jobs.HANDLERS,
    )
    for handler in handlers
}
