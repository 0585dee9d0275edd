"""Many interactions at once, each against a server of its own: the waiting of a slow store overlaps."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

from .cases import INTERACTIONS
from .interactions import Interaction, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from .client import Peer
    from .interactions import Transcript

__all__ = ["Round", "all_rounds", "differences", "transcripts"]


class Round(NamedTuple):
    """An interaction with one kind of server at one protocol version."""

    interaction: Interaction
    kind: str
    version: str

    def __str__(self) -> str:
        return f"{self.interaction.name}-{self.kind}-{self.version}"


def all_rounds() -> list[Round]:
    """Return every interaction, with every kind and version that it is for."""
    return [
        Round(interaction, kind, version)
        for interaction in INTERACTIONS.values()
        for kind in interaction.kinds
        for version in interaction.versions
    ]


async def transcripts(
    rounds: Iterable[Round],
    new_peer: Callable[[str], AbstractAsyncContextManager[Peer]],
    *,
    at_once: int = 12,
) -> dict[Round, Transcript | str]:
    """Return what the client saw in each round; a text: how the round failed."""
    seen: dict[Round, Transcript | str] = {}
    waiting = iter(all_of_them := list(rounds))

    async def work() -> None:
        async with contextlib.AsyncExitStack() as stack:
            peers: dict[str, Peer] = {}
            for each in waiting:
                if each.kind not in peers:
                    peers[each.kind] = await stack.enter_async_context(new_peer(each.kind))
                try:
                    seen[each] = await each.interaction.run(peers[each.kind], each.version)
                except TimeoutError as error:
                    seen[each] = repr(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(all_of_them))):
            group.create_task(work())
    return seen


def differences(
    reference: Mapping[Round, Transcript | str], seen: Mapping[Round, Transcript | str]
) -> dict[str, str]:
    """Return what was seen otherwise than the reference and the intended differences have it, by step."""
    found: dict[str, str] = {}
    for each, transcript in seen.items():
        expected = reference[each]
        if isinstance(transcript, str) or isinstance(expected, str):
            found[str(each)] = f"ours: {transcript}; the SDK's: {expected}"
            continue
        for step, value in each.interaction.expected(expected, each.kind, each.version).items():
            if text(value) != text(transcript.get(step)):
                found[f"{each}: {step}"] = f"expected {text(value)}, seen {text(transcript.get(step))}"
    return found
