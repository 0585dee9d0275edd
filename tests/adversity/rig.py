"""The run: Postgres, the network, three instances, clients and senders; then faults; then the reckoning."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.adversity.calls import Calls
from tests.adversity.faults import Broken, Faults, plan
from tests.adversity.ledger import Ledger
from tests.adversity.load import Load
from tests.adversity.pooler import Pooler
from tests.adversity.proxy import Proxy
from tests.adversity.reckoning import Reckoning, settle
from tests.adversity.sessions import Sessions
from tests.adversity.timeline import Timeline
from tmcp_serverless import Notifier
from tmcp_serverless.dev.cluster import Cluster
from tmcp_serverless.testing.postgres import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.adversity.faults import Fault
    from tests.adversity.listener import Listener

__all__ = ["Order", "run"]

_SERVER = f"{Path(__file__).with_name('server.py')}:handler"
_INSTANCES = 3
_PROGRESS_SECONDS = 10.0
_RETRY_MILLISECONDS = 500
_SHORT_RUN_FAULTS = 50
_EARLY_MESSAGES = 3
_LONGEST_FAULT_OF_SHORT_RUNS_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run."""

    seed: int
    events: int = 10_000
    faults: int = 200
    seconds: float = 400.0
    """How long the load is meant to last: it makes the rate. Faults may take it longer."""

    limit_seconds: float = 590.0
    poll: bool = False
    """Whether the instances poll, through pgbouncer in transaction mode."""

    sessions: int = 8

    @property
    def is_short(self) -> bool:
        """Whether it is the short form, in which nothing lasts."""
        return self.faults < _SHORT_RUN_FAULTS


async def run(order: Order, say: Callable[[str], None]) -> Reckoning:
    """Run it, and return its figures: also when it ends early, by its time limit or by an error."""
    async with AsyncExitStack() as stack:
        # It crashes, but the machine does not: what was written is there without having been flushed.
        crashing = EmbeddedPostgres(durable=False, settings={"synchronous_commit": "on"})
        postgres = stack.enter_context(crashing)
        database_port = postgres.port
        environment = {"TMCP_RETRY_MILLISECONDS": str(_RETRY_MILLISECONDS)}
        if order.poll:
            database_port = (await stack.enter_async_context(Pooler(postgres.port))).port
            environment["TMCP_DOORBELL"] = "poll"
        proxy = await stack.enter_async_context(Proxy(database_port))
        cluster = Cluster(
            _SERVER,
            instances=_INSTANCES,
            database_url=f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres",
            env=environment,
        )
        await asyncio.to_thread(cluster.start)
        stack.push_async_callback(asyncio.to_thread, cluster.stop)
        notifier = await stack.enter_async_context(Notifier(postgres.dsn))
        return await _Run(
            order, say, postgres=postgres, proxy=proxy, cluster=cluster, notifier=notifier
        ).run()


class _Run:
    """What happens between the start of everything and its end."""

    def __init__(
        self,
        order: Order,
        say: Callable[[str], None],
        *,
        postgres: EmbeddedPostgres,
        proxy: Proxy,
        cluster: Cluster,
        notifier: Notifier,
    ) -> None:
        self._order = order
        self._say = say
        self._cluster = cluster
        self._timeline = timeline = Timeline()
        self._ledger = ledger = Ledger(timeline)
        self._calls = Calls(cluster.port, ledger=ledger, timeline=timeline)
        self._sessions = Sessions(
            cluster.port,
            ledger=ledger,
            timeline=timeline,
            seeded=self._seeded,
            greet=lambda listener: self._load.greet(listener),  # noqa: PLW0108 - it is made below
        )
        self._load = Load(
            self._sessions.listeners,
            self._sessions.joining,
            notifier=notifier,
            calls=self._calls,
            ledger=ledger,
            rate=order.events / order.seconds,
            longest_step_seconds=0.7 if order.is_short else 1.5,
            seeded=self._seeded,
        )
        self._broken = Broken(
            postgres, proxy, cluster, self._sessions.listeners, self._calls, timeline, self._join_badly
        )
        self._faults = Faults(self._broken)

    def _seeded(self, name: str) -> Random:
        return Random(f"{self._order.seed} {name}")  # noqa: S311 - to be repeated, not to be unguessable

    async def _join_badly(self) -> None:
        async def early(listener: Listener) -> None:
            for _ in range(_EARLY_MESSAGES):
                await self._load.send("early", [listener])

        await self._sessions.join(early)

    @property
    def _events(self) -> int:
        return self._ledger.events + self._calls.events

    async def run(self) -> Reckoning:
        ended_early = ""
        try:
            async with asyncio.timeout(self._order.limit_seconds):
                await self._run()
        except TimeoutError:
            ended_early = f"the run was stopped after {self._order.limit_seconds:.0f} s"
        except asyncio.CancelledError:
            ended_early = "the run was interrupted"
        except Exception as error:  # noqa: BLE001 - the figures so far are wanted, and the error is a finding
            ended_early = f"the run failed: {error!r}\n{''.join(traceback.format_exception(error))}"
        if ended_early:
            self._ledger.findings.add("other", f"ended early: {ended_early}")
        reckoning = Reckoning(self._order.seed, self._events, self._ledger, self._calls, self._faults)
        if not ended_early:
            await reckoning.look_for_leftovers(self._broken)
        reckoning.output = self._cluster.output()
        reckoning.timeline = self._timeline.text()
        return reckoning

    async def _run(self) -> None:
        async with self._sessions:
            for _ in range(self._order.sessions):
                await self._sessions.join()
            telling = asyncio.create_task(self._tell())
            try:
                await self._break_things()
            finally:
                telling.cancel()
            self._timeline.note("FAULT   none from here on")
            self._say(f"{self._timeline.now():6.1f} s  the faults are over; waiting for what is due")
            await settle(self._load, self._ledger, self._sessions.listeners, self._timeline)

    async def _break_things(self) -> None:
        """Break one thing after another while the load is on, until there have been enough of both."""
        loading = asyncio.create_task(self._load.run())
        longest = _LONGEST_FAULT_OF_SHORT_RUNS_SECONDS if self._order.is_short else 60.0
        faults = plan(self._seeded("faults"), self._order.faults, longest_seconds=longest)
        try:
            async with asyncio.TaskGroup() as group:
                for number, fault in enumerate(faults, 1):
                    await self._break(group, fault)
                    if number % max(1, len(faults) // self._order.sessions) == 0:
                        await self._sessions.join()
            while self._events < self._order.events and not loading.done():
                await asyncio.sleep(0.05)
        finally:
            self._faults.mend()
            self._load.stopping.set()
            await loading

    async def _break(self, group: asyncio.TaskGroup, fault: Fault) -> None:
        injected = group.create_task(self._faults.inject(fault))
        if not fault.overlaps:
            await injected
        await asyncio.sleep(fault.pause_seconds)
        if self._cluster.failure is not None:
            raise self._cluster.failure

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            last = self._timeline.faults[-1][1] if self._timeline.faults else "none yet"
            self._say(
                f"{self._timeline.now():6.1f} s  {self._events} events, {self._ledger.deliveries} deliveries "
                f"({len(self._ledger.missing())} due), {self._faults.injected} faults, the last: {last}"
            )
