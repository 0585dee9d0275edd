from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from tests.cli import app as application
from tests.cli.support import APP
from tmcp_serverless import create_handler
from tmcp_serverless.dev.loading import LoadError, is_asgi, load, parse

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with everything that an import leaves behind undone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def error_of(text: str) -> str:
    with pytest.raises(LoadError) as caught:
        load(parse(text))
    return str(caught.value)


@pytest.mark.parametrize("text", ["app", "app:", ":app", ""])
def test_what_is_not_module_and_attribute_is_refused(text: str) -> None:
    with pytest.raises(LoadError, match="is not MODULE:ATTR, such as `app:server`"):
        parse(text)


def test_a_file_in_a_package_is_the_module_of_that_package() -> None:
    assert load(parse(APP)) is application.app
    assert load(parse("tests.cli.app:app")) is application.app


def test_a_module_is_found_where_we_are(folder: Path) -> None:
    (folder / "here.py").write_text("async def app(scope, receive, send): ...\n")
    assert is_asgi(load(parse("here:app")))


def test_a_file_finds_the_modules_beside_it_and_where_we_are(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "common_here.py").write_text("async def one(scope, receive, send): ...\n")
    (folder / "inner" / "beside.py").write_text("class Holder:\n    from common_here import one as app\n")
    (folder / "inner" / "my-server.py").write_text("from beside import Holder as holder\n")
    assert is_asgi(load(parse("inner/my-server.py:holder.app")))


def test_a_file_is_not_taken_for_a_module_of_the_same_name(folder: Path) -> None:
    (folder / "json.py").write_text("app = 1\n")
    assert error_of("json.py:app") == "json.py has the name of another module, 'json'; rename the file."


def test_what_is_not_there_is_one_sentence(folder: Path) -> None:
    (folder / "here.py").write_text(
        "import json\nfrom mcp.server import MCPServer\n"
        "text, server = 'x', MCPServer('x')\ndef helper(): ...\nasync def app(scope, receive, send): ...\n"
    )
    assert error_of("there.py:server") == f"There is no file there.py in {folder}."
    assert error_of("there:server") == f"There is no module 'there' in {folder} or installed."
    assert error_of("json.there:x") == f"There is no module 'json.there' in {folder} or installed."
    assert error_of("here:other") == "here has no 'other'; did you mean server or app?"
    assert error_of("json:other") == "json has no 'other'."


def test_an_import_that_fails_keeps_its_cause(folder: Path) -> None:
    (folder / "broken.py").write_text("import not_installed_here\n")
    with pytest.raises(LoadError, match="broken could not be imported: ModuleNotFoundError") as caught:
        load(parse("broken:server"))
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_server_gets_a_handler_and_a_handler_is_taken_as_it_is(folder: Path) -> None:
    (folder / "served.py").write_text(
        "from mcp.server import MCPServer\nfrom tmcp_serverless import create_handler\n"
        "server = MCPServer('x')\nhandler = create_handler(server)\n"
    )
    handler = load(parse("served:handler"))
    assert is_asgi(handler)
    assert handler is sys.modules["served"].handler.app
    assert type(load(parse("served:server"))) is type(handler)


def test_what_is_no_server_is_one_sentence(folder: Path) -> None:
    (folder / "wrong.py").write_text("text = 'x'\n")
    assert error_of("wrong:text").startswith("wrong:text cannot be served: ")


class _Endpoint:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def method(self, scope: Any, receive: Any, send: Any) -> None: ...


def test_asgi_is_told_by_its_shape() -> None:
    server = MCPServer("x")
    starlette = Starlette()
    for yes in (application.app, _Endpoint(), _Endpoint().method, starlette, CORSMiddleware(starlette)):
        assert is_asgi(yes), yes
    for no in (server, create_handler(server), _Endpoint, application.note, None, "app", print):
        assert not is_asgi(no), no
