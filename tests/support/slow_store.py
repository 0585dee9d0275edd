"""Session managers as slow as a store can be: an order that is lost in an `await` is lost here, and is seen.

Every method of both managers takes a seeded random time before and behind what it does, and the methods in
`failing` fail now and then, once: the next call of that method does what it is asked to.
"""

from __future__ import annotations

import asyncio
import inspect
from contextvars import ContextVar
from functools import wraps
from random import Random
from typing import TYPE_CHECKING, Any

from tmcp_serverless import (
    InfoSessionManager,
    SessionManagers,
    StoreUnavailableError,
    StreamSessionManager,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["LONGEST_SECONDS", "SURVIVED", "SlowStore"]

LONGEST_SECONDS = 0.05

SURVIVED = frozenset({"StreamSessionManager.release", "StreamSessionManager.sweep", "InfoSessionManager.sweep"})
"""Methods whose failure no client sees: what is not given back expires."""

_NOT_SLOWED = frozenset({"aclose", "disconnect", "check"})
"""Methods that run when nobody waits for an order any more."""

_FAILING_SHARE = 0.1

_within: ContextVar[bool] = ContextVar("_within", default=False)
"""True within a method: one that calls another is slow once."""


class SlowStore:
    """One random sequence for all managers that it wraps.

    Args:
        seed: Repeats the delays, as far as the event loop repeats the calls.
        longest_seconds: How long a method takes at the most, before it begins and again behind its end.
        failing: The methods that fail now and then, as `Contract.method`.

    """

    def __init__(
        self, seed: int, *, longest_seconds: float = LONGEST_SECONDS, failing: Collection[str] = SURVIVED
    ) -> None:
        self._random = Random(seed)  # noqa: S311 - to be repeated, not to be unguessable
        self._longest_seconds = longest_seconds
        self._failing = frozenset(failing)
        self._failed: set[str] = set()
        self.failures = 0
        """How often a method has failed."""

    def managers(self, managers: SessionManagers) -> SessionManagers:
        """Return the same managers behind the delays. Closing them closes those."""
        return SessionManagers(
            streams=self.wrap(managers.streams, StreamSessionManager),
            info=self.wrap(managers.info, InfoSessionManager),
            resources=managers.resources,
        )

    def wrap(self, manager: Any, contract: type[Any]) -> Any:
        """Return a manager of the same class and state, whose every method is slow."""
        own = type(manager)
        names = [
            name
            for name, member in inspect.getmembers(contract, inspect.iscoroutinefunction)
            if not name.startswith("_") and name not in _NOT_SLOWED and member is not None
        ]
        slow = {name: self._slowed(getattr(own, name), f"{contract.__name__}.{name}") for name in names}
        wrapped = object.__new__(type(f"Slow{own.__name__}", (own,), slow))
        wrapped.__dict__ = manager.__dict__
        return wrapped

    def _slowed(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        @wraps(method)
        async def slowed(*arguments: Any, **options: Any) -> Any:
            if _within.get():
                return await method(*arguments, **options)
            await self._pause()
            self._fail_once(name)
            token = _within.set(True)
            try:
                result = await method(*arguments, **options)
            finally:
                _within.reset(token)
            await self._pause()
            return result

        return slowed

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.uniform(0, self._longest_seconds / 2))

    def _fail_once(self, name: str) -> None:
        if name not in self._failing:
            return
        if name in self._failed:
            self._failed.discard(name)
        elif self._random.random() < _FAILING_SHARE:
            self._failed.add(name)
            self.failures += 1
            raise StoreUnavailableError(f"{name} fails once, for the test")
