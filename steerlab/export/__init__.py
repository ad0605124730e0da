"""Exports: a recipe as something that runs without steerlab."""

from steerlab.export.weights import weights

__all__ = ["weights"]
