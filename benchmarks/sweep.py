"""A sweep of layers x coefficients x prompts x tokens, against the loop that every peer leaves to its user: one
answer at a time, through plain hooks and transformers' generate.

Of the loop a random sample of the answers is run, another one in every round, and its time is scaled to all of them.

Measured with one thread, and with as many as torch takes by itself, which is how such a loop is run. Threads of a
small model mostly wait for each other, and a wait counts as CPU; so does one answer of a large one, which waits for
memory. Rows that share a pass wait for arithmetic.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
from common import DEFAULT_THREADS, Check, Figure, Options, Timed, clock, interleaved, main
from oracle import added
from subjects import Subject, generate, prompts, subjects

import steerlab as sl
from steerlab.backends.kv import Memory

COEFFICIENTS = (-2.0, -1.5, -1.0, -0.5, 0.25, 0.5, 1.0, 1.5, 2.0)  # none of them the baseline
GOALS = {"embedded": 40.0, "50M": 20.0}


def measure(options: Options) -> Iterator[Figure]:
    """Two figures per model: with one thread, and with as many as torch takes by itself."""
    for subject in subjects(options, *GOALS):
        for threads in sorted({options.threads, DEFAULT_THREADS}):
            torch.set_num_threads(threads)
            yield one(subject, options, threads)
    torch.set_num_threads(options.threads)


def one(subject: Subject, options: Options, threads: int) -> Figure:
    """The sweep of one model."""
    n_prompts, n_tokens, sample = (
        (2, 4, 6) if options.quick else (4, 32, 24 if subject.name == "embedded" else 9)
    )
    coefficients = COEFFICIENTS[:3] if options.quick else COEFFICIENTS
    direction = subject.direction()
    cells = [
        (layer, c, p) for p in range(n_prompts) for layer in range(subject.n_layers) for c in coefficients
    ]
    texts = {i: prompts(n_prompts, 20 + n_prompts, seed=i) for i in range(-1, options.rounds)}
    chosen = {i: random.Random(i).sample(cells, sample) for i in range(-1, options.rounds)}
    lab = subject.lab()

    def swept(i: int) -> dict[tuple[int, float, int], tuple[int, ...]]:
        ids: dict[tuple[str, str], tuple[int, ...]] = {}

        def keep(answer: sl.Generation) -> int:
            ids[answer.recipe.fingerprint, str(answer.prompt)] = answer.token_ids
            return len(answer.token_ids)

        table = sl.Lab(lab.backend).sweep(
            direction,
            coefficients=coefficients,
            prompts=texts[i],
            metrics=[keep],
            sampling=sl.Sampling(n_tokens),
            progress=lambda _done, _total: None,
        )
        return {
            (cell.place["layer"], cell.place["coefficient"], p): ids[cell.recipe.fingerprint, texts[i][p]]
            for cell in table.cells
            for p in range(n_prompts)
        }

    def looped(i: int) -> dict[tuple[int, float, int], tuple[int, ...]]:
        found = {}
        for layer, c, p in chosen[i]:
            with added(subject.plain, c * direction.vector, layer):
                answer = generate(subject.plain, subject.batch([texts[i][p]]), n_tokens)
            found[layer, c, p] = tuple(answer[0])
        return found

    needed = round(blocks_passed(swept(-1), subject.n_layers) / (n_prompts * (n_tokens - 1)))

    @torch.no_grad()
    def decode(some: list[str]) -> Timed:
        """The rows that prompts need decoded together, nothing steered and nothing kept; their prompts are known. The
        cache is written in place: the library's own is copied for every token.
        """
        ids = subject.batch(some)["input_ids"].repeat_interleave(needed, 0)
        width = ids.shape[1]
        memory = Memory(subject.n_layers, len(ids), width + n_tokens)
        began = 0.0
        for past in (0, *range(width, width + n_tokens - 1)):
            if past == width:
                began = clock(options.device)
            cache = memory.window(slice(0, len(ids)), 0, past)
            out = subject.plain(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            ids = out.logits[:, -1:].argmax(-1)
        return Timed(clock(options.device) - began, None)

    @torch.no_grad()
    def read(i: int) -> None:
        """One prompt read by all of its rows, nothing steered and nothing shared."""
        subject.plain(
            **subject.batch(texts[i][:1] * (len(cells) // n_prompts)), use_cache=True, logits_to_keep=1
        )

    rounds = interleaved(
        {
            "loop": looped,
            "sweep": swept,
            "apart": lambda i: decode(texts[i][:1]),
            "together": lambda i: decode(texts[i]),
            "read": read,
        },
        options,
    )
    # a row reads its prompt again from its layer up
    above = (subject.n_layers + 1) / (2 * subject.n_layers)
    least = n_prompts * above * rounds.median("read") + min(
        n_prompts * rounds.median("apart"), rounds.median("together")
    )
    pairs = [
        (ours[cell], theirs[cell], cell, i)
        for i, (ours, theirs) in enumerate(zip(rounds.results["sweep"], rounds.results["loop"], strict=True))
        for cell in theirs
    ]
    apart = [pair for pair in pairs if pair[0] != pair[1]]
    ties = sum(tied(subject, direction, *pair, texts) for pair in apart)
    words = f"{len(pairs) - len(apart)} of {len(pairs)} answers compared are identical"
    if apart:
        words += f", {ties} part where the two likeliest tokens are within 1e-4 of each other"
    return Figure(
        f"sweep of {subject.n_layers} layers x {len(coefficients)} coefficients x {n_prompts} prompts x "
        f"{n_tokens} tokens",
        f"the loop with raw hooks, one answer at a time, {threads} thread{'s' * (threads > 1)}",
        subject.name,
        rounds.ratio("loop", "sweep", scale=len(cells) / sample),
        "times less",
        GOALS.get(subject.name),
        checks=(Check(words, ties == len(apart)),),
        floor=rounds.median("loop") * len(cells) / sample / least,
        floor_words="the plain model, nothing steered, reads every prompt from the steered layer up and decodes "
        f"{needed} rows of each together: so many of its {len(cells) // n_prompts} differ in a block, on average",
        note=f"loop: {sample} of {len(cells)} answers sampled in every round; the sweep took "
        f"{rounds.median('sweep'):.1f} s",
    )


def blocks_passed(answers: dict[tuple[int, float, int], tuple[int, ...]], n_layers: int) -> float:
    """How many rows no sweep can do without, in a block of a pass over one new token and on average over the blocks,
    summed over the passes: below their layer, rows whose prompts and tokens so far agree are one.
    """
    found = 0
    for block in range(n_layers):
        for t in range(1, len(next(iter(answers.values())))):
            found += len(
                {(p, ids[:t]) if block < layer else (p, layer, c) for (layer, c, p), ids in answers.items()}
            )
    return found / n_layers


@torch.no_grad()
def tied(
    subject: Subject,
    direction: sl.Direction,
    ours: tuple[int, ...],
    theirs: tuple[int, ...],
    cell: tuple[int, float, int],
    i: int,
    texts: dict[int, list[str]],
) -> bool:
    """Whether two answers part where the likeliest two tokens are as good as equal: rounding chose between them."""
    layer, c, p = cell
    at = next(k for k, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    ids = subject.ids(texts[i][p]) + list(theirs[:at])
    with added(subject.plain, c * direction.vector, layer):
        logits = subject.plain(input_ids=torch.tensor([ids], device=subject.plain.device)).logits[0, -1]
    first, second = logits.topk(2).values.tolist()
    return bool(abs(first - second) < 1e-4)


if __name__ == "__main__":
    raise SystemExit(main(__doc__, measure))
