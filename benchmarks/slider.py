"""A slider's move to the first new steered token, cold, on the embedded model: what the panel's preview does in the
kernel, against one prefill and one decoding step of plain transformers.

Every move goes to a strength that was never used, after the text before has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import torch
from common import Figure, Options, Timed, clock, interleaved, main
from subjects import subject

import steerlab as sl
from steerlab.ui import protocol
from steerlab.ui.preview import Preview

GOAL = 1.5


class Moves:
    """A preview without a browser: `move` gives the seconds from a new strength to the first token it shows."""

    def __init__(self, lab: sl.Lab, direction: sl.Direction, device: str) -> None:
        self._direction, self._device = direction, device
        self._lab = lab
        self._preview = Preview(lab, self._see, self._end, self._fail)
        self._first, self._over = threading.Event(), threading.Event()
        self._at = 0.0

    def _see(self, message: protocol.KernelMessage) -> None:
        if isinstance(message, protocol.Tokens) and "steered" in message.panes and not self._first.is_set():
            self._at = clock(self._device)
            self._first.set()

    def _end(self, *_: object) -> None:
        self._over.set()

    def _fail(self, error: Exception) -> protocol.Trouble:
        raise error  # a benchmark has no panel to show it in

    def move(self, strength: float) -> float:
        """Seconds to the first token of the steered text; what comes after is cut off."""
        self._first.clear()
        self._over.clear()
        recipe = sl.Recipe([sl.Add(self._direction, strength)] if strength else [])
        began = clock(self._device)
        self._preview.start(self._lab.prompt, recipe, sl.Sampling(24), 0)
        assert self._first.wait(60)
        if strength:
            self._preview.stop()
        assert self._over.wait(60)
        return self._at - began


def measure(options: Options) -> Iterator[Figure]:
    """One figure."""
    model = subject("embedded", options.device)
    lab = model.lab()
    direction = model.direction()
    moves = Moves(lab, direction, options.device)
    moves.move(0.0)  # the baseline's text, which stays
    inputs = model.batch([lab.prompt])

    @torch.no_grad()
    def floor(_: int) -> None:
        out = model.plain(**inputs, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1:].argmax(-1)
        model.plain(input_ids=token, past_key_values=out.past_key_values, use_cache=True).logits.argmax(
            -1
        ).item()

    runs = {"move": lambda i: Timed(moves.move(0.01 * (i + 2)), None), "floor": floor}
    rounds = interleaved(runs, options, rounds=3 if options.quick else 40)
    yield from [
        Figure(
            "slider to the first new token, cold",
            "one prefill and one decoding step",
            model.name,
            rounds.ratio("move", "floor"),
            "of their time",
            None if options.quick else GOAL,
            "less",
            note=f"a move took {1000 * rounds.median('move'):.1f} ms, the floor {1000 * rounds.median('floor'):.1f} ms",
        )
    ]


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
