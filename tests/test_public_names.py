"""The public names: one list, said four times (docs, types, lazy table, __all__), and all four agree."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import steerlab

PUBLIC = {
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
}


def test_the_public_names_are_these() -> None:
    assert set(steerlab.__all__) == PUBLIC
    assert dir(steerlab) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_can_be_used(name: str) -> None:
    value = getattr(steerlab, name)
    if inspect.isclass(value):
        assert value.__name__ == name
        assert value.__doc__, f"{name} has no docstring"


def test_type_checkers_see_the_names_that_exist_at_run_time() -> None:
    tree = ast.parse(Path(steerlab.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.name: node.module for node in imports for alias in node.names}
    assert set(typed) | {"__version__"} == PUBLIC
    for name, module in typed.items():
        assert module is not None
        loaded = getattr(steerlab, name)
        if inspect.ismodule(loaded):
            assert loaded.__name__ == f"{module}.{name}"
        else:
            assert loaded is getattr(import_module(module), name)


def test_a_misspelt_name_is_an_attribute_error_that_lists_the_names() -> None:
    with pytest.raises(AttributeError, match=r"'Labb'.*Lab"):
        steerlab.Labb  # type: ignore[attr-defined]


def test_star_import_brings_exactly_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from steerlab import *", names)
    assert set(names) - {"__builtins__"} == PUBLIC
