"""A lab whose texts say what they are texts of, and an account of all that is set in it and belongs to that."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import scripted
import torch
from torch import Tensor

from steerlab import Add, Direction, Lab, Recipe, Row, Sampling, Site
from steerlab.recipes import conflicts
from steerlab.ui.panes import rows_of
from steerlab.ui.protocol import PanelState
from steerlab.ui.translate import beyond, recipe_of

STEP = 0.002  # seconds for a token, or for a row that is scored: what is done next often falls into a run


class Telling(scripted.Scripted):
    """No word of a text is one of another prompt, recipe, sampling or seed."""

    def _text(self, row: Row, sampling: Sampling) -> list[str]:
        return words(row, sampling)

    def score(self, rows: Sequence[Row]) -> Tensor:
        time.sleep(STEP * len(rows))
        return super().score(rows)


def words(row: Row, sampling: Sampling) -> list[str]:
    """All words of a row's text."""
    asked = (row.prompt, row.recipe.fingerprint, sampling, row.seed if sampling.temperature else None)
    name = hashlib.sha256(repr(asked).encode()).hexdigest()[:6]
    return [f"{name}.{i} " for i in range(sampling.max_new_tokens)]


def lab(*, n_layers: int = 4) -> Lab:
    """A lab over Telling with two directions; the second has no residual norm, as a loaded file may have none."""
    made = scripted.lab(n_layers=n_layers)
    made.backend = Telling(n_layers=n_layers, delay=STEP)
    site = Site(1, "resid_post")
    happy = Direction(torch.arange(1.0, 17.0), site, name="happy")
    made.directions = {**made.directions, "happy": happy}
    made.sampling, made.ahead = Sampling(12), 5
    return made


def listen() -> list[str]:
    """What goes wrong from now on where nobody is told of it: in a thread, or in a log."""
    wrong: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            wrong.append(self.format(record))

    threading.excepthook = lambda failed: wrong.append(repr(failed.exc_value))
    for name in (None, "Comm", "traitlets", "tornado", "asyncio"):
        logging.getLogger(name).addHandler(Listener(logging.WARNING))
    return wrong


def told(lab: Lab) -> dict[str, Any]:
    """What a panel has to show of a lab. Raises AssertionError where its rows mean another recipe than the lab's."""
    assert lab.worker.join(10), "something still runs"
    panel = lab.panel
    state, result = PanelState.model_validate(panel.state), panel.result
    meant = recipe_of(state.steering, panel._table, lab.info.n_layers, lab.recipe)
    acting = [s for s in lab.recipe.interventions if not (isinstance(s, Add) and s.coefficient == 0)]
    assert meant.fingerprint == Recipe(acting).fingerprint, f"rows of {meant}, but {lab.recipe} is set"
    assert result["status"] in ("done", "stopped"), result["error"]
    texts = {name: "".join(pane["tokens"]) for name, pane in result["panes"].items()}
    if result["status"] == "done":
        rows = rows_of(lab.prompt, lab.recipe, lab.seed, control=state.control)
        wanted = {name: "".join(words(row, lab.sampling)) for name, row in rows.items()}
        assert texts == wanted, f"{texts} is shown for {wanted} of {lab.recipe}, {lab.prompt!r}"
    return {
        "prompt": lab.prompt,
        "tokens": lab.sampling.max_new_tokens,
        "temperature": lab.sampling.temperature,
        "seed": lab.seed,
        "control": state.control,
        "rows": [
            {
                "direction": row.direction,
                "enabled": row.enabled,
                "mode": row.mode,
                "number": round(row.coefficient, 3),
                "cells": sorted(f"{point}[{layer}]" for layer, point in row.cells),
                "tokens": row.tokens,
            }
            for row in state.steering
        ],
        "beyond": beyond(lab.recipe),
        "conflicts": len(conflicts(lab.recipe, lab.info.n_layers)),
        "undoable": state.undoable,
        "redoable": state.redoable,
        "snapshots": list(lab.snapshots),
        "texts": texts,
        "code": lab.to_code(form="steerlab", here="lab"),
    }
