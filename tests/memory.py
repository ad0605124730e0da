"""How much memory tensors take at most while something runs: counted, not asked of the operating system."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Peak(TorchDispatchMode):
    """While open, keeps count of the storages of those tensors made meanwhile that still live."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self._now = 0
        self._owners: Counter[int] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                place, size = storage.data_ptr(), storage.nbytes()
                self._now += 0 if self._owners[place] else size
                self._owners[place] += 1
                weakref.finalize(tensor, self._drop, place, size)
        if self._now > self.bytes:
            gc.collect()  # what only a cycle holds on to is not held
            self.bytes = max(self.bytes, self._now)
        return made

    def _drop(self, place: int, size: int) -> None:
        self._owners[place] -= 1
        self._now -= 0 if self._owners[place] else size


def peak(run: Callable[[], object]) -> int:
    """The most bytes that tensors took at once while `run` ran."""
    gc.collect()
    gc.freeze()  # what was there before need not be looked through again and again
    try:
        with Peak() as mode:
            run()
        return mode.bytes
    finally:
        gc.unfreeze()
