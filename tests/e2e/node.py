"""Node.js for the tests that drive clients written in TypeScript; their packages are installed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.node import NoNodeError, find_node, install

__all__ = ["FOLDER", "packages"]

FOLDER = Path(__file__).with_name("typescript")
_OLDEST_MAJOR = 20
_INSTALL_SECONDS = 200


def packages() -> str:
    """Return the path of `node`, with the packages of the lock file installed; or skip, and say why."""
    try:
        node = find_node(oldest_major=_OLDEST_MAJOR)
        install(FOLDER, seconds=_INSTALL_SECONDS)
    except NoNodeError as error:
        pytest.skip(str(error))
    return node
