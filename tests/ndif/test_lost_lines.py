"""A text on a server is the one that its job saved, whichever of the lines got lost that told of it on the way."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from misbehaving import Misbehaving, misbehave
from test_troubles import RUNNING, backend, result, said, token

from steerlab import Row, Sampling
from steerlab.generations import Token

MADE = [50, 51, 52, 53]
LINES = [token(step, made) for step, made in enumerate(MADE)]
END = said("COMPLETED", data="URL/result")


def ask(folder: Path, frames: list[str]) -> tuple[tuple[int, ...], list[int]]:
    """The answer, and the tokens that were told on the way."""
    seen: list[Token] = []
    saved = {"/result": [(200, result(*MADE))]}
    with misbehave(Misbehaving(frames=[*RUNNING, *frames, END], answers=saved)) as server:
        [answer] = backend(folder, server).generate([Row("Hi")], Sampling(4), on_tokens=seen.extend)
    assert answer.finish == "length"
    assert answer.applied.of == 0
    return answer.token_ids, [one.id for one in seen]


@pytest.mark.parametrize(
    "lost", [some for n in range(1, 5) for some in itertools.combinations(range(4), n)], ids=str
)
def test_lines_that_are_lost_change_no_text(lost: tuple[int, ...], model_folders: dict[str, Path]) -> None:
    frames = [line for step, line in enumerate(LINES) if step not in lost]
    assert ask(model_folders["llama"], frames) == (tuple(MADE), MADE), "and each token is told once, in order"


def test_a_line_that_comes_twice_is_heard_once(model_folders: dict[str, Path]) -> None:
    assert ask(model_folders["llama"], [LINES[0], LINES[1], LINES[1], *LINES[2:]]) == (tuple(MADE), MADE)


def test_a_job_that_makes_another_text_when_it_is_begun_again_answers_what_it_saved(
    model_folders: dict[str, Path],
) -> None:
    frames = [token(0, 50), token(1, 99), said("QUEUED"), *RUNNING[1:], *LINES]
    ids, told = ask(model_folders["llama"], frames)
    assert ids == tuple(MADE)
    assert told[-2:] == MADE[-2:]
