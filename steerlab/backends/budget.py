"""How many rows fit into memory, and what is done where they do not."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import psutil
import torch
from torch import Tensor
from transformers import PreTrainedModel

# by torch where it is no OutOfMemoryError: on Windows, on Linux, on Apple's GPUs
_SAID = ("not enough memory", "can't allocate memory", "out of memory")

T = TypeVar("T")
Rows = TypeVar("Rows", list[int], Tensor)

# More rows in a pass are no faster: on a CPU their keys and values leave its caches.
MOST_ROWS, ELSEWHERE = 128, 512
SHARING = 4  # times as many rows where they share trunks: most of the blocks see fewer
SHARE = 0.4  # of the memory that is free, which a batch may take: estimates are rough, and others need some
PADDED = 32
MOST_BYTES = 4 * 2**30  # of a batch on a CPU, where free memory is not only ours


class Budget:
    """The size of batches for one model. rows: the most in a pass; None lets it follow the memory that is free."""

    def __init__(self, model: PreTrainedModel, rows: int | None) -> None:
        config = model.config.get_text_config()
        width = config.hidden_size
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or width // config.num_attention_heads
        bytes_each: int = model.dtype.itemsize
        self._device = model.device
        self.kept = 2 * config.num_hidden_layers * heads * size * bytes_each  # a token's keys and values
        self._passing = 24 * width * max(bytes_each, 4)  # a token while it passes through a block
        self._logits = 3 * 4 * config.vocab_size  # of a token: the model's own, in float32, and normalised
        self.most = rows or (MOST_ROWS if model.device.type == "cpu" else ELSEWHERE)
        self._sharing = 1 if rows else SHARING
        self._failed: int | None = None
        self._asked, self._available = -math.inf, 0.0  # asking the system for every row is dear

    def rows(self, columns: int, new: int, *, keep: int = 1, shared: bool = False) -> int:
        """How many rows of so many tokens, `new` of them in one pass, fit together: one at least. keep: of how many of
        the tokens the logits are wanted. shared: whether the rows share trunks.
        """
        each = columns * self.kept + new * self._passing + keep * self._logits
        return max(1, min(self.most * (self._sharing if shared else 1), self._fitting(each)))

    def cells(self) -> int:
        """How many cells fit together that are only decoded: they have no keys and values."""
        fitting = self._fitting(self._logits)
        return max(1, fitting if self._sharing > 1 else min(self.most, fitting))

    def portions(self, rows: Rows) -> Iterator[Rows]:
        """Whole prompts that are read together: more of them cost more padding than they save."""
        while len(rows):
            size = min(PADDED, self.most)
            yield rows[:size]
            rows = rows[size:]

    def _fitting(self, each: int) -> int:
        return int(SHARE * self._free()) // each

    def prefixes(self) -> int:
        """A default for the bytes that prompts may take between calls."""
        return int(min(2**30, 0.1 * self._free()))

    def _free(self) -> float:
        match self._device.type:
            case "cuda":
                return float(torch.cuda.mem_get_info(self._device)[0])
            case "mps":
                return float(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
            case "cpu":
                now = time.monotonic()
                if now - self._asked > 0.05:
                    self._asked, self._available = now, float(psutil.virtual_memory().available)
                return min(self._available, MOST_BYTES / SHARE)
        return float(MOST_BYTES)

    def halving(self, rows: int, run: Callable[[slice], T], first: int = 0) -> list[T]:
        """What `run` makes of `rows` rows, all together, or where memory does not suffice one half after the other.

        `run` takes the rows to run; one that failed is run again with fewer.
        """
        try:
            return [run(slice(first, first + rows))]
        except RuntimeError as error:
            if not out_of_memory(error) or rows == 1:
                raise
        # out of the except block, whose traceback holds the tensors that did not fit
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        half = rows // 2
        self.did_not_fit(rows)
        return [*self.halving(half, run, first), *self.halving(rows - half, run, first + half)]

    def did_not_fit(self, rows: int) -> None:
        """From now on at most half as many rows are run at a time."""
        self._failed = self._failed or rows
        self.most, self._sharing = min(self.most, max(1, rows // 2)), 1

    def tell(self) -> None:
        """Say, once, that a batch had to be halved."""
        if self._failed:
            warnings.warn(
                f"{self._failed} rows together did not fit into memory: they were run in parts, and from now on at "
                f"most {self.most} are run at a time. Texts and scores are the same",
                stacklevel=4,
            )
            self._failed = None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _SAID)
