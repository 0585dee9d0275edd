"""Ours, in two instances that take turns, answers as the SDK's own transport does in one process."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tmcp_serverless.testing.postgres import create_database_sync

from .cases import CASES
from .interactions import INTERACTIONS, Interaction, text
from .peers import our_peer, sdk_peer
from .server import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .client import Peer

DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"

ROUNDS = [
    pytest.param(
        interaction,
        kind,
        version,
        id=f"{interaction.name}-{kind}-{version}",
    )
    for kind in KINDS
    for interaction in INTERACTIONS.values()
    if kind in interaction.kinds
    for version in interaction.versions
]


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all interactions, so that the servers live as long."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def shared_database_url(postgres_url: str) -> str:
    """One database for all interactions: each has sessions of its own."""
    return create_database_sync(postgres_url, f"differential_{uuid.uuid4().hex}")


@pytest.fixture(scope="module")
def peers(runner: asyncio.Runner, shared_database_url: str) -> Iterator[dict[str, tuple[Peer, Peer]]]:
    """The SDK's server and ours, of each kind."""
    contexts = {kind: (sdk_peer(kind), our_peer(kind, shared_database_url)) for kind in KINDS}

    async def enter() -> dict[str, tuple[Peer, Peer]]:
        return {
            kind: (await sdk.__aenter__(), await ours.__aenter__()) for kind, (sdk, ours) in contexts.items()
        }

    async def leave() -> None:
        for sdk, ours in contexts.values():
            await ours.__aexit__(None, None, None)
            await sdk.__aexit__(None, None, None)

    yield runner.run(enter())
    runner.run(leave())


@pytest.mark.parametrize(("interaction", "kind", "version"), ROUNDS)
def test_client_sees_the_same(
    interaction: Interaction,
    kind: str,
    version: str,
    runner: asyncio.Runner,
    peers: dict[str, tuple[Peer, Peer]],
) -> None:
    """Ours differs from the SDK only where the interaction says so, and exactly as it says."""
    sdk, ours = peers[kind]
    reference = runner.run(interaction.run(sdk, version))
    transcript = runner.run(interaction.run(ours, version))
    expected = interaction.expected(reference, kind, version)
    assert list(transcript) == list(expected)
    differing = {
        step: {"expected": seen, "seen": transcript[step]}
        for step, seen in expected.items()
        if text(seen) != text(transcript[step])
    }
    assert not differing, text(differing)


def test_every_intended_difference_is_documented_and_tested() -> None:
    """The differences that the document gives reasons for are the ones that interactions show."""
    documented = re.findall(r"^## (D\d+): ", DIFFERENCES.read_text(), re.MULTILINE)
    shown = {difference.id for interaction in INTERACTIONS.values() for difference in interaction.differences}
    assert documented == [f"D{number}" for number in range(1, len(documented) + 1)]
    assert shown == set(documented)


def test_there_are_at_least_eighty_interactions() -> None:
    """No case module is forgotten, and what was covered stays covered."""
    assert {interaction.steps.__module__ for interaction in INTERACTIONS.values()} == {
        case.__name__ for case in CASES
    }
    assert len(INTERACTIONS) >= 80
