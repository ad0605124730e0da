"""Labs of one model on a server, each with a thread of its own: `python clients.py FOLDER URL FIRST END`.

The process says "ready" when it has opened its labs, numbered from FIRST, and waits for a line. Then all of them ask at
once, and what each was answered is printed as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import torch

from steerlab import Add, Direction, Lab, Recipe, Row, Sampling, Site
from steerlab.backends.ndif.messages import JobStatus
from steerlab.generations import Token

SAMPLING = Sampling(10)


def rows_of(client: int, d_model: int) -> list[Row]:
    """What a client asks: questions and a recipe that nobody else has."""
    noise = torch.randn(d_model, generator=torch.Generator().manual_seed(client))
    recipe = Recipe([Add(Direction(3 * noise, Site(2, "resid_pre")), 0.5 + 0.05 * client)])
    return [Row(f"Question {client}", recipe), Row(f"Other {client}")]


def ask(lab: Lab, client: int, told: dict[int, Any]) -> None:
    """Ask, and keep what came: the answers, the tokens on the way, and where the job was."""
    streamed: list[Token] = []
    seen: list[JobStatus] = []
    lab.backend.watchers.append(seen.append)  # type: ignore[attr-defined]
    rows = rows_of(client, lab.info.d_model)
    answers = lab.run(rows, SAMPLING, on_tokens=streamed.extend)
    told[client] = {
        "answers": [answer.token_ids for answer in answers],
        "streamed": [[token.id for token in streamed if token.row == row] for row in range(len(rows))],
        "places": [status.position for status in seen if status.position],
        "stages": [status.stage for status in seen],
        "jobs": sorted({status.id for status in seen if status.id}),
    }


def main(folder: str, url: str, first: int, end: int) -> None:
    labs = {client: Lab(folder, host=url) for client in range(first, end)}
    print("ready", flush=True)
    sys.stdin.readline()
    told: dict[int, Any] = {}
    threads = [threading.Thread(target=ask, args=(lab, client, told)) for client, lab in labs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
