"""Difference in means at every layer, 128 pairs of prompts, against a bare batched forward pass of the same tokens;
and three packages for the same thing: repeng, steering-vectors as documented (one prompt at a time) and in batches,
and TransformerLens prompt by prompt.

repeng computes principal components instead of means, and their time is part of its figure; the reading is the same.
The packages take the first 32 pairs in every round, and their time is scaled to all. Beside that, what eight times as
many prompts add to the memory of the process.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from common import Check, Figure, Options, Rounds, interleaved, main, missing
from steerers import bridge, load_repeng
from subjects import Subject, subject, subjects, tokenizer
from torch import Tensor

import steerlab as sl
from steerlab.estimators import DirectionMap

BATCH = 32
# how many times dearer than steerlab a package is, at the least
PEERS = {
    "repeng": 1.3,
    "steering-vectors": 2.8,
    "steering-vectors, batches of 32": None,
    "TransformerLens": 5.0,
}
KEPT_MB = 2 * 896 * 10 * 5 * 128 * 4 // 2**20  # prompts x layers x positions x width x bytes
SAME = ("steering-vectors", "TransformerLens")  # these compute means, too


def measure(options: Options) -> Iterator[Figure]:
    """One figure for steerlab, and one per package, for each model."""
    for model in subjects(options, "50M"):
        yield from all_of(model, options)


def all_of(subject: Subject, options: Options) -> list[Figure]:
    """The figures of one model."""
    n, part = (8, 4) if options.quick else (128, 32)
    sides = [[str(p) for p in side] for side in (sl.prompts.harmful(n), sl.prompts.harmless(n))]
    lab = subject.lab()
    notes: list[str] = []
    made: dict[str, Callable[[], Any]] = {}
    makers = {
        "repeng": by_repeng,
        "steering-vectors": lambda s, a, b: by_steering_vectors(s, a, b, 1),
        "steering-vectors, batches of 32": lambda s, a, b: by_steering_vectors(s, a, b, BATCH),
        "TransformerLens": by_transformer_lens,
    }
    some = [side[:part] for side in sides]
    for name, make in makers.items():
        with missing(name, notes):
            made[name] = make(subject, *some)

    @torch.no_grad()
    def bare(_: int) -> None:
        for side in sides:
            order = sorted(side, key=lambda text: len(subject.ids(text)))
            for start in range(0, len(order), BATCH):
                subject.plain(
                    **subject.batch(order[start : start + BATCH]), use_cache=False, logits_to_keep=1
                )

    def means(_: int) -> DirectionMap:
        return lab.difference_in_means(*sides)

    runs: dict[str, Callable[[int], Any]] = {"bare": bare, "steerlab": means}
    rounds = interleaved({**runs, **{name: ignoring(run) for name, run in made.items()}}, options)
    reference = lab.difference_in_means(*some)
    grown = memory()
    flat = Check(
        f"1024 instead of 128 pairs on the embedded model add {grown:.0f} MB to the process's peak; to keep what is "
        f"read of them would add {KEPT_MB}",
        grown < KEPT_MB / 2,
    )
    return [
        Figure(
            f"difference in means, {subject.n_layers} layers, {n} pairs",
            "a bare batched forward pass of the same tokens",
            subject.name,
            rounds.ratio("steerlab", "bare"),
            "of its time",
            1.1 if subject.name == "50M" else None,
            "less",
            checks=(flat,),
            note="; ".join([f"the bare pass took {rounds.median('bare'):.1f} s", *notes]),
        ),
        *(
            peer(subject, name, rounds, reference, n / part, 0 if options.quick else PEERS[name])
            for name in made
        ),
    ]


def ignoring(run: Callable[[], Any]) -> Callable[[int], Any]:
    """A run that takes no number."""
    return lambda _: run()


def peer(
    subject: Subject, name: str, rounds: Rounds, reference: DirectionMap, scale: float, goal: float | None
) -> Figure:
    """How much dearer a package is."""
    checks: tuple[Check, ...] = ()
    if name.partition(",")[0] in SAME:
        theirs = rounds.results[name][0]
        worst = min(
            float(torch.cosine_similarity(reference.vectors[-1, layer], vector.double(), dim=0))
            for layer, vector in theirs.items()
            if reference.differs(-1, layer)
        )
        checks = (Check(f"its directions and ours have cosines of {worst:.6f} or more", worst > 0.9999),)
    return Figure(
        f"difference in means by {name}",
        "steerlab",
        subject.name,
        rounds.ratio(name, "steerlab", scale=scale),
        "times dearer",
        goal or None,
        checks=checks,
        floor=rounds.ratio(name, "bare", scale=scale).median if goal else None,
        floor_words="what it is dearer than the bare batched forward pass, which no means can do without",
        note=f"{1 / scale:.0%} of the pairs, scaled",
    )


def templated(texts: list[str]) -> list[str]:
    """Prompts in the chat template, as text, for packages that know none."""
    return [
        str(
            tokenizer().apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
        )
        for text in texts
    ]


def by_repeng(subject: Subject, positive: list[str], negative: list[str]) -> Callable[[], Any]:
    """ControlVector.train, as its README has it."""
    package = load_repeng()
    model = package.ControlModel(subject.copy(), list(range(1, subject.n_layers)))
    pairs = zip(templated(positive), templated(negative), strict=True)
    data = [package.DatasetEntry(positive=a, negative=b) for a, b in pairs]
    return lambda: package.ControlVector.train(model, tokenizer(), data, batch_size=BATCH)


def by_steering_vectors(
    subject: Subject, positive: list[str], negative: list[str], batch: int
) -> Callable[[], dict[int, Tensor]]:
    """train_steering_vector; its layer's output is the input of the next."""
    package = import_module("steering_vectors")
    model = subject.copy()
    pairs = list(zip(templated(positive), templated(negative), strict=True))

    def train() -> dict[int, Tensor]:
        vector = package.train_steering_vector(model, tokenizer(), pairs, batch_size=batch)
        found = {layer + 1: v for layer, v in vector.layer_activations.items()}
        del found[subject.n_layers]
        return found

    return train


def by_transformer_lens(
    subject: Subject, positive: list[str], negative: list[str]
) -> Callable[[], dict[int, Tensor]]:
    """run_with_cache of every prompt, with a filter of names."""
    model = bridge(subject)
    sides = [[subject.ids(text) for text in side] for side in (positive, negative)]
    names = {f"blocks.{layer}.hook_in": layer for layer in range(subject.n_layers)}

    @torch.no_grad()
    def read() -> dict[int, Tensor]:
        means = []
        for side in sides:
            sums: dict[int, Tensor] = {}
            for ids in side:
                _, cache = model.run_with_cache(
                    torch.tensor([ids], device=subject.plain.device), names_filter=list(names)
                )
                for name, layer in names.items():
                    sums[layer] = sums.get(layer, 0) + cache[name][0, -1].double().cpu()
            means.append({layer: total / len(side) for layer, total in sums.items()})
        return {layer: means[0][layer] - means[1][layer] for layer in means[0]}

    return read


# ---------------------------------------------------------------------------------------------------- memory


def memory() -> float:
    """MB that eight times as many prompts add to the peak of a process of its own."""
    command = [sys.executable, __file__, "--grow", "128"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the process that was to grow ended with {done.returncode}:\n{done.stderr}")
    return float(done.stdout)


def grow(n: int) -> float:
    """In this process: the peak after 8 n pairs above that after n, on the embedded model."""
    torch.set_num_threads(1)
    lab = subject("embedded").lab()
    peaks = []
    for count in (n, n, n, 8 * n):  # the first ones are for what stays
        sides = [
            [f"{name} {i}, please" for i in range(count)] for name in ("Tell me about boat", "Sing of bird")
        ]
        reset = Path("/proc/self/clear_refs")
        with suppress(OSError):  # Linux: the peak begins anew, where that is allowed
            reset.write_text("5", encoding="ascii")
        lab.difference_in_means(*sides)
        peaks.append(peak())
    return peaks[3] - peaks[2]


def peak() -> float:
    """The most memory that this process has held, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(
            line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM")
        )
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--grow"]:
        print(grow(int(sys.argv[2])))
    else:
        raise SystemExit(main(__doc__, measure))
