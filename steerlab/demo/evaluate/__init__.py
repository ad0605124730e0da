"""Measures the embedded model: `python -m steerlab.demo.evaluate [FOLDER]` prints the table of its model card.

Every prompt is held out: training saw neither its combination nor its wording. Refusal is judged by the substring
rule of `world.is_refusal`, on greedy answers; rates come with n and Wilson's 95% interval. The random controls have the
norm of the direction that they stand beside.

figure     a line of the table, refusal rates, readable sentences
refusal    refusal both ways, its controls, and what else ablation changes
layers     how layers differ, and the paper's search
knowledge  concepts, probes, the logit lens
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from steerlab.demo.evaluate.figure import Figure
from steerlab.demo.evaluate.knowledge import concept_figures, lens_figures, probe_figures
from steerlab.demo.evaluate.layers import layer_figures
from steerlab.demo.evaluate.refusal import headline, refusal_figures, sense_figures
from steerlab.directions import Direction
from steerlab.lab import Lab
from steerlab.prompts import harmful, harmless

__all__ = ["Figure", "evaluate", "find_refusal", "headline"]


def find_refusal(folder: Path, name: str = "tiny-chat") -> Direction:
    """Find the refusal direction of a trained folder by the paper's search, and keep it there, as that of the model
    `name`.
    """
    direction = dataclasses.replace(Lab(folder).find_direction(harmful(), harmless()), model=name)
    direction.save(folder / "refusal.safetensors")
    return direction


def evaluate(folder: Path, n: int = 150, typed: Sequence[str] = ()) -> list[Figure]:
    """Every figure of the table. typed: prompts from elsewhere, whose answers should be readable."""
    lab = Lab(folder)
    found = lab.difference_in_means(harmful(128), harmless(128), name="refusal")
    direction = lab.find_direction(harmful(), harmless(), full_map=True)
    assert lab.candidates is not None
    parts = [
        partial(refusal_figures, lab, direction, n),
        partial(sense_figures, lab, direction, n, typed),
        partial(layer_figures, lab, found, lab.candidates, max(20, n // 3)),
        partial(concept_figures, lab),
        partial(probe_figures, lab),
        partial(lens_figures, lab),
    ]
    return [figure for part in parts for figure in part()]
