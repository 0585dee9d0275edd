"""What an interaction is, and how one is run: steps with names, and what the client saw at each of them."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .client import LATEST, Client, Peer
from .server import KINDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from .wire import Seen

__all__ = ["HANDSHAKE", "INTERACTIONS", "Difference", "Interaction", "Steps", "Transcript", "interaction"]

HANDSHAKE = ("2025-03-26", "2025-06-18", LATEST)

if TYPE_CHECKING:
    Steps = AsyncGenerator[tuple[str, Any]]
    Transcript = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """One step at which ours differs on purpose: `ours` makes what ours sees of what the SDK's saw."""

    id: str
    step: str
    ours: Callable[[Seen], Any]
    kinds: Sequence[str] = KINDS
    versions: Sequence[str] | None = None

    def applies(self, kind: str, version: str) -> bool:
        """Return whether this kind of server differs at this protocol version."""
        return kind in self.kinds and (self.versions is None or version in self.versions)


@dataclass(frozen=True)
class Interaction:
    """A named sequence of steps, what servers and versions it is for, and its intended differences."""

    name: str
    steps: Callable[[Client], Steps]
    kinds: Sequence[str]
    versions: Sequence[str]
    opened: bool
    differences: Sequence[Difference]

    async def run(self, peer: Peer, version: str) -> Transcript:
        """Run it with a new client, and return what was seen, by step."""
        peer.notebook.turn()
        client = Client(peer, version)
        if self.opened:
            await client.open()
        transcript: Transcript = {}
        async with contextlib.aclosing(self.steps(client)) as steps:
            async for step, seen in steps:
                if step in transcript:
                    raise ValueError(f"two steps of {self.name} are called {step!r}")
                transcript[step] = seen
        return transcript

    def expected(self, reference: Transcript, kind: str, version: str) -> Transcript:
        """Return what ours should see, given what the SDK's client saw.

        Raises:
            ValueError: A listed difference makes no difference, and should be listed no longer.

        """
        expected = dict(reference)
        for difference in self.differences:
            if difference.applies(kind, version):
                seen = difference.ours(expected[difference.step])
                if text(seen) == text(expected[difference.step]):
                    raise ValueError(
                        f"{difference.id} makes no difference at {difference.step!r} of {self.name}"
                    )
                expected[difference.step] = seen
        return expected


INTERACTIONS: dict[str, Interaction] = {}
"""All interactions, by name."""


def interaction(
    *differences: Difference,
    kinds: Sequence[str] = KINDS,
    versions: Sequence[str] = (LATEST,),
    opened: bool = True,
) -> Callable[[Callable[[Client], Steps]], Callable[[Client], Steps]]:
    """Register an interaction. It is given a client, with a session unless `opened` is false."""

    def register(steps: Callable[[Client], Steps]) -> Callable[[Client], Steps]:
        name: str = steps.__name__
        if name in INTERACTIONS:
            raise ValueError(f"two interactions are called {name}")
        INTERACTIONS[name] = Interaction(name, steps, kinds, versions, opened, differences)
        return steps

    return register


def text(value: Any) -> str:
    """Return the value as text: unlike `==` on objects, it tells 1 from 1.0 and True."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
