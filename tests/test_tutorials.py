"""The tutorial notebooks run, their answers are right, and an exercise that is not done says so without an error."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat import NotebookNode

import steerlab as sl
from steerlab import cli, prompts
from steerlab.tutorials import Checked, WrongAnswerError, exercise, number, wanted, whole_number

ANSWER = re.compile(r"<summary>One answer.*?```python\n(.*?)```", flags=re.DOTALL)


def is_exercise(cell: NotebookNode) -> bool:
    return "exercise" in cell.metadata.get("tags", ())


def steps(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, str | None]]:
    """The code cells in order; of an exercise, the answer that the text below it gives."""
    for cell, below in zip(notebook.cells, [*notebook.cells[1:], NotebookNode(source="")], strict=True):
        if cell.cell_type == "code":
            answers = ANSWER.findall(below.source)
            assert len(answers) == is_exercise(cell), f"below {cell.source!r} stand {len(answers)} answers"
            yield cell, answers[0] if answers else None


def shown(cell: NotebookNode) -> str:
    """What a cell shows last, as text."""
    last: Any = cell.outputs[-1]
    return str(last.data["text/plain"])


@pytest.mark.slow
@pytest.mark.parametrize("path", cli.tutorials(), ids=lambda path: path.stem)
def test_a_student_goes_from_cell_to_cell_and_every_answer_is_right(path: Path, tmp_path: Path) -> None:
    before = nbformat.read(path, as_version=4)
    notebook = nbformat.v4.new_notebook(metadata=before.metadata)
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}})

    def run(source: str) -> NotebookNode:
        notebook.cells.append(nbformat.v4.new_code_cell(source))
        done: NotebookNode = client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
        return done

    with client.setup_kernel():
        for cell, answer in steps(before):
            done = run(cell.source)
            if answer is not None:
                assert shown(done).startswith("✗"), f"{cell.source} is right before anybody has done it"
                assert shown(run(answer)).startswith("✓"), f"{answer}\nis wrong: {shown(notebook.cells[-1])}"
    kept = "\n".join(cell.source for cell in before.cells[-3:])
    assert any(file.name in kept for file in tmp_path.iterdir()), "nothing was kept at the end"


@pytest.mark.parametrize("path", cli.tutorials(), ids=lambda path: path.stem)
def test_a_tutorial_is_saved_without_outputs_and_without_traces_of_a_run(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("path", cli.tutorials(), ids=lambda path: path.stem)
def test_a_tutorial_says_what_it_takes_and_helps_with_every_exercise(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert {"minutes", "exercises"} <= set(re.findall(r"\w+", cells[0].source))
    below = [after.source for cell, after in itertools.pairwise(cells) if is_exercise(cell)]
    assert 3 <= len(below) <= 5
    assert all(text.startswith("<details><summary>Hint</summary>") for text in below)
    assert cells[-3].source.startswith("## What you keep")
    assert cells[-1].source.startswith("**Next.**")
    text = "\n".join(cell.source for cell in cells)
    assert "](" not in text, "a notebook is copied elsewhere, where a relative link leads nowhere"


def test_the_notebooks_that_a_tutorial_names_are_there() -> None:
    there = {path.name for path in cli.tutorials()}
    for path in cli.tutorials():
        assert set(re.findall(r"\b\d\d_\w+\.ipynb", path.read_text(encoding="utf-8"))) <= there


def test_the_model_is_as_large_as_the_tutorials_say(demo_lab: sl.Lab) -> None:
    words = " ".join(path.read_text(encoding="utf-8") for path in cli.tutorials())
    for said in ("a list of 128 numbers", "its ten blocks", "has 128 dimensions", "among fifty"):
        assert said in words
    positions = prompts.post_instruction_tokens(demo_lab.tokenizer)
    assert (demo_lab.info.d_model, demo_lab.info.n_layers, 10 * len(positions)) == (128, 10, 50)


def test_the_examples_of_the_panel_are_refused_where_the_first_steps_say_so(demo_lab: sl.Lab) -> None:
    answers = demo_lab.compare(demo_lab.panel.examples, [sl.BASELINE], max_new_tokens=24)
    assert [sl.metrics.refuses(answer.text) for (answer,) in answers] == [False] * 4 + [True] * 4


# ---------------------------------------------------------------- what a check is


@exercise
def doubled(answer: object) -> str:
    if wanted(answer, int, "a whole number") != 4:
        raise WrongAnswerError(f"Not {answer}.")
    return "Two and two."


def test_a_right_answer_is_true_and_says_why() -> None:
    assert doubled(4) == Checked(True, "Two and two.")
    assert doubled(4)
    assert repr(doubled(4)) == "✓ Two and two."


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (..., "Put your answer in the place of the three dots, and run the cell again."),
        (5, "Not 5."),
        ("4", "This is str; wanted is a whole number."),
    ],
)
def test_a_wrong_answer_is_false_and_says_what_to_look_at(answer: object, says: str) -> None:
    assert not doubled(answer)
    assert repr(doubled(answer)) == f"✗ {says}"


def test_a_number_of_numpy_or_torch_is_a_number_and_a_verdict_is_none() -> None:
    for three in (3, np.int64(3), torch.tensor(3)):
        assert whole_number(three, "a whole number") == 3
        assert number(three, "a number") == 3.0
    for answer in (True, "3", None, [3]):
        for reads in (whole_number, number):
            with pytest.raises(WrongAnswerError, match=f"This is {type(answer).__name__}; wanted is it"):
                reads(answer, "it")
    with pytest.raises(WrongAnswerError):
        whole_number(3.5, "a whole number")


def test_an_error_of_steerlab_is_words_and_another_one_is_a_defect_of_the_check() -> None:
    @exercise
    def broken(error: Exception) -> str:
        raise error

    assert "no such layer" in broken(sl.errors.SiteError("no such layer", "Take another.")).says
    with pytest.raises(ZeroDivisionError):
        broken(ZeroDivisionError())


def test_model_text_in_a_check_is_never_html() -> None:
    assert "<img" not in Checked(False, "<img src=x>")._repr_html_()
