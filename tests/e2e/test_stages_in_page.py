"""A model that a server has to load first: what the panel's header says of it, stage by stage."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bare import BarePanel
from playwright.sync_api import Page, expect

sys.path.append(str(Path(__file__).parents[1] / "ndif"))
from test_stages import IDS, STAGES, TEXT, deploying
from test_troubles import said, token

pytestmark = pytest.mark.e2e


def test_the_header_says_where_a_model_is_that_is_loaded_first(
    page: Page, model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with deploying(model_folders["llama"]) as (lab, say):
        panel = BarePanel(page, lab)

        def header() -> str:
            return panel.read(".sl-jobs-word")

        panel.until(lambda: header() == "received by the server")
        for frame, _, words in STAGES:
            assert header() != words
            say(frame)
            panel.until(lambda words=words: header() == words)
            expect(page.locator(".sl-status")).to_have_attribute("data-look", "running")
            assert not panel.text("steered")
        say(token(0, IDS[0]))
        panel.until(lambda: panel.text("steered") == TEXT[0])
        assert header() == "running on the server"
        say(token(1, IDS[1]))
        say(said("COMPLETED", data="URL/result"))
        panel.until(lambda: panel.text("steered") == panel.text("baseline") == TEXT and header() == "ready")
