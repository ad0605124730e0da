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


class InProcess:
    """Of a deployment that runs jobs on a thread: one that is cancelled has ended before the next begins.

    NDIF asks the thread to end and goes on at once, while it may be in a forward pass still. The wait for it is on a
    thread as well: meanwhile others are to be answered.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ended = threading.Event()
        self.ended.set()
        self.postponed = False  # whether a job is to be cleaned up after once its thread has ended

    def execute(self, request: Any) -> Any:
        """Run a job, on a thread of its own."""
        self.ended.clear()
        try:
            return super().execute(request)  # type: ignore[misc]
        finally:
            self.ended.set()

    async def run(self, request: Any) -> None:
        """Run a job, to the end of its thread."""
        try:
            await super().run(request)  # type: ignore[misc]
        finally:
            if self.postponed:
                await asyncio.to_thread(self.wait)
                self.postponed = False
                super().cleanup()  # type: ignore[misc]

    def cleanup(self) -> None:
        """Take away what a job has left, unless its thread still works with it."""
        self.postponed = not self.ended.is_set()
        if not self.postponed:
            super().cleanup()  # type: ignore[misc]

    def wait(self) -> None:
        """Wait for the end of a job that was asked to end, and ask again every second."""
        for _ in range(GRACE):
            if self.ended.wait(1):
                break
            self.interrupt()  # type: ignore[attr-defined]


class Deployment(InTurn, InProcess, base.BaseModelDeployment):  # type: ignore[misc]
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
