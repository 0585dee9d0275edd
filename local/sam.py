"""Tools in virtual environments of their own: AWS SAM's command line, and others by name and version.

AWS's own emulator of the Runtime API comes from SAM's wheel. No tool is a dependency: SAM pins its own
versions of many of our packages. Fetched files are kept in `.tools/`. `python -m local.sam` prints the paths
of SAM and the emulator.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from local.alone import alone_with

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["VERSION", "UnavailableError", "rie", "sam", "tool"]

VERSION = "1.170.0"
"""Of aws-sam-cli."""

_TOOLS = Path(__file__).parents[1] / ".tools"
_FETCH_SECONDS = 600
_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


class UnavailableError(Exception):
    """A tool is not available here; the message says why."""


def sam() -> Path:
    """Return the path of `sam`, in a virtual environment of its own.

    Raises:
        UnavailableError: It cannot be installed.

    """
    return tool("aws-sam-cli", VERSION) / "sam"


def tool(package: str, version: str) -> Path:
    """Return the folder with a package's programs, in a virtual environment of its own.

    Raises:
        UnavailableError: It cannot be installed.

    """
    environment = _TOOLS / f"{package}-{version}"
    with alone_with(environment):
        # A separate file marks a complete installation: one that was cut off is made again.
        if not (environment / "complete").exists():
            _install(environment, f"{package}=={version}")
    return environment / "bin"


def _install(environment: Path, requirement: str) -> None:
    shutil.rmtree(environment, ignore_errors=True)
    _TOOLS.mkdir(exist_ok=True)
    print(f"Installing {requirement} into {environment} ...", file=sys.stderr, flush=True)
    with _removed_on_failure(environment):
        _run(sys.executable, "-m", "venv", "--without-pip", str(environment))
        # Most of its thousands of modules are never imported: Python compiles those that are.
        _pip("--python", environment / "bin" / "python", "install", "--no-compile", requirement)
        (environment / "complete").touch()


def rie() -> Path:
    """Return the path of the Runtime Interface Emulator, `aws-lambda-rie`.

    Raises:
        UnavailableError: It does not exist for this machine, or cannot be fetched.

    """
    architecture = _ARCHITECTURES.get(platform.machine().lower())
    if sys.platform != "linux" or architecture is None:
        raise UnavailableError(f"there is no aws-lambda-rie for {sys.platform} on {platform.machine()}")
    binary = _TOOLS / f"aws-lambda-rie-{VERSION}"
    if not binary.exists():
        _TOOLS.mkdir(exist_ok=True)
        print(f"Fetching aws-lambda-rie from aws-sam-cli {VERSION} ...", flush=True)
        with tempfile.TemporaryDirectory(dir=_TOOLS) as folder:
            _pip("download", "--no-deps", "--dest", folder, f"aws-sam-cli=={VERSION}")
            wheel = next(Path(folder).glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                name = archive.extract(f"samcli/local/rapid/aws-lambda-rie-{architecture}", folder)
            Path(name).chmod(0o755)
            Path(name).replace(binary)  # in one step: others may be looking
    return binary


@contextlib.contextmanager
def _removed_on_failure(folder: Path) -> Generator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _pip(*arguments: str | Path) -> None:
    _run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments))


def _run(*command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_FETCH_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{' '.join(command)} took longer than {_FETCH_SECONDS} s") from None
    if done.returncode:
        raise UnavailableError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")


if __name__ == "__main__":
    for find in (sam, rie):
        try:
            print(find())
        except UnavailableError as error:
            print(f"not available: {error}")
