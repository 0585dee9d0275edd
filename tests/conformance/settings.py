"""The settings in which the everything-server is tested, each a cluster of real processes on a database."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from tmcp_serverless.dev.cluster import Cluster
from tmcp_serverless.testing.postgres import create_database_sync

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["SETTINGS", "Setting", "serving"]

_TARGET = f"{Path(__file__).with_name('server.py')}:handler"


@dataclass(frozen=True, slots=True)
class Setting:
    """How the server is run."""

    title: str
    instances: int = 3
    amnesia: bool = False
    doorbell: str = "auto"


SETTINGS = {
    "one": Setting("one instance", instances=1),
    "three": Setting("three instances behind the round robin"),
    "amnesia": Setting("every request in a process of its own", amnesia=True),
    "poll": Setting("three instances behind the round robin, polling", doorbell="poll"),
}


@contextmanager
def serving(setting: Setting, postgres_url: str) -> Generator[str]:
    """Run the everything-server on a new database of that Postgres; the value is the endpoint's address."""
    with Cluster(
        _TARGET,
        instances=setting.instances,
        database_url=create_database_sync(postgres_url, f"conformance_{uuid4().hex}"),
        amnesia=setting.amnesia,
        env={"TMCP_DOORBELL": setting.doorbell, "PYTHONWARNINGS": "ignore"},
    ) as cluster:
        yield f"{cluster.url}/mcp"
