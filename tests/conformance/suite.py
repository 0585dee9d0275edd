"""The official suite: its packages, and one leg of it run against a server."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance.checks import read_checks
from tests.support.node import NoNodeError, install

if TYPE_CHECKING:
    from tests.conformance.checks import Check

__all__ = ["LEGS", "Leg", "Run", "install_suite", "run_leg"]

_FOLDER = Path(__file__).parent
_PACKAGES = _FOLDER / "node_modules"
_NODE = _PACKAGES / "node" / "bin" / "node"
_LEG_SECONDS = 300.0
_NOTHING = "server: []\nclient: []\n"
"""The expected failures. With them, even if there are none, a warning is a failure to the suite."""

_COLOR = re.compile(r"\x1b\[\d*m")
_EXTENSION = re.compile(r"scenario: (\S+)\s+leg: server\s+reason: extension\b")


@dataclass(frozen=True, slots=True)
class Leg:
    """One run of the suite."""

    name: str
    package: str
    """The folder of the package, which `package.json` gives to each version."""

    arguments: tuple[str, ...]
    requirements: str | None = None
    """The revision whose requirement set this is."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a leg found."""

    leg: Leg
    checks: tuple[Check, ...]
    """Of what the protocol requires."""

    extensions: tuple[Check, ...]
    """Of extensions to the protocol, which a requirement set runs along and does not score."""

    status: int | None
    """The suite's exit status, or `None` where it was ended because it took too long."""

    seconds: float
    last_line: str
    """Of what the suite printed."""


def _revision(name: str) -> Leg:
    return Leg(name, "conformance-0.2", ("--suite", "all", "--spec-version", name))


def _requirements(revision: str) -> Leg:
    arguments = ("--requirements", revision)
    return Leg(f"requirements {revision}", "conformance-0.2", arguments, requirements=revision)


LEGS = (
    _revision("2025-03-26"),
    _revision("2025-06-18"),
    _revision("2025-11-25"),
    _revision("2026-07-28"),
    _requirements("2025-11-25"),
    _requirements("2026-07-28"),
    Leg("0.1.16", "conformance-0.1", ("--suite", "all")),
)


def install_suite(*, seconds: float) -> None:
    """Install both versions of the suite and the Node.js that they need, if they are not there.

    Raises:
        NoNodeError: There is no npm, or it failed, or it took longer than `seconds`.

    """
    # The one package that has a script to run is `node`: it fetches the binary for this machine.
    install(_FOLDER, seconds=seconds, scripts=True)
    if not _NODE.exists():
        raise NoNodeError(f"npm's package node has brought none: remove {_PACKAGES}, and try again")


def run_leg(leg: Leg, url: str, folder: Path) -> Run:
    """Run a leg against the endpoint at `url`; what the suite writes is in the new `folder` afterwards."""
    folder.mkdir(parents=True)
    baseline = folder / "expected-failures.yml"
    baseline.write_text(_NOTHING)
    started = time.monotonic()
    command = [
        str(_NODE),
        str(_PACKAGES / leg.package / "dist" / "index.js"),
        *("server", "--url", url, *leg.arguments),
        *("--expected-failures", str(baseline), "--output-dir", str(folder)),
    ]
    with (folder / "output.txt").open("wb") as output:
        status = _status_of(command, output.fileno())
    seconds = time.monotonic() - started
    checks, optional = read_checks(folder), _extension_scenarios(leg)
    return Run(
        leg,
        checks=tuple(check for check in checks if check.scenario not in optional),
        extensions=tuple(check for check in checks if check.scenario in optional),
        status=status,
        seconds=seconds,
        last_line=_last_line_of(folder / "output.txt"),
    )


def _status_of(command: list[str], output: int) -> int | None:
    try:
        done = subprocess.run(
            command, check=False, stdout=output, stderr=subprocess.STDOUT, timeout=_LEG_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode


def _last_line_of(file: Path) -> str:
    lines = _COLOR.sub("", file.read_text(errors="replace")).split("\n")
    return next((line for line in reversed(lines) if line.strip()), "nothing was printed")


def _extension_scenarios(leg: Leg) -> frozenset[str]:
    """Return which scenarios the requirement set itself calls extensions."""
    if leg.requirements is None:
        return frozenset()
    text = (_PACKAGES / leg.package / "requirements" / f"{leg.requirements}.yaml").read_text()
    return frozenset(_EXTENSION.findall(text))
