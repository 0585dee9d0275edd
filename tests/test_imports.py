"""What importing costs, and that the public names are what they say."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import tmcp_serverless

HEAVY = ["asyncpg", "mcp", "mcp_types", "boto3", "mangum", "starlette", "uvicorn", "aws_lambda_powertools"]


def modules_after(code: str, *arguments: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    finished = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return set(finished.stdout.split())


def test_importing_the_package_imports_no_driver_no_sdk_and_no_cloud_library() -> None:
    assert not modules_after("import tmcp_serverless") & set(HEAVY)


def test_making_a_handler_imports_no_sdk() -> None:
    code = (
        "from tests.support.stand_in import STAND_IN\n"
        "from tmcp_serverless import create_handler\n"
        "create_handler(STAND_IN, database_url='postgresql://nowhere.invalid/x')"
    )
    assert not modules_after(code) & {"mcp", "mcp_types", "boto3", "mangum", "uvicorn"}


def test_the_loop_that_streams_on_lambda_imports_no_web_framework_and_no_cloud_library() -> None:
    heavy = {*HEAVY, "anyio", "click", "httpx"}
    assert not modules_after("import tmcp_serverless.hosts.lambda_streaming.__main__") & heavy


def test_the_transports_do_not_import_the_database() -> None:
    assert not modules_after("import tmcp_serverless.handshake, tmcp_serverless.modern") & {
        "asyncpg",
        "tmcp_serverless.postgres",
    }


@pytest.mark.parametrize("name", tmcp_serverless.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(tmcp_serverless, name)
    assert thing.__doc__
    # A dataclass without one is given its signature.
    assert not thing.__doc__.startswith(f"{name}(")


def test_the_public_names_are_those_that_have_a_home() -> None:
    homes = tmcp_serverless._HOMES.values()  # pyright: ignore[reportPrivateUsage]
    assert sorted(tmcp_serverless.__all__) == sorted(
        ["__version__", *(name for names in homes for name in names)]
    )
    assert dir(tmcp_serverless) == sorted(tmcp_serverless.__all__)


def test_the_version_is_that_of_the_package() -> None:
    assert tmcp_serverless.__version__ == importlib.metadata.version("tmcp-serverless")


def test_the_command_line_is_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tmcp_serverless", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"tmcp-serverless, version {tmcp_serverless.__version__}\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tmcp_serverless.nothing  # type: ignore[attr-defined]


WITHOUT_THE_SDK = """\
import asyncio
from tests.support.client import Client
from tests.support.stand_in import STAND_IN
from tmcp_serverless import create_handler
from tmcp_serverless.http.platform import PLATFORM_EXTENSION, Platform

async def main():
    handler = create_handler(STAND_IN, database_url=sys.argv[1], buffered_wait_seconds=0.1)
    client = Client(handler.app, scope={{"extensions": {{PLATFORM_EXTENSION: Platform(streams=False)}}}})
    client.session = "s"
    async with client.send({request}) as exchange:
        await exchange.whole()
    assert exchange.status == {status}, exchange.status
    await handler.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ('"GET"', 200),
        ('"DELETE"', 200),
        ('"POST", {"jsonrpc": "2.0", "id": "r1.0123456789abcdef01234567", "result": {}}', 202),
    ],
    ids=["GET", "DELETE", "answer"],
)
async def test_a_get_a_delete_and_an_answer_import_no_sdk(
    request_: str, status: int, database_url: str
) -> None:
    async with tmcp_serverless.PostgresInfoSessionManager(database_url) as info:
        record = tmcp_serverless.SessionRecord(
            protocol_version="2025-11-25", client_info={"name": "c", "version": "1"}, client_capabilities={}
        )
        await info.initialize("s", record)
    loaded = modules_after(WITHOUT_THE_SDK.format(request=request_, status=status), database_url)
    assert not loaded & {"mcp", "mcp_types", "boto3", "botocore", "mangum", "aws_lambda_powertools"}
