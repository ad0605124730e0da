"""What can go wrong with a server, in words: each function makes the RemoteError for one kind of trouble."""

from __future__ import annotations

import platform
import re
import socket
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

import httpx

from steerlab.backends.ndif.keys import WHERE, Key, meant_for
from steerlab.errors import RemoteError

MATTERS = ("nnsight", "transformers", "torch")  # packages that have to be alike here and there
Versions = Callable[[], dict[str, str]]


def unreachable(host: str, error: Exception, key: Key) -> RemoteError:
    """No connection, or none in time."""
    words = _words(error, key)
    if words == "Redirect limit exhausted":  # of the connection for a job
        return moved(host)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):  # the connection for a job was refused with a status of HTTP
        return RemoteError(
            f"{host} refuses the connection for a job (HTTP {status})",
            "Look whether the address is that of an NDIF server: host=…, or NDIF_HOST.",
        )
    if isinstance(error, TimeoutError | httpx.TimeoutException) or "timed out" in words:
        return RemoteError(
            f"{host} does not answer: {words}",
            "The server may be down or overloaded, or a firewall lies between; look at its address and try again.",
        )
    if (
        isinstance(error, socket.gaierror)
        or "Name or service not known" in words
        or "name resolution" in words
    ):
        return RemoteError(
            f"there is no server {host}: its name is not known",
            "Look at the address (host=…, or NDIF_HOST) and at this machine's network.",
        )
    return RemoteError(
        f"{host} cannot be reached: {words}",
        "Look whether the server is up and its address right (host=…, or NDIF_HOST); `lab.remote_models()` tells when "
        "it is back.",
    )


def _words(error: Exception, key: Key) -> str:
    return key.hide(str(error)).strip().rstrip(".") or type(error).__name__


def silent(host: str, seconds: float, awaited: str) -> RemoteError:
    """An open connection on which nothing comes."""
    return RemoteError(
        f"{host} has fallen silent: {awaited} did not come within {seconds:g} seconds",
        "Nothing is lost here. Try again; where it stays silent, the server has to be looked at.",
    )


def stuck(host: str, stage: str, seconds: float) -> RemoteError:
    """A server that lives, and a job that does not move."""
    return RemoteError(
        f"the job at {host} has been {stage} for {seconds:g} seconds without a word",
        "Try again later, or give it longer: lab.backend.patience has a limit for every stage.",
    )


def lost(host: str) -> RemoteError:
    """A connection that ended before its job."""
    return RemoteError(
        f"the connection to {host} was lost before the job was done",
        "What had come is kept, and is incomplete. The job itself can be run again: it changes nothing on the server.",
    )


def not_ndif(host: str, got: Any) -> RemoteError:
    """An answer that is not NDIF's protocol."""
    text = re.sub(r"\s+", " ", got if isinstance(got, str) else repr(got)[:200])[:80]
    return RemoteError(
        f"{host} answered something that is not NDIF's protocol: {text!r}",
        "Look at the address (host=…, or NDIF_HOST): a proxy or another server may answer there.",
    )


def moved(host: str, where: str = "another address") -> RemoteError:
    """An answer that names another address, to which no key goes unasked."""
    return RemoteError(
        f"{host} sends its clients on to {where}",
        "Open the lab with the address of the server itself, if you trust it: host=…, or NDIF_HOST.",
    )


def refused(
    host: str, status: int, detail: str, key: Key, versions: Versions, *, own: bool = True
) -> RemoteError:
    """A request that is not taken. own: whether by the server itself; else by a page of whoever stands before it."""
    if own and (status in (401, 403) or (status == 400 and "api key" in detail.lower())):
        given = "the key is not known there" if key else "no key was given"
        other = (
            ""
            if meant_for(host)
            else f" It is sent to a server of your own where NDIF_HOST={host} is set, too."
        )
        return RemoteError(f"{host} wants a key, and {given}", f"{WHERE}.{other}")
    if own and (status == 422 or (status == 400 and "version" in detail.lower())):
        return skew(host, detail, versions())
    if (
        own and status == 421
    ):  # of a server that asks how it is called, as `steerlab serve-ndif` does on loopback
        return RemoteError(
            f"{host} does not go by this name: {detail.rstrip('.')}",
            "Open the lab with the address of the server: host='http://127.0.0.1:…'.",
        )
    if status == 503:
        return RemoteError(f"{host} is not ready: {detail.rstrip('.')}", "Try again in a few minutes.")
    if status in (404, 405):
        return RemoteError(
            f"{host} has no NDIF (HTTP {status})", "Look at the address: host=…, or NDIF_HOST."
        )
    if status == 413:
        return RemoteError(
            f"the job is too large for {host}", "Give fewer rows at a time: lab.backend.batch_rows."
        )
    if not own and status in (401, 403, 407):
        return RemoteError(
            f"{host} lets nothing through (HTTP {status}): {detail[:300]}",
            "That is no answer of NDIF: a proxy or a firewall before it may refuse this machine.",
        )
    return RemoteError(f"{host} failed (HTTP {status}): {detail[:300]}", "Try again later.")


def skew(host: str, detail: str, there: dict[str, str]) -> RemoteError:
    """Versions that do not fit together: what is installed here and there, and what to do."""
    here = {"Python": platform.python_version()}
    for name in MATTERS:
        try:
            here[name] = version(name)
        except PackageNotFoundError:
            here[name] = "none"
    apart = [
        f"{n} {here[n]} here, {there[n]} there"
        for n in here
        if n in there and not _alike(n, here[n], there[n])
    ]
    wanted = [
        f"{n}=={there[n].split('+')[0]}" for n in MATTERS if n in there and not _alike(n, here[n], there[n])
    ]
    fix = f"Install what the server has: pip install {' '.join(wanted)}." if wanted else ""
    if any(name.startswith("Python") for name in apart):
        fix = f"Use Python {'.'.join(there['Python'].split('.')[:2])} here. {fix}".strip()
    if not apart:
        listed = ", ".join(f"{n} {v}" for n, v in here.items())
        apart = [f"here are {listed}" + ("" if there else "; the server does not tell its own")]
        fix = "Ask those who run the server which versions it wants; `pip install -U nnsight` is the usual answer."
    return RemoteError(
        f"{host} does not understand this client ({detail.strip()[:200]}): {'; '.join(apart)}", fix
    )


def _alike(name: str, here: str, there: str) -> bool:
    digits = 2 if name in ("Python", "torch") else 3
    return here.split("+")[0].split(".")[:digits] == there.split("+")[0].split(".")[:digits]


def failed(host: str, description: str, versions: Versions, up: Callable[[], Sequence[str]]) -> RemoteError:
    """A job that ended with an error."""
    text = description.strip()
    last = text.splitlines()[-1] if text else "it does not say why"
    first = text.split("\n", 1)[0]
    other = "Traceback" in text or "to model deployment" in text  # where a job was sent
    if re.match("Could not deploy|Error (provisioning|starting) model", text) or (
        "deploy" in text.lower() and not other
    ):
        names = ", ".join(up()) or "none"
        error = RemoteError(
            f"{host} cannot load this model ({first.rstrip('.')})", f"Models that are up there now: {names}."
        )
        if first != text:
            error.add_note(text)  # the server's traceback
        return error
    # what follows are the server's own sentences, and a traceback's words are anybody's
    if "payload could not be read" in first or "model architecture on this server" in first:
        return skew(host, first, versions())
    if "outofmemory" in last.lower().replace(" ", ""):
        return RemoteError(
            f"the job ran out of memory at {host}", "Give fewer rows at a time: lab.backend.batch_rows."
        )
    if re.search(r"timed? ?out|exceeded", last, re.IGNORECASE) and "Traceback" not in text:
        return RemoteError(
            f"the job took longer than {host} allows ({last})", "Give fewer rows or fewer tokens at a time."
        )
    if re.search(r"evicted|cancelled|submitting request|server error", first):
        return RemoteError(
            f"{host} lost the job while it ran ({last.rstrip('.')})",
            "What had come is kept, and is incomplete. Run it again: it changes nothing on the server.",
        )
    error = RemoteError(
        f"the job failed at {host}: {last}", "The server's own traceback is in this error's notes."
    )
    error.add_note(text)
    return error


def unknown_job(host: str, job_id: str) -> RemoteError:
    """An id that the server does not know."""
    return RemoteError(
        f"{host} knows no job {job_id!r} any more",
        "Servers forget results after a while; and where a model is being loaded anew, a job that waits for it is not "
        "known yet. Fetch it again in some minutes, and submit it again where it is still not known.",
    )


def ended(host: str, job_id: str) -> RemoteError:
    """A job that somebody cancelled."""
    return RemoteError(f"the job {job_id!r} at {host} was cancelled", "Run or submit its rows again.")


def goes_on(host: str, job_id: str) -> RemoteError:
    """A job that cannot be ended from here."""
    return RemoteError(
        f"the job {job_id!r} goes on at {host}: that server lets nobody but its operators end a job that was left",
        "Leave it: it costs nothing here, and its answers are there when it is done.",
    )


def not_ended(host: str, job_id: str, stage: str) -> RemoteError:
    """A job that the server says to have and cannot end."""
    return RemoteError(
        f"the job {job_id!r} is {stage} at {host}, and the server did not find it to end it",
        "Cancel it again in a moment, or leave it: it costs nothing here.",
    )


def not_fetched(url: str, error: Exception, key: Key, seconds: float) -> RemoteError:
    """A result that did not arrive, or not whole. The address of the store is told without its signature."""
    parts = urlsplit(url)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # no name and password, either
    if isinstance(error, TimeoutError | httpx.ReadTimeout):
        what = f"the job's result did not come from {place} within {seconds:g} seconds"
    else:
        what = f"the job's result could not be fetched from {place}: {_words(error, key)}"
    return RemoteError(
        what,
        "Of a text the tokens that had come are kept. Try again, or give it longer: `result` of "
        "lab.backend.patience.",
    )


def no_result(host: str, status: int) -> RemoteError:
    """A result that is not where the server said."""
    return RemoteError(
        f"the job's result is not at {host} any more (HTTP {status})",
        "Run the job again; results expire there.",
    )
