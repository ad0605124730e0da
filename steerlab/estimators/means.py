"""Differences of means: of two sides of prompts, of answers, of one pair of prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from steerlab.backends.base import Backend
from steerlab.directions import Direction
from steerlab.errors import PromptError
from steerlab.estimators.about import as_tuple, default_positions, origin
from steerlab.maps import DirectionMap
from steerlab.prompts import ContrastSet, Position, Positions, Prompt, answered, encode
from steerlab.rows import Row
from steerlab.sites import Point, Site


def difference_in_means(
    backend: Backend,
    contrast: ContrastSet,
    *,
    point: Point = "resid_pre",
    positions: Positions | None = None,
    chat: bool = True,
) -> DirectionMap:
    """Mean activation of the positive prompts minus that of the negative ones, at every position and layer.

    `r[i, l] = mean over positive of x[l] at i  -  mean over negative` (Arditi et al. 2024, eq. 1), in one pass over the
    prompts and accumulated in float64. positions: by default every post-instruction token of the chat template;
    "response" for conversations that end with an answer (`prompts.answered`), whose tokens are averaged.
    """
    if positions is None:
        positions = default_positions(backend, chat)
    sites = [Site(layer, point) for layer in range(backend.info.n_layers)]
    sides = [
        backend.capture([Row(prompt, chat=chat) for prompt in side], sites, positions)
        for side in (contrast.positive, contrast.negative)
    ]
    return DirectionMap(
        (sides[0].mean - sides[1].mean).transpose(0, 1),
        ((sides[0].norm + sides[1].norm) / 2).T,
        as_tuple(positions),
        point,
        contrast.name,
        backend.info.name,
        {
            "method": "difference in means",
            "positive prompts": len(contrast.positive),
            "negative prompts": len(contrast.negative),
            **origin(backend, [contrast.positive, contrast.negative]),
        },
    )


def caa(
    backend: Backend,
    questions: Sequence[tuple[Prompt, str, str]],
    *,
    point: Point = "resid_post",
    position: Position = -2,
    chat: bool = True,
    name: str = "direction",
) -> DirectionMap:
    """Contrastive activation addition: `difference_in_means` of two answers to the same prompts, read at a token of the
    answer (Panickssery et al. 2023).

    questions: (prompt, answer that shows the behaviour, answer that lacks it). position: by default the last token but
    one, the letter of the paper's answers "(A)" and "(B)"; -1 for answers of one token, "response" for the mean over
    the answer, with `chat`. Without it an answer follows its prompt as it stands: mind the space. Raises PromptError
    where the two answers to a prompt have not parted by the position: what is read there would be the same.
    """
    if not questions or any(isinstance(q, str) or len(q) != 3 for q in questions):
        raise PromptError(
            f"{len(questions)} questions are not all (prompt, answer that shows, answer that lacks)",
            "Give one such triple or more.",
        )
    sides: list[list[Prompt]] = [[], []]
    for prompt, *answers in questions:
        encode(backend.tokenizer, prompt, chat=chat)  # an empty one is refused, though its answer has tokens
        texts = [answered(prompt, answer) if chat else f"{prompt}{answer}" for answer in answers]
        read = [encode(backend.tokenizer, text, chat=chat) for text in texts]
        if position != "response":
            read = [ids[: len(ids) + position + 1] for ids in read]
        if not all(answer.strip() for answer in answers) or read[0] == read[1]:
            raise PromptError(
                f"up to position {position} the answers {answers[0]!r} and {answers[1]!r} to {prompt!r} are the same",
                "Give two answers that differ, or a later position: -1 is the last token.",
            )
        for side, text in zip(sides, texts, strict=True):
            side.append(text)
    found = difference_in_means(
        backend,
        ContrastSet(sides[0], sides[1], name),
        point=point,
        positions="response" if position == "response" else [position],
        chat=chat,
    )
    about = {"method": "contrastive activation addition", "questions": len(questions)}
    return dataclasses.replace(found, provenance={**about, **origin(backend, list(questions))})


def prompt_pair(
    backend: Backend,
    shows: Prompt,
    lacks: Prompt,
    *,
    site: Site,
    position: int = -1,
    chat: bool = False,
    name: str = "direction",
) -> Direction:
    """The difference of two prompts at a site (ActAdd, Turner et al. 2023): "Love" minus "Hate". Plain text."""
    found = difference_in_means(
        backend, ContrastSet([shows], [lacks], name), point=site.point, positions=[position], chat=chat
    ).at(position, site.layer)
    about = {
        "method": "prompt pair",
        "shows": str(shows),
        "lacks": str(lacks),
        **origin(backend),
        "position": position,
        "chat": chat,
    }
    return dataclasses.replace(found, provenance=about)
