"""The zip that is deployed, made for this machine: `sam build`, then packed as `sam package` does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from local.sam import sam
from tmcp_serverless.errors import TmcpError

__all__ = ["TEMPLATE", "BuildError", "build", "pack", "unpack"]

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "template.yaml"
_BUILD_SECONDS = 600
_OF_OUR_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")


class BuildError(TmcpError):
    """`sam build` failed; the message is its output."""


def build(folder: Path, *functions: str) -> Path:
    """Build the functions, or all, for this machine's processor and this Python. Returns the built template.

    Raises:
        BuildError: It failed, or took longer than ten minutes.

    """
    environment = {name: value for name, value in os.environ.items() if name not in _OF_OUR_MAKE}
    environment |= {"TMCP_BUILD_NATIVE": "1", "BUILD_PYTHON": sys.executable, "SAM_CLI_TELEMETRY": "0"}
    command = [str(sam()), "build", *functions, "--template-file", str(TEMPLATE), "--build-dir", str(folder)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_BUILD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"`sam build` took longer than {_BUILD_SECONDS} s") from None
    if done.returncode:
        raise BuildError(f"`sam build` failed:\n{done.stderr.strip()}\n{done.stdout.strip()}")
    return folder / "template.yaml"


def pack(artifact: Path, zipped: Path) -> None:
    """Write the zip of an artifact, with the permissions of its files."""
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(artifact.rglob("*")):
            archive.write(path, path.relative_to(artifact))


def unpack(zipped: Path, folder: Path) -> None:
    """Unpack a zip into the folder that the function runs in, with the permissions of its files."""
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(zipped) as archive:
        for each in archive.infolist():
            path = Path(archive.extract(each, folder))
            if permissions := each.external_attr >> 16 & 0o777:
                path.chmod(permissions)
