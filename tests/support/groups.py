"""Groups for pytest-xdist: tests that share something expensive run in one worker, and all others anywhere.

A group is a fixture of a wider scope than the function, with its parameter: a cluster, a server, a built zip.
A test with a mark `xdist_group` of its own keeps that. `--dist loadgroup` keeps them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Groups"]

_CHEAP = frozenset({"anyio_backend", "postgres_url", "databases", "sam_tool", "binary"})
"""Fixtures that each worker has for itself."""

_SCOPES = ("session", "package", "module", "class")
"""The widest first: a test that needs several expensive things follows this one."""


class Groups:
    """A pytest plugin."""

    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the mark, which xdist registers only where it is loaded."""
        config.addinivalue_line("markers", "xdist_group(name): tests that one worker runs")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[Any]) -> None:
        """Mark before xdist reads the marks, and give the test's id the group as a suffix, for its scheduler.

        xdist 3.8 does the latter by an attribute that pytest 9.2 does not have any more, and groups nothing.
        """
        is_grouped = bool(getattr(config.option, "loadgroup", False))
        for item in items:
            mark = item.get_closest_marker("xdist_group")
            name = mark.args[0] if mark else _group(item)
            if name and mark is None:
                item.add_marker(pytest.mark.xdist_group(name))
            if name and is_grouped and hasattr(item, "_id"):
                item._id = type(item._id).parse(f"{item.nodeid}@{name}")


def _group(item: Any) -> str | None:
    """Return the name of the test's group, `None` where it may run anywhere."""
    expensive = list(_expensive(item))
    for scope in _SCOPES:
        if mine := sorted(each[1:] for each in expensive if each[0] == scope):
            place = [] if scope == "session" else [item.nodeid.partition("::")[0]]
            return ":".join([*place, *(f"{name}{param}" for name, param in mine)])
    return None


def _expensive(item: Any) -> Iterable[tuple[str, str, str]]:
    """Yield scope, name and parameter of each expensive fixture of the test."""
    callspec = getattr(item, "callspec", None)
    indices: dict[str, int] = callspec.indices if callspec else {}
    for name, definitions in item._fixtureinfo.name2fixturedefs.items():
        fixture = definitions[-1]
        if fixture.scope in _SCOPES and fixture.baseid.startswith("tests") and name not in _CHEAP:
            yield fixture.scope, name, str(indices.get(name, ""))
