"""What the browser tests share: one browser, and one server for each application and module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rig
from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with rig.chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[rig.Server]:
    """JupyterLab; a test marked with `@pytest.mark.parametrize("server", [...], indirect=True)` names another."""
    app = getattr(request, "param", "lab")
    with rig.serve(tmp_path_factory.mktemp(app), app) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails its test where a script of ours fails in it; Notebook has failures of its own."""
    opened = browser.new_page(viewport={"width": 1280, "height": 1000})
    failures: list[str] = []
    ours = ("blob:", "@steerlab")  # the widget, and the extension, as they stand in a stack
    opened.on(
        "pageerror",
        lambda error: (
            failures.append(f"{error}\n{error.stack}") if any(o in str(error.stack) for o in ours) else None
        ),
    )
    yield opened
    opened.close()
    assert failures == []
