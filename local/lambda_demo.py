"""The zip that `sam build` makes, run as Lambda runs it, and the official client on it: `make lambda-demo`.

It is built for this machine, since it runs here. The deployed zip has the same files, with the libraries of
the template's runtime and processor. The environment is that of template.yaml.
`tmcp_serverless.dev.lambda_emulator` stands in for AWS: sandboxes with one invocation at a time, frozen in
between and killed at the deadline, and a front door that streams. The exit status is 0, or 1 with the step
that failed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from examples.report import TourError
from local.lambda_tour import tour
from local.package import ROOT, build, pack, unpack
from local.sam import UnavailableError
from local.template import Template
from tmcp_serverless.dev.lambda_emulator import Function, LambdaEmulator
from tmcp_serverless.errors import TmcpError
from tmcp_serverless.testing.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from examples.report import TourReport

__all__ = ["drive", "function", "main"]

NAME = "StreamingFunction"
DEADLINE_SECONDS = 8
SANDBOXES = 10
BUILT = ROOT / ".aws-sam" / "native"
LOG_LINES = 20


def say(line: object) -> None:
    """Print a line at once, even into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def package(folder: Path) -> Template:
    """Build the function, pack it, and unpack it into `task` in the folder. Returns the built template.

    Raises:
        BuildError: It cannot be built.
        UnavailableError: There is no SAM to build it with.

    """
    say(f"sam build {NAME} …")
    began_at = time.monotonic()
    built = build(BUILT, NAME)
    zipped = folder / f"{NAME}.zip"
    pack(built.parent / NAME, zipped)
    unpack(zipped, folder / "task")
    say(f"{zipped.stat().st_size / 1e6:.0f} MB zipped, after {time.monotonic() - began_at:.0f} s.")
    return Template(built, AccessTokens="open", DatabaseUrl="-")


def function(template: Template, task_root: Path, *, database_url: str, seconds: float) -> Function:
    """Return the streaming function as the template describes it, but for its database and its deadline."""
    variables = template.variables(NAME)
    return Function(
        handler=template.resource(NAME)["Handler"],
        task_root=task_root,
        timeout_seconds=seconds,
        environment={**variables, "TMCP_DATABASE_URL": database_url},
        isolated=True,
        exec_wrapper=variables["AWS_LAMBDA_EXEC_WRAPPER"],
    )


async def drive(made: Function, log: Path) -> TourReport:
    """Serve the function and take the tour. The function's output goes into the log.

    Raises:
        TourError: A step failed.
        TmcpError: The function cannot be served.
    """
    with log.open("wb") as output:
        async with LambdaEmulator(
            made, sandboxes=SANDBOXES, front_door="rest-api", output=output.fileno(), say=say
        ) as emulator:
            await emulator.warm()
            url = f"{emulator.url}/mcp"
            say(f"Invocations end after {DEADLINE_SECONDS} s at {url}. Instances are sandboxes.\n")
            return await tour(
                url,
                narrate=say,
                deadline_seconds=DEADLINE_SECONDS,
                sandboxes=lambda: len(emulator.sandboxes),
            )


def main() -> int:
    """Show the tour, and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="tmcp-lambda-") as name:
        folder = Path(name)
        log = folder / "log"
        try:
            template = package(folder)
            with EmbeddedPostgres() as postgres:
                made = function(
                    template, folder / "task", database_url=postgres.dsn, seconds=DEADLINE_SECONDS
                )
                report = asyncio.run(drive(made, log))
        except (TourError, TmcpError, UnavailableError) as error:
            printed = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
            say("\n".join(["", f"FAILED: {error}", *getattr(error, "__notes__", []), *printed]))
            return 1
        except KeyboardInterrupt:
            return 130
    say(f"\n{report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
