"""What happens to files: they are cut short, their bytes change, and others are taken for them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from steerlab import Direction
from steerlab.errors import DirectionError, FileError, SteerlabError

Read = Callable[[Path], "Direction | dict[int, Direction]"]


def as_layers(found: Direction | dict[int, Direction]) -> dict[int, Direction]:
    return found if isinstance(found, dict) else {-1: found}


def same(a: Direction | dict[int, Direction], b: Direction | dict[int, Direction]) -> bool:
    x, y = as_layers(a), as_layers(b)
    return x.keys() == y.keys() and all(torch.equal(x[k].vector, y[k].vector) for k in x)


def check_cuts(path: Path, read: Read, step: int = 3) -> None:
    """Cut anywhere, the file is refused in words, but where only padding was lost and all vectors are there."""
    whole, wanted = path.read_bytes(), read(path)
    refused = 0
    for end in [*range(0, len(whole), step), len(whole) - 1]:
        path.write_bytes(whole[:end])
        try:
            found = read(path)
        except FileError as error:
            refused += str(path) in str(error)
        else:
            assert same(found, wanted), f"cut to {end} of {len(whole)} bytes, the file gave other vectors"
    assert refused > len(whole) / step * 0.8
    path.write_bytes(whole)


def check_flips(path: Path, read: Read, step: int = 3) -> None:
    """With any byte changed, the file is read or refused: nothing else is raised, and nothing hangs."""
    whole = path.read_bytes()
    for at in range(0, len(whole), step):
        for value in (0x00, 0xFF, whole[at] ^ 0x01):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            with suppress(SteerlabError):
                read(path)
    path.write_bytes(whole)


def noise(starts: bytes, n: int = 40) -> Iterator[bytes]:
    """Random bytes of many lengths after a beginning."""
    random.seed(0)
    for i in range(n):
        yield starts + random.randbytes(i * 7)


def check_noise(path: Path, read: Read, starts: bytes) -> None:
    for data in noise(starts):
        path.write_bytes(data)
        with pytest.raises((FileError, DirectionError)):
            read(path)


def check_missing(path: Path, read: Read) -> None:
    with pytest.raises(FileError, match="there is no file"):
        read(path)
