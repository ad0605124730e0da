"""The key of an account is nowhere that a person may show: not in a traceback's variables, not in a saved notebook."""

from __future__ import annotations

import io
import json
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import models
import nbclient
import nbformat
import pytest
from IPython.core.ultratb import VerboseTB
from misbehaving import Misbehaving, misbehave
from nnsight.schema.config import CONFIG
from test_troubles import QUICK, RUNNING, said

import steerlab as sl
from steerlab import Row, Sampling, errors
from steerlab.backends.fake import byte_tokenizer
from steerlab.backends.ndif import keys, requests
from steerlab.backends.ndif.backend import NdifBackend
from steerlab.serving.server import Server

SECRET = "5f0c1d2e-aaaa-bbbb-cccc-0123456789ab"
ECHO = json.dumps({"detail": f"Invalid API key format: '{SECRET}'."})
ECHOES = {  # servers that do not want the key, and most of them repeat it
    "401, no word of it": Misbehaving(
        answers={"/request": [(401, '{"detail": "Missing or invalid API key."}')]}
    ),
    "401": Misbehaving(answers={"/request": [(401, ECHO)]}),
    "401 to the connection": Misbehaving(answers={"/subscribe": [(401, ECHO)]}),
    "400": Misbehaving(answers={"/request": [(400, ECHO)]}),
    "400, no JSON": Misbehaving(answers={"/request": [(400, f"who is {SECRET}?")]}),
    "400, another version": Misbehaving(
        answers={"/request": [(400, '{"detail": "below version 9"}')], "/env": [(200, f"{SECRET}!")]}
    ),
    "500": Misbehaving(answers={"/request": [(500, ECHO)]}),
    "503": Misbehaving(answers={"/request": [(503, ECHO)]}),
    "no NDIF": Misbehaving(answers={"/request": [(200, f"<p>{SECRET}</p>")]}),
    "no NDIF in the first word": Misbehaving(session=f"hello {SECRET}"),
    "no NDIF in a later word": Misbehaving(frames=[*RUNNING, f"hello {SECRET}"]),
    "a job that failed": Misbehaving(frames=[*RUNNING, said("ERROR", f"Traceback\nValueError: {SECRET}")]),
    "no answer": Misbehaving(hangs=("/request",)),
    "no connection": Misbehaving(hangs=("/subscribe",)),
    "lost": Misbehaving(drops=("/request",)),
}
COLOUR = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDIF_API_KEY", SECRET)
    monkeypatch.setattr(requests, "PAUSES", (0.01,))


@pytest.fixture
def meant(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Say that the key is for a server, whose address comes back."""
    return lambda url: monkeypatch.setenv("NDIF_HOST", url) or url  # type: ignore[func-returns-value]


def with_variables(error: BaseException) -> str:
    """All that is shown of an error, with the variables: Python's traceback and IPython's. The first frame, the test's
    own, knows the key, and is left out.
    """
    assert error.__traceback__ is not None
    error = error.with_traceback(error.__traceback__.tb_next)
    plain = traceback.TracebackException.from_exception(error, capture_locals=True)
    verbose = VerboseTB().text(type(error), error, error.__traceback__)
    return "".join(plain.format()) + COLOUR.sub("", verbose)


@pytest.mark.parametrize("echo", ECHOES)
def test_the_key_is_in_no_variable_of_a_traceback(
    echo: str, model_folders: dict[str, Path], meant: Callable[[str], str]
) -> None:
    with misbehave(ECHOES[echo]) as server:
        there = NdifBackend(model_folders["llama"], host=meant(server.url), patience=QUICK)
        with pytest.raises(errors.RemoteError) as caught:
            there.generate([Row("Hi")], Sampling(3))
        assert all(SECRET in head for head in server.requests), "it was sent, each time"
    shown = with_variables(caught.value)
    assert shown.count("self = <steerlab.backends.ndif.wire.Wire object") > 1, "there are variables"
    assert SECRET not in shown


@pytest.mark.parametrize("status", [None, 400, 401])
def test_the_key_is_in_no_variable_of_a_traceback_where_a_server_is_not_there_or_refuses_at_once(
    status: int | None, model_folders: dict[str, Path], meant: Callable[[str], str]
) -> None:
    with misbehave(Misbehaving(answers={"/status": [(status or 200, ECHO)]})) as server:
        url = meant(server.url if status else "http://127.0.0.1:9")
        with pytest.raises(errors.RemoteError) as caught:
            NdifBackend(model_folders["llama"], host=url)
    shown = with_variables(caught.value)
    assert shown.count("self = <steerlab.backends.ndif.wire.Wire object") > 1
    assert SECRET not in shown


OPEN = """
%env NDIF_HOST={url}
import time, warnings
import steerlab as sl
warnings.filterwarnings("ignore", message=".* is not loaded at")
lab = sl.Lab({folder!r}, remote=True)
lab.sampling = sl.Sampling(8)
lab"""
LOOK = """
lab.panel._on_message(lab.panel, {"kind": "hello"}, [])  # as a page does that shows the panel
while lab.panel.result["status"] != "done":
    time.sleep(0.02)
"""
TELL = "lab.backend._wire.key, lab, lab.job, lab.jobs(), vars(lab.backend._wire), lab.panel.get_state()"


@pytest.mark.ndif
def test_the_key_is_not_in_a_notebook_that_was_saved_with_a_panel_and_tracebacks_nor_in_the_servers_logs(
    ndif_server: Server, model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = "IPYTHONDIR JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR XDG_DATA_HOME"
    for name in places.split():
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = str(model_folders["llama"])
    with misbehave(Misbehaving(answers={"/status": [(400, ECHO)]})) as refuses:
        open_other = "%env NDIF_HOST={url}\nsl.Lab({folder!r}, remote=True)"
        fails = [open_other.format(folder=folder, url=url) for url in (refuses.url, "http://127.0.0.1:9")]
        cells = ["%xmode Verbose", OPEN.format(folder=folder, url=ndif_server.url), LOOK, TELL, *fails]
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbclient.NotebookClient(made, timeout=120, kernel_name="python3", allow_errors=True).execute()
    nbformat.write(made, tmp_path / "saved.ipynb")

    saved = nbformat.read(tmp_path / "saved.ipynb", as_version=4)
    outputs = [cell.outputs for cell in saved.cells]
    failed = [[one for one in some if one.output_type == "error"] for some in outputs]
    assert [one.ename for some in failed for one in some] == ["RemoteError", "RemoteError"]
    told = [COLOUR.sub("", "\n".join(some[0].traceback)) for some in failed[4:]]
    assert all("self = <steerlab.backends.ndif.wire.Wire object" in text for text in told), "variables, too"
    assert outputs[3][0].data["text/plain"].startswith("(«key»,"), "the kernel has a key"
    states = saved.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    [panel] = [one["state"] for one in states if "result" in one["state"]]
    here = sl.Lab((models.build("llama"), byte_tokenizer()))
    wanted = here.generate(panel["prompt"], max_new_tokens=8).pieces
    assert tuple(panel["result"]["panes"]["steered"]["tokens"]) == wanted, "the panel worked on the server"

    assert SECRET not in "\n".join(told)
    for path in (*tmp_path.rglob("*"), *ndif_server.folder.glob("*.log")):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_key_comes_from_the_environment_else_nnsight_else_from_whoever_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosted, own = f"https://{keys.HOSTED}", "http://127.0.0.1:5001"
    monkeypatch.setenv("NDIF_HOST", own)
    asked: list[str] = []
    monkeypatch.setattr(keys.getpass, "getpass", lambda prompt: asked.append(prompt) or SECRET)
    monkeypatch.setattr(keys, "somebody_is_there", lambda: True)
    monkeypatch.setattr(CONFIG.API, "APIKEY", "key-of-nnsight")
    monkeypatch.setenv("NDIF_API_KEY", "key-of-environment")
    assert keys.find_key(hosted).headers() == {"ndif-api-key": "key-of-environment"}
    monkeypatch.delenv("NDIF_API_KEY")
    assert keys.find_key(hosted).headers() == {"ndif-api-key": "key-of-nnsight"}
    assert not asked
    monkeypatch.setattr(CONFIG.API, "APIKEY", None)
    assert not keys.find_key(own), "a server of one's own may want none"
    assert not asked
    assert keys.find_key(hosted).headers() == {"ndif-api-key": SECRET}
    assert asked == ["NDIF API key (https://login.ndif.us; it is not stored): "]
    monkeypatch.setattr(keys, "somebody_is_there", lambda: False)
    assert not keys.find_key(hosted), "where nobody can answer, nobody is asked"
    assert len(asked) == 1


@pytest.mark.parametrize(
    "spoilt",
    [f"{SECRET}\nmore", f"{SECRET}\x00", f"{SECRET}ä", f"“{SECRET}”"],
    ids=["a line break", "a control character", "another letter", "quotes of a word processor"],
)
def test_what_no_header_can_carry_is_refused_and_not_shown(
    spoilt: str,
    monkeypatch: pytest.MonkeyPatch,
    model_folders: dict[str, Path],
    meant: Callable[[str], str],
) -> None:
    monkeypatch.delenv("NDIF_API_KEY")
    monkeypatch.setattr(CONFIG.API, "APIKEY", spoilt)
    with misbehave(Misbehaving()) as server:
        with pytest.raises(errors.RemoteError, match="the key has letters that no key has") as caught:
            NdifBackend(model_folders["llama"], host=meant(server.url))
        assert not server.requests
    shown = with_variables(caught.value)
    assert "key = «key»" in shown
    assert SECRET not in shown


def test_space_around_a_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDIF_API_KEY", f" {SECRET}\n")
    assert keys.find_key(f"https://{keys.HOSTED}").headers() == {"ndif-api-key": SECRET}


def test_a_server_that_host_alone_names_is_sent_no_key(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a teacher's, on a network without encryption."""
    monkeypatch.setenv("NDIF_HOST", "http://127.0.0.1:9")
    with misbehave(Misbehaving(answers={"/request": [(401, '{"detail": "Missing API key."}')]})) as server:
        there = NdifBackend(model_folders["llama"], host=server.url, patience=QUICK)
        with pytest.raises(
            errors.RemoteError, match=f"no key was given.* where NDIF_HOST={server.url} is set"
        ):
            there.score([Row("Hi")])
        assert len(server.requests) >= 3
        assert not any(SECRET in head for head in server.requests)
        monkeypatch.setenv("NDIF_HOST", f"{server.url}/")
        with pytest.raises(errors.RemoteError, match="the key is not known there"):
            NdifBackend(model_folders["llama"], host=server.url, patience=QUICK).score([Row("Hi")])
        assert SECRET in server.requests[-1]


def test_a_notebook_that_nobody_answers_has_no_key_and_no_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is executed: it looks like any other until it asks."""
    monkeypatch.delenv("NDIF_API_KEY")
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    ask = f"""
from steerlab.backends.ndif import troubles
from steerlab.backends.ndif.keys import find_key
from nnsight.schema.config import CONFIG
CONFIG.API.APIKEY = None
key = find_key("https://{keys.HOSTED}")
print(troubles.refused("there", 401, "Missing API key.", key, dict))"""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ask)])
    nbclient.NotebookClient(made, timeout=60, kernel_name="python3").execute()
    said = "".join(one.text for one in made.cells[0].outputs if one.name == "stdout")
    assert "wants a key, and no key was given" in said
    assert "export NDIF_API_KEY=" in said


@pytest.mark.parametrize("path", ["/status", "/subscribe", "/request"])
def test_the_key_follows_no_redirect(
    path: str,
    model_folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    meant: Callable[[str], str],
) -> None:
    monkeypatch.setattr(requests, "PAUSES", ())
    with misbehave(Misbehaving()) as other, misbehave(Misbehaving()) as server:
        there = other.url.replace("http", "ws") if path == "/subscribe" else other.url
        server.redirects[path] = f"{there}{path}"
        with pytest.raises(errors.RemoteError, match=f"{server.url} sends its clients on to "):
            NdifBackend(model_folders["llama"], host=meant(server.url), patience=QUICK).score([Row("Hi")])
        assert path in server.asked()
        assert not other.requests
        assert all(SECRET in head for head in server.requests)


def test_nobody_is_there_without_a_terminal_or_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert not keys.somebody_is_there()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert keys.somebody_is_there()
    monkeypatch.setattr(sys, "stdin", None)
    assert not keys.somebody_is_there()
