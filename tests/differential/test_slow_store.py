"""What the client sees does not depend on the time that the store takes.

Over managers each method of which takes its time, by a seed, ours still answers as the SDK's transport does.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.slow_store import Slowness, slow_managers
from tmcp_serverless.handshake.post_response import PostResponse
from tmcp_serverless.http import dump
from tmcp_serverless.sessions.send_order import Turn

from .peers import our_peer, sdk_peer
from .rounds import Round, all_rounds, differences, transcripts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from .client import Peer
    from .interactions import Transcript

SEEDS = (1, 2, 3)
FAILS = frozenset({"sweep"})
FAILS_LATE = frozenset({"release"})
"""What may fail without a client seeing it, before it has done anything, and afterwards."""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def reference(runner: asyncio.Runner) -> Mapping[Round, Transcript | str]:
    """What the SDK's client sees."""
    return runner.run(transcripts(all_rounds(), sdk_peer, at_once=3))


def slow_peer(slowness: Slowness) -> Callable[[str], AbstractAsyncContextManager[Peer]]:
    return partial(our_peer, new_managers=lambda: slow_managers(slowness))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_client_sees_the_same_whatever_time_the_store_takes(
    seed: int, runner: asyncio.Runner, reference: Mapping[Round, Transcript | str]
) -> None:
    slowness = Slowness(seed, failing=FAILS, failing_late=FAILS_LATE)
    seen = runner.run(transcripts(all_rounds(), slow_peer(slowness)))
    assert not differences(reference, seen)
    assert set(slowness.failures) == FAILS | FAILS_LATE


def racing_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that a stream takes along though messages before it wait for the stream to begin."""

    async def emit(self: Any, message: Any) -> None:
        async with self._writing:
            if not self._finished:
                await self._start()
                await self._write_queue()
                await self._write(dump(message), last=False)

    monkeypatch.setattr(PostResponse, "emit", emit)


def racing_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends that do not wait for each other."""

    async def come(self: Any) -> None:
        del self

    monkeypatch.setattr(Turn, "come", come)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (racing_answer, "progress_that_nobody_awaits-everything-2025-11-25"),
        (racing_sends, "logs_at_once_on_the_standalone_stream-everything-2025-06-18"),
        (racing_sends, "question_and_logs_at_once_in_the_response-everything-2025-11-25"),
    ],
)
def test_it_finds_an_order_that_is_lost(
    fault: Callable[[pytest.MonkeyPatch], None],
    found: str,
    runner: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The instrument sees what it is for, when that is put back, and nothing before."""
    rounds = [each for each in all_rounds() if str(each) == found]
    reference = runner.run(transcripts(rounds, sdk_peer))
    assert not differences(reference, runner.run(transcripts(rounds, slow_peer(Slowness(1)))))
    fault(monkeypatch)
    assert differences(reference, runner.run(transcripts(rounds, slow_peer(Slowness(1)))))
