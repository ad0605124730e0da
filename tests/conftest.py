"""What every test shares: no network, few threads, browser tests first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import steerlab

pytest_plugins = ["ndif_server"]

# Before any import of transformers or huggingface_hub: a test that reaches for the network must fail, not wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny: threads would only wait for each other
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["JUPYTER_PLATFORM_DIRS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go first: they take longest, and mostly wait."""
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("e2e", "ndif")])


@pytest.fixture(scope="session", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What jobs on servers leave on a machine is not left on this one."""
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def shared_tokenizer() -> Iterator[None]:
    """A test that changes the tokenizer which all tests share fails itself, not whoever comes after it."""
    from steerlab.backends.fake import TEMPLATE, byte_tokenizer

    yield
    now, byte_tokenizer().chat_template = byte_tokenizer().chat_template, TEMPLATE
    assert now == TEMPLATE, "this test changed byte_tokenizer(); copy it, or let monkeypatch change it"


@pytest.fixture(scope="session")
def demo_lab() -> steerlab.Lab:
    """A lab on the embedded model, loaded once. A test that sets its prompt or recipe sets them for itself alone."""
    import steerlab

    return steerlab.Lab()
