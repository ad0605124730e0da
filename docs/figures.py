"""Runs the programs of docs/finding-directions.md in their order, and renews the figures: python docs/figures.py

What a program prints goes into the block "text printed" below it, and what it draws into the picture below it. So every
number on the page is one that the program above it gave, for the embedded model as it is now.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

PAGE = Path(__file__).parent / "finding-directions.md"
PIECE = re.compile(
    r"^```python\n(?P<program>.*?)^```$"
    r"|^```text printed\n.*?^```$"
    r"|^!\[[^\]]*\]\((?P<picture>[^)]+)\)$",
    flags=re.MULTILINE | re.DOTALL,
)


def renewed(page: str, pictures: Path) -> str:
    """The page with what its programs print now. pictures: the folder that its links to pictures start from."""
    names: dict[str, Any] = {}
    said = ""

    def renew(piece: re.Match[str]) -> str:
        nonlocal said
        if program := piece["program"]:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(program, names)
            said = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
        elif piece["picture"]:
            target = pictures / piece["picture"]
            target.parent.mkdir(parents=True, exist_ok=True)
            plt.gcf().savefig(target, dpi=110, bbox_inches="tight", metadata={"Software": None})
            plt.close("all")
        else:
            return f"```text printed\n{said}```"
        return piece[0]

    return PIECE.sub(renew, page)


def main() -> None:
    """Renew the page in its place; the files that its programs write go into a folder that is thrown away."""
    mpl.use("agg")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        text = renewed(PAGE.read_text(encoding="utf-8"), PAGE.parent)
    changed = text != PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}: {'renewed' if changed else 'nothing changed'}\n")


if __name__ == "__main__":
    main()
