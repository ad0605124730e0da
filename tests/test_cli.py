"""The command line: what it copies, what it refuses, what it says, and with which exit code."""

from __future__ import annotations

import inspect
import io
import sys
import types
from pathlib import Path

import nbformat
import pytest

import steerlab
from steerlab import BASELINE, Ablate, Add, Lab, Recipe, cli, doctor
from steerlab.demo import world
from steerlab.doctor import Check

FIRST = "01_first_steps.ipynb"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that JupyterLab would have been started with."""
    calls: list[list[str]] = []

    def start(words: list[str]) -> int:
        calls.append(words)
        return 0

    monkeypatch.setattr(cli, "start_jupyterlab", start)
    return calls


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"steerlab {steerlab.__version__}\n"


def test_without_a_command_the_help_is_shown_and_the_exit_code_is_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == 2
    shown = capsys.readouterr().err
    for command in ("lab", "demo", "doctor", "train-demo"):
        assert command in shown


# ---------------------------------------------------------------- lab


def test_lab_copies_the_first_notebook_and_opens_it(tmp_path: Path, started: list[list[str]]) -> None:
    assert cli.main(["lab", "--dir", str(tmp_path / "new")]) == 0
    copy = tmp_path / "new" / FIRST
    assert copy.read_bytes() == cli.tutorials()[0].read_bytes()
    assert f"--ServerApp.root_dir={copy.parent}" in started[0]
    assert f"--LabApp.default_url=/lab/tree/{FIRST}" in started[0]


def test_lab_stands_where_the_person_stands(
    tmp_path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lab"]) == 0
    assert (tmp_path / FIRST).is_file()
    assert f"--ServerApp.root_dir={tmp_path}" in started[0]


def test_lab_never_overwrites_and_says_so(
    tmp_path: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / FIRST
    mine.write_text("my notes")
    assert cli.main(["lab", "--dir", str(tmp_path)]) == 0
    assert mine.read_text() == "my notes"
    assert f"{mine}: was here already and is kept" in capsys.readouterr().out
    assert started, "the kept file is opened all the same"


def test_lab_does_not_follow_a_dangling_link(tmp_path: Path, started: list[list[str]]) -> None:
    (tmp_path / FIRST).symlink_to(tmp_path / "elsewhere.ipynb")
    assert cli.main(["lab", "--dir", str(tmp_path)]) == 0
    assert not (tmp_path / "elsewhere.ipynb").exists()


def test_lab_passes_port_browser_and_extra_arguments_on(tmp_path: Path, started: list[list[str]]) -> None:
    words = [
        "lab",
        "--dir",
        str(tmp_path),
        "--no-browser",
        "--port",
        "9123",
        "--",
        "--ServerApp.ip=127.0.0.1",
    ]
    assert cli.main(words) == 0
    assert {"--no-browser", "--port=9123"} <= set(started[0])
    assert started[0][-1] == "--ServerApp.ip=127.0.0.1"


def test_lab_without_jupyterlab_names_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["lab", "--dir", str(tmp_path)]) == 1
    shown = capsys.readouterr().err
    assert "JupyterLab is not installed" in shown
    assert 'pip install "jupyterlab' in shown
    assert list(tmp_path.iterdir()) == [], "nothing is copied when nothing can be opened"


def test_lab_into_a_place_that_is_a_file_says_what_to_do(
    tmp_path: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["lab", "--dir", str(tmp_path / "file")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert not started


def test_arguments_after_the_dashes_belong_to_lab_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor", "--", "--port=1"])
    assert stop.value.code == 2
    assert "passes nothing on" in capsys.readouterr().err


def test_the_first_tutorial_begins_with_the_panel() -> None:
    notebook = nbformat.read(cli.tutorials()[0], as_version=4)
    nbformat.validate(notebook)
    words, cell = notebook.cells[:2]
    assert "Press Shift+Enter twice" in words.source
    assert cell.source == "import steerlab as sl\n\nlab = sl.Lab()\nlab"
    assert all(cell.id for cell in notebook.cells)


# ---------------------------------------------------------------- demo


def test_two_columns_fit_the_width_and_keep_every_word() -> None:
    left, right = "one two three four five six", "alpha beta\ngamma"
    block = cli.side_by_side(("baseline", left), ("refusal added", right), width=33)
    lines = block.splitlines()
    assert all(len(line) <= 33 for line in lines)
    assert "baseline" in lines[0]
    assert "refusal added" in lines[0]
    for word in (left + " " + right).split():
        assert word in block


def test_an_empty_text_is_said_to_be_empty() -> None:
    assert "(no text)" in cli.side_by_side(("baseline", ""), ("steered", "x"), width=60)


def test_demo_shows_a_refusal_appear_and_disappear(
    demo_lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steerlab, "Lab", lambda: demo_lab)
    assert cli.main(["demo"]) == 0
    shown = capsys.readouterr().out
    refusal = demo_lab.directions["refusal"]
    push, drop = Recipe([Add(refusal)]), Recipe([Ablate(refusal)])
    expected = {(cli.HARMLESS, BASELINE): False, (cli.HARMLESS, push): True} | {
        (cli.HARMFUL, BASELINE): True,
        (cli.HARMFUL, drop): False,
    }
    for (prompt, recipe), refuses in expected.items():
        text = demo_lab.generate(prompt, recipe).text
        assert world.is_refusal(text) is refuses, f"{prompt} {recipe}: {text}"
        assert f"> {prompt}" in shown
        assert " ".join(text.split()[:4]) in shown


def test_demo_takes_a_prompt_and_a_coefficient(
    demo_lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steerlab, "Lab", lambda: demo_lab)
    assert cli.main(["demo", "Where is Paris?", "--coefficient", "0"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("> Where is Paris?") == 2
    assert "coefficient 0" in shown


def test_demo_with_an_empty_prompt_is_a_plain_error(
    demo_lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steerlab, "Lab", lambda: demo_lab)
    assert cli.main(["demo", " "]) == 1
    assert "the prompt is empty" in capsys.readouterr().err


# ---------------------------------------------------------------- doctor


def test_doctor_prints_a_line_per_check_and_fails_only_when_something_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = [Check("python", "ok", "3.11"), Check("jupyterlab", "note", "not installed", "pip install it")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(fine))
    assert cli.main(["doctor"]) == 0
    assert "pip install it" in capsys.readouterr().out
    monkeypatch.setattr(
        doctor, "examine", lambda: iter([*fine, Check("torch", "broken", "not installed", "do this")])
    )
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "broken  torch" in shown
    assert "do this" in shown


def test_a_terminal_without_arrows_and_lines_gets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    monkeypatch.setattr(doctor, "examine", lambda: iter([Check("torch", "note", "old", "update it")]))
    assert cli.main(["doctor"]) == 0
    print(cli.side_by_side(("baseline", "a"), ("steered", "b"), 60), flush=True)
    shown = written.getvalue().decode("cp1252")
    assert "? update it" in shown
    assert "baseline" in shown


def test_doctor_reports_a_missing_package_as_broken() -> None:
    check = doctor.needed("surely-not-installed")
    assert check.verdict == "broken"
    assert "pip install surely-not-installed" in check.fix


def test_doctor_reports_a_package_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> types.ModuleType:
        raise ImportError("undefined symbol")

    monkeypatch.setattr("importlib.import_module", fail)
    check = doctor.needed("torch")
    assert check.verdict == "broken"
    assert "undefined symbol" in check.found


def test_doctor_survives_a_check_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_model() -> Check:
        raise RuntimeError("weights are gone\nsecond line")

    monkeypatch.setattr(doctor, "embedded_model", broken_model)
    last = list(doctor.examine())[-1]
    assert (last.name, last.verdict) == ("embedded model", "broken")
    assert last.found == "RuntimeError: weights are gone"


# ---------------------------------------------------------------- train-demo


def test_train_demo_hands_its_arguments_to_train_and_finds_the_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Path, dict[str, object]]] = []
    found: list[Path] = []
    monkeypatch.setattr("steerlab.demo.evaluate.find_refusal", found.append)
    stub = types.ModuleType("steerlab.demo.train")
    stub.train = lambda out, **options: calls.append((out, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "steerlab.demo.train", stub)
    words = ["--out", str(tmp_path), "--seed", "3", "--device", "cuda:1", "--threads", "1", "--scale", "0.5"]
    assert cli.main(["train-demo", *words]) == 0
    assert calls == [(tmp_path, {"seed": 3, "device": "cuda:1", "threads": 1, "scale": 0.5})]
    assert found == [tmp_path]


def test_train_has_the_options_that_the_command_line_hands_on() -> None:
    from steerlab.demo.train import train

    options = inspect.signature(train).parameters
    assert {"seed", "device", "threads", "scale"} <= set(options)
    given = vars(cli._parser().parse_args(["train-demo", "--out", "x"]))
    assert {name: given[name] for name in ("seed", "device", "threads", "scale")} == {
        name: options[name].default for name in ("seed", "device", "threads", "scale")
    }


def test_train_demo_does_not_train_over_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors").touch()
    assert cli.main(["train-demo", "--out", str(tmp_path)]) == 1
    assert "Name a new folder" in capsys.readouterr().err


def test_train_demo_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train-demo"])
    assert stop.value.code == 2
    assert "--out" in capsys.readouterr().err
