"""Noise: random numbers that a seed decides, the same on every machine."""

from __future__ import annotations

import hashlib
import operator

import torch

from steerlab.errors import PromptError


def checked_seed(seed: int) -> int:
    """The seed. Raises PromptError for what is none."""
    try:
        number = operator.index(seed)
    except TypeError:
        number = -(2**64)
    if not -(2**63) <= number < 2**64:
        raise PromptError(f"a seed is an integer of 64 bits, not {seed!r}", "0, 1, 2 and so on will do.")
    return number


def derived(seed: int, what: str) -> int:
    """A seed of its own for something, from one that it shares with others. It has 32 bits: torch's generator on the
    CPU takes no more of a seed.
    """
    return int.from_bytes(hashlib.sha256(f"{checked_seed(seed)} {what}".encode()).digest()[:4], "big")


def seeded(seed: int) -> torch.Generator:
    """A generator of random numbers, on the CPU."""
    return torch.Generator().manual_seed(checked_seed(seed))
