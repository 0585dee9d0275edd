"""The books: what was sent to whom, what came, and what is wrong with that."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.adversity.timeline import Timeline

__all__ = ["Findings", "Ledger", "Sending"]


@dataclass(slots=True)
class Sending:
    """One message and the sessions that it is for."""

    sender: str
    n: int
    sessions: tuple[int, ...]
    optional: tuple[int, ...]
    """Sessions that were being initialized while it was sent: a broadcast may count for them or not."""

    begun: float
    committed: float | None = None
    """When `send` returned; `None` where it raised, so that nobody knows whether it was stored."""

    def notification(self) -> dict[str, Any]:
        """Return the MCP notification that carries it."""
        data = {"sender": self.sender, "n": self.n, "for": [*self.sessions, *self.optional]}
        return {"method": "notifications/message", "params": {"level": "info", "data": data}}


@dataclass(slots=True)
class Findings:
    """What was wrong: counts, and a sentence with a timeline for each of the first ones."""

    lost: int = 0
    duplicated: int = 0
    foreign: int = 0
    disordered: int = 0
    other: int = 0
    texts: list[str] = field(default_factory=list)

    def add(self, kind: str, text: str) -> None:
        """Count one finding."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.texts.append(f"{kind.upper()}: {text}")

    @property
    def total(self) -> int:
        """How many there are."""
        return self.lost + self.duplicated + self.foreign + self.disordered + self.other


class Ledger:
    """Every sending, and every arrival."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._sendings: dict[tuple[str, int], Sending] = {}
        self._numbers: dict[str, int] = {}
        self._arrivals: dict[int, list[tuple[str, int, float]]] = {}
        self._seen: dict[tuple[int, str, int], float] = {}
        self.findings = Findings()

    def begin(self, sender: str, sessions: tuple[int, ...], optional: tuple[int, ...] = ()) -> Sending:
        """Write down that a message is about to be sent."""
        n = self._numbers[sender] = self._numbers.get(sender, 0) + 1
        sending = Sending(sender, n, sessions, optional, self._timeline.now())
        self._sendings[sender, n] = sending
        return sending

    def committed(self, sending: Sending) -> None:
        """Write down that `send` has returned."""
        sending.committed = self._timeline.now()

    def arrived(self, session: int, data: str, at: float) -> None:
        """Write down what a session's client was given on its standalone stream."""
        try:
            fact = json.loads(data)["params"]["data"]
            key = (str(fact["sender"]), int(fact["n"]))
        except (KeyError, TypeError, ValueError):
            about = self._timeline.around(at, at, about=f"session {session} ")
            text = f"session {session} was given {data[:200]!r} at {at:.3f} s"
            self.findings.add("other", "\n".join([text, *about[:80]]))
            return
        if session not in fact["for"]:
            self._find("foreign", session, key, at, f"it was for {fact['for']}")
        if (before := self._seen.get((session, *key))) is not None:
            self._find("duplicated", session, key, at, f"it had come at {before:.3f} s")
            return
        self._seen[session, *key] = at
        self._arrivals.setdefault(session, []).append((*key, at))

    @property
    def events(self) -> int:
        """How many messages are known to be committed."""
        return sum(sending.committed is not None for sending in self._sendings.values())

    @property
    def unknown(self) -> int:
        """How many messages may be committed or not."""
        return sum(sending.committed is None for sending in self._sendings.values())

    @property
    def deliveries(self) -> int:
        """How many messages have come to a session."""
        return len(self._seen)

    def missing(self) -> list[tuple[int, Sending]]:
        """Return what has been committed and has not come."""
        return [
            (session, sending)
            for sending in self._sendings.values()
            if sending.committed is not None
            for session in sending.sessions
            if (session, sending.sender, sending.n) not in self._seen
        ]

    def longest_silence(self) -> tuple[float, str]:
        """Return the longest stretch that a committed message lay undelivered in, without any fault.

        For each message and session: the time from the return of `send` to the arrival at the client, of
        which the longest stretch without a fault under way counts. A fault is under way from its injection
        until what it broke is mended from outside (the link forwards, Postgres answers, the instance has been
        continued); a kill, a cut and a terminated backend are over at once, so what follows them counts.
        So it contains the client's own way back: the retry hint that it was given, and its new GET.
        """
        longest, text = 0.0, ""
        for (session, sender, n), at in self._seen.items():
            committed = self._sendings[sender, n].committed
            if committed is not None and at - committed > longest:
                calm = self._timeline.longest_calm(committed, at)
                if calm > longest:
                    longest = calm
                    text = f"{sender}/{n} to session {session}, sent at {committed:.3f} s, came at {at:.3f} s"
        return longest, text

    def close(self) -> Findings:
        """Look for what was lost, and for what came in another order than it was sent in."""
        for session, sending in self.missing():
            at = sending.committed or sending.begun
            self._find("lost", session, (sending.sender, sending.n), at, "it never came")
        for session, arrivals in self._arrivals.items():
            latest: dict[str, int] = {}
            for sender, n, at in arrivals:
                if self._sendings[sender, n].committed is None:
                    continue  # the server may have stored it after `send` had given up, at any time
                if n < latest.get(sender, 0):
                    self._find("disordered", session, (sender, n), at, f"{latest[sender]} had come before it")
                latest[sender] = max(n, latest.get(sender, 0))
        return self.findings

    def _find(self, kind: str, session: int, key: tuple[str, int], at: float, why: str) -> None:
        sending = self._sendings.get(key)
        begun = at if sending is None else sending.begun
        text = (
            f"message {key[0]}/{key[1]} at session {session}, sent at {begun:.3f} s: {why} "
            f"(here at {at:.3f} s); the last fault before: {self._timeline.last_fault(at)}"
        )
        about = self._timeline.around(begun, at, about=f"session {session} ")
        self.findings.add(kind, "\n".join([text, *about[:80]]))
