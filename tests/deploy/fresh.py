"""The modules of `handlers/`, imported as a new process would, with an environment of the test's own."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

    import pytest

__all__ = ["fresh"]


@contextmanager
def fresh(monkeypatch: pytest.MonkeyPatch, name: str, **variables: str) -> Generator[Any]:
    """Import `handlers.<name>`; its handlers read these variables."""
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    before = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] == "handlers"}
    try:
        yield importlib.import_module(f"handlers.{name}")
    finally:
        for key in [key for key in sys.modules if key.partition(".")[0] == "handlers"]:
            del sys.modules[key]
        sys.modules.update(before)
