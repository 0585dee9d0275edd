"""Timing several operations side by side, in small alternating blocks, on a machine that is never quiet."""

from __future__ import annotations

import gc
import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping

__all__ = ["Operation", "Samples", "interleave", "timed"]

Operation: TypeAlias = "Callable[[], Awaitable[float]]"
"""Does it once, and returns how many seconds it took."""


class Samples:
    """The seconds that each operation took: by name, by round, by call."""

    def __init__(self, rounds: Mapping[str, list[list[float]]]) -> None:
        self._rounds = rounds

    def median(self, name: str) -> float:
        """Return the median of all calls."""
        return statistics.median(seconds for calls in self._rounds[name] for seconds in calls)

    def ratio_quartiles(self, name: str, reference: str) -> tuple[float, float] | None:
        """Return the 25th and 75th percentile of the rounds' ratios of medians."""
        ratios = [
            statistics.median(ours) / statistics.median(theirs)
            for ours, theirs in zip(self._rounds[name], self._rounds[reference], strict=True)
        ]
        if len(ratios) < 4:
            return None
        quartiles = statistics.quantiles(ratios, n=4)
        return quartiles[0], quartiles[2]


def timed(call: Callable[[], Awaitable[object]]) -> Operation:
    """Return the operation that times the call from its start to its return."""

    async def operation() -> float:
        start = time.perf_counter()
        await call()
        return time.perf_counter() - start

    return operation


async def interleave(
    operations: Mapping[str, Operation], *, rounds: int, calls: int, warm_up: int = 200
) -> Samples:
    """Run every operation in blocks of `calls`, one block of each per round, in turning order."""
    for operation in operations.values():
        for _ in range(warm_up):
            await operation()
    names = list(operations)
    seconds: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            with _without_collector():
                seconds[name].append([await operations[name]() for _ in range(calls)])
    return Samples(seconds)


@contextmanager
def _without_collector() -> Generator[None]:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
