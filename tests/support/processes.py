"""Tests that start a process of their own, found while they run.

`--quick` leaves them out, as it does what needs a database or is marked as slow.
`tests/durations.json` holds their names. Under `--quick` a test that is not among them and starts a process
fails. The server and the databases that all tests share do not count.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["PROPERTY", "Processes", "function_of", "serving_everybody"]

PROPERTY = "starts a process"
"""A report with this property is that of a test that starts one."""

_DATABASES = frozenset({"postgres_url", "each_database_url", "own_postgres"})
_EVENTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"})

_started: list[str] = []
_ignored: list[bool] = []


@contextmanager
def serving_everybody() -> Generator[None]:
    """Processes that are started in here belong to no test."""
    _ignored.append(True)
    try:
        yield
    finally:
        _ignored.pop()


def function_of(nodeid: str) -> str:
    """Return a test's name without its parameters and its group."""
    return nodeid.partition("[")[0].partition("@")[0]


class Processes:
    """A pytest plugin."""

    def __init__(self, *, quick: bool, recorded: frozenset[str]) -> None:
        self._quick = quick
        self._recorded = recorded
        self._starters: dict[int, str] = {}
        # Python has no way to remove a hook: it stays for the life of the process.
        sys.addaudithook(_hear)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what starts a process, needs a database, or is slow, where that is asked for."""
        if self._quick:
            kept = [item for item in items if self._is_quick(item)]
            left_out = set(items) - set(kept)
            config.hook.pytest_deselected(items=[item for item in items if item in left_out])
            items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Generator[None, Any, Any]:
        """Count from here."""
        _started.clear()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        """Remember a fixture that starts one, for the tests that find it started."""
        before = len(_started)
        result = yield
        if len(_started) > before:
            self._starters[id(fixturedef)] = _started[before]
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: Any, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Report a test that starts one, and fail it where there shall be none."""
        report = yield
        found = self._found(item) if call.when == "teardown" else None
        if found:
            report.user_properties.append((PROPERTY, found))
            if self._quick:
                report.outcome = "failed"
                report.longrepr = f"starts a process ({found}): `make durations` records that"
        return report

    def _is_quick(self, item: Any) -> bool:
        needs_database = not _DATABASES.isdisjoint(item.fixturenames)
        is_slow = item.get_closest_marker("slow") is not None
        return not (needs_database or is_slow or function_of(item.nodeid) in self._recorded)

    def _found(self, item: Any) -> str | None:
        definitions = item._fixtureinfo.name2fixturedefs.values()
        inherited = [self._starters[id(each[-1])] for each in definitions if id(each[-1]) in self._starters]
        return next(iter([*inherited, *_started]), None)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS and not _ignored:
        _started.append(f"{event}, {str(arguments[0] if arguments else '')[:100]}")
