"""The lab of a kernel outside of its cells: what the JupyterLab extension runs to show one that nobody has displayed.

It looks where a person would, among the names of the notebook. It keeps nothing, makes no lab, and imports none of what
a lab needs: a kernel that has not done so has no lab.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from IPython.core.getipython import get_ipython
from IPython.display import display

if TYPE_CHECKING:
    from steerlab.lab import Lab


def show() -> None:
    """Display the panel of the newest lab, without a static page, as no cell is to hold it; of none, nothing."""
    shell = get_ipython()
    lab = newest(shell.user_ns) if shell else None
    if lab is not None:
        view = {
            "application/vnd.jupyter.widget-view+json": lab.panel.get_view_spec(),
            "text/plain": repr(lab),
        }
        display(view, raw=True)  # type: ignore[no-untyped-call]


def newest(names: Mapping[str, object]) -> Lab | None:
    """The lab that was opened last and is not closed. What begins with an underscore, as IPython's `_`, is no name."""
    if "steerlab.lab" not in sys.modules:
        return None
    from steerlab.lab import Lab

    labs = [one for name, one in names.items() if isinstance(one, Lab) and not name.startswith("_")]
    return max((lab for lab in labs if lab.opened is not None), key=lambda lab: lab.opened or 0, default=None)
