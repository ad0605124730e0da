"""Directions in the files of other tools: one module for each format, and `load`, which recognises a file.

    refusal_direction   direction.pt and direction_metadata.json of Arditi et al. 2024
    gguf                control vectors of llama.cpp and repeng
    saelens             a decoder row of a sparse autoencoder
    neuronpedia         the JSON of a vector or a feature
    steering_vectors    SteeringVector objects, and safetensors files of their layers

A file that does not say where its vectors belong is refused with a question, and the error shows the argument that
answers it. No file is trusted: nothing here runs code that comes from one.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steerlab.formats import gguf, neuronpedia, refusal_direction, saelens, steering_vectors
    from steerlab.formats.door import load, load_layers, recognise

__all__ = [
    "gguf",
    "load",
    "load_layers",
    "neuronpedia",
    "recognise",
    "refusal_direction",
    "saelens",
    "steering_vectors",
]

_DOOR = ("load", "load_layers", "recognise")


def __getattr__(name: str) -> object:
    if name in _DOOR:
        return getattr(import_module("steerlab.formats.door"), name)
    if name in __all__:
        return import_module(f"steerlab.formats.{name}")
    raise AttributeError(f"module 'steerlab.formats' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
