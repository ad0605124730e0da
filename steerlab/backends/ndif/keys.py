"""The key of an NDIF account: where it comes from, and how it stays out of everything that a person may show."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from urllib.parse import urlsplit

from steerlab.errors import RemoteError

HOSTED = "api.ndif.us"
WHERE = "Get a key at https://login.ndif.us, and set it before the notebook starts: export NDIF_API_KEY=…"
HIDDEN = "«key»"
SHORTEST = 8  # letters that a key has at least


class Key:
    """A key that shows itself to nobody: not in a repr, a format, a pickle or a traceback's variables."""

    __slots__ = ("__secret",)

    def __init__(self, secret: str) -> None:
        self.__secret = secret.strip()

    def __bool__(self) -> bool:
        return bool(self.__secret)

    def __repr__(self) -> str:
        return HIDDEN if self else "no key"

    def __reduce__(self) -> tuple[type[Key], tuple[str]]:
        return Key, ("",)  # a copy or a pickle has none

    @property
    def fits(self) -> bool:
        """Whether a header can carry it."""
        return self.__secret.isascii() and self.__secret.isprintable()

    def headers(self) -> dict[str, str]:
        """For a request. Call it inside the call that sends, so that no variable holds it."""
        return {"ndif-api-key": self.__secret} if self else {}

    def hide(self, text: str) -> str:
        """A text that may come from the server, without the key in it. What is too short to be one is let stand: a word
        that somebody set where no key is asked for is in many a text.
        """
        return text.replace(self.__secret, HIDDEN) if len(self.__secret) >= SHORTEST else text


def find_key(host: str) -> Key:
    """From NDIF_API_KEY, else nnsight's own configuration; for the hosted NDIF, else asked for where somebody can
    answer. None for a server that it is not meant for. Raises RemoteError where it cannot be a key.
    """
    key = _found(host)
    if not key.fits:
        raise RemoteError(
            "the key has letters that no key has: a line break within it, a control character, or one beyond ASCII",
            "Copy it once more, into NDIF_API_KEY or nnsight's configuration, and nothing else with it.",
        )
    return key


def meant_for(host: str) -> bool:
    """Whether a key is for this server: the hosted NDIF, and the one that NDIF_HOST or nnsight's configuration names.
    One that `host=` alone names, as in a workshop, is sent none, which anybody in its network could read.
    """
    from nnsight.schema.config import CONFIG

    named = (os.environ.get("NDIF_HOST"), CONFIG.API.HOST)
    return is_hosted(host) or host.rstrip("/") in [one.rstrip("/") for one in named if one]


def _found(host: str) -> Key:
    if not meant_for(host):
        return Key("")
    if os.environ.get("NDIF_API_KEY"):
        return Key(os.environ["NDIF_API_KEY"])
    from nnsight.schema.config import CONFIG

    if CONFIG.API.APIKEY:
        return Key(CONFIG.API.APIKEY)
    if is_hosted(host) and somebody_is_there():
        # a notebook that is executed without a person looks like any other, until somebody is asked
        with contextlib.suppress(NotImplementedError, EOFError):
            return Key(getpass.getpass("NDIF API key (https://login.ndif.us; it is not stored): "))
    return Key("")


def is_hosted(host: str) -> bool:
    """Whether this is the NDIF that is open to everyone with a key."""
    return urlsplit(host).hostname == HOSTED


def somebody_is_there() -> bool:
    """Whether a password prompt can be answered: in a notebook or a terminal."""
    if "ipykernel" in sys.modules:
        from IPython import get_ipython

        return bool(get_ipython() and getattr(get_ipython(), "kernel", None))
    return sys.stdin is not None and sys.stdin.isatty()
