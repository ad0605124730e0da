"""What the estimators share: where they read by default, and what the provenance of a direction says of its origin."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from steerlab._version import __version__
from steerlab.backends.base import Backend
from steerlab.prompts import Position, Positions, post_instruction_tokens


def default_positions(backend: Backend, chat: bool) -> Positions:
    """Every post-instruction token of the chat template, or the last token of plain text."""
    return range(-len(post_instruction_tokens(backend.tokenizer)) if chat else -1, 0)


def as_tuple(positions: Positions) -> tuple[Position, ...]:
    """The positions of a map."""
    return ("response",) if positions == "response" else tuple(positions)


def origin(backend: Backend, prompts: object = None) -> dict[str, Any]:
    """For a provenance: the version of steerlab, the model's revision where it is known, and hashes of the chat
    template and of the prompts in their order, 16 hex digits of SHA-256. What a direction was found from is the same
    where the hashes are.
    """
    about = {
        "steerlab": __version__,
        "model revision": backend.info.revision,
        "chat template hash": short_hash(backend.tokenizer.chat_template),
        "prompts hash": short_hash(prompts),
    }
    return {key: said for key, said in about.items() if said is not None}


def short_hash(what: object) -> str | None:
    """16 hex digits of SHA-256 of what can be said in JSON, None for None."""
    return None if what is None else hashlib.sha256(json.dumps(what, default=dict).encode()).hexdigest()[:16]
