"""Messages of an NDIF server as they come over the wire."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import pytest
from nnsight.schema.response import Status

from steerlab.backends.ndif import messages


class Got:
    """Pickled as what an attribute of something is: so Python 3.11.0 to 3.11.3 pickle the member of an enum."""

    def __init__(self, *of: Any) -> None:
        self.of = of

    def __reduce__(self) -> Any:
        return getattr, self.of


def message(status: Any) -> bytes:
    """In the archive that `torch.save` writes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            "archive/data.pkl", pickle.dumps({"id": "7", "status": status, "description": "soon"})
        )
    return file.getvalue()


@pytest.mark.parametrize("status", [Status.QUEUED, Got(Status, "QUEUED")], ids=["by value", "by name"])
def test_a_status_is_read_however_the_servers_python_pickles_it(status: Any) -> None:
    assert messages.update(message(status)) == ("7", Status.QUEUED, "soon", None)


@pytest.mark.parametrize(
    "status", [Got(Status, "__class__"), Got("a text", "upper"), Got(dict, "clear"), print]
)
def test_nothing_else_of_a_pickle_is_made(status: Any) -> None:
    with pytest.raises(messages.Unreadable):
        messages.update(message(status))
