"""Cy's part of the tour: a client of 2026-07-28, without a session.

Each of Cy's requests goes to another instance, and none of them knows Cy.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import mcp_types as types
from mcp.client.subscriptions import ResourceUpdated, Subscription

from examples.guide import Guide
from examples.report import Request, expect
from examples.traveller import Traveller

__all__ = ["ModernPassage"]

MODERN = "2026-07-28"
OPEN_ORDERS = "orders://open"
CALLS = 2
TRIES = 8
"""Attempts until requests that belong together land on different instances."""

Served: TypeAlias = tuple[str | None, str | None]
"""The instances that served two requests, if responses name them."""


class ModernPassage:
    """Cy's steps, in order. Each method returns its outcome, in short."""

    cy: Traveller

    def __init__(self, guide: Guide, bob: Traveller) -> None:
        self._guide = guide
        self._bob = bob

    async def take(self) -> None:
        """Take the steps; Cy leaves after the last."""
        step = self._guide.step
        await step("Cy discovers", self._discover(), expected="protocol 2026-07-28, and no session")
        await step("Cy listens", self._listen(), expected="Bob's change told on Cy's stream")
        await step("Cy is asked", self._cancel(), expected="a question, answered to another instance")
        await self.cy.leave()

    async def _discover(self) -> str:
        yes = types.ElicitResult(action="accept", content={"sure": True})
        self.cy = await self._guide.welcome("Cy", elicitation=yes, mode="auto")
        expect(self.cy.client.protocol_version == MODERN, self.cy.client.protocol_version)
        expect(self.cy.last("server/discover") is not None, self._guide.requests)
        expect(self.cy.session_id == "", self.cy.session_id)
        return f"protocol {MODERN}, no session"

    async def _listen(self) -> str:
        async with self.cy.client.listen(resource_subscriptions=[OPEN_ORDERS]) as changes:
            changed, told = await self._until_elsewhere(lambda: self._change(changes))
        return f"{OPEN_ORDERS} changed by {changed}, told by {told}" if changed else "changed and told"

    async def _change(self, changes: Subscription) -> Served:
        """Have Bob change something, and have Cy be notified of it."""
        await self._bob.call("place_order", item="jug")
        change = await anext(changes)
        expect(change == ResourceUpdated(OPEN_ORDERS), change)
        self._guide.report.delivered += 1
        return _instance(self._bob.last("tools/call")), _instance(self.cy.last("subscriptions/listen"))

    async def _cancel(self) -> str:
        asked, answered = await self._until_elsewhere(self._cancel_one)
        by = f" Asked by {asked}, answered to {answered}" if asked else ""
        return f"{self.cy.questions[-1]} Cancelled.{by}"

    async def _cancel_one(self) -> Served:
        """Have Cy cancel an order: the question is the result of a call, and a second call has the answer."""
        order = (await self._bob.call("place_order", item="mug"))["id"]
        before = len(self.cy.all("tools/call"))
        told = await self.cy.call("cancel_order", order_id=order)
        expect(told == f"Order {order} is cancelled.", told)
        expect(self.cy.questions[-1] == "Cancel 1 of mug?", self.cy.questions)
        calls = self.cy.all("tools/call")[before:]
        expect(len(calls) == CALLS, calls)
        return _instance(calls[0]), _instance(calls[1])

    async def _until_elsewhere(self, act: Callable[[], Awaitable[Served]]) -> Served:
        """Repeat something until different instances have served its two requests; return these instances."""
        served: Served = None, None
        for _ in range(TRIES):
            served = await act()
            if served[0] is None or served[0] != served[1]:
                return served
        expect(len(self._guide.report.instances) <= 1, f"{TRIES} times both by {served[0]}")
        return served


def _instance(request: Request | None) -> str | None:
    return request.instance if request is not None else None
