"""The official client through three instances that share nothing but a database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples.demo import killer
from examples.guide import Guide
from examples.report import TourError
from examples.tour import tour
from tmcp_serverless.dev.cluster import Cluster

from .short_tour import short_tour

if TYPE_CHECKING:
    from examples.report import TourReport

HERE = Path(__file__).parent
ORDERS = f"{HERE.parents[1] / 'examples' / 'orders.py'}:handler"
INSTANCES = 3


@pytest.mark.parametrize("amnesia", [False, True], ids=["remembering", "amnesia"])
def test_every_feature_works_when_each_request_may_land_on_another_instance(
    empty_database_url: str, *, amnesia: bool
) -> None:
    with Cluster(ORDERS, instances=INSTANCES, database_url=empty_database_url, amnesia=amnesia) as cluster:
        kill = None if amnesia else killer(cluster)  # with amnesia they are all dead already
        report = asyncio.run(tour(f"{cluster.url}/mcp", narrate=print, kill=kill))
    assert_served_by_many(report, amnesia=amnesia)


def test_managers_with_tmcps_methods_alone_serve_the_tour_in_one_process(empty_database_url: str) -> None:
    target = f"{HERE / 'bare_server.py'}:handler"
    with Cluster(target, instances=1, database_url=empty_database_url) as cluster:
        report = asyncio.run(tour(f"{cluster.url}/mcp", narrate=print, unsubscribe=False))
    assert report.delivered


@pytest.mark.parametrize("amnesia", [False, True], ids=["remembering", "amnesia"])
@pytest.mark.parametrize("module", ["fastmcp_server", "lowlevel_server"])
def test_servers_on_other_frameworks_work_the_same_way(
    empty_database_url: str, module: str, *, amnesia: bool
) -> None:
    target = f"{HERE / module}.py:handler"
    with Cluster(target, instances=INSTANCES, database_url=empty_database_url, amnesia=amnesia) as cluster:
        report = asyncio.run(short_tour(f"{cluster.url}/mcp"))
    assert_served_by_many(report, amnesia=amnesia)


def test_a_step_that_gets_nothing_says_what_it_expected() -> None:
    async def wait_for_ever() -> str:
        await asyncio.Event().wait()
        return "never"

    async def take() -> None:
        async with Guide("http://127.0.0.1:1/mcp", narrate=print, limit_seconds=0.05) as guide:
            await guide.step("patience", wait_for_ever(), expected="news")

    with pytest.raises(TourError, match=r"step 1, patience: expected news; got nothing within 0\.05 s"):
        asyncio.run(take())


def test_a_tour_of_nowhere_names_the_step_and_the_reason() -> None:
    with pytest.raises(TourError, match=r"step 1, Ann initializes: expected a session; got ConnectError"):
        asyncio.run(tour("http://127.0.0.1:1/mcp"))


def assert_served_by_many(report: TourReport, *, amnesia: bool) -> None:
    """With amnesia every request has a process of its own; without, all instances take their turns."""
    assert len(report.instances) == (len(report.requests) if amnesia else INSTANCES)
