"""The supply chain: pinned versions, and the wheel in an environment that has nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from local import supply
from local.sam import UnavailableError
from tests.deploy import dockerfile

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tmcp_serverless"
LIMIT_SECONDS = 100
EXACT = re.compile(r"(npm:@?[\w/-]+@)?\d+(\.\d+)+([-.]\w+)*")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it."""
    try:
        return supply.build(tmp_path_factory.mktemp("dist"))
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def programs(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel in it."""
    try:
        return supply.installed(built[1], tmp_path_factory.mktemp("clean") / "environment")
    except UnavailableError as error:
        pytest.skip(str(error))


def locked() -> dict[str, Requirement]:
    lines = [line for line in supply.LOCK.read_text().splitlines() if not line.startswith("#")]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each for each in found}


def wanted() -> Iterator[Requirement]:
    """Yield what pyproject.toml names, extras of its own left out."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]:
        requirement = Requirement(line)
        if requirement.name != project["name"]:
            yield requirement


def version_of(requirement: Requirement) -> str:
    [specifier] = requirement.specifier
    assert specifier.operator == "==", requirement
    return specifier.version


def test_every_dependency_is_locked_to_a_version_that_is_allowed() -> None:
    versions = {name: version_of(each) for name, each in locked().items()}
    problems = [
        str(each)
        for each in wanted()
        if not each.specifier.contains(versions.get(canonicalize_name(each.name), "0"), prereleases=True)
    ]
    assert problems == [], "run `make lock`"


def test_npm_packages_have_exact_versions_and_checksums() -> None:
    folders = [
        path.parent for path in (ROOT / "tests").rglob("package.json") if "node_modules" not in path.parts
    ]
    assert len(folders) >= 3
    for folder in folders:
        named = json.loads((folder / "package.json").read_text())["dependencies"]
        packages = json.loads((folder / "package-lock.json").read_text())["packages"]
        assert all(EXACT.fullmatch(version) for version in named.values()), named
        assert packages[""]["dependencies"] == named
        assert [name for name, each in packages.items() if name and "integrity" not in each] == []


def test_the_images_base_has_one_version() -> None:
    bases = {stage.image.partition(" AS ")[0] for stage in dockerfile.read(ROOT / "Dockerfile")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim", bases.pop())


def test_the_wheel_has_every_file_of_the_package(built: tuple[Path, Path]) -> None:
    source, wheel = built
    files = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
        wrapper = archive.getinfo("tmcp_serverless/hosts/lambda-streaming")
    assert packed == files
    assert {"tmcp_serverless/py.typed", "tmcp_serverless/postgres/sql/streams.sql"} <= packed
    assert wrapper.external_attr >> 16 & 0o111 == 0o111, "Lambda executes it"
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*files, "LICENSE", "README.md", "pyproject.toml"} <= names


def test_the_wheel_works_with_what_it_names_alone(programs: Path, tmp_path: Path) -> None:
    code = (
        "import tmcp_serverless, pathlib; print(pathlib.Path(tmcp_serverless.__file__).parent);"
        "[getattr(tmcp_serverless, name) for name in tmcp_serverless.__all__]"
    )
    imported = run(programs / "python", "-P", "-c", code, folder=tmp_path)
    assert programs.parent in Path(imported.strip()).parents
    assert "migrate" in run(programs / "tmcp-serverless", "--help", folder=tmp_path)
    assert run(programs / "pip", "check", folder=tmp_path) == "No broken requirements found.\n"


def test_the_bill_of_materials_names_what_is_installed(programs: Path, tmp_path: Path) -> None:
    target = tmp_path / "sbom" / "sbom.cdx.json"
    try:
        supply.sbom(programs, target)
    except UnavailableError as error:
        pytest.skip(str(error))
    document = json.loads(target.read_text())
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["name"] == "tmcp-serverless"
    freeze = run(programs / "pip", "freeze", folder=tmp_path).splitlines()
    listed = {f"{canonicalize_name(each['name'])}=={each['version']}" for each in document["components"]}
    installed = {line for line in freeze if "==" in line}
    assert {
        f"{canonicalize_name(Requirement(line).name)}=={version_of(Requirement(line))}" for line in installed
    } <= listed
    assert {line.partition("==")[0] for line in listed} >= {"asyncpg", "mcp", "uvicorn", "click"}


def run(*command: str | Path, folder: Path) -> str:
    return subprocess.run(
        [*map(str, command)], cwd=folder, capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS
    ).stdout
