"""Says what is on this machine, and starts a Postgres: `python -m local.up`. With `--check` it only says.

With a Docker engine the Postgres is the container of compose.yaml, which `sam local` reaches as well, and it
stays until it is taken down. Without one it is the PostgreSQL that the extra `local` brings, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tmcp_serverless.errors import TmcpError
from tmcp_serverless.testing.postgres import EmbeddedPostgres, list_binaries

__all__ = ["Found", "look", "main"]

COMPOSE = Path(__file__).with_name("compose.yaml")
CONTAINER_URL = "postgresql://tmcp:tmcp@127.0.0.1:{port}/tmcp"
ASKED_SECONDS = 20
STARTED_SECONDS = 180

WITH_DOCKER = """\
export TMCP_DATABASE_URL={url}
    tmcp-serverless dev --lambda handlers.streaming:handler    # streaming, on our emulator
    ARCHITECTURE={architecture} sam build --parameter-overrides Architecture={architecture}
    sam local invoke BufferedFunction --docker-network tmcp-local --env-vars local/env.json \\
        --parameter-overrides Architecture={architecture} --event local/events/http-api.json
    docker compose --file local/compose.yaml down                 # takes the database down again"""

WITHOUT_DOCKER = """\
export TMCP_DATABASE_URL={url}
    tmcp-serverless dev --lambda handlers.streaming:handler    # in another terminal: on our emulator
    make lambda-demo                                              # the zip of `sam build`, on our emulator
Ctrl-C ends this database, and its data go."""


@dataclass(frozen=True, slots=True)
class Found:
    """A program that was looked for."""

    name: str
    there: bool
    said: str

    def __str__(self) -> str:
        return f"{'yes' if self.there else 'no ':<4} {self.name:<10} {self.said}"


def look() -> list[Found]:
    """Look for Docker, SAM and PostgreSQL, and note the use of each."""
    return [_docker(), _compose(), _sam(), _postgres()]


def main(arguments: list[str] | None = None) -> int:
    """Print the findings, start a database, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local.up", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="say what is there, and start nothing")
    options = parser.parse_args(arguments)
    found = {one.name: one for one in look()}
    _say("\n".join(map(str, found.values())))
    if options.check:
        return 0
    if found["Docker"].there and found["Compose"].there:
        return _with_docker()
    _say("\nNo Docker, so this is the PostgreSQL of the extra `local`.\n")
    try:
        return _embedded()
    except TmcpError as error:
        _say(str(error))
        return 1


def _docker() -> Found:
    version = _output("docker", "version", "--format", "{{.Server.Version}}")
    if version is None:
        return Found(
            "Docker", there=False, said="no engine answers: no `sam local`, no container of Postgres"
        )
    return Found("Docker", there=True, said=f"engine {version}")


def _compose() -> Found:
    version = _output("docker", "compose", "version", "--short")
    said = f"plugin {version}" if version else "no `docker compose`: see docs.docker.com/compose/install"
    return Found("Compose", there=version is not None, said=said)


def _sam() -> Found:
    version = _output("sam", "--version")
    if version is None:
        return Found(
            "SAM", there=False, said="`pip install aws-sam-cli`; `make lambda-demo` gets one by itself"
        )
    return Found("SAM", there=True, said=version.removeprefix("SAM CLI, "))


def _postgres() -> Found:
    majors = sorted({binaries.major for binaries in list_binaries()})
    if not majors:
        return Found("PostgreSQL", there=False, said="`pip install 'tmcp-serverless[local]'` brings one")
    return Found("PostgreSQL", there=True, said=f"{', '.join(map(str, majors))}, to be run without Docker")


def _output(*command: str) -> str | None:
    """Return the output of a command; `None` if there is none, or it fails."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, check=True, timeout=ASKED_SECONDS
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout.strip() or None


def _with_docker() -> int:
    compose = ["docker", "compose", "--file", str(COMPOSE)]
    started = subprocess.run(
        [*compose, "up", "--detach", "--wait", "postgres"], check=False, timeout=STARTED_SECONDS
    )
    if started.returncode:
        return started.returncode
    where = _output(*compose, "port", "postgres", "5432") or "127.0.0.1:54320"
    url = CONTAINER_URL.format(port=where.rpartition(":")[2])
    architecture = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x86_64"
    _say(WITH_DOCKER.format(url=url, architecture=architecture))
    return 0


def _embedded() -> int:
    with EmbeddedPostgres(durable=False) as postgres:
        _say(WITHOUT_DOCKER.format(url=postgres.dsn))
        try:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            signal.pause()
        except KeyboardInterrupt:
            _say("\nStopping.")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
