"""Node.js, and the npm packages that a folder's lock file names, installed into it once."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from local.alone import alone_with

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NoNodeError", "find_node", "install"]


class NoNodeError(Exception):
    """There is no Node.js, no npm, or no packages. The message says which, and why."""


def find_node(*, oldest_major: int) -> str:
    """Return the path of `node`.

    Raises:
        NoNodeError: There is none, or it is too old.

    """
    node = _find("node")
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < oldest_major:
        raise NoNodeError(f"node is {version}, and {oldest_major} or newer is needed")
    return node


def install(folder: Path, *, seconds: float, scripts: bool = False) -> None:
    """Install the packages of the folder's lock file, if they are not there. Scripts of theirs run if wanted.

    Raises:
        NoNodeError: There is no npm, or it failed, or it took longer than `seconds`.

    """
    with alone_with(folder):
        if not _is_installed(folder):
            _install(folder, seconds, scripts=scripts)


def _install(folder: Path, seconds: float, *, scripts: bool) -> None:
    command = [_find("npm"), "ci", "--no-audit", "--no-fund", *([] if scripts else ["--ignore-scripts"])]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=seconds)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        raise NoNodeError(f"npm ci in {folder} failed: {said[-1] if said else error}") from error


def _find(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise NoNodeError(f"there is no {program} on the path")
    return path


def _is_installed(folder: Path) -> bool:
    """Return whether what is installed has the versions that the lock file names."""
    installed = folder / "node_modules" / ".package-lock.json"
    if not installed.exists():
        return False
    wanted = json.loads((folder / "package-lock.json").read_text())["packages"]
    found = json.loads(installed.read_text())["packages"]
    return all(
        found.get(name, {}).get("version") == package["version"]
        for name, package in wanted.items()
        if name and not package.get("optional")
    )
