"""NDIF's model deployments as they are used here: on a machine without a GPU, and with jobs that end when cancelled."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from ndif.services.ray.deployments.modeling import base
from ndif.services.ray.sandbox import host
from ndif.services.ray.sandbox.model import SandboxModelDeployment

# a job's own process builds the model's tree as well, from the same files and as little from the network
host.RUNNER_ENV += ("HF_HUB_CACHE", "HF_HUB_OFFLINE")


GRACE = 10  # seconds for a job to end: it does so when its forward pass returns


class InTurn:
    """Of a deployment: it runs one job at a time.

    NDIF's dispatcher sends the next job when the one before is done, or was killed: but of that it does not tell the
    deployment, where the two would run into each other and fail. So here another job ends the one that runs.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.turn = asyncio.Lock()

    async def run(self, request: Any) -> None:
        """Run a job, after the end of the one that runs."""
        if self.turn.locked():
            await self.cancel()  # type: ignore[attr-defined]
        async with self.turn:
            await super().run(request)  # type: ignore[misc]


class InProcess(InTurn):
    """Of a deployment that runs jobs on a thread: one that is cancelled has ended before the next begins.

    NDIF asks the thread to end and goes on at once, while it may be in a forward pass still.
    """

    ended = threading.Event()

    def execute(self, request: Any) -> Any:
        """Run a job, on a thread of its own."""
        self.ended = threading.Event()
        try:
            return super().execute(request)  # type: ignore[misc]
        finally:
            self.ended.set()

    def interrupt(self) -> None:
        """End the job that runs, and wait for that."""
        for _ in range(GRACE):
            if not self.ended.is_set():
                super().interrupt()  # type: ignore[misc]
            if self.ended.wait(1):
                break


class Deployment(InProcess, base.BaseModelDeployment):  # type: ignore[misc]
    """NDIF's deployment."""


class Sandbox(InTurn, SandboxModelDeployment):  # type: ignore[misc]
    """The same, with each job's code in a process of its own."""


class OnCpu:
    """Of a deployment: its model is on the CPU."""

    CACHEABLE = False
    model_key: str
    dtype_name: str

    def load_from_disk(self) -> Any:
        model = base.HuggingFaceModel.from_model_key(
            self.model_key, dispatch=True, dtype=self.dtype_name, device="cpu"
        )
        model._module.requires_grad_(False)
        return model


class CpuDeployment(OnCpu, Deployment):
    """NDIF's deployment without a GPU."""


class CpuSandbox(OnCpu, Sandbox):
    """The same without a GPU."""
