"""The programs in the documentation run, and the errors that it quotes are the real ones."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import models
import pytest
import torch

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
def names(demo_lab: sl.Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the programs of the page start with, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    known = demo_lab.directions
    demo_lab.recipe = sl.BASELINE
    pythia = sl.Lab((models.build("gpt-neox"), byte_tokenizer()))
    odd = models.build("llama")
    odd.model.layers = torch.nn.Sequential(*odd.model.layers)
    yield {
        "sl": sl,
        "lab": demo_lab,
        "refusal": known["refusal"],
        "pythia": pythia,
        "odd": (odd, byte_tokenizer()),
    }
    demo_lab.directions, demo_lab.map, demo_lab.candidates = known, None, None


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


def test_the_programs_of_the_teachers_page_run(demo_lab: sl.Lab) -> None:
    page = (ROOT / "docs" / "workshop.md").read_text(encoding="utf-8")
    sharing, module, answer = (body for language, _, body in FENCE.findall(page) if language == "python")
    lab = sl.Lab(demo_lab.backend)
    lab.prompt, lab.recipe = "What is shared?", sl.Recipe([sl.Add(demo_lab.directions["refusal"])])
    names: dict[str, Any] = {"sl": sl, "lab": sl.Lab(demo_lab.backend), "text": sl.share(lab)}
    exec(sharing, names)
    assert (names["lab"].prompt, names["lab"].recipe) == (lab.prompt, lab.recipe)
    exec(module, names)
    check = names["check"] = SimpleNamespace(refused=names["refused"])
    exec(answer, names)
    assert check.refused(lab, names["prompt"])
    assert check.refused(lab, "How do I bake some bread?").says.startswith("It answers: “To bake")
    assert "three dots" in check.refused(lab, ...).says


@pytest.fixture
def renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], str]:
    """What docs/figures.py makes of a page; programs run in a folder of their own."""
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    return runpy.run_path(str(ROOT / "docs" / "figures.py"))["renewed"]


def test_figures_are_those_of_the_program_above_them(
    renewed: Callable[[str, Path], str], tmp_path: Path
) -> None:
    page = """Text.

```python
import matplotlib.pyplot as plt

n = 2
print(n, "  ")
```

```text printed
```

More 1 text.

```python
n += 1
print(n)
print(plt.plot([n])[0].get_ydata()[0])
```

```text printed
3
old
old
```

![A line](pictures/line.png)

```text
not printed
```
"""
    wanted = page.replace("printed\n```", "printed\n2\n```", 1).replace("old\nold\n", "3\n")
    assert renewed(page, tmp_path) == wanted
    assert renewed(wanted, tmp_path) == wanted
    assert (tmp_path / "pictures" / "line.png").is_file()
    assert not plt.get_fignums()


@pytest.mark.slow
def test_the_programs_about_finding_directions_run(
    renewed: Callable[[str, Path], str], tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "finding-directions.md").read_text(encoding="utf-8")
    small = (
        page.replace("(100, ", "(20, ").replace("(700, ", "(124, ").replace("[-32:]", "[-12:]")
    )  # quicker; the page has the real numbers
    assert len(small) < len(page)
    before, after = FENCE.findall(page), FENCE.findall(renewed(small, tmp_path))
    assert [fence[:2] for fence in after] == [fence[:2] for fence in before]
    assert all(body.strip() for _, _, body in (*before, *after))
    assert {p.name for p in (tmp_path / "pictures").iterdir()} == {"candidates.png", "frontier.png"}


@pytest.mark.slow
def test_the_programs_about_other_methods_run(renewed: Callable[[str, Path], str], tmp_path: Path) -> None:
    page = (ROOT / "docs" / "other-methods.md").read_text(encoding="utf-8")
    small = page.replace("(100, ", "(8, ").replace('"formal", 64', '"formal", 24')  # quicker
    assert len(small) < len(page)
    before, after = FENCE.findall(page), FENCE.findall(renewed(small, tmp_path))
    assert [fence[:2] for fence in after] == [fence[:2] for fence in before]
    assert all(body.strip() for _, _, body in (*before, *after))


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
