"""What goes wrong: each fault by its name, and the plan that a seed makes of them."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.adversity.calls import Call, Calls
    from tests.adversity.listener import Listener
    from tests.adversity.proxy import Proxy
    from tests.adversity.timeline import Timeline
    from tmcp_serverless.dev.cluster import Cluster
    from tmcp_serverless.testing.postgres import EmbeddedPostgres

__all__ = ["DOORBELLS", "Broken", "Fault", "Faults", "plan"]

DOORBELLS = "application_name = 'tmcp_serverless listen'"
"""Which rows of pg_stat_activity are the instances' listening connections."""

_EVERYBODY = "application_name LIKE 'tmcp_serverless%' AND pid <> pg_backend_pid()"
_OTHERS = f"{_EVERYBODY} AND NOT ({DOORBELLS})"
_STRANDED_SECONDS = 3.0
"""A link that is silent for good is found out by a statement that times out, so that not before one tick."""

_KILLS, _KILL_WINDOW_SECONDS = 3, 30.0
"""The cluster gives an instance up that ends more often than 5 times in 30 s."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the plan."""

    name: str
    seconds: float
    """How long it lasts; 0 where it is over at once."""

    target: int
    """Which session, call or instance, counted around."""

    overlaps: bool
    """Whether the next one comes while it lasts."""

    pause_seconds: float
    """How long after it nothing else is broken."""


_WEIGHTS: dict[str, tuple[float, float, float]] = {
    # name: weight, shortest and longest duration in seconds
    "kill the instance that holds a stream": (9, 0, 0),
    "kill the instance that runs a tool": (8, 0, 0),
    "terminate the doorbells": (10, 0, 0),
    "terminate every backend": (8, 0, 0),
    "terminate all backends but the doorbells": (5, 0, 0),
    "cut one link": (8, 0, 0),
    "crash Postgres": (6, 0.0, 1.5),
    "cut every link": (12, 0, 0),
    "black-hole every link, then forward": (4, 1.0, 6.0),
    "black-hole every link, then cut": (4, 1.0, 6.0),
    "strand the links of now": (3, _STRANDED_SECONDS, _STRANDED_SECONDS),
    "slow every link down": (6, 1.0, 4.0),
    "stop an instance": (3, 0.5, 4.0),
    "stop an instance past its lease": (1.5, 11.5, 13.5),
    "a client cuts its stream": (12, 0, 0),
    "a client cuts its call": (8, 0, 0),
    "a client opens another stream": (6, 0, 0),
    "a client opens two streams at once": (6, 0, 0),
    "a new client loses its first stream": (2, 0, 0),
}


def plan(rng: Random, count: int, *, longest_seconds: float = 60.0) -> list[Fault]:
    """Return so many faults, each kind at least once where there is room, none longer than that."""
    names = [name for name, (_, _, longest) in _WEIGHTS.items() if longest <= longest_seconds]
    weights = [_WEIGHTS[name][0] for name in names]
    chosen = rng.sample(names, min(count, len(names)))
    chosen += rng.choices(names, weights, k=count - len(chosen))
    rng.shuffle(chosen)
    faults = [_fault(rng, name, number) for number, name in enumerate(chosen, 1)]
    # After the last one every stream is probed: no pause shows more.
    return [*faults[:-1], replace(faults[-1], pause_seconds=0.0)]


def _fault(rng: Random, name: str, number: int) -> Fault:
    _, shortest, longest = _WEIGHTS[name]
    # Short pauses for faults upon faults, and now and then a long one that shows who does not come back.
    pause_seconds = rng.uniform(4.0, 5.5) if number % 8 == 0 else rng.choice((0.0, 0.1, 0.5, 1.0, 2.0))
    return Fault(
        name,
        seconds=rng.uniform(shortest, longest),
        target=rng.randrange(1_000),
        overlaps=rng.random() < 0.4,
        pause_seconds=pause_seconds,
    )


@dataclass(slots=True)
class Broken:
    """What can be broken."""

    postgres: EmbeddedPostgres
    proxy: Proxy
    cluster: Cluster
    listeners: list[Listener]
    calls: Calls
    timeline: Timeline
    join: Callable[[], Awaitable[None]]
    """Make a session that loses its first stream."""


class Faults:
    """Injects faults."""

    def __init__(self, broken: Broken) -> None:
        self._broken = broken
        self._exclusive = asyncio.Lock()
        self._kills: dict[str, deque[float]] = {}
        self._stopped: set[str] = set()
        self.injected = 0
        self._ways: dict[str, Callable[[Fault], Any]] = {
            "kill the instance that holds a stream": self._kill_holder,
            "kill the instance that runs a tool": self._kill_runner,
            "terminate the doorbells": lambda _: self._terminate(DOORBELLS),
            "terminate every backend": lambda _: self._terminate(_EVERYBODY),
            "terminate all backends but the doorbells": lambda _: self._terminate(_OTHERS),
            "cut one link": self._cut_one,
            "crash Postgres": self._crash,
            "cut every link": self._cut,
            "black-hole every link, then forward": self._hold,
            "black-hole every link, then cut": self._hold,
            "strand the links of now": self._strand,
            "slow every link down": self._slow,
            "stop an instance": self._stop,
            "stop an instance past its lease": self._stop,
            "a client cuts its stream": self._cut_stream,
            "a client cuts its call": self._cut_call,
            "a client opens another stream": self._another,
            "a client opens two streams at once": self._another,
            "a new client loses its first stream": self._lose_first,
        }

    async def inject(self, fault: Fault) -> None:
        """Inject a fault, and return when it has been mended."""
        self.injected += 1
        if fault.seconds:  # two that last do not make one that is worse, only one that is harder to read
            async with self._exclusive:
                with self._broken.timeline.fault(
                    f"{fault.name} ({fault.seconds:.1f} s)", store_away="an instance" not in fault.name
                ):
                    await self._ways[fault.name](fault)
        else:
            with self._broken.timeline.fault(fault.name):
                await self._ways[fault.name](fault)

    def mend(self) -> None:
        """Undo what an injection that was cancelled may have left behind."""
        self._broken.proxy.forward()
        self._broken.proxy.delay_seconds = 0.0
        for name in list(self._stopped):
            self._broken.cluster.kill(name, signal.SIGCONT)

    async def _kill_holder(self, fault: Fault) -> None:
        listener = self._listener(fault)
        self._kill(listener.instance or "?", fault, f"session {listener.index}'s stream")

    async def _kill_runner(self, fault: Fault) -> None:
        call = self._call(fault)
        self._kill(call.instance if call else "?", fault, f"call {call.number}" if call else "no call")

    def _kill(self, name: str, fault: Fault, why: str) -> None:
        """Kill an instance, or the next one that has not been killed too often."""
        now = self._broken.timeline.now()
        names = sorted(self._broken.cluster.pids)
        first = names.index(name) if name in names else fault.target % max(len(names), 1)
        for each in names[first:] + names[:first]:
            kills = self._kills.setdefault(each, deque())
            while kills and kills[0] < now - _KILL_WINDOW_SECONDS:
                kills.popleft()
            if len(kills) < _KILLS:
                kills.append(now)
                self._broken.timeline.note(f"FAULT   SIGKILL to instance {each}, for {why}")
                self._broken.timeline.killed.append((now, each))
                self._broken.cluster.kill(each)
                return

    async def _terminate(self, which: str) -> None:
        try:
            connection = await asyncpg.connect(self._broken.postgres.dsn, timeout=3)
        except (OSError, asyncpg.PostgresError):
            return  # Postgres is down: they are all gone
        try:
            await connection.fetch(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {which}")
        finally:
            await connection.close()

    async def _crash(self, fault: Fault) -> None:
        await asyncio.to_thread(self._broken.postgres.stop_immediately)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self._broken.postgres.start)

    async def _cut(self, _: Fault) -> None:
        self._broken.proxy.cut()

    async def _cut_one(self, fault: Fault) -> None:
        self._broken.proxy.cut_one(fault.target)

    async def _strand(self, _: Fault) -> None:
        self._broken.proxy.strand()
        await asyncio.sleep(_STRANDED_SECONDS)

    async def _hold(self, fault: Fault) -> None:
        self._broken.proxy.hold()
        try:
            await asyncio.sleep(fault.seconds)
            if fault.name.endswith("cut"):
                self._broken.proxy.cut()
        finally:
            self._broken.proxy.forward()

    async def _slow(self, fault: Fault) -> None:
        self._broken.proxy.delay_seconds = 0.02 + 0.2 * (fault.target / 1_000)
        await asyncio.sleep(fault.seconds)
        self._broken.proxy.delay_seconds = 0.0

    async def _stop(self, fault: Fault) -> None:
        names = sorted(self._broken.cluster.pids)
        listener = self._listener(fault)
        name = listener.instance if listener.instance in names else names[fault.target % len(names)]
        assert name is not None
        self._broken.timeline.note(f"FAULT   SIGSTOP to instance {name}")
        self._broken.timeline.killed.append((self._broken.timeline.now(), name))
        self._stopped.add(name)
        self._broken.cluster.kill(name, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._broken.cluster.kill(name, signal.SIGCONT)
            self._stopped.discard(name)

    async def _cut_stream(self, fault: Fault) -> None:
        self._listener(fault).cut()

    async def _cut_call(self, fault: Fault) -> None:
        call = self._call(fault)
        if call is not None and call.current is not None:
            self._broken.timeline.note(f"call {call.number} is cut by its client")
            call.current.abort()

    async def _another(self, fault: Fault) -> None:
        self._listener(fault).want("twins" if "two" in fault.name else "takeover")

    async def _lose_first(self, _: Fault) -> None:
        await self._broken.join()

    def _listener(self, fault: Fault) -> Listener:
        return self._broken.listeners[fault.target % len(self._broken.listeners)]

    def _call(self, fault: Fault) -> Call | None:
        calls = self._broken.calls.running
        return calls[fault.target % len(calls)] if calls else None
