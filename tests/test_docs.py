"""The programs in the documentation run, and the errors that it quotes are the real ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import models
import pytest

import steerlab as sl
from steerlab.backends.fake import byte_tokenizer

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


class Section(NamedTuple):
    """One error of docs/errors.md."""

    title: str
    error: str
    symptom: str
    wrong: str
    right: str


def sections() -> list[Section]:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    found = []
    for part in page.split("\n## ")[1:]:
        title = part.splitlines()[0]
        blocks = {kind or language: body for language, kind, body in FENCE.findall(part)}
        found.append(
            Section(title, title.partition(":")[0], blocks["text"], blocks["wrong"], blocks["right"])
        )
    return found


SECTIONS = sections()


@pytest.fixture
def names(demo_lab: sl.Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the programs of the page start with, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    demo_lab.recipe = sl.BASELINE
    pythia = sl.Lab((models.build("gpt-neox"), byte_tokenizer()))
    return {"sl": sl, "lab": demo_lab, "refusal": demo_lab.directions["refusal"], "pythia": pythia}


@pytest.mark.parametrize("section", SECTIONS, ids=[section.title for section in SECTIONS])
def test_the_page_quotes_the_error_that_the_wrong_program_raises(
    section: Section, names: dict[str, Any]
) -> None:
    with pytest.raises(getattr(sl.errors, section.error)) as caught:
        exec(section.wrong, names)
    pattern = ".*".join(re.escape(words) for words in section.symptom.strip().split("…"))
    same = re.fullmatch(pattern, str(caught.value), flags=re.DOTALL) is not None
    assert same, f"docs/errors.md quotes\n{section.symptom}\nand the error says\n{caught.value}"


@pytest.mark.parametrize("section", SECTIONS, ids=[section.title for section in SECTIONS])
def test_the_right_program_runs(section: Section, names: dict[str, Any]) -> None:
    exec(section.right, names)


def test_every_error_class_has_its_line_on_the_page() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for name, value in vars(sl.errors).items():
        if isinstance(value, type) and issubclass(value, sl.SteerlabError):
            assert name in page


def test_the_programs_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    programs = [body for language, _, body in FENCE.findall(page) if language == "python"]
    assert programs
    names: dict[str, Any] = {}
    for program in programs:
        exec(program, names)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/how-it-works.md", "docs/errors.md"])
def test_links_to_files_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http:", "https:")):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
