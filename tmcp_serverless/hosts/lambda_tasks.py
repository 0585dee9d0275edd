"""Lambda functions that serve no requests: sweeping on a schedule, and migrating before a release.

    sweep = "tmcp_serverless.hosts.lambda_tasks.sweep"      # a schedule of EventBridge
    migrate = "tmcp_serverless.hosts.lambda_tasks.migrate"  # invoked by hand, or a CloudFormation resource

Both take their settings from the environment, as the application does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tmcp_serverless import maintenance
from tmcp_serverless.config import Settings
from tmcp_serverless.errors import TmcpError

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["migrate", "sweep"]

logger = logging.getLogger(__name__)

_RESERVE_SECONDS = 5.0
"""The part of an invocation's time that is left for reporting the result."""

_LONGEST_SECONDS = 60.0
_RESOURCE = "tmcp-serverless-schema"


def sweep(event: Any, context: Any) -> dict[str, int | bool]:
    """Remove expired rows until there are none, and return their number: `{"removed": 12, "more": false}`.

    An event such as `{"limit": 1000}` bounds the rows of each kind, and the function's timeout bounds the
    time. `more` says that one of these has stopped the sweep, so that there may be more.

    Raises:
        TmcpError: The limit is no whole number above 0.
    """
    limit = None
    if isinstance(event, dict) and "limit" in event:
        limit = event["limit"]
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise TmcpError(f"the event's `limit` has to be a whole number above 0, not {limit!r}")
    seconds = _seconds_left(context)
    work = maintenance.sweep_database(Settings.load(), limit=limit, seconds=seconds)
    # The batch that has begun may end.
    removed, more = _run(work, seconds + _RESERVE_SECONDS / 2)
    return {"removed": removed, "more": more}


def migrate(event: Any, context: Any) -> dict[str, list[str]]:
    """Create or update the tables, and return the applied migrations: `{"applied": ["info_0001"]}`.

    As a custom resource of CloudFormation it also reports the result to CloudFormation. When the resource is
    deleted the tables stay.
    """
    resource: dict[str, Any] = event if isinstance(event, dict) and "ResponseURL" in event else {}
    applied: list[str] = []
    try:
        if resource.get("RequestType") != "Delete":
            applied = _run(maintenance.migrate(Settings.load()), _seconds_left(context))
    except Exception as error:
        if not resource:
            raise
        # CloudFormation waits for an hour if no reply comes, so any failure has to be reported.
        logger.exception("the migration failed")
        reason = str(error) if isinstance(error, (TmcpError, TimeoutError)) else type(error).__name__
        _tell(resource, "FAILED", reason or "it took too long", applied)
    else:
        if resource:
            _tell(resource, "SUCCESS", "", applied)
    return {"applied": applied}


def _seconds_left(context: Any) -> float:
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    if remaining is None:
        return _LONGEST_SECONDS
    return max(1.0, remaining() / 1000 - _RESERVE_SECONDS)


def _run(work: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """Run in a thread of its own: `asyncio.run` would take away the loop that Mangum serves requests on."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asyncio.wait_for(work, seconds)).result()


def _tell(resource: dict[str, Any], status: str, reason: str, applied: list[str]) -> None:
    """Answer a custom resource (CloudFormation, "Custom resource response objects")."""
    answer = {
        "Status": status,
        "Reason": reason[:1000] or "see the log",
        "PhysicalResourceId": resource.get("PhysicalResourceId") or _RESOURCE,
        "StackId": resource["StackId"],
        "RequestId": resource["RequestId"],
        "LogicalResourceId": resource["LogicalResourceId"],
        "Data": {"Applied": ", ".join(applied)},
    }
    url: str = resource["ResponseURL"]
    if not url.startswith("https://"):
        raise TmcpError("a custom resource's ResponseURL begins with https://")
    body = json.dumps(answer).encode()
    # No content type: the URL was signed without one.
    request = urllib.request.Request(url, data=body, method="PUT", headers={"content-type": ""})  # noqa: S310 - https
    with urllib.request.urlopen(request, timeout=_RESERVE_SECONDS):  # noqa: S310 - the same
        pass
