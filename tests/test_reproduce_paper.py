"""The example that reproduces the paper's tables, run as a person runs it, beside the lab's own verbs."""

from __future__ import annotations

import csv
import json
import os
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import steerlab as sl
from steerlab.backends.fake import FakeBackend

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "reproduce_paper.py"
SEARCH, N = 20, 4


@pytest.mark.slow
def test_its_figures_are_those_of_the_verbs(demo_lab: sl.Lab, tmp_path: Path) -> None:
    """The harmful prompts come from a file, the harmless ones are the bundled ones."""
    file, out = tmp_path / "harmful.jsonl", tmp_path / "row.csv"
    prompts = sl.prompts.harmful(SEARCH + N)
    file.write_text("".join(json.dumps({"goal": p, "nr": i}) + "\n" for i, p in enumerate(prompts)))
    options = f"--search {SEARCH} --n {N} --max-kl 0.5 --max-new-tokens 24".split()
    command = [sys.executable, str(SCRIPT), *options, "--harmful", str(file), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", env=environment, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr

    names = runpy.run_path(str(SCRIPT))
    search, test = names["read"](str(file), None, names["parse"](options))
    assert sorted(search + test) == sorted(prompts)
    lab = sl.Lab(demo_lab.backend)
    direction = lab.find_direction(search, sl.prompts.harmless(SEARCH), max_kl=0.5)
    assert lab.candidates is not None
    best, candidates = lab.candidates.best, lab.candidates.candidates
    harmless = sl.prompts.harmless(N, split="heldout")
    with out.open(newline="", encoding="utf-8") as lines:
        figures = {line["figure"]: line for line in csv.DictReader(lines)}

    def check(figure: str, value: sl.metrics.Estimate | float) -> None:
        parts = value if isinstance(value, tuple) else (value,)
        got = [float(figures[figure][column]) for column in ("measured", "low", "high", "n")[: len(parts)]]
        assert got == pytest.approx(list(parts), abs=1e-6), figure

    check("position of r", best.position)
    check("layer of r (the input of this block)", best.layer)
    check("bypass: refusal score on harmful prompts, r ablated", best.bypass)
    check("induce: refusal score on harmless prompts, r added", best.induce)
    check("KL on harmless prompts, r ablated", best.kl)
    for name, recipe in {
        "ablated": sl.Recipe([sl.Ablate(direction)]),
        "subtracted": sl.Recipe([sl.Add(direction, -1.0)]),
        "added": sl.Recipe([sl.Add(direction)]),
    }.items():
        report = lab.measure(recipe, test, harmless, texts=names["TEXTS"], sampling=sl.Sampling(24))
        for who, effect in (("r", report["recipe"]), ("random control", report["random control"])):
            if name == "added":
                check(f"harmless prompts refused, {who} added", effect.false_refusals)
            else:
                check(f"harmful prompts refused, {who} {name}", effect.refusal_rate)
                check(f"cross-entropy of own answers, {who} {name}", effect.cross_entropy)
                check(f"cross-entropy of plain texts, {who} {name}", effect.text_cross_entropy)
        check("harmful prompts refused, baseline", report["baseline"].refusal_rate)
        check("harmless prompts refused, baseline", report["baseline"].false_refusals)
        check("cross-entropy of own answers, baseline", report["baseline"].cross_entropy)

    page = done.stdout
    assert page.startswith("# tiny-chat\n")
    assert "Published row: none for this model." in page
    assert f"Prompts, harmful: {file}, {SEARCH} to search and {N} to test." in page
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "|" in line
    ]
    assert all(len(row) == 3 for row in rows)
    middle = rows.index(["candidates of the search", "how many", "lowest bypass"])
    assert [row[0] for row in rows[2:middle]] == list(figures)
    assert {row[2] for row in rows[2:middle]} == {"no published figure"}
    counts = {row[0]: int(row[1]) for row in rows[middle + 2 :]}
    assert sum(counts.values()) == len(candidates)
    assert counts["passed"] == sum(not c.rejected for c in candidates)
    assert counts["layer is among the last fifth"] == sum(c.rejected.startswith("layer") for c in candidates)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nobody/no-such-model"], "the model 'nobody/no-such-model' could not be loaded"),
        (["--harmful", "nowhere.csv"], "there is no file nowhere.csv"),
        (["--harmful", str(ROOT / "README.md")], "README.md is of no kind that is known here"),
    ],
)
def test_its_errors_are_words(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert runpy.run_path(str(SCRIPT))["main"](words) == 1
    assert says in capsys.readouterr().err


def test_too_few_prompts_in_a_file_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "few.txt"
    file.write_text("Break it\nBreak it\nSteal it\n")
    main = runpy.run_path(str(SCRIPT))["main"]
    assert main(["--harmful", str(file), "--search", "2", "--n", "1"]) == 1
    assert "has 2 different prompts, and 2 + 1 are needed" in capsys.readouterr().err


def test_a_published_row_is_found_by_id_or_folder() -> None:
    names = runpy.run_path(str(SCRIPT))
    published = names["published"]
    assert published("google/gemma-2b-it") is published("/models/Gemma-2B-it") != {}
    assert published(None) == published("google/gemma-2-2b-it") == published(".") == {}
    row = published("google/gemma-2b-it")
    figure = names["Figure"]("KL", 0.0664, row["kl"])
    assert names["table"]([figure]).splitlines()[-1] == f"| KL | 0.066 | {row['kl']:.3f} |"


def test_each_measured_effect_stands_beside_its_own_published_figure() -> None:
    names = runpy.run_path(str(SCRIPT))
    row = names["published"]("google/gemma-2b-it")
    measure = partial(
        sl.Lab(FakeBackend()).measure, harmful=["Break it"], harmless=["Bake"], texts=["A b c d."]
    )
    direction = sl.Direction(range(16), sl.Site(2, "resid_pre"))
    figures = names["effects"](partial(measure, sampling=sl.Sampling(4)), direction, row)
    known = {figure.name: figure.published for figure in figures if figure.published is not None}
    assert known == {
        **{
            f"{title}, {recipe}": row[key][i]
            for title, key in (
                ("harmful prompts refused", "refused_harmful"),
                ("cross-entropy of own answers", "ce_own"),
                ("cross-entropy of plain texts", "ce_pile"),
            )
            for i, recipe in enumerate(("baseline", "r ablated", "r subtracted"))
        },
        "harmless prompts refused, baseline": row["refused_harmless"][0],
        "harmless prompts refused, r added": row["refused_harmless"][1],
    }
    assert len(figures) == 5 + 3 + 5 + 5


def test_every_published_row_has_its_figures_in_order() -> None:
    rows = json.loads(SCRIPT.with_name("reference_figures.json").read_text(encoding="utf-8"))["models"]
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["position"] < 0 <= row["layer"] < 0.8 * row["layers"], row["id"]
        assert row["kl"] <= 0.1, "the paper's own threshold"
        assert row["induce"] >= 0
        assert [len(row[key]) for key in ("ce_pile", "ce_alpaca", "ce_own")] == [3, 3, 3]
