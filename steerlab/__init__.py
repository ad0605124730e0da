"""The public names of steerlab, loaded when they are first used.

`import steerlab` must stay light: no torch, no nnsight, no transformers, no work. Each name below says which module
it lives in, and `__getattr__` (PEP 562) imports that module the first time the name is asked for. The imports under
TYPE_CHECKING are the same list for type checkers and editors; `tests/test_public_names.py` proves that they agree.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from steerlab._version import __version__

if TYPE_CHECKING:
    from steerlab import edits, errors, estimators, export, formats, lens, metrics, prompts, snapshots, sweeps
    from steerlab.directions import Direction
    from steerlab.errors import SteerlabError
    from steerlab.generations import Generation, Sampling
    from steerlab.interventions import Ablate, Add, Clamp, Gate
    from steerlab.lab import Lab
    from steerlab.prompts import ContrastSet
    from steerlab.recipes import BASELINE, Recipe
    from steerlab.rows import Row
    from steerlab.sharing import open_shared, share
    from steerlab.sites import Site
    from steerlab.snapshots import Snapshot

__all__ = [
    "BASELINE",
    "Ablate",
    "Add",
    "Clamp",
    "ContrastSet",
    "Direction",
    "Gate",
    "Generation",
    "Lab",
    "Recipe",
    "Row",
    "Sampling",
    "Site",
    "Snapshot",
    "SteerlabError",
    "__version__",
    "edits",
    "errors",
    "estimators",
    "export",
    "formats",
    "lens",
    "metrics",
    "open_shared",
    "prompts",
    "share",
    "snapshots",
    "sweeps",
]

_HOME = {
    "BASELINE": "recipes",
    "Ablate": "interventions",
    "Add": "interventions",
    "Clamp": "interventions",
    "ContrastSet": "prompts",
    "Direction": "directions",
    "Gate": "interventions",
    "Generation": "generations",
    "Lab": "lab",
    "Recipe": "recipes",
    "Row": "rows",
    "Sampling": "generations",
    "Site": "sites",
    "Snapshot": "snapshots",
    "SteerlabError": "errors",
    "open_shared": "sharing",
    "share": "sharing",
}
_MODULES = (
    "edits",
    "errors",
    "estimators",
    "export",
    "formats",
    "lens",
    "metrics",
    "prompts",
    "snapshots",
    "sweeps",
)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"steerlab.{name}")
    if name in _HOME:
        value = getattr(import_module(f"steerlab.{_HOME[name]}"), name)
        globals()[name] = value  # found without this function from now on
        return value
    raise AttributeError(f"module 'steerlab' has no attribute {name!r}; public names: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
