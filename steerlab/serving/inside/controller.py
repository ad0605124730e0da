"""Starts NDIF's controller in a Ray cluster, and stays, so that its end is noticed like that of any other process."""

from __future__ import annotations

import time

import ray
from ndif.services.ray.deployments.controller.controller import app

TRIES = 60  # a second apart: the cluster takes some to be there

if __name__ == "__main__":
    for left in reversed(range(TRIES)):
        try:
            ray.init(address="auto", namespace="NDIF", logging_level="error")
            break
        except (ConnectionError, RuntimeError, ValueError):
            if not left:
                raise
            time.sleep(1)
    app()
    while True:
        ray.get_actor("Controller", namespace="NDIF")
        time.sleep(5)
