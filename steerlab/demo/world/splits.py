"""Held-out splits by a stable hash: what training may see and what only evaluation sees.

The decision depends on the words alone, never on Python's salted `hash` or on a list's order, so a new word
in a list does not move the others across the line.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
SPLITS = ("train", "heldout")


def held_out(*key: str, share: float = 0.15) -> bool:
    """Whether this combination belongs to the held-out split. Large letters and closing marks make no difference."""
    text = "|".join(["steerlab", *(part.lower().rstrip(".?! ") for part in key)])
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def in_split(split: str, *key: str) -> bool:
    """Whether this combination belongs to `split` ("train" or "heldout")."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown: use 'train' or 'heldout'")
    return held_out(*key) == (split == "heldout")


def draw(rng: random.Random, make: Callable[[], T], accept: Callable[[T], bool]) -> T:
    """Draws until one is accepted; an error rather than an endless loop when none is."""
    for _ in range(10_000):
        item = make()
        if accept(item):
            return item
    raise RuntimeError("no item of this split after 10,000 draws: the lists are too short for it")


def part(items: Sequence[T], split: str, *key: str) -> list[T]:
    """The items of a short list that belong to the split."""
    return [item for item in items if in_split(split, *key, str(item))]
