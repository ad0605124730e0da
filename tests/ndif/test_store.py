"""Where results are: handed out by the server itself, closed to strangers, and kept for a while."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from test_guarded import EVIL, ask

from steerlab import Lab, Row, Sampling
from steerlab.serving.environment import environment
from steerlab.serving.server import INSIDE, Server

pytestmark = [pytest.mark.ndif, pytest.mark.usefixtures("jobs_folder")]


def test_the_store_is_closed_to_strangers(ndif_server: Server, lab: Lab) -> None:
    store = ndif_server.environment["NDIF_OBJECT_STORE_URL"]
    assert store.startswith("http://127.0.0.1:")
    job = lab.submit([Row("My question")], Sampling(3))
    [answer] = lab.fetch(job, timeout=60) or []
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=anything/20261201/us-east-1/s3/aws4_request"}
    for method, path in (
        ("GET", "/ndif-results?list-type=2"),
        ("GET", f"/ndif-results/responses/{job}.json"),
        ("DELETE", f"/ndif-results/{job}.pt"),
        ("POST", "/moto-api/reset"),
        ("OPTIONS", "/moto-api/reset"),
    ):
        for headers in ({"Origin": EVIL}, signed):
            refused = httpx.request(method, store + path, headers=headers, trust_env=False)
            assert refused.status_code == 403, path
            assert "access-control-allow-origin" not in refused.headers
    assert lab.fetch(job, timeout=0) == [answer], "nothing was deleted"


def test_results_are_had_from_the_server_itself_by_who_knows_their_name(
    ndif_server: Server, lab: Lab
) -> None:
    job = lab.submit([Row("My question")], Sampling(3))
    lab.fetch(job, timeout=60)
    place = ask(ndif_server, "GET", f"/response/{job}").json()["data"]
    assert place.startswith(f"{ndif_server.url}/ndif-results/{job}.pt?")
    whole = httpx.get(place, trust_env=False)
    assert len(whole.content) == int(whole.headers["content-length"]) > 0
    for path in ("/ndif-results", "/ndif-results/", "/ndif-results?list-type=2", "/ndif-results/other.pt"):
        assert ask(ndif_server, "GET", path, follow_redirects=True).status_code == 404, path
    assert ask(ndif_server, "DELETE", f"/ndif-results/{job}.pt").status_code == 405
    assert ask(ndif_server, "GET", f"/ndif-results/responses%2F{job}.json").status_code == 404


KEEPS = """
import time
from ndif.common.providers.objectstore import ObjectStoreProvider as Store
for key in ("left.pt", "responses/left.json", "other.pt"):
    Store.put(key, b"1")
seen, end = [], time.monotonic() + 30
while not seen or seen[-1] and time.monotonic() < end:
    found = Store.client.list_objects_v2(Bucket=Store.bucket).get("Contents", [])
    names = " ".join(sorted(one["Key"] for one in found))
    if not seen or names != seen[-1]:
        seen.append(names)
    time.sleep(0.1)
print(seen)
"""


def test_results_expire_those_of_jobs_that_were_left_last(ndif_server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        url = f"http://127.0.0.1:{one.getsockname()[1]}"
    told = {"NDIF_OBJECT_STORE_URL": url, "STEERLAB_KEPT_SECONDS": "5 1"}
    environ = {**os.environ, **ndif_server.environment, **told}
    python = str(environment())
    log = tmp_path / "log"
    with log.open("w") as out:
        store = subprocess.Popen([python, INSIDE / "store.py"], env=environ, stdout=out, stderr=out)
    try:
        end = time.monotonic() + 30
        while "Running on" not in log.read_text():
            assert store.poll() is None, log.read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        seen = subprocess.check_output([python, "-c", KEEPS], env=environ, text=True)
    finally:
        store.kill()
        store.wait()
    assert seen.strip() in (
        "['left.pt other.pt responses/left.json', 'left.pt responses/left.json', '']",
        "['left.pt other.pt responses/left.json', 'left.pt responses/left.json', 'responses/left.json', '']",
    ), log.read_text()
