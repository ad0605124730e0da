"""Exceptions in words for the panel."""

from __future__ import annotations

from pydantic import ValidationError

from steerlab.errors import SteerlabError
from steerlab.ui.protocol import Trouble


def trouble(error: Exception) -> Trouble:
    """What was raised, and what to do about it."""
    if isinstance(error, SteerlabError):
        return Trouble(what=error.what, hint=error.fix)
    return Trouble(
        what=f"{type(error).__name__}: {error}", hint="For the traceback: raise lab.panel.last_exception"
    )


def misunderstood(error: ValidationError) -> Trouble:
    """A message of a front end that is not of this kernel's version."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return Trouble(
        what=f"the panel sent something that this kernel does not understand ({where}: {first['msg']})",
        hint="Reload the page; if that does not help, restart the kernel, so that both are of the same version.",
    )
