"""Live material: what the instances have handed out to each principal, for inputs to use, alter and steal."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.grammar import Draw

__all__ = ["PRINCIPALS", "Corpus", "EventStream", "Session", "State"]

PRINCIPALS = ("alice", "bob")
_KEPT = 40
_ENDPOINT = re.compile(r"session_id=([\w-]+)")
_CURSOR = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Session:
    """A session that a principal has been given, with the revision that was settled."""

    id: str
    version: str


@dataclass(frozen=True)
class State:
    """A request state, with the keys of the server requests that it stands beside."""

    text: str
    tool: str
    keys: tuple[str, ...]


class Corpus:
    """Material of each kind by principal, the newest of it."""

    def __init__(self) -> None:
        self.sessions: dict[str, list[Session]] = defaultdict(list)
        self.stream_sessions: dict[str, list[str]] = defaultdict(list)
        self.events: dict[str, list[tuple[str, str]]] = defaultdict(list)
        """Event ids, each behind its session's id."""

        self.questions: dict[str, list[tuple[str, str]]] = defaultdict(list)
        """Ids of server requests, each behind its session's id."""

        self.cursors: dict[str, list[str]] = defaultdict(list)
        self.states: dict[str, list[State]] = defaultdict(list)
        self.added = 0

    def add(self, kind: dict[str, list[Any]], who: str, what: Any) -> None:
        """Keep something, in the place of the oldest where there is much of it."""
        kept = kind[who]
        if what in kept:
            return
        self.added += 1
        kept.append(what)
        if len(kept) > _KEPT:
            del kept[0]

    def pick(self, draw: Draw, kind: dict[str, list[Any]], who: str, instead: Any) -> Any:
        """Return something of the principal's, now and then of the other one's, or `instead`."""
        stolen = draw.chance(0.15)
        other = PRINCIPALS[1] if who == PRINCIPALS[0] else PRINCIPALS[0]
        kept = kind[other if stolen or who not in PRINCIPALS else who]
        place = draw.below(len(kept))
        return kept[place] if kept else instead

    def forget(self, who: str, session_id: str) -> None:
        """Drop a session that has ended, though not its events and its questions: they stay worth a try."""
        self.sessions[who] = [each for each in self.sessions[who] if each.id != session_id]

    def is_of_another(self, session_id: str, who: str) -> bool:
        """Return `True` if the session is known as another principal's."""
        return any(
            each.id == session_id for name, kept in self.sessions.items() if name != who for each in kept
        )

    def learn_message(self, who: str, session_id: str, message: Any, *, tool: str = "") -> None:
        """Keep what a message from the server holds."""
        if not isinstance(message, dict):
            return
        found: dict[str, Any] = message
        if "method" in found and "id" in found:
            self.add(self.questions, who, (session_id, str(found["id"])))
        result: Any = found.get("result")
        if isinstance(result, dict):
            answer: dict[str, Any] = result
            if isinstance(answer.get("requestState"), str):
                keys = tuple(answer.get("inputRequests") or ())
                self.add(self.states, who, State(answer["requestState"], tool, keys))
            if isinstance(answer.get("nextCursor"), str):
                self.add(self.cursors, who, answer["nextCursor"])

    def learn_event(self, who: str, session_id: str, id: str) -> None:
        """Keep an event id, and the cursor in it."""
        self.add(self.events, who, (session_id, id))
        if (cursor := _CURSOR.search(id)) is not None:
            self.add(self.cursors, who, cursor[0])


class EventStream:
    """Reader of server-sent events, for what they teach the corpus."""

    def __init__(self, corpus: Corpus, who: str, session_id: str, tool: str) -> None:
        self._corpus = corpus
        self._who = who
        self._session_id = session_id
        self._tool = tool
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take a piece of the stream."""
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            self._take(event.decode("utf-8", "replace"))

    def _take(self, event: str) -> None:
        fields: dict[str, str] = {}
        for line in event.split("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        data = fields.get("data", "")
        if fields.get("event") == "endpoint":
            if (found := _ENDPOINT.search(data)) is not None:
                self._session_id = found[1]
                self._corpus.add(self._corpus.stream_sessions, self._who, found[1])
            return
        if "id" in fields:
            self._corpus.learn_event(self._who, self._session_id, fields["id"])
        try:
            message = json.loads(data)
        except ValueError:
            return
        self._corpus.learn_message(self._who, self._session_id, message, tool=self._tool)
