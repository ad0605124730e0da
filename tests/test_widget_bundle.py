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
    "loads code": r"\bimport\(|\bimport[\s{*\"']|importScripts|\beval\(|\bFunction\("
    r"|\b(?:Shared)?Worker\(|setTimeout\([\"'`]",
    "needs Node or another loader": r"\brequire\(|\bprocess\.|\bmodule\.exports|\bimport\.meta",
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


@pytest.mark.skipif(not BUNDLE.is_file(), reason="the panel is not built: npm run build in js/")
def test_the_widget_is_one_module_that_exports_what_anywidget_asks_for() -> None:
    built = {path.name for path in BUNDLE.parent.iterdir() if not path.name.endswith(".map")}
    assert built == {"widget.js", "widget.css"}
    exports = re.findall(
        r"\bexport\s*(?:\{[^}]*\}|default\b|(?:const|let|class|function)\b)", BUNDLE.read_text()
    )
    assert len(exports) == 1
    assert re.fullmatch(r"export\s*\{\s*[\w$]+ as default\s*\}", exports[0])


@pytest.mark.skipif(not BUNDLE.is_file(), reason="the panel is not built: npm run build in js/")
def test_styles_touch_nothing_but_the_panel() -> None:
    """A host puts them into the page where everything else of it is."""
    css = re.sub(r"/\*.*?\*/", "", BUNDLE.with_suffix(".css").read_text(), flags=re.DOTALL)
    heads = [head.strip() for head in re.findall(r"([^{};]+)\{", css)]
    keyframes = [head.split()[1] for head in heads if head.startswith("@keyframes")]
    selectors = [
        h for h in heads if not h.startswith("@") and not re.fullmatch(r"(?:from|to|[\d.]+%|,|\s)+", h)
    ]
    assert len(selectors) > 100
    assert [s for s in selectors if not all(".sl-" in part for part in outside_brackets(s))] == []
    assert [name for name in keyframes if not name.startswith("sl-")] == []


def outside_brackets(selectors: str) -> list[str]:
    """A list of selectors, apart; commas in brackets, as of `:is(a, b)`, are a selector's own."""
    parts, depth = [""], 0
    for character in selectors:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def test_nobody_writes_markup() -> None:
    widget = Path(steerlab.__file__).parents[1] / "js" / "src" / "widget"
    if not widget.is_dir():
        pytest.skip("not a checkout")
    for source in widget.rglob("*.ts*"):
        assert not re.search("innerHTML|dangerouslySetInnerHTML", source.read_text()), source
