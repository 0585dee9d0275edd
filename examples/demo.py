"""Three instances, one database, and the official client through all of them: `python -m examples.demo`.

Needs nothing but the Python packages: PostgreSQL comes with them. Every line of the transcript ends with the
instances that served it. The exit status is 0, or 1 with the step that failed.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from examples.report import TourError, TourReport
from examples.tour import tour
from tmcp_serverless.dev.cluster import Cluster
from tmcp_serverless.errors import TmcpError
from tmcp_serverless.testing.postgres import EmbeddedPostgres

INSTANCES = 3
POLL_SECONDS = 0.01
ORDERS = f"{Path(__file__).with_name('orders.py')}:handler"


def say(line: object) -> None:
    """Print a line at once, even into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def killer(cluster: Cluster) -> Callable[[str], Awaitable[None]]:
    """Return a function that kills an instance of the cluster by its name, and waits until it is dead."""

    async def kill(name: str) -> None:
        pid = cluster.pids[name]
        cluster.kill(name)
        while cluster.pids.get(name) == pid:  # noqa: ASYNC110 - the step that calls this has a time limit
            await asyncio.sleep(POLL_SECONDS)

    return kill


def show() -> TourReport:
    """Start everything, and take the tour."""
    say(f"Starting PostgreSQL and {INSTANCES} instances of examples/orders.py …")
    with (
        EmbeddedPostgres() as postgres,
        Cluster(ORDERS, instances=INSTANCES, database_url=postgres.dsn, amnesia=False) as cluster,
    ):
        url = f"{cluster.url}/mcp"
        say(f"They take turns at {url}. The second column says who served the step.\n")
        return asyncio.run(tour(url, narrate=say, kill=killer(cluster)))


def main() -> int:
    """Show the tour, and return the exit status."""
    try:
        report = show()
    except (TourError, TmcpError) as error:
        say("\n".join(["", f"FAILED: {error}", *getattr(error, "__notes__", [])]))
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"\n{report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
