"""What passes before NDIF's API sees it: programs may ask, web pages may not, and no key goes further than here.

A job is code, and a browser sends what any page tells it to, to this machine and to its network.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

KEY = b"ndif-api-key"


class Door:
    """Of an ASGI app. loopback: whether it listens for this machine alone."""

    def __init__(self, app: Any, *, loopback: bool) -> None:
        self.app = app
        self.loopback = loopback

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse what comes from a page; take the key from everything else."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if from_page(scope["type"], host, origin):
            refusal = JSONResponse({"detail": f"This server answers no web pages (Origin: {origin})."}, 403)
            await refusal(scope, receive, send)
        elif self.loopback and not certain(host):
            detail = f"This server is for its own machine, and called 127.0.0.1 or localhost, not {host!r}."
            await JSONResponse({"detail": detail}, 421)(scope, receive, send)
        else:  # whoever asks may use it, so a key would only be written into logs
            kept = [(name, value) for name, value in scope["headers"] if name.lower() != KEY]
            await self.app({**scope, "headers": kept}, receive, send)


def from_page(kind: str, host: str, origin: str | None) -> bool:
    """Whether a page in a browser asks: a browser names the page's origin whenever more than reading is asked for.
    Programs do so when they open a WebSocket, and name the server itself.
    """
    return origin is not None and not (kind == "websocket" and origin.partition("://")[2] == host)


def certain(host: str) -> bool:
    """Whether a Host means an address whatever a name server says: a page's own name can be made to mean 127.0.0.1."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False
