"""The keys by which NDIF knows models: a class and the arguments that make one. A server loads by its own keys alone,
since whoever chooses a key chooses what is imported, and with which arguments.
"""

from __future__ import annotations

import json

TASK = "text-generation"


def key(repository: str) -> str:
    """The key by which a model is loaded here."""
    data = {"repo_id": repository, "revision": None, "task": TASK}
    return f"nnsight.modeling.transformers.TransformersModel:{json.dumps(data)}"


def repository(model_key: str) -> str:
    """The model that a client's key means, whatever its class, revision and spelling.

    Raises ValueError where it means none, or another task than the one that is served.
    """
    try:
        data = json.loads(model_key.partition(":")[2])
        name, task = data["repo_id"], data.get("task") or TASK
    except (ValueError, TypeError, KeyError, AttributeError):
        name, task = None, TASK
    if not isinstance(name, str):
        raise ValueError(f"{model_key[:200]!r} is no key of a model, as nnsight makes them")
    if task != TASK:
        raise ValueError(f"models are served here for {TASK}, not for {str(task)[:40]!r}")
    return name
