"""NDIF's Ray actors for a machine without a GPU: named in NDIF's own settings, and loaded by Ray's workers.

NDIF places models by the memory of its GPUs, so `cluster` tells Ray of one that is not there, and the model actor here
loads its model on the CPU. The controller is NDIF's but for two arguments that nnsight no longer takes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ray
import torch
from cpu import CpuDeployment, CpuSandbox
from huggingface_hub import snapshot_download
from ndif.services.ray.deployments.controller.cluster.evaluator import Remotable
from ndif.services.ray.deployments.controller.controller import _ControllerActor
from ndif.services.ray.deployments.modeling.base import HuggingFaceModel
from safetensors import safe_open


def ready_for_cpu() -> None:
    """Take away the one CUDA call that a deployment makes after every job."""
    torch.cuda.synchronize = lambda *_, **__: None


@ray.remote(num_cpus=0, max_restarts=-1)
class CpuModelActor(CpuDeployment):  # type: ignore[misc]
    """A model on the CPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ready_for_cpu()
        super().__init__(*args, **kwargs)


@ray.remote(num_cpus=0, max_restarts=-1)
class CpuSandboxActor(CpuSandbox):  # type: ignore[misc]
    """The same, with each job's code in a process of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ready_for_cpu()
        super().__init__(*args, **kwargs)


@ray.remote(num_cpus=0, num_gpus=0, max_restarts=-1, resources={"head": 1})
class Controller(_ControllerActor):  # type: ignore[misc]
    """NDIF's controller, beside an nnsight that has lost `trust_remote_code`, and without a hub to ask for sizes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name in ("describe_checkpoint", "max_tp_size"):
            asked = getattr(Remotable, name).__func__
            setattr(Remotable, name, classmethod(without_trust(asked)))
        HuggingFaceModel._hub_parameter_count = classmethod(lambda cls, name, _: parameters(name))
        super().__init__(*args, **kwargs)


def parameters(name: str) -> int:
    """How many a model has, by the headers of its files, which are on this machine."""
    count = 0
    for path in Path(snapshot_download(name, local_files_only=True)).glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            count += sum(math.prod(file.get_slice(one).get_shape()) for one in file.keys())  # noqa: SIM118
    return count


def without_trust(asked: Any) -> Any:
    """A method that ignores `trust_remote_code`, which is nowhere set here."""

    def method(cls: Any, *args: Any, trust_remote_code: bool = False, **kwargs: Any) -> Any:
        return asked(cls, *args, **kwargs)

    return method
