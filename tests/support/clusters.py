"""Instances of a cluster that a test kills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.waiting import eventually
from tmcp_serverless.cli.cluster import ClusterError

if TYPE_CHECKING:
    from tmcp_serverless.cli.cluster import Cluster

__all__ = ["kill_all", "listen"]


def listen(cluster: Cluster, *names: str) -> bool:
    """Return `True` if all these instances accept connections."""
    try:
        return all(cluster.instance_url(name) for name in names)
    except ClusterError:
        return False


async def kill_all(cluster: Cluster) -> None:
    """Kill every instance, and wait until each has a successor that listens."""
    killed = cluster.pids
    for name in killed:
        cluster.kill(name)

    async def are_replaced() -> bool:
        return {*killed.values()}.isdisjoint(cluster.pids.values()) and listen(cluster, *killed)

    await eventually(are_replaced)
