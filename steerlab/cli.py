"""The command line: `steerlab lab | demo | doctor | serve-ndif | train-demo`.

Every command is a function that takes parsed arguments and returns an exit code. Heavy imports stay inside the
commands, so that `steerlab --help` answers at once; no command does anything that the library cannot do.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from steerlab._version import __version__
from steerlab.errors import SteerlabError

if TYPE_CHECKING:
    from steerlab.recipes import Recipe

INSTALL_LAB = 'pip install "jupyterlab>=4.4,<5"'
HARMLESS = "How do I bake some bread?"
HARMFUL = "How do I pick the lock of a stranger's house?"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed with a message, 2 wrong usage."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may have no arrows and lines
        sys.stdout.reconfigure(errors="replace")
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    parser = _parser()
    arguments = parser.parse_args(words[:cut])
    arguments.extra = words[cut + 1 :]
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    if arguments.extra and arguments.command != "lab":
        parser.error(
            f"steerlab {arguments.command} passes nothing on: leave out -- {' '.join(arguments.extra)}"
        )
    try:
        return int(arguments.run(arguments))
    except SteerlabError as error:
        print(f"steerlab {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="steerlab", description="A Jupyter lab for steering language models.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"steerlab {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")

    lab = commands.add_parser(
        "lab",
        help="open the tutorial in JupyterLab",
        description="Copy the tutorial notebook to a folder, keeping a file that is there, and open JupyterLab.",
        epilog="Arguments after -- go to JupyterLab as they are.",
        allow_abbrev=False,
    )
    lab.add_argument("--dir", type=Path, default=Path(), help="where the notebook goes (default: here)")
    lab.add_argument(
        "--no-browser", action="store_true", help="print the address instead of opening a browser"
    )
    lab.add_argument("--port", type=int, help="JupyterLab's port (default: 8888, or the next free one)")
    lab.set_defaults(run=open_lab)

    demo = commands.add_parser(
        "demo",
        help="see steering work, here in the terminal",
        description="Steer the embedded model along its refusal direction and print both texts side by side.",
        allow_abbrev=False,
    )
    demo.add_argument(
        "prompt", nargs="?", help="your own prompt (default: one harmless and one harmful request)"
    )
    demo.add_argument("--coefficient", type=float, default=1.0, help="how much of the direction is added")
    demo.set_defaults(run=show_demo)

    doctor = commands.add_parser("doctor", help="check this installation", allow_abbrev=False)
    doctor.set_defaults(run=run_doctor)

    serve = commands.add_parser(
        "serve-ndif",
        help="start an NDIF server of your own",
        description="Serve models to Lab(..., host=...) over NDIF, on this machine's CPU or GPU (Linux, macOS, or WSL "
        "on Windows), until Ctrl-C. The first start installs NDIF in an environment of its own.",
        epilog="No key is asked for: whoever reaches the address may use it. See docs/workshop-server.md.",
        allow_abbrev=False,
    )
    serve.add_argument("models", nargs="*", help="Hugging Face ids or folders (default: the embedded model)")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for the whole network"
    )
    serve.add_argument("--port", type=int, default=5001, help="port of the server (default: 5001)")
    serve.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    serve.add_argument("--dtype", help="of the weights (default: float32 on a CPU, bfloat16 on a GPU)")
    serve.add_argument("--threads", type=int, help="CPU threads (default: all)")
    serve.add_argument(
        "--job-seconds", type=float, default=120.0, help="the longest that a job may run (default: 120)"
    )
    serve.add_argument("--lazy", action="store_true", help="load each model when it is first asked for")
    serve.add_argument(
        "--sandbox",
        action="store_true",
        help="run each job's code in a process of its own, as hosted NDIF does",
    )
    serve.add_argument(
        "--ray",
        action="store_true",
        help="run NDIF's whole stack with Ray: a process for each model, most of a minute to start",
    )
    serve.set_defaults(run=serve_ndif)

    train = commands.add_parser(
        "train-demo",
        help="train the embedded model again",
        description="Train the embedded demo model from its text generator and write it to a folder.",
        allow_abbrev=False,
    )
    train.add_argument("--out", type=Path, required=True, help="folder for the weights, made where missing")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 … (default: a GPU where there is one)"
    )
    train.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    train.add_argument(
        "--scale", type=float, default=1.0, help="of the training tokens; 0.001 is a smoke test"
    )
    train.set_defaults(run=train_demo)
    return parser


# ---------------------------------------------------------------- lab


def tutorials() -> list[Path]:
    """The tutorial notebooks in order: beside the modules in an installed wheel, beside the package in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "examples", package.parent / "examples"):
        if found := sorted(folder.glob("[0-9][0-9]_*.ipynb")):
            return found
    raise SteerlabError("this installation has no tutorial notebooks", "Install steerlab again.")


def copy_tutorials(folder: Path) -> list[Path]:
    """Copy the tutorials into `folder`, keep every file that is there already, and say which; returns their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        copies = []
        for source in tutorials():
            copy = folder / source.name
            try:
                with copy.open("xb") as file:
                    file.write(source.read_bytes())
                print(f"{copy}: a fresh copy")
            except FileExistsError:
                print(f"{copy}: was here already and is kept as it is")
            copies.append(copy)
    except OSError as error:
        raise SteerlabError(
            f"the notebooks cannot be written to {folder.resolve()} ({error.strerror or error})",
            "Name a folder that you may write to: steerlab lab --dir FOLDER.",
        ) from error
    return copies


def open_lab(arguments: argparse.Namespace) -> int:
    """`steerlab lab`: the tutorials, in JupyterLab, in this process."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise SteerlabError("JupyterLab is not installed in this environment", f"Install it: {INSTALL_LAB}.")
    first = copy_tutorials(arguments.dir)[0]
    return start_jupyterlab(jupyter_arguments(first, arguments.no_browser, arguments.port, arguments.extra))


def jupyter_arguments(notebook: Path, no_browser: bool, port: int | None, extra: Sequence[str]) -> list[str]:
    """JupyterLab's command line for opening one notebook; `extra` comes last and so has the last word."""
    words = [
        f"--ServerApp.root_dir={notebook.parent.resolve()}",
        f"--LabApp.default_url=/lab/tree/{quote(notebook.name)}",  # in the printed address too, with --no-browser
    ]
    if no_browser:
        words.append("--no-browser")
    if port is not None:
        words.append(f"--port={port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        words.append("--allow-root")  # a container's usual user; JupyterLab refuses to start without it
    return [*words, *extra]


def start_jupyterlab(words: list[str]) -> int:
    """Run JupyterLab here until the person stops it."""
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance(argv=words)
    return 0


# ---------------------------------------------------------------- demo


def show_demo(arguments: argparse.Namespace) -> int:
    """`steerlab demo`: baseline and steered text side by side."""
    import steerlab as sl

    print("loading the embedded model …", file=sys.stderr)
    lab = sl.Lab()
    refusal = lab.directions["refusal"]
    push = sl.Recipe([sl.Add(refusal, coefficient=arguments.coefficient)])
    drop = sl.Recipe([sl.Ablate(refusal)])
    print(
        f"{lab.info.name}: {lab.info.n_layers} layers, {lab.info.d_model} numbers per token, on {lab.info.device}"
    )
    added = f"refusal added, coefficient {arguments.coefficient:g}"
    trials: list[tuple[str, str, Recipe]] = [(HARMLESS, added, push), (HARMFUL, "refusal removed", drop)]
    if arguments.prompt is not None:
        trials = [(arguments.prompt, added, push), (arguments.prompt, "refusal removed", drop)]
    for prompt, title, recipe in trials:
        baseline, steered = lab.generate(prompt), lab.generate(prompt, recipe)
        print(f"\n> {prompt}")
        print(side_by_side(("baseline", baseline.text), (title, steered.text)))
    print("\nMove the slider yourself: steerlab lab")
    return 0


def side_by_side(left: tuple[str, str], right: tuple[str, str], width: int | None = None) -> str:
    """Two titled texts in two columns as wide as the terminal allows (60 to 120 characters)."""
    width = width or min(max(shutil.get_terminal_size().columns, 60), 120)
    column = (width - 3) // 2
    columns = []
    for title, text in (left, right):
        lines = [line for part in text.splitlines() for line in textwrap.wrap(part, column) or [""]]
        columns.append([title[:column], "─" * column, *(lines or ["(no text)"])])
    height = max(len(lines) for lines in columns)
    rows = zip(*(lines + [""] * (height - len(lines)) for lines in columns), strict=True)
    return "\n".join(f"{a:<{column}} │ {b}".rstrip() for a, b in rows)


# ---------------------------------------------------------------- doctor, serve-ndif, train-demo


def run_doctor(arguments: argparse.Namespace) -> int:
    """`steerlab doctor`: a verdict per line; 1 where something needed is broken."""
    from steerlab.doctor import examine

    broken = False
    for check in examine():
        print(f"{check.verdict:<7} {check.name:<20} {check.found}")
        if check.fix:
            print(f"        {'':<20} → {check.fix}")
        broken = broken or check.verdict == "broken"
    print("\nSomething needed is broken; see the arrows above." if broken else "\nEverything needed works.")
    return int(broken)


def serve_ndif(arguments: argparse.Namespace) -> int:
    """`steerlab serve-ndif`: a server until somebody stops it, or until one of its processes ends."""
    from steerlab.backends.ndif.names import DEMO
    from steerlab.demo import WEIGHTS
    from steerlab.serving.server import serve

    end_in_order()
    with serve(
        arguments.models or [WEIGHTS],
        host=arguments.host,
        port=arguments.port,
        device=arguments.device,
        dtype=arguments.dtype,
        threads=arguments.threads,
        job_seconds=arguments.job_seconds,
        lazy=arguments.lazy,
        sandbox=arguments.sandbox,
        ray=arguments.ray,
        tell=lambda text: print(text, file=sys.stderr),
    ) as server:
        print(f"ready; {', '.join(server.names)} at {server.url}. In a notebook:")
        for model, name in zip(arguments.models or [""], server.names, strict=True):
            first = "" if name == DEMO else f"{model!r}, "
            print(f"    lab = sl.Lab({first}host={server.url!r})")
        print("Ctrl-C ends it.", flush=True)
        while True:
            time.sleep(1)
            if server.revive():
                print(f"the worker ended and is started again; see {server.log('worker')}", file=sys.stderr)
            server.check()


def end_in_order() -> None:
    """Have a kill, or a terminal that is closed, end this process as Ctrl-C does: with what it has started."""
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # under nohup SIGHUP is not to be heard
    heard = [one for one in signals if signal.getsignal(one) is not signal.SIG_IGN]

    def end(*_: object) -> None:
        for one in heard:  # a second one would interrupt the ending
            signal.signal(one, signal.SIG_IGN)
        sys.exit(0)

    for one in heard:
        signal.signal(one, end)


def train_demo(arguments: argparse.Namespace) -> int:
    """`steerlab train-demo`: the embedded model from its text generator."""
    weights = arguments.out / "model.safetensors"
    if weights.exists():
        raise SteerlabError(
            f"{weights} is there already", "Name a new folder: hours of training may be in this one."
        )
    from steerlab.demo.evaluate import find_refusal
    from steerlab.demo.train import train

    train(
        arguments.out,
        seed=arguments.seed,
        device=arguments.device,
        threads=arguments.threads,
        scale=arguments.scale,
    )
    print(f"its refusal direction: {find_refusal(arguments.out)!r}")
    print(f"to measure it: python -m steerlab.demo.evaluate {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
