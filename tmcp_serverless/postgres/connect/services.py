"""libpq's service files: named sets of keywords (postgresql.org/docs/current/libpq-pgservice.html)."""

from __future__ import annotations

import configparser
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["of_service"]


def of_service(name: str, file: str | None) -> dict[str, str]:
    """Return the keywords of a service.

    Raises:
        ValueError: No file has the service.

    """
    looked_at: list[str] = []
    for path in _places(file):
        sections = configparser.ConfigParser(interpolation=None)
        looked_at.append(str(path))
        try:
            sections.read_string(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, configparser.Error):
            continue
        if sections.has_section(name):
            return dict(sections[name])
    raise ValueError(f"service: there is none of that name in {', '.join(looked_at) or 'any file'}")


def _places(file: str | None) -> list[Path]:
    found: list[Path] = []
    if named := file or os.environ.get("PGSERVICEFILE"):
        found.append(Path(named))
    else:
        with suppress(RuntimeError):  # This account has no home.
            found.append(Path.home() / ".pg_service.conf")
    if (folder := os.environ.get("PGSYSCONFDIR")) and not file:
        found.append(Path(folder) / "pg_service.conf")
    return found
