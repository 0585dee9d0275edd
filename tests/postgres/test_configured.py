"""Which database the settings name, and an address that is given instead of theirs."""

from __future__ import annotations

import pytest

from tmcp_serverless import ConfigurationError, Database, Settings
from tmcp_serverless.postgres.connect.configured import settings_at, variables_at

HERE = "postgresql://host.example/orders"
ELSEWHERE = {
    "TMCP_DATABASE_URL": "postgresql://other.example/x",
    "TMCP_DATABASE_NAME": "x",
    "TMCP_LISTEN_URL": "postgresql://direct.example/x",
}


def test_what_names_another_database_is_dropped() -> None:
    expected = {"TMCP_DATABASE_URL": HERE, "TMCP_DATABASE_NAME": "", "TMCP_LISTEN_URL": ""}
    assert variables_at(HERE, setting="x", environment=ELSEWHERE) == expected


def test_the_address_that_is_configured_anyway_changes_nothing() -> None:
    assert variables_at(HERE, setting="x", environment={**ELSEWHERE, "TMCP_DATABASE_URL": HERE}) == {}


@pytest.mark.parametrize(
    ("address", "dropped"),
    [
        ("postgresql://host.example/orders", set[str]()),
        ("postgresql://me@host.example/orders", {"TMCP_DATABASE_SECRET", "TMCP_DATABASE_PARAMETER"}),
        (
            "host=host.example user=me password=p",
            {"TMCP_DATABASE_SECRET", "TMCP_DATABASE_PARAMETER", "TMCP_DATABASE_IAM"},
        ),
    ],
)
def test_a_login_from_elsewhere_is_used_where_the_address_has_none(address: str, dropped: set[str]) -> None:
    logins = ("TMCP_DATABASE_SECRET", "TMCP_DATABASE_PARAMETER", "TMCP_DATABASE_IAM")
    variables = variables_at(address, setting="x", environment=dict.fromkeys(logins, "1"))
    assert {name for name, value in variables.items() if not value} == dropped


def test_everything_else_is_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ELSEWHERE, "TMCP_DATABASE_TLS_CA": "/ca.pem", "TMCP_DOORBELL": "poll"}.items():
        monkeypatch.setenv(name, value)
    settings = settings_at(HERE, setting="--database-url", database_connections=2)
    assert (settings.database_url, settings.database_name, settings.listen_url) == (HERE, None, None)
    assert (settings.database_tls_ca, settings.doorbell, settings.database_connections) == (
        "/ca.pem",
        "poll",
        2,
    )
    assert settings.database_setting == "--database-url"
    assert settings.but(doorbell="auto").database_setting == "--database-url"


async def test_what_is_wrong_with_tls_names_the_setting_that_said_so(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for settings, said in (
        (
            Settings(database_url=database_url, database_tls_ca="/nope"),
            r"^TMCP_DATABASE_TLS_CA: /nope cannot",
        ),
        (Settings(database_url=f"{database_url}?sslmode=x"), r"^TMCP_DATABASE_URL: sslmode is not supported"),
        (
            Settings(database_url=f"{database_url}?sslmode=verify-ca&sslrootcert=/nope"),
            r"^TMCP_DATABASE_URL: sslrootcert: /nope cannot",
        ),
    ):
        with pytest.raises(ConfigurationError, match=said):
            await Database.from_settings(settings).check_writable()
    monkeypatch.setenv("PGSSLMODE", "y")
    with pytest.raises(ConfigurationError, match=r"^TMCP_DATABASE_URL: PGSSLMODE is 'y'"):
        await Database.from_settings(Settings(database_url=database_url)).check_writable()


def test_without_a_database_there_is_none_to_be_made() -> None:
    with pytest.raises(ConfigurationError, match="there is no database: set TMCP_DATABASE_URL"):
        Database.from_settings(Settings())
