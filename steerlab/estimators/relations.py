"""Linear relations: how a model gets from a subject to its object, to first order, and the way back.

Hernandez et al. 2023 (arXiv 2308.09124) approximate a relation, such as "the capital of", by an affine map of the
subject's state, `o = W s + b`. Chanin et al. 2023 (arXiv 2311.08968) turn it round: the low-rank pseudo-inverse of W
takes an object, such as Paris, to the direction along which subjects have it, a linear relational concept (LRC).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from steerlab.backends.base import Backend
from steerlab.directions import Direction
from steerlab.errors import DirectionError, PromptError
from steerlab.estimators.about import origin
from steerlab.prompts import Prompt, find_tokens
from steerlab.rows import Row
from steerlab.sites import Site

CHUNK = 32  # examples whose states are held at once


class Example(NamedTuple):
    """A prompt that the model is about to end with the object, the words of its subject, and the object's name."""

    prompt: Prompt
    subject: str
    object: str


@dataclass(frozen=True, eq=False)
class LinearRelation:
    """A relation to first order: `o = W s + b` from a subject's state to that of its object.

    weight: W, [d_model d_model]; bias: b, [d_model]; float64. source: where the subject is read, at its last token;
    target: where the object is read, at the prompt's last token. objects: the mean state of every object at the target,
    by name. residual_norm: the mean norm of the subjects at the source. linearised: how many examples W is the mean of.
    found: what the provenance of its directions says of their origin.
    """

    weight: Tensor
    bias: Tensor
    source: Site
    target: Site
    objects: Mapping[str, Tensor]
    residual_norm: float
    linearised: int
    name: str
    model: str
    found: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, subject: Tensor) -> Tensor:
        """The object's state for subjects' states, `[... d_model]` to `[... d_model]`, float64."""
        return subject.double() @ self.weight.T + self.bias

    def direction(self, obj: str, *, rank: int | None = None, name: str | None = None) -> Direction:
        """The unit vector along which a subject has the object: the pseudo-inverse of W, of a low rank, on `o - b`.

        rank: how many singular values of W are inverted, by default an eighth of the width; small ones are noise.
        """
        if obj not in self.objects:
            raise DirectionError(
                f"{obj!r} is the object of no example of {self.name!r}", f"It has {sorted(self.objects)}."
            )
        rank = max(1, len(self.bias) // 8) if rank is None else rank
        if not 1 <= rank <= len(self.bias):
            raise DirectionError(f"rank {rank} is not between 1 and the width, {len(self.bias)}")
        u, s, v = torch.linalg.svd(self.weight)
        back = v[:rank].T @ ((u[:, :rank].T @ (self.objects[obj] - self.bias)) / s[:rank])
        return Direction(
            back / back.norm(),
            self.source,
            name=name or obj,
            model=self.model,
            residual_norm=self.residual_norm,
            provenance={
                "method": "linear relational concept",
                "relation": self.name,
                "object": obj,
                "object read at": self.target.name,
                "rank": rank,
                "linearised": self.linearised,
                **self.found,
            },
        )


def linear_relation(
    backend: Backend,
    examples: Sequence[tuple[Prompt, str, str]],
    *,
    source: Site | None = None,
    target: Site | None = None,
    linearise: int = 8,
    chat: bool = True,
    name: str = "relation",
    progress: Callable[[int, int], None] | None = None,
) -> LinearRelation:
    """Approximate a relation by the mean Jacobian over some of its examples; the others lend their objects' states.

    examples: (prompt, words of the subject in it, name of the object). The prompt ends where the object would begin:
    "The capital of France is", or with `chat` a question with the begun answer (`prompts.answered`). source: by
    default the output of the middle block; target: of the last one, as Hernandez et al. have it, while Chanin et al.
    do better with an earlier one. linearise: how many examples, spread evenly, are differentiated, in d_model / 32
    forward and backward passes each. Raises PromptError where a prompt lacks its subject, and RemoteError at a server
    that runs jobs in processes of their own, where gradients do not reach.
    """
    if not examples or any(isinstance(e, str) or len(e) != 3 for e in examples):
        raise PromptError(
            f"{len(examples)} examples are not all (prompt, subject, object)", "Give one such triple or more."
        )
    if linearise < 1:
        raise PromptError(f"{linearise} examples cannot be linearised", "One is the least.")
    given = [Example(*example) for example in examples]
    n_layers = backend.info.n_layers
    source = source or Site(n_layers // 2 - 1, "resid_post")
    target = target or Site(n_layers - 1, "resid_post")
    at = [max(find_tokens(backend.tokenizer, e.prompt, e.subject, chat=chat)) for e in given]
    rows = [Row(e.prompt, chat=chat) for e in given]
    n = min(linearise, len(given))
    weight, bias, norm = torch.zeros(1), torch.zeros(1), 0.0
    for done in range(n):
        i = done * len(given) // n
        one = backend.linearise(rows[i], source, at[i], target)
        weight, bias = weight + one.jacobian / n, bias + (one.value - one.jacobian @ one.at) / n
        norm += float(one.at.norm()) / n
        if progress:
            progress(done + 1, n)
    sums: dict[str, Tensor] = {}
    for start in range(0, len(given), CHUNK):
        states = backend.capture(rows[start : start + CHUNK], [target], [-1], values=True).values
        assert states is not None
        for e, state in zip(given[start : start + CHUNK], states[:, 0, 0].double(), strict=True):
            sums[e.object] = sums.get(e.object, 0) + state
    counts = Counter(e.object for e in given)
    objects = {obj: total / counts[obj] for obj, total in sums.items()}
    found = origin(backend, list(examples))
    return LinearRelation(weight, bias, source, target, objects, norm, n, name, backend.info.name, found)
