"""What the JupyterLab extension runs to show a lab that no cell has displayed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import scripted

from steerlab.ui import beside, snapshot

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """What it displays where these are the notebook's names."""

    def show(**names: object) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        monkeypatch.setattr(beside, "get_ipython", lambda: SimpleNamespace(user_ns=names))
        monkeypatch.setattr(beside, "display", lambda bundle, *, raw: told.append(bundle))
        beside.show()
        return told

    return show


def test_it_shows_the_panel_of_the_lab_that_was_opened_last(shown: Callable[..., Any]) -> None:
    first, second, last = scripted.lab(), scripted.lab(), scripted.lab()
    (bundle,) = shown(b=last, a=first, text="lab", c=second)
    assert bundle[VIEW]["model_id"] == last.panel.model_id
    last.close()
    (bundle,) = shown(b=last, a=first, c=second)
    assert bundle[VIEW]["model_id"] == second.panel.model_id


def test_a_lab_that_was_closed_and_shown_again_is_the_newest(shown: Callable[..., Any]) -> None:
    first, second = scripted.lab(), scripted.lab()
    first.close()
    again = first.panel
    (bundle,) = shown(a=first, b=second)
    assert bundle[VIEW]["model_id"] == again.model_id


def test_where_there_is_no_lab_or_none_has_a_name_it_shows_nothing(shown: Callable[..., Any]) -> None:
    lab = scripted.lab()
    assert shown(_=lab, _1=lab, numbers=[lab]) == []
    lab.close()
    assert shown(lab=lab) == []


def test_the_name_of_a_page_ends_in_the_id_by_which_a_view_is_shown() -> None:
    panel = scripted.lab().panel
    assert panel.page == f"{snapshot.CLASS}-{panel.model_id}"
    assert "-" not in panel.model_id


def test_a_kernel_without_a_lab_does_not_load_what_one_needs() -> None:
    code = "import steerlab.ui.beside as b, sys; b.show(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
