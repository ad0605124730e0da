"""What the browser tests share: one browser, and one server for each application."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
import rig
from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with rig.chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], rig.Server]]:
    """Starts an application's server when it is first asked for."""
    with ExitStack() as running:
        yield cache(
            lambda app: running.enter_context(rig.serve(tmp_path_factory.mktemp(app), app, warm=True))
        )


@pytest.fixture
def server(request: pytest.FixtureRequest, servers: Callable[[str], rig.Server]) -> Iterator[rig.Server]:
    """JupyterLab, or what a test names: `@pytest.mark.parametrize("server", ["notebook"], indirect=True)`."""
    started = servers(getattr(request, "param", "lab"))
    yield started
    started.end_kernels()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails its test where a script of ours fails in it; Notebook has failures of its own."""
    opened = rig.new_page(browser, viewport={"width": 1280, "height": 1000})
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the page of a failed test showed stands in the report: often nobody can look at it again."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.failed and report.when == "call" and isinstance(page, Page) and not page.is_closed():
        report.sections.append(("the page", rig.shown(page)))
    return report
