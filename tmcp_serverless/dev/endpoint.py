"""`python -m tmcp_serverless.dev.endpoint MODULE:ATTR`: the path of the MCP endpoint, if it is known."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tmcp_serverless.dev.loading import endpoint_of, load, parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["ask_endpoint"]

_SECONDS = 20.0


def ask_endpoint(target: str, *, folder: Path, environment: Mapping[str, str]) -> str:
    """Import the target in a process of its own, and return the path of its endpoint; "" if it is unknown."""
    command = [sys.executable, "-m", __name__, target]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(  # noqa: S603 - ourselves
            command,
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
        return asked.stdout.rpartition("endpoint=")[2].strip()
    return ""


if __name__ == "__main__":
    print(f"endpoint={endpoint_of(load(parse(sys.argv[1])))}")  # noqa: T201 - that is what is asked
