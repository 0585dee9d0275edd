"""A Python environment with the official SDK of generation 1, which cannot share ours; it is made once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.alone import alone_with

__all__ = ["FOLDER", "interpreter"]

FOLDER = Path(__file__).with_name("mcp1")
_INSTALL_SECONDS = 200
_ENVIRONMENT = FOLDER / ".venv"
_PYTHON = str(_ENVIRONMENT / "bin" / "python")
_COMPLETE = _ENVIRONMENT / "complete"


def interpreter() -> str:
    """Return the path of its `python`, with what the requirements name installed; or skip, and say why."""
    wanted = f"{sys.version}\n{(FOLDER / 'requirements.txt').read_text()}"
    with alone_with(_ENVIRONMENT):
        if not _COMPLETE.exists() or _COMPLETE.read_text() != wanted:
            _install()
            # A file of its own says that the installation went through: one that was cut off is made again.
            _COMPLETE.write_text(wanted)
    return _PYTHON


def _install() -> None:
    shutil.rmtree(_ENVIRONMENT, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--python", _PYTHON, "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", str(_ENVIRONMENT)],
        [*pip, "install", "--no-compile", "--requirement", str(FOLDER / "requirements.txt")],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
            pytest.skip(f"mcp 1.x could not be installed: {said[-1] if said else error}")
