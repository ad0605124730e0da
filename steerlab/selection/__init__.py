"""Choosing one direction among many: the candidate filter of Arditi et al. 2024, section 2.3 and appendix C."""

from steerlab.selection.candidates import MIN_INDUCE, AllRejectedError, Candidate, Selection, relaxations
from steerlab.selection.choosing import LAST_LAYERS, MAX_KL, choose, select
from steerlab.selection.sides import Baseline, Side, baseline

__all__ = [
    "LAST_LAYERS",
    "MAX_KL",
    "MIN_INDUCE",
    "AllRejectedError",
    "Baseline",
    "Candidate",
    "Selection",
    "Side",
    "baseline",
    "choose",
    "relaxations",
    "select",
]
