"""The object store: S3's protocol in memory (moto), for the server's own processes, with results that expire.

What is kept: of a job that was left its last word and its result; of one that is waited for a result too large for its
connection. Moto asks nobody for a key and lets web pages in. So whoever does not use this server's own key is refused
here, before moto sees anything.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from ndif.common.providers.objectstore import ObjectStoreProvider as Store
from werkzeug.exceptions import Forbidden
from werkzeug.serving import run_simple

LEFT, AWAITED = map(float, os.environ["STEERLAB_KEPT_SECONDS"].split())
OURS = f"AWS4-HMAC-SHA256 Credential={Store.access_key}/"  # how what our processes send is signed


def guarded(app: Any) -> Any:
    """A WSGI app, for those who have the key."""

    def answer(environ: dict[str, Any], start: Any) -> Any:
        allowed = environ.get("HTTP_AUTHORIZATION", "").startswith(OURS)
        return (app if allowed else Forbidden("This store is for the server's own processes."))(
            environ, start
        )

    return answer


def expire(now: datetime) -> None:
    """Delete what was kept long enough: LEFT seconds of a job that was left, AWAITED of others."""
    pages = Store.client.get_paginator("list_objects_v2").paginate(Bucket=Store.bucket)
    ages = {one["Key"]: now - one["LastModified"] for page in pages for one in page.get("Contents", [])}
    left = {PurePath(key).stem for key in ages if key.startswith("responses/")}
    for key, age in ages.items():
        if age.total_seconds() > (LEFT if PurePath(key).stem in left else AWAITED):
            Store.client.delete_object(Bucket=Store.bucket, Key=key)


def watch() -> None:
    """Delete what has expired, for ever."""
    while True:
        time.sleep(min(60.0, AWAITED))
        try:
            expire(datetime.now(UTC))
        except (ClientError, BotoCoreError) as error:  # nothing was stored yet, for one
            print(f"nothing is deleted: {error}", flush=True)


if __name__ == "__main__":
    threading.Thread(target=watch, daemon=True).start()
    moto = DomainDispatcherApplication(create_backend_app)
    port = urlsplit(Store.url).port
    run_simple("127.0.0.1", port or 0, guarded(moto), threaded=True, request_handler=MotoRequestHandler)
