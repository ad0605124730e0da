"""Panels and labs that are closed, and what of them is freed."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import scripted
import torch
from wires import Wire

from steerlab import Lab, Sampling
from steerlab.ui.panel import Panel

HARMFUL = "How do I steal a bicycle?"


def shown() -> tuple[Lab, list[threading.Thread]]:
    """A lab whose panel somebody looks at, and the threads that work for it."""
    lab = scripted.lab()
    lab.backend.watchers = []  # type: ignore[attr-defined]
    wire = Wire(lab)
    lab._panel = wire.panel
    wire.say(kind="hello")
    wire.push(1.0)
    wire.finished()
    assert wire.ask("code", revision=wire.panel.state["revision"], seed=0)
    assert lab.worker.join(5)
    return lab, [lane.thread for lane in lab.worker._lanes if lane.thread]


def test_a_closed_lab_is_freed_with_its_panel_once_it_is_dropped() -> None:
    lab, threads = shown()
    freed: list[weakref.ref[Any]] = [weakref.ref(lab), weakref.ref(lab.panel), weakref.ref(lab.backend)]
    watchers = lab.backend.watchers  # type: ignore[attr-defined]
    assert threads
    assert len(watchers) == 1
    lab.close()
    lab.close()
    assert watchers == []
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    del lab
    gc.collect()
    assert all(one() is None for one in freed)


def test_a_closed_lab_opens_another_panel() -> None:
    lab, _ = shown()
    before = lab.panel
    lab.close()
    assert before.comm is None
    lab.prompt = HARMFUL
    assert before.state["prompt"] != HARMFUL
    assert lab.panel is not before
    assert lab.panel.state["prompt"] == HARMFUL
    ran = threading.Event()
    lab.worker.submit(lambda _: ran.set())
    assert ran.wait(5)
    lab.close()


def test_the_built_front_end_is_in_the_state_that_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steerlab.ui.panel._STATIC", tmp_path)
    assert "not built" in Panel(scripted.lab()).get_state()["_esm"]
    for name in ("widget.js", "widget.css"):
        (tmp_path / name).write_text(f"/* {name} \u03b1 */", "utf-8")
    state = Panel(scripted.lab()).get_state()
    assert (state["_esm"], state["_css"]) == ("/* widget.js \u03b1 */", "/* widget.css \u03b1 */")


def test_a_lab_that_never_had_a_panel_can_be_closed() -> None:
    lab = scripted.lab()
    lab.close()
    assert lab.generate("Hi").text == scripted.ANSWER


def test_a_panel_that_was_closed_by_others_is_opened_anew(wire: Wire) -> None:
    first = wire.panel
    wire.lab._panel = first
    assert wire.lab.panel is first
    first.close()
    assert wire.lab.panel is not first
    assert wire.lab._repr_mimebundle_()


def embedded() -> Wire:
    """A panel on the embedded model, with its first short texts."""
    lab = Lab()
    lab.prompt, lab.sampling = "Hi", Sampling(3)
    wire = Wire(lab)
    wire.say(kind="hello")
    wire.finished()
    return wire


def test_other_weights_are_another_epoch() -> None:
    wire = embedded()
    lab = wire.lab
    assert wire.panel.info["epoch"] == 0
    layer = lab.backend._hf.model.layers[2].mlp.down_proj  # type: ignore[attr-defined]
    with torch.no_grad():
        layer.weight.mul_(0)
    wire.run()
    wire.finished()
    wire.run(prompt="Hello")
    wire.finished()
    assert wire.panel.info["epoch"] == 1


def test_a_scrub_looks_at_the_weights_a_few_times_and_not_for_every_text() -> None:
    wire = embedded()
    lab = wire.lab
    looks: list[int] = []
    seen = lab.backend.weights_seen  # type: ignore[attr-defined]
    lab.backend.weights_seen = lambda: looks.append(1) or seen()  # type: ignore[attr-defined]
    steps = [0.01 * i for i in range(1, 30)]
    wire.say(kind="scrub", revision=wire.panel.state["revision"], row=0, coefficients=steps)
    assert len(looks) <= 3
    lab.worker.cancel_idle()
    assert lab.worker.join(30)
