"""After the faults: waiting for what is due, under a limit, and saying what is wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from tests.adversity.faults import DOORBELLS

if TYPE_CHECKING:
    from tests.adversity.calls import Calls
    from tests.adversity.faults import Broken, Faults
    from tests.adversity.ledger import Ledger
    from tests.adversity.listener import Listener
    from tests.adversity.load import Load
    from tests.adversity.timeline import Timeline

__all__ = ["SILENCE_SECONDS", "Reckoning", "settle"]

SILENCE_SECONDS = 4.5
"""One tick (3 s), the retry hint that a stream may have been ended with (0.5 s), and a busy machine."""

_SETTLE_SECONDS = 20.0
_LEFTOVER_SECONDS = 15.0
_PROBE_SECONDS = 3.5
_TEXTS = 8


async def settle(load: Load, ledger: Ledger, listeners: list[Listener], timeline: Timeline) -> None:
    """Wait until everything has come, then see that every stream hears a message to it, and one to all."""
    await _wait_until_all_came(ledger, _SETTLE_SECONDS)
    begun = timeline.now()
    for listener in listeners:
        await load.send("probe", [listener])
    await load.send("probe", None)
    await _wait_until_all_came(ledger, _PROBE_SECONDS)
    deaf = sorted({session for session, sending in ledger.missing() if sending.sender == "probe"})
    if deaf:
        about = [
            line for each in deaf for line in timeline.around(begun - 20, begun, about=f"session {each} ")
        ]
        text = f"sessions {deaf} are deaf: nothing came in {_PROBE_SECONDS} s"
        ledger.findings.add("other", "\n".join([text, *about[:100]]))
        await _wait_until_all_came(ledger, _SETTLE_SECONDS)


async def _wait_until_all_came(ledger: Ledger, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            while ledger.missing():
                await asyncio.sleep(0.02)
    except TimeoutError:
        return


class Reckoning:
    """What came of a run."""

    def __init__(self, seed: int, events: int, ledger: Ledger, calls: Calls, faults: Faults) -> None:
        self.seed = seed
        self.events = events
        self.output = ""
        self.timeline = ""
        self.deliveries = ledger.deliveries
        self.unknown = ledger.unknown
        self.calls = calls
        self.faults = faults.injected
        self.longest_silence_seconds, self._longest = ledger.longest_silence()
        self.findings = ledger.close()
        if self.longest_silence_seconds > SILENCE_SECONDS:
            text = f"a stream was silent for {self.longest_silence_seconds:.2f} s: {self._longest}"
            self.findings.add("other", text)

    async def look_for_leftovers(self, broken: Broken) -> None:
        """See that no instance listens any more once the last stream is gone."""
        rows: list[asyncpg.Record] = []
        connection = await asyncpg.connect(broken.postgres.dsn)
        try:
            for _ in range(int(_LEFTOVER_SECONDS / 0.25)):
                rows = await connection.fetch(
                    f"SELECT pid, query, now() - state_change AS idle FROM pg_stat_activity WHERE {DOORBELLS}"
                )
                if not rows:
                    return
                await asyncio.sleep(0.25)
        finally:
            await connection.close()
        for row in rows:
            query = " ".join(str(row["query"]).split())[:80]
            self.findings.add("other", f"backend {row['pid']} still listens, idle for {row['idle']}: {query}")

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong."""
        return self.findings.total == 0

    def details(self) -> str:
        """Return what was wrong, with a timeline around each of the first ones, and how the calls went."""
        calls = self.calls
        how = (
            f"calls: {calls.answered} answered, {calls.errors} with an error, {calls.refused} refused, "
            f"{calls.resumed} times resumed; sends of unknown outcome: {self.unknown}; "
            f"steps that could not be stored: {calls.unstored}"
        )
        lines = [
            how,
            f"longest silence: {self._longest}",
            *self.findings.texts[:_TEXTS],
        ]
        if len(self.findings.texts) > _TEXTS:
            lines.append(f"… and {len(self.findings.texts) - _TEXTS} more")
        return "\n".join(lines)

    def figures(self) -> str:
        """Return the run's last line."""
        found = self.findings
        more = f" disordered={found.disordered} other={found.other}" if found.disordered + found.other else ""
        return (
            f"seed={self.seed} events={self.events} deliveries={self.deliveries} faults={self.faults} "
            f"lost={found.lost} duplicated={found.duplicated} foreign={found.foreign}{more} "
            f"longest_silence_seconds={self.longest_silence_seconds:.2f}"
        )
