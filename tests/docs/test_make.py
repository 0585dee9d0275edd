"""The targets of `make` that the documents name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z.][a-z.-]*):(?!=)", MAKEFILE, re.MULTILINE))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / ".ci" / "run",
]
SUPPOSED = {"README.md": 1, "CONTRIBUTING.md": 10}
"""At least so many does a page name."""


def named(page: Path) -> set[str]:
    """Return the targets that the code of a page names: at the beginning of a line, or in backquotes."""
    return set(re.findall(r"(?:^\s*|`)make (?:[A-Z]+=\S+ )?([a-z.][a-z.-]*)", page.read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_target_that_a_page_names_is_there(page: Path) -> None:
    assert named(page) - TARGETS == set()
    assert len(named(page)) >= SUPPOSED.get(page.name, 0)


def test_every_target_is_explained_and_makes_no_file_unless_it_is_one() -> None:
    explained = set(re.findall(r"^([a-z.-]+):.*## ", MAKEFILE, re.MULTILINE))
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert set(phony.split()) - explained == set()
    assert set(phony.split()) == {target for target in TARGETS if not target.startswith(".")}
