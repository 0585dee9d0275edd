"""Session managers that take their time, and now and then fail: what a real store does, by a seed.

A store in memory answers before anybody else has a turn. What goes wrong only while a real one is waited for,
an order that is lost or state that is seen too early, shows over these.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from tmcp_serverless import (
    EventTopic,
    InfoSessionManager,
    InMemoryEventTopic,
    InMemoryInfoSessionManager,
    InMemoryKeyStore,
    InMemoryStreamSessionManager,
    KeyStore,
    SessionManagers,
    StoreUnavailableError,
    StreamController,
    StreamSessionManager,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

__all__ = ["Slowness", "slow_managers"]

MOST_SECONDS = 0.05


@dataclass
class Slowness:
    """How slow a store is, and what fails in it.

    Args:
        seed: Makes a run repeatable, as far as the order of its calls is.
        most_seconds: The longest that a method takes: half before it does its work, and half after.
        failing: The methods that may fail and do nothing, such as `append`.
        failing_late: The methods that may fail when they have done their work, such as `release`.
        every: How many calls of one method there are between two failures, on average.

    """

    seed: int
    most_seconds: float = MOST_SECONDS
    failing: frozenset[str] = frozenset()
    failing_late: frozenset[str] = frozenset()
    every: int = 4
    failures: list[str] = field(default_factory=list[str])
    """The methods that have failed."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - no secret
        self._failed_last: set[str] = set()

    async def run(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do the work of one method."""
        before, after = (self._random.uniform(0, self.most_seconds / 2) for _ in range(2))
        fails = self._fails(name)
        await asyncio.sleep(before)
        if fails and name in self.failing:
            raise StoreUnavailableError(f"{name} has failed, by the seed {self.seed}")
        outcome = await work()
        await asyncio.sleep(after)
        if fails:
            raise StoreUnavailableError(f"{name} has failed, by the seed {self.seed}")
        return outcome

    def _fails(self, name: str) -> bool:
        """Return whether this call fails: once, for the next one of its method does not."""
        may_fail = name in self.failing or name in self.failing_late
        if not may_fail or name in self._failed_last or self._random.randrange(self.every):
            self._failed_last.discard(name)
            return False
        self._failed_last.add(name)
        self.failures.append(name)
        return True


class _Slow:
    """A manager around another."""

    def __init__(self, inner: Any, slowness: Slowness) -> None:
        self.inner = inner
        self.slowness = slowness

    async def check(self) -> None:
        await self.inner.check()

    async def disconnect(self) -> None:
        await self.inner.disconnect()

    async def aclose(self) -> None:
        await self.inner.aclose()


def _slow(name: str) -> Callable[..., Awaitable[Any]]:
    async def method(self: _Slow, *args: Any, **options: Any) -> Any:
        work = getattr(self.inner, name)
        return await self.slowness.run(name, lambda: work(*args, **options))

    return method


def _slow_class(contract: type) -> Callable[[Any, Slowness], Any]:
    """Return a manager of this contract, every method of which is slow."""
    methods = {
        name: _slow(name)
        for name, _ in inspect.getmembers(contract, inspect.iscoroutinefunction)
        if not name.startswith("_") and name not in vars(_Slow)
    }
    return cast(
        "Callable[[Any, Slowness], Any]", type(f"Slow{contract.__name__}", (_Slow, contract), methods)
    )


slow_streams = cast(
    "Callable[[StreamSessionManager, Slowness], StreamSessionManager]", _slow_class(StreamSessionManager)
)
slow_info = cast(
    "Callable[[InfoSessionManager, Slowness], InfoSessionManager]", _slow_class(InfoSessionManager)
)
slow_keys = cast("Callable[[KeyStore, Slowness], KeyStore]", _slow_class(KeyStore))


class SlowEvents(_Slow):
    """A topic around another."""

    async def publish(self, data: str) -> None:
        await self.slowness.run("publish", lambda: self.inner.publish(data))

    @asynccontextmanager
    async def watch(self, controller: StreamController) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            watch = self.inner.watch(controller)
            await self.slowness.run("watch", lambda: stack.enter_async_context(watch))
            yield


def slow_managers(slowness: Slowness, managers: SessionManagers | None = None) -> SessionManagers:
    """Return slow managers around these, or around new ones in memory."""
    inner = managers or SessionManagers(
        streams=InMemoryStreamSessionManager(),
        info=InMemoryInfoSessionManager(),
        events=InMemoryEventTopic(),
        keys=InMemoryKeyStore(),
    )
    events: EventTopic | None = None if inner.events is None else SlowEvents(inner.events, slowness)
    return SessionManagers(
        streams=slow_streams(inner.streams, slowness),
        info=slow_info(inner.info, slowness),
        events=events,
        keys=None if inner.keys is None else slow_keys(inner.keys, slowness),
        resources=inner.resources,
    )
