"""The supply chain's commands: `python -m local.supply lock|audit|sbom`, with tools of pinned versions.

`lock` writes `requirements-ci.txt`, the versions that `make .venv` installs. `audit` asks a public database
for their known vulnerabilities. `sbom` writes `dist/sbom.cdx.json`, a container's packages as a CycloneDX
document.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from local.sam import UnavailableError, tool

__all__ = ["LOCK", "TOOLS", "audit", "build", "installed", "lock", "sbom"]

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements-ci.txt"
SBOM = ROOT / "dist" / "sbom.cdx.json"
TOOLS = {"build": "1.6.1", "cyclonedx-bom": "7.5.0", "pip-audit": "2.10.1", "uv": "0.13.9"}

_OLDEST_PYTHON = "3.11"
_SECONDS = 400
_SET_UP = {"pip", "setuptools"}
"""Packages that a virtual environment brings along."""

_HEADER = """\
# The versions that are tested. `make lock` writes this file, and `make .venv` installs by it.
# Users of the package are not bound by it: pyproject.toml has their bounds.
"""


def lock(target: Path = LOCK) -> None:
    """Write the newest versions that pyproject.toml allows, for every Python and platform."""
    command = [str(_program("uv")), "pip", "compile", "--upgrade", "--universal", "--extra", "dev"]
    options = ["--python-version", _OLDEST_PYTHON, "--no-header", "--no-annotate", "pyproject.toml"]
    done = _run(*command, *options)
    if done.returncode:
        raise UnavailableError(f"uv cannot resolve the dependencies: {_last_line(done.stderr)}")
    target.write_text(f"{_HEADER}{done.stdout}")


def audit() -> list[str]:
    """Return the known vulnerabilities of the locked versions, one a line.

    Raises:
        UnavailableError: No database of vulnerabilities answers.

    """
    options = [
        "--requirement",
        str(LOCK),
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    done = _run(str(_program("pip-audit")), *options)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise UnavailableError(f"pip-audit has no answer: {_last_line(done.stderr)}") from None
    # pip-audit calls packages clean that its database does not have.
    if all("skip_reason" in each for each in found):
        raise UnavailableError("pip-audit's database has none of the packages")
    return [line for each in found for line in _problems(each)]


def _problems(package: dict[str, Any]) -> list[str]:
    if "skip_reason" in package:
        return [f"{package['name']}: not audited ({package['skip_reason']})"]
    name = f"{package['name']} {package['version']}"
    return [
        f"{name}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'no release'}"
        for known in package["vulns"]
    ]


def build(folder: Path) -> tuple[Path, Path]:
    """Build the source distribution, and the wheel from that; return their paths."""
    done = _run(str(_program("build", "pyproject-build")), "--outdir", str(folder), str(ROOT))
    if done.returncode:
        raise UnavailableError(f"nothing can be built: {_last_line(done.stdout + done.stderr)}")
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def installed(wheel: Path, folder: Path) -> Path:
    """Install a wheel as the Dockerfile does, at the locked versions; return the environment's `bin`."""
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [
            str(folder / "bin" / "pip"),
            "install",
            "--quiet",
            "--constraint",
            str(LOCK),
            f"{wheel}[cli,container]",
        ],
    ):
        done = _run(*command)
        if done.returncode:
            raise UnavailableError(f"the wheel cannot be installed: {_last_line(done.stderr)}")
    return folder / "bin"


def sbom(programs: Path, target: Path = SBOM) -> None:
    """Write what is installed in an environment as a CycloneDX document."""
    target.parent.mkdir(exist_ok=True)
    options = ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--of", "JSON"]
    done = _run(
        str(_program("cyclonedx-bom", "cyclonedx-py")), "environment", *options, str(programs / "python")
    )
    if done.returncode:
        raise UnavailableError(f"cyclonedx-py has no answer: {_last_line(done.stderr)}")
    document = json.loads(done.stdout)
    document["components"] = [each for each in document["components"] if each["name"] not in _SET_UP]
    kept = {
        document["metadata"]["component"]["bom-ref"],
        *(each["bom-ref"] for each in document["components"]),
    }
    document["dependencies"] = [each for each in document["dependencies"] if each["ref"] in kept]
    target.write_text(f"{json.dumps(document, indent=2)}\n")


def _program(package: str, name: str | None = None) -> Path:
    return tool(package, TOOLS[package]) / (name or package)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_SECONDS)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing was said"])[-1]


def _main(command: str) -> int:
    try:
        if command == "lock":
            lock()
        elif command == "audit":
            found = audit()
            print("\n".join(found) or "No known vulnerabilities.")
            return bool(found)
        elif command == "sbom":
            with tempfile.TemporaryDirectory() as folder:
                _, wheel = build(Path(folder))
                sbom(installed(wheel, Path(folder) / "environment"))
            print(SBOM)
        else:
            print(__doc__)
            return 2
    except UnavailableError as error:
        print(f"Skipped: {error}" if command == "audit" else error)
        return command != "audit"
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1] if len(sys.argv) > 1 else ""))
