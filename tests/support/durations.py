"""The order of the tests, and the time they take, by what each file took in the last whole run.

Quick files run first. Slow ones follow, the slowest of them first, so that all workers end together.
`tests/durations.json` holds the record. `pytest --record-durations` writes it anew after a run of every test.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import PROPERTY, function_of

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Durations", "read_record"]

_RECORD = Path(__file__).parents[1] / "durations.json"
_UNKNOWN_SECONDS = 1.0
"""The duration of a file that the record does not have."""

_QUICK_SECONDS = 5.0
_SHOWN = 10


def read_record() -> dict[str, Any]:
    """Return `seconds` by file, and the names of tests that start `processes`."""
    return json.loads(_RECORD.read_text()) if _RECORD.exists() else {"seconds": {}, "processes": []}


class Durations:
    """A pytest plugin."""

    def __init__(self, config: pytest.Config) -> None:
        self._recorded: dict[str, float] = read_record()["seconds"]
        self._tests_recorded: dict[str, int] = read_record().get("tests", {})
        self._seen: defaultdict[str, float] = defaultdict(float)
        self._slowest: defaultdict[str, float] = defaultdict(float)
        self._starters: set[str] = set()
        self._is_worker = hasattr(config, "workerinput")
        self._records = bool(config.getoption("--record-durations"))
        self._workers: int = config.getoption("numprocesses", None) or 1

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort files; within a file the order stays."""
        items.sort(key=lambda item: self._rank(_file(item.nodeid)))

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> str:
        """Tell about how long it takes."""
        return self._sentence([item.nodeid for item in items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Tell the same where workers have collected, once."""
        if node.gateway.id == "gw0":
            node.config.get_terminal_writer().line(self._sentence(ids))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test to its file's time and to its own."""
        self._seen[_file(report.nodeid)] += report.duration
        self._slowest[report.nodeid] += report.duration
        if PROPERTY in dict(report.user_properties):
            self._starters.add(function_of(report.nodeid))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the slowest tests, with what they need around them."""
        slowest = sorted(self._slowest.items(), key=lambda each: -each[1])[:_SHOWN]
        if len(self._slowest) > _SHOWN:
            terminalreporter.write_line(f"The slowest {len(slowest)} tests:")
            for nodeid, seconds in slowest:
                terminalreporter.write_line(f"{seconds:7.1f} s  {nodeid}")

    def pytest_sessionfinish(self) -> None:
        """Write the record, where that was asked for."""
        if self._records and self._seen and not self._is_worker:
            seconds = {file: round(each, 1) for file, each in sorted(self._seen.items())}
            tests: defaultdict[str, int] = defaultdict(int)
            for nodeid in self._slowest:
                tests[_file(nodeid)] += 1
            record = {
                "seconds": seconds,
                "tests": dict(sorted(tests.items())),
                "processes": sorted(self._starters),
            }
            _RECORD.write_text(json.dumps(record, indent=1) + "\n")

    def _rank(self, file: str) -> tuple[bool, float, str]:
        seconds = self._recorded.get(file, _UNKNOWN_SECONDS)
        is_slow = seconds > _QUICK_SECONDS
        return is_slow, -seconds if is_slow else seconds, file

    def _sentence(self, nodeids: list[str]) -> str:
        minutes = max(0.1, round(self._expected(nodeids) / self._workers / 60, 1))
        each = "one process" if self._workers == 1 else f"{self._workers} processes"
        return f"{len(nodeids)} tests in {each}: about {minutes:g} minutes on two quiet cores"

    def _expected(self, nodeids: Iterable[str]) -> float:
        """Return the seconds of these tests, each a share of its file's."""
        shares: dict[str, float] = {
            file: seconds / max(1, self._tests_recorded.get(file, 1))
            for file, seconds in self._recorded.items()
        }
        return sum(shares.get(_file(each), _UNKNOWN_SECONDS / 10) for each in nodeids)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
