"""A Dockerfile's instructions, read, and carried out in folders of this machine."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Stage", "copy", "ignored", "read"]

_RUN_SECONDS = 400


@dataclass(slots=True)
class Stage:
    """One `FROM`, and what follows it."""

    image: str
    instructions: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def all(self, name: str) -> list[str]:
        """Return the arguments of every such instruction."""
        return [argument for instruction, argument in self.instructions if instruction == name]

    def command(self) -> list[str]:
        """Return what is run; it has to be in the exec form."""
        [command] = self.all("CMD")
        return json.loads(command)


def read(path: Path) -> list[Stage]:
    """Return the stages of a Dockerfile."""
    lines = [line for line in path.read_text().splitlines() if line and not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, argument = line.partition(" ")
        if name == "FROM":
            stages.append(Stage(argument))
        else:
            stages[-1].instructions.append((name, argument))
    return stages


def ignored(path: str, patterns: list[str]) -> bool:
    """Return whether .dockerignore keeps a path from the builder; the last pattern that fits decides."""
    verdict = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        parts = path.split("/")
        prefixes = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        if any(fnmatch.fnmatch(prefix, wanted) for prefix in prefixes) or (
            wanted.startswith("**/") and wanted.removeprefix("**/") in parts
        ):
            verdict = not pattern.startswith("!")
    return verdict


def copy(stage: Stage, *, context: Path, root: Path, python: str) -> None:
    """Carry a stage's COPY, WORKDIR and RUN out, with `root` for the image's own.

    `/app` and `/src` are folders in it, and `python` is this machine's.
    """
    workdir = root
    for name, argument in stage.instructions:
        if name == "WORKDIR":
            workdir = root / argument.lstrip("/")
            workdir.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            *sources, target = argument.split()
            for source in sources:
                _copy(context / source, target, workdir=workdir, root=root, into=target.endswith("/"))
        elif name == "RUN":
            command = re.sub(r"(?<![\w.])/(app|src)\b", rf"{root}/\1", argument)
            command = re.sub(r"^python\b", python, command)
            done = subprocess.run(
                ["/bin/sh", "-ec", command],
                cwd=workdir,
                capture_output=True,
                text=True,
                check=False,
                timeout=_RUN_SECONDS,
            )
            if done.returncode:
                raise AssertionError(f"RUN {command}\n{done.stdout}{done.stderr}")


def _copy(source: Path, target: str, *, workdir: Path, root: Path, into: bool) -> None:
    place = root / target.lstrip("/") if target.startswith("/") else workdir / target
    if source.is_dir():
        shutil.copytree(source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        place = place / source.name if into else place
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, place)
