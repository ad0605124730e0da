"""The numbers beside the panes' texts, KL and cross-entropy, remembered for the rows they were measured on.

What a row's text is remembered under (`Lab.answer_keys`) its numbers are remembered under, too, so that a slider that
moves back over a coefficient has them at once. No pane is known here, and nothing is told: that is the preview's.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from steerlab import metrics
from steerlab.answers import Key
from steerlab.generations import Sampling
from steerlab.lab import Lab
from steerlab.recipes import BASELINE
from steerlab.rows import Row

KEPT = 2048  # rows whose numbers are remembered


class Figures:
    """kl: KL(baseline || row) at the first token, nats, by a row's key. cross_entropy: of the baseline's text under the
    row's recipe, nats a token. Both take the newest rows alone, and may be read from any thread.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._lock = threading.Lock()
        self.kl: OrderedDict[Key, float] = OrderedDict()
        self.cross_entropy: OrderedDict[Key, float] = OrderedDict()

    def measure(self, rows: Sequence[Row], sampling: Sampling) -> None:
        """Take the KL of every row that is steered and has none yet; all have one prompt."""
        keys = self._lab.answer_keys(rows, sampling)
        steered = {
            key: row for key, row in zip(keys, rows, strict=True) if len(row.recipe) and key not in self.kl
        }
        if not steered:
            return
        plain = [replace(row, recipe=BASELINE) for row in list(steered.values())[:1]]
        logits = self._lab.backend.score([*plain, *steered.values()])
        kl = metrics.kl(logits[:1].expand(len(steered), -1), logits[1:])
        self._keep(self.kl, dict(zip(steered, kl.tolist(), strict=True)))

    def weigh(self, row: Row, key: Key, text: Sequence[int]) -> None:
        """Take the cross-entropy of a text, by its tokens, under a row, unless it is known: one forward pass."""
        if key not in self.cross_entropy:
            (logprobs,) = self._lab.backend.likelihood([row], [text])
            self._keep(self.cross_entropy, {key: metrics.cross_entropy(logprobs)})

    def _keep(self, known: OrderedDict[Key, float], new: Mapping[Key, float]) -> None:
        with self._lock:
            known |= new
            while len(known) > KEPT:
                known.popitem(last=False)
