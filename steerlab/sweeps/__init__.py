"""Sweeps: prompts x recipes x metrics to a tidy table, in batches that can be stopped and gone on with."""

from steerlab.sweeps.cells import Cell, grid, named, with_controls
from steerlab.sweeps.tables import Scores, Sweep

__all__ = ["Cell", "Scores", "Sweep", "grid", "named", "with_controls"]
