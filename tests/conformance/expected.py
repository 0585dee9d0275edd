"""What makes a leg complete: how much has to pass, what has to have been seen, and what may fail, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.suite import Run

__all__ = ["EXCEPTIONS", "PASSED", "complaints", "exceptions"]

PASSED = {
    "2025-03-26": 3,
    "2025-06-18": 56,
    "2025-11-25": 83,
    "2026-07-28": 152,
    "requirements 2025-11-25": 83,
    "requirements 2026-07-28": 152,
    "0.1.16": 46,
}
"""How many checks of a leg pass at least.

An answer that has nothing to stream is one JSON body. Were it streamed, the suite would find one more thing
to check at 2025-11-25.
"""

EXCEPTIONS: Mapping[str, Mapping[str, str]] = {"amnesia": {}}
"""What cannot pass in a setting, as `scenario:check`, and the reason.

With amnesia there is none. A tool that outlives its own response (`server-sse-polling`: it closes the
client's connection, and answers later) runs in a process that ends when the tool has. What it says then is in
the request's journal, where the client finds it through another process.
"""

_LIFECYCLE = {
    "server-session-initialized-accepted",
    "server-session-delete-accepted",
    "server-session-terminated-returns-404",
}
_INITIALIZE = {"server-initialize"}
_SESSION_ID = {"server-session-id-visible-ascii"}
_POLLING = {"server-sse-priming-event", "server-sse-retry-field", "server-sse-disconnect-resume"}
_STREAMS = {"server-accepts-multiple-post-streams"}

_SEEN: Mapping[str, set[str]] = {
    "2025-03-26": _LIFECYCLE,
    "2025-06-18": _LIFECYCLE | _INITIALIZE | _SESSION_ID,
    "2025-11-25": _LIFECYCLE | _INITIALIZE | _SESSION_ID | _POLLING | _STREAMS,
    "2026-07-28": _STREAMS,
    "requirements 2025-11-25": _LIFECYCLE | _INITIALIZE | _SESSION_ID | _POLLING | _STREAMS,
    "requirements 2026-07-28": _STREAMS,
    "0.1.16": _INITIALIZE | _POLLING | _STREAMS,
}
"""What a server without sessions is let off with, and has to be SUCCESS here."""


def exceptions(setting: str) -> Mapping[str, str]:
    """Return what may fail in the setting, and why."""
    return EXCEPTIONS.get(setting, {})


def complaints(run: Run, setting: str) -> list[str]:
    """Return what keeps a leg from being complete, a sentence each."""
    excepted = exceptions(setting)
    bad = [check for check in run.checks if check.status in ("FAILURE", "WARNING")]
    good = [check for check in run.checks if check.status == "SUCCESS"]
    found = [f"{check.name}: {check.status}: {check.message}" for check in bad if check.name not in excepted]
    found += [f"{check.name}: is excepted, and passed" for check in good if check.name in excepted]
    missing = _SEEN[run.leg.name] - {check.id for check in good}
    found += [f"{id}: has not been seen to succeed" for id in sorted(missing - _ids(excepted))]
    wanted = PASSED[run.leg.name] - sum(check.name in excepted for check in bad)
    if len(good) < wanted:
        found.append(f"{len(good)} checks passed, and {wanted} have to")
    return found + _status_complaints(run, is_expected=any(check.name in excepted for check in bad))


def _status_complaints(run: Run, *, is_expected: bool) -> list[str]:
    """Return what is wrong with the suite's exit status, which is 1 where something excepted has failed."""
    if run.status is None:
        return ["the suite took too long, and was ended"]
    if run.status != (1 if is_expected else 0):
        return [f"the suite's exit status is {run.status}: {run.last_line}"]
    return []


def _ids(names: Mapping[str, str]) -> set[str]:
    return {name.partition(":")[2] for name in names}
