"""The widget's bundle runs wherever anywidget does, as in VS Code and Colab: it loads nothing, calls nobody and needs
no JupyterLab.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import steerlab

BUNDLE = Path(steerlab.__file__).parent / "static" / "widget.js"
FORBIDDEN = {
    "asks the network": r"\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|RTCPeerConnection",
    "loads code": r"\bimport\(|\bimport[\s{*\"']|importScripts|\beval\(|new Function|\bWorker\(",
    "needs JupyterLab": r"jupyterapp|@jupyterlab|@lumino|requirejs|window\.Jupyter",
    "keeps something in the browser": r"localStorage|sessionStorage|indexedDB|document\.cookie",
    "writes markup": r"\.innerHTML\s*=|insertAdjacentHTML|document\.write",
}


@pytest.mark.skipif(not BUNDLE.is_file(), reason="the panel is not built: npm run build in js/")
@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_bundle_stands_alone(what: str) -> None:
    found = re.findall(FORBIDDEN[what], BUNDLE.read_text())
    allowed = (
        [".innerHTML="] if what == "writes markup" else []
    )  # Preact's dangerouslySetInnerHTML, which nobody uses
    assert [f for f in found if f not in allowed] == []


@pytest.mark.skipif(not BUNDLE.is_file(), reason="the panel is not built: npm run build in js/")
def test_the_bundle_names_no_address_but_those_of_markup_languages() -> None:
    addresses = set(re.findall(r"https?://[^\"'`\s)]*", BUNDLE.read_text()))
    assert {a for a in addresses if not a.startswith("http://www.w3.org/")} == set()
    sources = BUNDLE.with_suffix(".css").read_text()
    assert re.findall(r"url\(|@import", sources) == []


def test_nobody_writes_markup() -> None:
    widget = Path(steerlab.__file__).parents[1] / "js" / "src" / "widget"
    if not widget.is_dir():
        pytest.skip("not a checkout")
    for source in widget.rglob("*.ts*"):
        assert not re.search("innerHTML|dangerouslySetInnerHTML", source.read_text()), source
