"""What the tests of generated cells share: recipes of every kind, and a process that cannot import steerlab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import models
import torch

from steerlab import BASELINE, Ablate, Add, Clamp, Direction, Gate, Lab, Recipe, Sampling, Site
from steerlab.rows import Row

FAMILIES = ("llama", "gpt2", "gemma2", "falcon", "gpt-neox")
PROMPT = "How do I bake bread?"
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": 'I "say"\n'}]
RUNNER = """
import json, runpy, sys
sys.modules["steerlab"] = None
cells = [runpy.run_path(path, run_name="__main__") for path in sys.argv[1:]]
print("\\n" + json.dumps([[cell["baseline"], cell["steered"]] for cell in cells]))
"""


def direction(seed: int = 0, name: str = "import") -> Direction:
    noise = torch.randn(models.D_MODEL, generator=torch.Generator().manual_seed(seed))
    return Direction(12 * noise, Site(2, "resid_pre"), name=name)


def recipes(parallel: bool) -> dict[str, Recipe]:
    """Every kind of step, scope and site."""
    v, w = direction(0), direction(1, "a b\nc")
    middle = "resid_post" if parallel else "resid_mid"
    return {
        "baseline": BASELINE,
        "paper": Recipe([Ablate([v, w])]),
        "prompt": Recipe([Add(v, 2.0, tokens="prompt")]),
        "generated": Recipe([Add(w, -1.5, sites=middle, layers=[0, 1, 3], tokens="generated", keep_norm=True)]),
        "mixed": Recipe(
            [
                Clamp(v, 3.0, layers=[1, 2], sites=[middle, "mlp_out"], gate=Gate(w, -0.5)),
                Add(v, 1.0, sites=["attn_out", Site(1, middle)], tokens=[-2, -5, -999], gate=Gate(direction(2))),
                Ablate(w, strength=0.7, one_sided=True, layers=range(3), sites=["resid_pre", middle]),
                Ablate([v, direction(3)], layers=[2], sites="attn_out", tokens="generated"),
            ]
        ),
    }  # fmt: skip


def rows_of(architecture: str) -> list[Row]:
    """Every recipe, and a prompt without a template and one with turns."""
    rows = [Row(PROMPT, recipe) for recipe in recipes(architecture in models.PARALLEL).values()]
    return [*rows, Row("No chat\n", rows[-1].recipe, chat=False), Row(CHAT, rows[-1].recipe)]


def run_without_steerlab(
    cells: list[str], folder: Path, environ: dict[str, str] | None = None
) -> list[list[list[int]]]:
    """What the cells found, `[cells (baseline, steered) tokens]`, in a process in which steerlab cannot be imported."""
    paths = []
    for i, cell in enumerate(cells):
        paths.append(folder / f"cell_{i}.py")
        paths[-1].write_text(cell, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error:::__main__", "-c", RUNNER, *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **(environ or {})},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[list[list[int]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def as_lab_answers(lab: Lab, row: Row, sampling: Sampling) -> list[list[int]]:
    """The tokens of the lab: baseline and steered."""
    asked = [Row(row.prompt, recipe, row.seed, row.chat) for recipe in (BASELINE, row.recipe)]
    return [list(answer.token_ids) for answer in lab.run(asked, sampling)]
