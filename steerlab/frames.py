"""What was measured as a data frame and as a picture. pandas and matplotlib are imported when they are first asked for;
where one is missing, the error says how it is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from steerlab.errors import SteerlabError
from steerlab.metrics import Estimate

if TYPE_CHECKING:
    import pandas as pd

CELL = 0.45  # inches of a map's cell


def table(data: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A data frame of columns, or of rows. Raises SteerlabError where pandas is not installed."""
    return _needed("pandas", "a table").DataFrame(data)


def estimated(name: str, estimate: Estimate) -> dict[str, float]:
    """An estimate as columns of a table: `name` its value, then name_low, name_high and name_n."""
    parts = estimate._asdict()
    return {name: parts.pop("value"), **{f"{name}_{part}": value for part, value in parts.items()}}


def axes(given: Any = None, size: tuple[float, float] | None = None) -> Any:
    """Matplotlib's axes: those that are given, else new ones of a size in inches. Raises SteerlabError where matplotlib
    is not installed.
    """
    if given is not None:
        return given
    return _needed("matplotlib.pyplot", "a picture").subplots(figsize=size)[1]


def heatmap(
    values: Any, *, columns: Iterable[Any], rows: Iterable[Any], label: str, ax: Any = None, **options: Any
) -> Any:
    """A map of `values` [rows columns] with a colour bar, NaN left empty; returns matplotlib's axes."""
    columns, rows = list(columns), list(rows)
    ax = axes(ax, (2 + CELL * len(columns), 1.2 + CELL * len(rows)))
    image = ax.imshow(values, cmap="cividis", aspect="auto", **options)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.figure.colorbar(image, ax=ax, label=label)
    return ax


def _needed(module: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise SteerlabError(
            f"{what} needs {package}, which is not installed",
            f"Install it: pip install {package}, or all that steerlab uses: pip install 'steerlab[lab]'.",
        ) from error
