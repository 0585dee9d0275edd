"""The order of sends within one process: that of the calls, whatever becomes of each of them."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tmcp_serverless.sessions import SendOrder, send_order

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Line:
    """Sends that go through one order, and what they sent."""

    def __init__(self) -> None:
        self.order = SendOrder()
        self.sent: list[int] = []

    async def send(self, number: int, *keys: str, work: Callable[[], Awaitable[None]] | None = None) -> None:
        with self.order.take(*keys) as turn:
            await turn.come()
            if work is not None:
                await work()
            self.sent.append(number)


async def test_sends_wait_for_those_before_them_and_nothing_is_kept() -> None:
    line, chance = Line(), random.Random(1)  # noqa: S311 - no secret

    async def work() -> None:
        await asyncio.sleep(chance.uniform(0, 0.01))

    await asyncio.gather(*(line.send(number, "a", work=work) for number in range(30)))
    assert line.sent == list(range(30))
    assert len(line.order) == 0


async def test_other_mailboxes_do_not_wait() -> None:
    line, go_on = Line(), asyncio.Event()
    held = asyncio.create_task(line.send(1, "a", work=wait_for(go_on)))
    await asyncio.sleep(0)
    await line.send(2, "b")
    go_on.set()
    await held
    assert line.sent == [2, 1]


def wait_for(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        await event.wait()

    return wait


async def test_a_send_to_several_mailboxes_keeps_its_place_in_each() -> None:
    line, go_on = Line(), asyncio.Event()
    tasks = [
        asyncio.create_task(line.send(number, *keys, work=wait_for(go_on) if number == 0 else None))
        for number, keys in enumerate([("a",), ("a", "b", "b"), ("b",), ("a",), ("c",)])
    ]
    await asyncio.wait(tasks[4:])
    assert line.sent == [4]
    go_on.set()
    await asyncio.gather(*tasks)
    assert [number for number in line.sent if number in (0, 1, 3)] == [0, 1, 3]
    assert [number for number in line.sent if number in (1, 2)] == [1, 2]
    assert len(line.order) == 0


@pytest.mark.parametrize("last_comes_later", [False, True])
async def test_one_that_is_cancelled_lets_nobody_overtake(last_comes_later: bool) -> None:  # noqa: FBT001
    line, go_on = Line(), asyncio.Event()
    tasks = [asyncio.create_task(line.send(0, "a", work=wait_for(go_on)))]
    tasks += [asyncio.create_task(line.send(number, "a")) for number in range(1, 300)]
    if not last_comes_later:
        tasks.append(asyncio.create_task(line.send(300, "a")))
    await asyncio.sleep(0)
    for task in tasks[1:300]:
        task.cancel()
    await asyncio.wait(tasks[1:300])
    if last_comes_later:
        tasks.append(asyncio.create_task(line.send(300, "a")))
    await asyncio.sleep(0)
    assert line.sent == []
    go_on.set()
    await asyncio.gather(tasks[0], tasks[-1])
    assert line.sent == [0, 300]
    assert len(line.order) == 0


async def test_one_that_fails_lets_the_next_one_go_on() -> None:
    line = Line()

    async def fail() -> None:
        raise OSError

    outcomes = await asyncio.gather(
        *(line.send(number, "a", work=fail if number % 2 else None) for number in range(6)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), OSError] * 3
    assert line.sent == [0, 2, 4]


async def test_one_that_hangs_holds_the_others_up_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_order, "PATIENCE_SECONDS", 0.05)
    line, never = Line(), asyncio.Event()
    hanging = asyncio.create_task(line.send(0, "a", work=wait_for(never)))
    await asyncio.sleep(0)
    await asyncio.gather(line.send(1, "a"), line.send(2, "a"))
    assert sorted(line.sent) == [1, 2]
    never.set()
    await hanging
    assert len(line.order) == 0


async def test_a_reserved_place_is_kept_until_its_message_is_there() -> None:
    line, sent, go_on = Line(), list[object](), asyncio.Event()

    async def send(message: dict[str, object]) -> None:
        sent.append(message["id"])

    async def ask() -> None:
        with line.order.reserved("a", send=send) as deliver:
            await go_on.wait()
            await deliver({"id": "question"})
            await deliver({"id": "withdrawal"})

    async def say(id: str) -> None:
        with line.order.take("a") as turn:
            await turn.come()
            await send({"id": id})

    tasks = [asyncio.create_task(work) for work in (ask(), say("log"))]
    await asyncio.sleep(0)
    assert sent == []
    go_on.set()
    await asyncio.gather(*tasks)
    assert sent[0] == "question"
    assert sorted(map(str, sent)) == ["log", "question", "withdrawal"]


async def test_a_reserved_place_that_is_not_used_is_given_back() -> None:
    line = Line()

    async def send(_: dict[str, object]) -> None:
        raise AssertionError

    with line.order.reserved("a", send=send):
        waiting = asyncio.create_task(line.send(1, "a"))
        await asyncio.sleep(0)
    await waiting
    assert line.sent == [1]
    assert len(line.order) == 0
