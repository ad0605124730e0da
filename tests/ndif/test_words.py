"""What went wrong at a server is told by what the server itself says, not by a word that happens to stand somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from misbehaving import Misbehaving, misbehave
from test_troubles import backend

from steerlab import errors
from steerlab.backends.ndif import requests, troubles

TRACEBACK = 'Traceback (most recent call last):\n  File "block", line 2\n    {line}\n{error}'


def failed(description: str) -> str:
    return str(troubles.failed("there", description, dict, list))


@pytest.mark.parametrize(
    ("status", "page", "says"),
    [
        (502, "<?xml version='1.0'?><html>Bad gateway", "failed .HTTP 502.: <.xml version"),
        (500, '{"detail": "a conversion failed"}', "failed .HTTP 500.: a conversion failed"),
        (
            403,
            "<html>Access denied by\n Squid",
            "lets nothing through .HTTP 403.: <html>Access denied by Squid",
        ),
        (401, "<html>Who are you?", "lets nothing through .HTTP 401.*a proxy or a firewall"),
        (500, '{"detail": "could not read the api keys"}', "failed .HTTP 500.: could not read the api keys"),
        (401, '{"detail": "Missing or invalid API key."}', "wants a key"),
        (403, '{"detail": "Invalid API key."}', "wants a key"),
        (400, '{"detail": "Invalid API key format."}', "wants a key"),
        (400, '{"detail": "Client python version 3.9 is below 3.10"}', "does not understand this client"),
        (422, '{"detail": [{"msg": "Field required"}]}', "does not understand this client"),
        (
            421,
            '{"detail": "It is called localhost."}',
            "does not go by this name.*localhost. Open the lab with",
        ),
    ],
)
def test_a_page_of_a_proxy_is_not_taken_for_the_server(
    status: int, page: str, says: str, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "PAUSES", ())
    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    answers: dict[str, list[tuple[int, str | bytes]]] = {"/status": [(status, page)]}
    with misbehave(Misbehaving(answers=answers)) as server, pytest.raises(errors.RemoteError, match=says):
        backend(model_folders["llama"], server)


@pytest.mark.parametrize(
    "line",
    [
        "assert not cancelled",
        "evicted.append(x)",
        "print('server error')",
        "# the payload could not be read",
        "raise ValueError('out of memory')",
    ],
)
def test_a_word_of_a_traceback_does_not_say_what_went_wrong(line: str) -> None:
    said = failed(TRACEBACK.format(line=line, error="ValueError: bad shape"))
    assert said.startswith("the job failed at there: ValueError: bad shape.")


def test_the_fault_of_a_traceback_and_the_servers_own_sentences_do() -> None:
    assert "ran out of memory" in failed(
        TRACEBACK.format(
            line="x @ y", error="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
        )
    )
    for sentence in (
        "Your job was cancelled or preempted by the server.",
        "Request cancelled by operator.",
        "Replica was evicted while processing your request. Please try again later.",
        "Critical server error occurred. Please try again later.",
        "Error submitting request to model deployment. Please try again later.",
    ):
        assert "lost the job while it ran" in failed(sentence)
