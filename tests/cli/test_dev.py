from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from mcp import Client

from tests.cli.support import APP, command, ended, lines, lives, until
from tests.support import web

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SERVER = """\
from mcp.server import MCPServer

server = MCPServer("here")

@server.tool()
def add(a: int, b: int) -> int:
    return a + b
"""
HANDLER = f"{SERVER}\nfrom tmcp_serverless import create_handler\nhandler = create_handler(server)\n"
NO_AWS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_CONFIG_FILE": "/nope",
}
NOWHERE = "postgresql://user:secret@db.example/orders"


@contextmanager
def running(
    *arguments: str, folder: Path | None = None, **env: str
) -> Generator[tuple[subprocess.Popen[str], str]]:
    """`tmcp-serverless dev` on a free port, and what it has printed when it listens."""
    process = command("dev", *arguments, "--port", "0", folder=folder, **env)
    try:
        assert process.stdout is not None
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, f"it ended: {process.communicate()}"
            printed += line
        yield process, printed
    finally:
        process.kill()
        process.communicate()


def address(printed: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", printed)
    assert found is not None
    return found[0]


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """End the command, and return its exit code and what was written meanwhile, instances' included."""
    begun = time.monotonic()
    process.send_signal(number)
    code, output, errors = ended(process)
    assert time.monotonic() - begun < 5
    return code, output + errors


async def test_it_prints_how_to_connect_and_serves_from_all_instances(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SERVER)
    with running("mine.py:server", "-n", "2", folder=tmp_path) as (process, printed):
        url = f"{address(printed)}/mcp"
        assert f"npx @modelcontextprotocol/inspector   (transport: Streamable HTTP, URL: {url})" in printed
        assert f'async with Client("{url}", mode="legacy") as client:' in printed
        assert "PostgreSQL" in printed
        assert "from 2 processes" in printed
        async with Client(url, mode="legacy") as client:
            for _ in range(3):
                result = await client.call_tool("add", {"a": 1, "b": 2})
                assert result.structured_content == {"result": 3}
        assert end(process, signal.SIGINT)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("amnesia", [(), ("--amnesia",)])
def test_ctrl_c_and_sigterm_end_everything(
    number: signal.Signals, amnesia: tuple[str, ...], tmp_path: Path
) -> None:
    with running(APP, *amnesia, "--database-url", NOWHERE) as (process, printed):
        url = address(printed)
        pid = web.get(url).json()["pid"]
        with web.stream("GET", f"{url}/stream", params={"file": str(tmp_path / "x")}) as response:
            assert next(response.iter_text()) == "data: first\n\n"
            assert end(process, number) == (0, "\nStopping.\n")
        assert not lives(pid)


@pytest.mark.parametrize("amnesia", [(), ("--amnesia",)])
def test_ctrl_c_waits_for_what_has_to_be_ended_by_force(
    amnesia: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setenv("TRACE", str(trace))
    with ThreadPoolExecutor() as pool:
        with running(APP, *amnesia, "--database-url", NOWHERE) as (process, printed):
            asked = pool.submit(web.get, f"{address(printed)}/block", timeout=60)
            [pid] = until(lambda: [line.split()[1] for line in lines(trace) if line.startswith("blocked")])
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
            assert not lives(int(pid)), "the command itself has ended; its output may be open for longer"
        assert isinstance(asked.exception(), httpx.TransportError)


def test_a_database_of_its_own_goes_with_it() -> None:
    with running(APP) as (process, printed):
        assert "No database given: using a PostgreSQL" in printed
        env = web.get(address(printed), params={"TMCP_DATABASE_URL": ""}).json()["env"]
        port = int(env["TMCP_DATABASE_URL"].rpartition(":")[2].partition("/")[0])
        socket.create_connection(("127.0.0.1", port)).close()
        end(process, signal.SIGTERM)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


OTHERS = {"TMCP_DATABASE_NAME": "x", "TMCP_LISTEN_URL": NOWHERE, "TMCP_DATABASE_TLS_CA": "/nope"}


def test_what_the_shell_says_of_other_databases_is_not_mixed_with_one_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HANDLER)
    with running("mine:handler", folder=tmp_path, **OTHERS) as (_, printed):
        assert "No database given: using a PostgreSQL" in printed
        ready = web.get(f"{address(printed)}/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


def test_a_database_that_only_a_secret_names_is_used(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HANDLER)
    secret = {"TMCP_DATABASE_SECRET": "prod/orders", "TMCP_DATABASE_URL": ""}
    process = command("dev", "mine:handler", "--port", "0", folder=tmp_path, **NO_AWS, **secret)
    code, output, errors = ended(process)
    assert (code, output) == (2, "")
    assert errors.startswith("Error: TMCP_DATABASE_SECRET: the secret cannot be read: ")


def test_a_database_that_is_given_is_not_mixed_with_what_the_shell_says_of_others(tmp_path: Path) -> None:
    others = {"TMCP_DATABASE_SECRET": "x", "TMCP_DATABASE_NAME": "x", "TMCP_LISTEN_URL": NOWHERE}
    with running(APP, "--database-url", NOWHERE, folder=tmp_path, **others) as (_, printed):
        asked = dict.fromkeys(("TMCP_DATABASE_URL", *others), "")
        env = web.get(address(printed), params=asked).json()["env"]
    assert {name: value for name, value in env.items() if value} == {"TMCP_DATABASE_URL": NOWHERE}


def test_a_database_that_cannot_be_is_told_before_anything_is_announced() -> None:
    code, output, errors = ended(command("dev", APP, "--port", "0", "--database-url", "garbage"))
    assert (code, output) == (2, "")
    assert errors.startswith("Error: --database-url: it is not a Postgres connection string")


def test_a_database_that_is_out_of_reach_is_told_and_may_come_later() -> None:
    with running(APP, "--database-url", "postgresql://u:secret@127.0.0.1:1/x") as (_, printed):
        assert "Database: 127.0.0.1\nIt is out of reach for now: " in printed
        assert "secret" not in printed


@pytest.mark.parametrize("amnesia", [(), ("--amnesia",)])
def test_the_path_that_the_handler_has_is_the_one_that_is_announced(
    amnesia: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(HANDLER.replace("(server)", "(server, path='/tools')"))
    with running("mine:handler", *amnesia, "--database-url", NOWHERE, folder=tmp_path) as (_, printed):
        assert f'Client("{address(printed)}/tools", mode="legacy")' in printed


@pytest.mark.parametrize("amnesia", [(), ("--amnesia",)])
async def test_the_path_can_be_told(amnesia: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SERVER)
    with running("mine:server", *amnesia, "--path", "/tools", folder=tmp_path) as (_, printed):
        url = f"{address(printed)}/tools"
        assert f'Client("{url}", mode="legacy")' in printed
        async with Client(url, mode="legacy") as client:
            assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}


OUTER = """
from fastapi import FastAPI
from tmcp_serverless import create_handler

handler = create_handler(server)
outer = FastAPI(lifespan=handler.lifespan)
outer.mount("/api", handler.app)
"""


async def test_the_endpoint_of_a_mounted_handler_is_announced(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SERVER + OUTER)
    with running("mine:outer", folder=tmp_path) as (_, printed):
        url = f"{address(printed)}/api/mcp"
        assert f'Client("{url}", mode="legacy")' in printed
        async with Client(url, mode="legacy") as client:
            assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {"result": 3}


@pytest.mark.parametrize(
    "option",
    [("--timeout", "5"), ("--sandboxes", "2"), ("--front-door", "rest-api"), ("--exec-wrapper", "x")],
)
def test_what_goes_with_lambda_is_refused_without_it(option: tuple[str, str]) -> None:
    assert ended(command("dev", APP, *option)) == (2, "", f"Error: {option[0]} goes with --lambda.\n")


@pytest.mark.parametrize("on_lambda", [(), ("--lambda",)])
def test_a_page_whose_own_name_leads_here_is_refused(on_lambda: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        f"{SERVER}\nfrom tmcp_serverless import create_handler\nhandler = create_handler(server)\n"
    )
    with running("mine:handler", *on_lambda, "--database-url", NOWHERE, folder=tmp_path) as (_, printed):
        url = f"{address(printed)}/mcp"
        page = {"host": "evil.example", "origin": "http://evil.example"}
        assert web.post(url, headers=page, json={}).status_code == 403
        own = {"host": "localhost:8000", "origin": "http://localhost:8000"}
        assert web.post(url, headers=own, json={}).status_code != 403


def test_a_given_database_is_passed_on_and_its_password_is_not_printed() -> None:
    with running(APP, "--database-url", NOWHERE) as (_, printed):
        env = web.get(address(printed), params={"TMCP_DATABASE_URL": ""}).json()["env"]
        assert env == {"TMCP_DATABASE_URL": NOWHERE}
        assert "Database: db.example\n" in printed
        assert "secret" not in printed


def test_amnesia_is_said_and_done() -> None:
    with running(APP, "--amnesia", "--database-url", NOWHERE) as (_, printed):
        assert "every request in a process of its own" in printed
        assert len({web.get(address(printed)).json()["pid"] for _ in range(3)}) == 3


def test_verbose_logs_requests() -> None:
    with running(APP, "--verbose", "--database-url", NOWHERE) as (process, printed):
        web.get(address(printed))
        assert '"GET / HTTP/1.1" 200' in end(process, signal.SIGTERM)[1]


def test_an_instance_that_died_is_said() -> None:
    with running(APP, "--database-url", NOWHERE) as (process, printed):
        with pytest.raises(httpx.RemoteProtocolError):
            web.get(f"{address(printed)}/crash")
        assert until(lambda: web.get(address(printed)).json()["pid"])
        said = end(process, signal.SIGTERM)[1]
        assert "Instance 1 has ended (exit code 3); starting another." in said


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = ended(command("dev", APP, "--port", str(port)))
    assert result == (2, "", f"Error: Port {port} on 127.0.0.1 is in use; choose another with --port.\n")


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("app", "'app' is not MODULE:ATTR, such as `app:server` or `examples/orders.py:server`."),
        ("no.py:server", "There is no file no.py in {folder}."),
        ("no_such:server", "There is no module 'no_such' in {folder} or installed."),
        ("mine:other", "mine has no 'other'; did you mean server?"),
    ],
)
def test_what_is_not_there_is_one_sentence(target: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SERVER)
    code, _, errors = ended(command("dev", target, "--port", "0", folder=tmp_path, TMCP_DATABASE_URL=NOWHERE))
    assert (code, errors) == (2, f"Error: {sentence.format(folder=tmp_path)}\n")


def test_an_import_that_fails_shows_where(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("server = 1 / 0\n")
    process = command("dev", "broken:server", "--port", "0", folder=tmp_path, TMCP_DATABASE_URL=NOWHERE)
    code, _, errors = ended(process)
    assert code == 2
    assert 'broken.py", line 1, in <module>' in errors
    assert errors.endswith("Error: broken could not be imported: ZeroDivisionError: division by zero\n")


def test_without_click_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None; from tmcp_serverless.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "The command line needs click: run `pip install 'tmcp-serverless[cli]'`.\n",
    )


@pytest.mark.parametrize("arguments", [("--help",), ("dev", "--help"), ("migrate", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = (
        "import atexit, sys; from tmcp_serverless.cli import main\n"
        "heavy = {'asyncpg', 'mcp', 'pydantic', 'uvicorn'}\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(heavy & set(sys.modules))))\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: tmcp-serverless")
