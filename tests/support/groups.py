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

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Mark before xdist reads the marks."""
        for item in items:
            if item.get_closest_marker("xdist_group") is None and (name := _group(item)):
                item.add_marker(pytest.mark.xdist_group(name))


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
