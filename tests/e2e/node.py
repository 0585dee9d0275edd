"""Node.js for the tests that drive clients written in TypeScript; their packages are installed once."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["FOLDER", "packages"]

FOLDER = Path(__file__).with_name("typescript")
_OLDEST_MAJOR = 20
_INSTALL_SECONDS = 90
_INSTALLED = FOLDER / "node_modules" / ".package-lock.json"


def packages() -> str:
    """Return the path of `node`, with the packages of the lock file installed; or skip, and say why."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip(f"there is no {'node' if node is None else 'npm'} on the path")
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST_MAJOR:
        pytest.skip(f"node is {version}, and the clients need {_OLDEST_MAJOR} or newer")
    if not _is_installed():
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=FOLDER, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
            pytest.skip(f"npm ci in {FOLDER} failed: {said[-1] if said else error}")
    return node


def _is_installed() -> bool:
    """Return whether what is installed has the versions that the lock file names."""
    if not _INSTALLED.exists():
        return False
    wanted = json.loads((FOLDER / "package-lock.json").read_text())["packages"]
    found = json.loads(_INSTALLED.read_text())["packages"]
    return all(
        found.get(name, {}).get("version") == package["version"]
        for name, package in wanted.items()
        if name and not package.get("optional")
    )
