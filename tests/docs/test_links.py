"""Documents: every relative link, heading and path in them exists."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
MADE_ELSEWHERE = {
    "app.py",  # the reader's own
    "tests/conformance/node_modules",  # npm makes it
    "dist/sbom.cdx.json",  # `make sbom` writes it
    "checks.json",  # the conformance suite writes it for each scenario
}
"""Names of files that are not in the repository."""

FENCE = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ (.+)$", flags=re.MULTILINE)
FILE = re.compile(r"[\w.-]+(/[\w.-]+)*\.(py|md|sql|toml|json|ya?ml|svg|mjs|ts)")
FOLDER = re.compile(r"([\w.-]+/)+")


@cache
def tracked() -> frozenset[str]:
    """Return the repository's files, and their folders with a slash at the end."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    files = [each for each in listed if each and (ROOT / each).exists()]
    folders = {f"{parent}/" for each in files for parent in PurePosixPath(each).parents if parent.name}
    return frozenset(files) | folders


tracked()  # When it is collected: then no test starts a process.


def anchors(document: Path) -> set[str]:
    headings = HEADING.findall(FENCE.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    links = [link for link in LINK.findall(FENCE.sub("", document.read_text())) if "://" not in link]
    return [link for link in links if not leads_somewhere(document, link)]


def leads_somewhere(document: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    if not target.exists():
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target)


def missing_paths(document: Path) -> list[str]:
    code = CODE.findall(FENCE.sub("", document.read_text()))
    paths = [each for each in code if FILE.fullmatch(each) or FOLDER.fullmatch(each)]
    return [path for path in paths if path not in MADE_ELSEWHERE and not is_there(path)]


def is_there(path: str) -> bool:
    """Find a path from the root, or one that ends so: `pool.py` is enough beside the name of its folder."""
    return any(each == path or each.endswith(f"/{path}") for each in tracked())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    assert broken_links(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_in_a_document_is_in_the_repository(document: Path) -> None:
    assert missing_paths(document) == []


def test_a_broken_link_and_a_missing_path_are_found(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "# A heading\n[a](#a-heading) [b](#another) [c](nowhere.md) [d](https://example.com/)\n"
        "`pool.py` `nowhere.py` `docs/` `nowhere/` `handler.app`\n```\n[e](code.md) `code.py`\n```\n"
    )
    assert broken_links(document) == ["#another", "nowhere.md"]
    assert missing_paths(document) == ["nowhere.py", "nowhere/"]


def test_every_document_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall((ROOT / "README.md").read_text())}
    assert {str(each.relative_to(ROOT)) for each in DOCUMENTS} - linked == {"README.md"}
