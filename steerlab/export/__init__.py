"""Exports: a recipe as something that runs without steerlab, or as code to read and change."""

from steerlab.export.code import nnsight_code, steerlab_code
from steerlab.export.weights import weights

__all__ = ["nnsight_code", "steerlab_code", "weights"]
