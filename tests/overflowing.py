"""A backend whose model overflows, as one of 16 bits does that is steered too far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from steerlab import Row
from steerlab.backends.fake import FakeBackend


class Overflowing(FakeBackend):
    """Its logits are not finite for rows of some kind."""

    def __init__(self, breaks: Callable[[Row], bool]) -> None:
        super().__init__()
        self._breaks = breaks

    def score(self, rows: Sequence[Row]) -> torch.Tensor:
        logits = super().score(rows)
        logits[[i for i, row in enumerate(rows) if self._breaks(row)]] = torch.nan
        return logits
