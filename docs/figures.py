"""Runs the programs of pages in their order, and renews the figures: python docs/figures.py [finding-directions.md …]

What a program prints goes into the block "text printed" below it, and what it draws into the picture below it. So every
number on a page is one that the program above it gave, for the embedded model as it is now.
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

DOCS = Path(__file__).parent
PAGES = ("finding-directions.md", "other-methods.md")
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
    """Renew pages in their place; the files that their programs write go into a folder that is thrown away."""
    mpl.use("agg")
    for page in [DOCS / name for name in sys.argv[1:] or PAGES]:
        before = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            text = renewed(before, DOCS)
        page.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{page.name}: {'renewed' if text != before else 'nothing changed'}\n")


if __name__ == "__main__":
    main()
