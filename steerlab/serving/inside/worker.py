"""Serves the queue of an NDIF API without Ray: NDIF's own model deployments, in this one process, a job at a time.

A job's prints are caught by redirecting the output of the whole process, so two jobs never run at once. A job whose
client has left is dropped from the queue, or stopped: in a room of thirty, sliders leave many of them behind.

What was taken from the API stays in Redis until it is answered, so that the jobs of a worker that dies wait for the
next one, but for the one that ran: its client is told.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import sys
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import modelkeys
import ray
import torch
from cpu import CpuDeployment, CpuSandbox, Deployment, Sandbox
from ndif.common import redis as names
from ndif.common.providers.redis import RedisProvider
from ndif.common.schema import Status

ON_GPU = os.environ["STEERLAB_DEVICE"] != "cpu"
DTYPE = os.environ["NDIF_DEFAULT_DTYPE"]
TIMEOUT = float(os.environ["STEERLAB_JOB_SECONDS"])
SANDBOX = os.environ["STEERLAB_SANDBOX"] == "1"
SMALL = 10_000_000  # parameters, below which one thread is faster than several that wait for each other
TAKEN = "steerlab:taken"  # where the jobs are kept that are not answered, the newest first
RUNNING = "steerlab:running"  # where the id of the one is kept whose turn it is
BROKEN = 70  # the exit code of a worker whose CUDA context is broken
KILLED = "Request cancelled by operator."  # as NDIF says it
LOST = "Error submitting request to model deployment. Please try again later."  # as well
LOOK = 0.5  # seconds between two looks at whether a job's client is still there
SOON = 3  # the last places of a job that was left that are written down: each costs a request to the store

ray.get_runtime_context = lambda: None  # a deployment asks for the Ray actor that it is; here it is none

Offered: Any = (Sandbox if SANDBOX else Deployment) if ON_GPU else (CpuSandbox if SANDBOX else CpuDeployment)


class Here(Offered):  # type: ignore[misc]
    """A deployment in this process. broken: whether a job has broken the CUDA context, which only an end of the process
    mends; an actor restarts itself.
    """

    broken = False

    def restart(self) -> None:
        """Have the process end, once the job is answered."""
        self.broken = True


def deployed(repository: str) -> Any:
    """A model, loaded."""
    model_key = modelkeys.key(repository)
    options: dict[str, Any] = {"execution_timeout": TIMEOUT, "dtype": DTYPE}
    if ON_GPU:
        free, _ = torch.cuda.mem_get_info(0)
        return Here(model_key, gpu_mem_bytes_by_id={0: free}, **options)
    torch.cuda.synchronize = lambda *_, **__: (
        None
    )  # the one CUDA call that a deployment makes after every job
    model = Here(model_key, **options)
    if model.model._module.num_parameters() < SMALL:
        torch.set_num_threads(1)
    return model


async def tell(request: Any, status: Status, words: str) -> None:
    """Say where a request is. One who cannot be told does not keep the others from their turn."""
    try:
        await request.arespond(status, words)
    except Exception as error:
        print(f"{request.id} could not be told {status.value}: {error!r}", file=sys.stderr, flush=True)


@dataclass
class Worker:
    """The queue and the models, by their repositories. repositories: those that may be served."""

    repositories: list[str]
    models: dict[str, Any] = field(default_factory=dict)
    waiting: list[Any] = field(default_factory=list)
    taken: dict[str, bytes] = field(default_factory=dict)  # requests as they are in TAKEN, by their ids
    loading: str | None = None
    running: Any = None  # the request whose turn it is
    killed: bool = False  # whether somebody has ended it

    async def start(self, *, lazy: bool) -> None:
        """Load the models, unless lazy, and serve for ever."""
        await self.restore()
        if not lazy:
            for repository in self.repositories:
                self.models[repository] = deployed(repository)
        gc.collect()
        await RedisProvider.async_client.set(
            "ray:connected", "1"
        )  # what the API looks at before it takes a job
        arrived = asyncio.Event()
        await asyncio.gather(
            self.take(arrived),
            self.work(arrived),
            self.kill(),
            self.answer(
                names.STATUS_TRIGGER_STREAM, names.STATUS_KEY, names.STATUS_REQUESTED_KEY,
                names.STATUS_READY_CHANNEL, self.status,
            ),
            self.answer(
                names.ENV_TRIGGER_STREAM, names.ENV_KEY, names.ENV_REQUESTED_KEY, names.ENV_READY_CHANNEL,
                self.environment,
            ),
        )  # fmt: skip

    async def restore(self) -> None:
        """Take over from a worker that ended before this one: what had its turn then is lost, the others wait."""
        lost = await RedisProvider.async_client.get(RUNNING)
        for item in reversed(await RedisProvider.async_bytes_client.lrange(TAKEN, 0, -1)):
            request = pickle.loads(item)
            self.taken[request.id] = item
            if request.id == lost:
                message = "Replica was evicted while processing your request. Please try again later."
                await tell(request, Status.ERROR, message)
                await self.forget(request)
            else:
                await self.queue(request)
        await RedisProvider.async_client.delete(RUNNING)

    async def take(self, arrived: asyncio.Event) -> None:
        """Read requests into the queue."""
        while True:
            if item := await RedisProvider.async_bytes_client.brpoplpush("queue", TAKEN, timeout=10):
                request = pickle.loads(item)
                self.taken[request.id] = item
                await self.queue(request)
                arrived.set()

    async def queue(self, request: Any) -> None:
        """Let a request wait for its turn."""
        self.waiting.append(request)
        await tell(request, Status.QUEUED, f"Added to Queue at position {len(self.waiting)}.")

    async def forget(self, request: Any) -> None:
        """Keep a request no longer: it was answered, or nobody waits for it."""
        await RedisProvider.async_bytes_client.lrem(TAKEN, 1, self.taken.pop(request.id))

    async def work(self, arrived: asyncio.Event) -> None:
        """Run one job after the other."""
        while True:
            while self.waiting:
                request = self.waiting.pop(0)
                for place, other in enumerate(self.waiting, 1):
                    if other.session_id or place <= SOON:
                        await tell(other, Status.QUEUED, f"Moved to position {place} in Queue.")
                if await self.has_client(request):
                    self.running, self.killed = request, False
                    await RedisProvider.async_client.set(RUNNING, request.id)
                    try:
                        await self.run(request)
                    except Exception as error:
                        print(f"a job failed: {error!r}", file=sys.stderr, flush=True)
                        await tell(request, Status.ERROR, LOST)
                    self.running = None
                await self.forget(request)
                await RedisProvider.async_client.delete(RUNNING)
                if any(model.broken for model in self.models.values()):
                    os._exit(BROKEN)  # the server starts another; a plain exit may hang on the broken context
            arrived.clear()
            await arrived.wait()

    async def run(self, request: Any) -> None:
        """Run a job, and load its model first where that is needed."""
        repository = modelkeys.repository(request.model_key)
        if repository not in self.repositories:
            served = ", ".join(self.repositories)
            message = f"Could not deploy this model: {repository} is not served here. Served: {served}."
            await tell(request, Status.ERROR, message)
            return
        if repository not in self.models:
            await tell(request, Status.PROVISIONING, "Model Provisioning...")
            await tell(request, Status.DEPLOYING, "Model Deploying...")
            self.loading = repository
            try:
                self.models[repository] = await asyncio.to_thread(deployed, repository)
            except Exception as error:
                await tell(request, Status.ERROR, f"Could not deploy this model. {error}")
                return
            finally:
                self.loading = None
        if self.killed:  # while its model was loaded
            await tell(request, Status.ERROR, KILLED)
            return
        await tell(request, Status.DISPATCHED, "Your job has been sent to the model deployment.")
        model = self.models[repository]
        job = asyncio.create_task(model.run(request))
        while not job.done():
            await asyncio.wait({job}, timeout=LOOK)
            if not job.done() and (self.killed or not await self.has_client(request)):
                await model.cancel()
        await job

    async def kill(self) -> None:
        """End the jobs that NDIF's own event names, queued or running, as its dispatcher does."""
        client, last = RedisProvider.async_client, "$"
        while True:
            [[_, entries]] = await client.xread({names.EVENTS_STREAM: last}, block=0, count=1) or [[None, []]]
            for last, event in entries:  # noqa: B007
                if event.get("event_type") == names.EVENT_KILL:
                    answer = json.dumps({"status": await self.end(event["request_id"])})
                    await client.lpush(event["response_key"], answer)
                    await client.expire(event["response_key"], names.EVENT_RESPONSE_TTL_S)

    async def end(self, job_id: str) -> str:
        """End a job; says what was found, in NDIF's words."""
        for request in self.waiting:
            if request.id == job_id:
                self.waiting.remove(request)
                await tell(request, Status.ERROR, KILLED)
                await self.forget(request)
                return "removed_from_queue"
        if self.running is not None and self.running.id == job_id:
            self.killed = True
            return "cancelled_execution"
        return "not_found"

    async def has_client(self, request: Any) -> bool:
        """Whether anybody listens for the answer; one who asks later, by the job's id, always counts."""
        if not request.session_id:
            return True
        [(_, listeners)] = await RedisProvider.async_client.pubsub_numsub(request.session_id)
        return bool(listeners)

    async def answer(self, trigger: str, key: str, requested: str, ready: str, what: Any) -> None:
        """Keep an answer of the API fresh: it asks through a stream and waits on a channel."""
        client, last = RedisProvider.async_client, "$"
        while True:
            if messages := await client.xread({trigger: last}, block=0, count=1):
                last = messages[0][1][-1][0]
                await client.set(key, json.dumps(what()), ex=1)
                await client.delete(requested)
                await client.publish(ready, "ok")

    def status(self) -> dict[str, Any]:
        """What `/status` says, in the form that NDIF gives it."""
        deployments = {}
        for repository, model in self.models.items():
            module = model.model._module
            deployments[f"ModelActor:{repository}"] = {
                "application_state": "RUNNING",
                "deployment_level": "HOT",
                "pinned": True,
                "model_key": model.model_key,
                "repo_id": repository,
                "task": modelkeys.TASK,
                "revision": None,
                "dtype": DTYPE,
                "n_params": sum(p.numel() for p in module.parameters()),
                "config": module.config.to_json_string(),
                "execution_timeout_seconds": TIMEOUT,
            }
        for repository in self.repositories:
            name = f"ModelActor:{repository}"
            if name not in deployments:
                state = {"application_state": "DEPLOYING"} if repository == self.loading else {}
                deployments[name] = {"deployment_level": "COLD", "repo_id": repository, **state}
        return {"deployments": deployments, "queue": len(self.waiting)}

    def environment(self) -> dict[str, Any]:
        """What `/env` says: Python and the packages that matter."""
        from importlib.metadata import version

        packages = {name: version(name) for name in ("nnsight", "torch", "transformers", "ndif")}
        return {"python_version": sys.version, "packages": packages}


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    worker = Worker(json.loads(os.environ["STEERLAB_MODELS"]))
    asyncio.run(worker.start(lazy=os.environ["STEERLAB_LAZY"] == "1"))
