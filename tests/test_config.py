"""Settings: what is read from where, what is refused, and what the errors call it."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.servers import small_server
from tmcp_serverless import (
    ConfigurationError,
    InMemoryStreamSessionManager,
    Settings,
    SettingsOverrides,
    create_handler,
)
from tmcp_serverless.config import unknown_variables

if TYPE_CHECKING:
    from collections.abc import Callable

UNKNOWN: Any = {"allowed_host": "x"}
SSE_ADVICE = "change path, sse_path or message_path, or set disable_legacy_sse"
SOMEWHERE = "postgresql://nobody@db.example/orders"


def test_the_overrides_that_type_checkers_know_are_the_settings() -> None:
    assert SettingsOverrides.__annotations__.keys() == Settings.fields_by_name().keys()


def test_settings_that_are_made_do_not_read_the_environment_and_those_that_are_loaded_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMCP_DATABASE_URL", SOMEWHERE)
    assert Settings().database_url is None
    assert Settings.load().database_url == SOMEWHERE
    assert Settings.load(database_url="x").database_url == "x"


def test_settings_that_are_given_to_a_handler_are_all_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMCP_DATABASE_URL", SOMEWHERE)
    monkeypatch.setenv("TMCP_PATH", "/elsewhere")
    for settings in (
        Settings(),
        Settings.load(environment={"TMCP_REPLAY": "0"}),
        Settings().but(replay=False),
    ):
        handler = create_handler(small_server(), settings=settings, disable_sse=True)
        assert isinstance(handler.managers.streams, InMemoryStreamSessionManager)
        assert handler.app.path == "/mcp"
        assert create_handler(small_server(), settings=settings).app.path == "/mcp"
        assert create_handler(small_server(), session_manager=handler.managers).app.path == "/elsewhere"


def test_overrides_are_on_top_of_the_settings_that_are_given() -> None:
    settings = Settings(path="/a", session_idle_seconds=5).but(
        path="/b", allowed_hosts="a.example, b.example"
    )
    assert (settings.path, settings.session_idle_seconds) == ("/b", 5)
    assert settings.allowed_hosts == ("a.example", "b.example")
    with pytest.raises(ConfigurationError, match=r"^path: 'b' does not begin with a slash$"):
        settings.but(path="b")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Settings.model_validate({"allowed_host": "x"}),
        lambda: Settings(**UNKNOWN),
        lambda: Settings.load(**UNKNOWN),
        lambda: Settings().but(**UNKNOWN),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest_one(make: Callable[[], Settings]) -> None:
    sentence = r"^there is no setting 'allowed_host'; is allowed_hosts meant\?$"
    with pytest.raises(ConfigurationError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("path", "mcp", "'mcp' does not begin with a slash"),
        ("health_path", "healthz", "'healthz' does not begin with a slash"),
        ("ready_path", "readyz", "'readyz' does not begin with a slash"),
        ("health_path", "/mcp", "'/mcp' is where `path` leads already; change one"),
        ("ready_path", "/mcp/", "'/mcp/' is where `path` leads already; change one"),
        ("ready_path", "/healthz", "'/healthz' is where `health_path` leads already; change one"),
        (
            "sse_path",
            "/mcp",
            "'/mcp' is where `path` leads already; " + SSE_ADVICE,
        ),
        ("session_idle_seconds", "inf", "Input should be a finite number (got 'inf')"),
        ("stream_max_seconds", "1e15", "Input should be less than or equal to 3153600000 (got '1e15')"),
        ("defer_seconds", "nan", "Input should be a finite number (got 'nan')"),
        ("buffered_wait_seconds", "1e15", "Input should be less than or equal to 3153600000 (got '1e15')"),
        ("database_idle_seconds", "1e7", "Input should be less than or equal to 2147483 (got '1e7')"),
        *(
            (
                "allowed_hosts",
                host,
                f"'{host}' is no value of Host, such as `mcp.example.com` or `localhost:*`",
            )
            for host in ("https://x.com", "x.com/", "*", "*.x.com", "x.com:a")
        ),
        *(
            (
                "allowed_origins",
                origin,
                f"'{origin}' is no origin, such as `https://app.example.com`, or `*` for any",
            )
            for origin in ("x.com", "https://x.com/", "https://*.x.com", "https://")
        ),
        (
            "request_state_keys",
            "short",
            "a key has 32 bytes: python -c 'import secrets; print(secrets.token_hex(32))'",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_that_it_was_given_by(
    name: str, value: str, said: str
) -> None:
    variable = f"TMCP_{name.upper()}"
    with pytest.raises(ConfigurationError) as wrong:
        Settings.load(environment={variable: value})
    assert str(wrong.value) == f"{variable}: {said}"
    given: Any = {name: value}
    with pytest.raises(ConfigurationError) as wrong:
        Settings.load(environment={}, **given)
    assert str(wrong.value) == f"{name}: {said}"


def test_hosts_and_origins_of_every_form_pass() -> None:
    hosts = "mcp.example.com, localhost:*, 127.0.0.1:8000, [::1]:*, my_service"
    origins = "https://app.example.com, http://localhost:*, *, null, vscode-webview://1a2b, http://[::1]:80"
    settings = Settings(allowed_hosts=hosts, allowed_origins=origins)
    assert (len(settings.allowed_hosts), len(settings.allowed_origins)) == (5, 6)


def test_paths_that_are_switched_off_are_in_nobodys_way() -> None:
    assert Settings(path="/sse", disable_legacy_sse=True).path == "/sse"
    assert Settings(path="/", health_path="", ready_path="").path == "/"


def test_a_variable_that_nothing_reads_is_told_with_the_nearest_that_is_read() -> None:
    environment = {"TMCP_ALLOWED_HOST": "x", "TMCP_X": "", "TMCP_PATH": "/x", "TMCP_POSTGRES_BIN": "/x"}
    assert unknown_variables(environment) == [
        "TMCP_ALLOWED_HOST is no setting; is TMCP_ALLOWED_HOSTS meant?",
        "TMCP_X is no setting",
    ]


def test_a_handler_warns_once_of_a_variable_that_nothing_reads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TMCP_ALLOWED_HOST", "mcp.example.com")
    with caplog.at_level(logging.WARNING):
        create_handler(small_server())
        create_handler(small_server(), settings=Settings())
    said = [record.getMessage() for record in caplog.records if "no setting" in record.getMessage()]
    assert said == ["TMCP_ALLOWED_HOST is no setting; is TMCP_ALLOWED_HOSTS meant?"]


SECRET = "S3cret-" * 8
HOLDS_A_SECRET = re.compile(r"(^|_)(url|urls|dsn|key|keys|password|token)($|_)")


def all_shown(settings: Settings) -> str:
    """Return everything that a settings object may be printed or stored as."""
    shown = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())]
    shown += [
        json.dumps(settings.model_dump(mode="json", by_alias=True)),
        repr(dict(settings.__repr_args__())),
    ]
    return "\n".join(shown)


def secrets_of(fields: dict[str, Any]) -> list[str]:
    """The settings that hold a secret, by their names, or by how they are declared."""
    return [name for name, field in fields.items() if HOLDS_A_SECRET.search(name) or field.repr is False]


@pytest.mark.parametrize("name", secrets_of(Settings.fields_by_name()))
@pytest.mark.parametrize("url", [f"postgresql://u:{SECRET}@h/d", f"host=h password={SECRET}"])
def test_no_setting_with_a_secret_is_shown(name: str, url: str) -> None:
    given: Any = {name: SECRET if "key" in name else url}
    settings = Settings(**given)
    assert SECRET in str(getattr(settings, name)), "the attribute has it"
    assert SECRET not in all_shown(settings)
    assert SECRET in str(getattr(settings.but(path="/other"), name)), "copies have it too"
    assert SECRET not in all_shown(settings.but(path="/other").with_url_from("elsewhere"))


def test_the_secrets_are_these_and_a_new_one_is_found_by_its_name() -> None:
    assert secrets_of(Settings.fields_by_name()) == ["database_url", "listen_url", "request_state_keys"]


def test_a_setting_that_is_not_given_is_shown_as_that() -> None:
    assert Settings().model_dump()["database_url"] is None
    assert Settings().model_dump()["request_state_keys"] == ()


@pytest.mark.parametrize("name", secrets_of(Settings.fields_by_name()))
def test_no_error_about_a_setting_shows_its_secret(name: str) -> None:
    given: Any = {name: {"not": f"a {SECRET}"}}
    with pytest.raises(ConfigurationError, match=name) as error:
        Settings(**given)
    assert SECRET not in str(error.value)


def test_settings_on_top_of_others_keep_what_was_given_by_another_name() -> None:
    settings = Settings(schema="tenant", allowed_hosts=["a", "b"]).but(path="/other")
    assert (settings.schema_name, settings.allowed_hosts, settings.path) == ("tenant", ("a", "b"), "/other")
    assert settings.model_fields_set == {"schema_name", "allowed_hosts", "path"}
