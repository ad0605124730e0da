"""The tutorial notebooks run, their answers are right, and an exercise that is not done says so without an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

import steerlab as sl
from steerlab import cli
from steerlab.tutorials import Checked, WrongAnswerError, exercise, wanted

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


def test_an_error_of_steerlab_is_words_and_another_one_is_a_defect_of_the_check() -> None:
    @exercise
    def broken(error: Exception) -> str:
        raise error

    assert "no such layer" in broken(sl.errors.SiteError("no such layer", "Take another.")).says
    with pytest.raises(ZeroDivisionError):
        broken(ZeroDivisionError())


def test_model_text_in_a_check_is_never_html() -> None:
    assert "<img" not in Checked(False, "<img src=x>")._repr_html_()
