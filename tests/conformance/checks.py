"""What the suite found, read from the `checks.json` of every scenario."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Check", "Status", "read_checks"]

Status: TypeAlias = Literal["SUCCESS", "FAILURE", "WARNING", "INFO", "SKIPPED"]

_FOLDER = re.compile(r"server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one scenario."""

    scenario: str
    id: str
    status: Status
    message: str = ""

    @property
    def name(self) -> str:
        """The check as the suite names it in a list of expected failures."""
        return f"{self.scenario}:{self.id}"


def read_checks(folder: Path) -> list[Check]:
    """Return the checks of all scenarios whose results are in the folder."""
    found: list[Check] = []
    for file in sorted(folder.glob("*/checks.json")):
        named = _FOLDER.fullmatch(file.parent.name)
        scenario = file.parent.name if named is None else named["scenario"]
        found += [
            Check(scenario, each["id"], each["status"], each.get("errorMessage") or "")
            for each in json.loads(file.read_text())
        ]
    return found
