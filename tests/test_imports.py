"""What importing costs, and that the public names are what they say."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tmcp_serverless

HEAVY = ["asyncpg", "mcp", "mcp_types", "boto3", "mangum", "starlette", "uvicorn", "aws_lambda_powertools"]


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(finished.stdout.split())


def test_importing_the_package_imports_no_driver_no_sdk_and_no_cloud_library() -> None:
    assert not modules_after("import tmcp_serverless") & set(HEAVY)


def test_making_a_handler_imports_no_sdk() -> None:
    code = (
        "from tmcp_serverless import create_handler\n"
        "create_handler(object(), database_url='postgresql://nowhere.invalid/x')"
    )
    assert not modules_after(code) & {"mcp", "mcp_types", "boto3", "mangum", "uvicorn"}


def test_the_transports_do_not_import_the_database() -> None:
    assert not modules_after("import tmcp_serverless.transports") & {"asyncpg", "tmcp_serverless.postgres"}


@pytest.mark.parametrize("name", tmcp_serverless.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(tmcp_serverless, name)
    assert thing.__doc__


def test_the_public_names_are_those_that_dir_shows() -> None:
    assert dir(tmcp_serverless) == sorted(tmcp_serverless.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tmcp_serverless.nothing  # type: ignore[attr-defined]
