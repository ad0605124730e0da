"""What models are called on a server, and where it finds their files: in a cache of the hub's form, made of links."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steerlab.backends.ndif.names import repository
from steerlab.errors import SteerlabError

REVISION = "0" * 40
FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def names(models: Sequence[str | Path]) -> list[str]:
    """What models are called on the server. Raises SteerlabError where two have one name."""
    found = [repository(model) for model in models]
    for model, name in zip(models, found, strict=True):
        if found.count(name) > 1:
            raise SteerlabError(
                f"two of the models are called {name!r} on the server, and {str(model)!r} is one of them",
                "Name each model once, and give folders names of their own: a folder's last part is its name there.",
            )
    return found


def place(model: str | Path, name: str, hub: Path) -> None:
    """Put a model where the server's transformers finds it without a network, by its name there."""
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(name, allow_patterns=FILES))
        except (
            Exception
        ) as error:  # the hub's client has errors of several libraries, all with a reason to read
            raise SteerlabError(
                f"the model {name!r} cannot be had: {type(error).__name__}: {str(error).splitlines()[0]}",
                "Give a Hugging Face id that this machine can reach or has in its cache, or a folder.",
            ) from error
    here = hub / f"models--{name.replace('/', '--')}"
    snapshot = here / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        (snapshot / file.name).symlink_to(file.resolve())
    (here / "refs").mkdir()
    (here / "refs" / "main").write_text(REVISION)
