"""A throw-away Jupyter server and a browser for the tests that drive the real thing.

Everything is temporary and on 127.0.0.1: configuration, data, settings, notebooks. What a person has installed or set
does not matter to a test, and a test leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import nbformat
from playwright.sync_api import Browser, Error, Locator, Page, expect, sync_playwright

REPOSITORY = Path(__file__).parents[2]
CHROMIUM = os.environ.get("STEERLAB_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=20_000)  # a machine may be slow, or busy with other tests
MODULES = {"lab": "jupyterlab", "notebook": "notebook"}


@dataclass
class Server:
    """A running server. app: "lab" or "notebook". root: where its notebooks are. kernel: of those it writes."""

    app: str
    url: str
    root: Path
    kernel: str = "python3"

    def address(self, notebook: str) -> str:
        return f"{self.url}/{'lab/tree' if self.app == 'lab' else 'notebooks'}/{notebook}"

    def write(self, notebook: str, *cells: str) -> None:
        made = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": self.kernel, "display_name": "Python 3", "language": "python"}},
        )
        nbformat.write(made, self.root / notebook)

    def end_kernels(self) -> None:
        """Free what the notebooks so far hold in memory."""
        for kernel in json.loads(urllib.request.urlopen(f"{self.url}/api/kernels").read()):
            gone = urllib.request.Request(f"{self.url}/api/kernels/{kernel['id']}", method="DELETE")
            with contextlib.suppress(urllib.error.HTTPError):  # it may have died by itself
                urllib.request.urlopen(gone).close()


@contextlib.contextmanager
def serve(
    folder: Path,
    app: str = "lab",
    settings: dict[str, Any] | None = None,
    arguments: Sequence[str] = (),
    *,
    warm: bool = False,
) -> Iterator[Server]:
    """Start a server below `folder`, and end it with all of its kernels. warm: the notebooks that it writes get kernels
    that have steerlab imported when they start, where a process with threads can be forked.
    """
    warm = warm and sys.platform == "linux"
    root, config = folder / "root", folder / "config"
    places = {
        "JUPYTER_CONFIG_DIR": config,
        "JUPYTER_DATA_DIR": folder / "data",
        "JUPYTER_RUNTIME_DIR": folder / "runtime",
        "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
        "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
        "IPYTHONDIR": folder / "ipython",
    }
    for place in (root, config / "labconfig", *places.values()):
        place.mkdir(parents=True, exist_ok=True)
    quiet = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
    overrides = config / "labconfig" / "default_setting_overrides.json"
    overrides.write_text(json.dumps({**quiet, **(settings or {})}))
    _link_extension(folder / "data")
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        MODULES[app],
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root}",
        "--IdentityProvider.token=",
        "--ServerApp.disable_check_xsrf=True",
        "--LabApp.extension_manager=readonly",
        "--KernelManager.shutdown_wait_time=0.5",  # a kernel that has torch does not end by itself when it is told to
        f"--{'LabApp' if app == 'lab' else 'JupyterNotebookApp'}.expose_app_in_browser=True",
        *arguments,
    ]
    env = {**os.environ, **{name: str(place) for name, place in places.items()}}
    env["JUPYTER_PREFER_ENV_PATH"] = "0"  # else a virtual environment's own copy of the extension would win
    env["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), env.get("PYTHONPATH", "")])
    log = folder / "server.log"
    with contextlib.ExitStack() as running:
        if warm:
            running.enter_context(_warm_kernels(folder, env))
        process = running.enter_context(_process(command, env, root, log))
        _wait_until_up(process, port, log)
        yield Server(app, f"http://127.0.0.1:{port}", root, "warm" if warm else "python3")


@contextlib.contextmanager
def _process(
    command: Sequence[str], env: dict[str, str], folder: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with all that it started."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=env, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(4)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def _warm_kernels(folder: Path, env: dict[str, str]) -> Iterator[None]:
    """Offer the kernel "warm" to a server whose data are in this folder."""
    with tempfile.TemporaryDirectory() as short:  # the path of a socket has 108 characters at most
        program = [sys.executable, str(Path(__file__).with_name("warm.py"))]
        address = str(Path(short) / "socket")
        spec = {
            "argv": [*program, "kernel", address, "{connection_file}"],
            "display_name": "Python 3, warm",
            "language": "python",
        }
        place = folder / "data" / "kernels" / "warm" / "kernel.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(spec))
        with _process([*program, "fork", address], env, folder, folder / "warm.log"):
            yield


def _link_extension(data: Path) -> None:
    """Take the extension from the checkout, so that what is tested is what was built last."""
    target = data / "labextensions" / "@steerlab" / "lab"
    target.parent.mkdir(parents=True)
    target.symlink_to(REPOSITORY / "steerlab" / "labextension", target_is_directory=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(480):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=2).read()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.125)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


# ---------------------------------------------------------------------------------------- what a page said and showed

_said: WeakKeyDictionary[Page, deque[str]] = WeakKeyDictionary()


def new_page(browser: Browser, **options: Any) -> Page:
    """A page whose last lines of the console are kept for `shown`, and where no file dialog ever opens."""
    page = browser.new_page(**options)
    said = _said[page] = deque(maxlen=20)
    page.on("console", lambda message: said.append(f"{message.type}: {message.text[:300]}"))
    # expect_file_chooser alone tells the browser so late that a key pressed at once may open a real dialog
    page.on("filechooser", lambda _: None)
    return page


def shown(page: Page) -> str:
    """What has the focus, what the panels show, and what the console said last."""
    try:
        focus, *panels = page.evaluate(
            """() => [
                document.activeElement?.outerHTML ?? "nothing",
                ...[...document.querySelectorAll(".sl-app")].map((el) => el.innerText),
            ]"""
        )
    except Error as error:  # the page has crashed, or hangs
        focus, panels = f"unknown: {error}", []
    parts = [("address", page.url), ("focus", focus[:400]), *(("panel", text[:2000]) for text in panels)]
    return "\n\n".join(
        f"{name}: {text}" for name, text in [*parts, ("console", "\n".join(_said.get(page, ())))]
    )


# ------------------------------------------------------------------------------------------------ in an open notebook


def open_notebook(page: Page, server: Server, notebook: str) -> None:
    """Open a notebook and wait for its kernel."""
    page.goto(
        server.address(notebook) + ("?reset" if server.app == "lab" else ""), wait_until="domcontentloaded"
    )
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
    page.wait_for_function(f"{SESSION}?.session?.kernel?.status === 'idle'", timeout=90_000)


SESSION = "window.jupyterapp?.shell.currentWidget?.sessionContext"


def command(page: Page, name: str) -> None:
    """Execute one of the application's commands, to its end."""
    page.evaluate("name => jupyterapp.commands.execute(name).then(() => null)", name)


def fold_sidebar(page: Page) -> None:
    """Give the notebook the whole width; Notebook 7 has nothing beside it."""
    fold = "application:toggle-left-area"
    page.evaluate(
        "name => jupyterapp.commands.hasCommand(name) ? jupyterapp.commands.execute(name).then(() => null) : null",
        fold,
    )


def run_cell(page: Page, index: int) -> None:
    """Run a cell, without waiting for its end."""
    page.evaluate(
        """index => {
            const notebook = jupyterapp.shell.currentWidget.content;
            notebook.deselectAll();
            notebook.activeCellIndex = index;
            jupyterapp.commands.execute("notebook:run-cell");
        }""",
        index,
    )


def execute(page: Page, code: str) -> str:
    """Run code in the notebook's kernel, outside of any cell; what it printed."""
    return str(
        page.evaluate(
            """async code => {
                const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                let text = "";
                const future = kernel.requestExecute({ code, store_history: false });
                future.onIOPub = ({ header, content }) => {
                    if (header.msg_type === "stream") text += content.text;
                    if (header.msg_type === "error") text += content.ename + ": " + content.evalue;
                };
                await future.done;
                return text;
            }""",
            code,
        )
    )


def until_prints(page: Page, code: str, text: str, seconds: float = 30) -> None:
    """Run code in the kernel until it prints `text`."""
    end = time.monotonic() + seconds
    while (printed := execute(page, code).strip()) != text:
        assert time.monotonic() < end, f"{code} still prints {printed}"
        page.wait_for_timeout(50)


def set_slider(slider: Locator, value: float) -> None:
    """Move a slider, as one step of a drag does."""
    slider.evaluate(
        "(el, value) => { el.value = value; el.dispatchEvent(new Event('input', { bubbles: true })); }",
        str(value),
    )
