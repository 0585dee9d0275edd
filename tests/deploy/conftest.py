"""SAM's command line, and what it builds: once for all tests that look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.package import build, pack, unpack
from local.sam import UnavailableError, sam

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def sam_tool() -> Path:
    try:
        return sam()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def built(sam_tool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template that `sam build` wrote; the functions are beside it, for this machine."""
    assert sam_tool
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="session")
def task_root(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The streaming function's zip, unpacked, as Lambda has it in `/var/task`."""
    folder = tmp_path_factory.mktemp("lambda")
    pack(built.parent / "StreamingFunction", folder / "function.zip")
    unpack(folder / "function.zip", folder / "task")
    return folder / "task"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests that install from a package index the time that this may take."""
    for item in items:
        if item.nodeid.startswith("tests/deploy/"):
            item.add_marker(pytest.mark.timeout(600))
