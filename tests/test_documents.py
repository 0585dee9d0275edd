"""The lists of rules and defects name tests that exist, in the files that they name, and leave no row out."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"

RULES = 93
DEFECTS = 63
ATTACKS = 40
NOT_YET = range(54, 64)
"""Rows without a test. A row that gets one leaves this range, and none enters it."""

_ALIAS = re.compile(r"`(\w+)` is `(?:tests/)?([\w/]+\.py)`")
_NAME = re.compile(
    r"(?:`(?:tests/)?(?P<path>[\w/]+\.py)`|\b(?P<alias>[a-z]+))?(?P<colon>: )?`(?P<test>test_\w+)`"
)


@cache
def functions(file: str) -> frozenset[str]:
    return frozenset(re.findall(r"^ *(?:async )?def (test_\w+)", place(file).read_text(), re.MULTILINE))


def place(file: str) -> Path:
    """Return the path of a file that is named from `tests/`, or from the root."""
    return TESTS / file if (TESTS / file).exists() else TESTS.parent / file


@cache
def everywhere() -> frozenset[str]:
    files = [path for path in TESTS.rglob("test_*.py") if "node_modules" not in path.parts]
    return frozenset().union(*(functions(str(path.relative_to(TESTS))) for path in files))


def named(text: str, aliases: dict[str, str]) -> list[tuple[str | None, str]]:
    """Return each test that a row names, with its file, which holds until the next one is named."""
    found: list[tuple[str | None, str]] = []
    file: str | None = None
    for match in _NAME.finditer(text):
        if match["colon"]:
            file = match["path"] or aliases.get(match["alias"] or "") or file
        found.append((file, match["test"]))
    return found


def rows(text: str) -> list[list[str]]:
    lines = [
        line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| #", "| rule"))
    ]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("name", ["defects.md", "protocol.md", "threat-model.md"])
def test_every_test_that_a_list_names_is_in_the_file_that_it_names(name: str) -> None:
    text = (DOCS / name).read_text()
    aliases = dict(_ALIAS.findall(text))
    missing = [
        f"{row[0]}: {test} is not in {file or 'any file'}"
        for row in rows(text)
        for file, test in named(row[-1], aliases)
        if test not in (functions(file) if file else everywhere())
    ]
    assert not missing


def test_every_defect_has_a_row_and_every_row_a_test_or_says_that_there_is_none_yet() -> None:
    listed = {int(row[0]): row[-1] for row in rows((DOCS / "defects.md").read_text())}
    assert list(listed) == list(range(1, DEFECTS + 1))
    assert [row for row, tests in listed.items() if not _NAME.search(tests)] == [*NOT_YET]
    assert all(listed[row] == "not yet" for row in NOT_YET)


def test_every_rule_of_the_protocol_names_a_test_or_whose_it_is() -> None:
    listed = rows((DOCS / "protocol.md").read_text())
    exempt = re.compile(r"client's|the same|no test: |[A-M]\d+|`\w+/\w+.*`")
    assert len(listed) >= RULES
    assert [row[0] for row in listed if "`test_" not in row[-1] and not exempt.search(row[-1])] == []


def test_every_attack_has_a_test_or_is_said_to_be_possible() -> None:
    listed = rows((DOCS / "threat-model.md").read_text())
    attacks = [row for row in listed if row[0] != "attack"]
    assert len(attacks) >= ATTACKS
    assert all(len(row) == 3 for row in attacks)
    assert [row[0] for row in attacks if not _NAME.search(row[-1]) and row[-1] != "none"] == []
