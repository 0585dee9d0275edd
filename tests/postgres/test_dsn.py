"""Connection strings: read as asyncpg reads them, and where it reads none, as libpq does."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
from asyncpg import connect_utils

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.postgres.connect.dsn import arguments, parse

URLS = [
    "postgresql://host",
    "postgres://host/db",
    "postgresql://user@host:6543/db",
    "postgresql://user:pass@host/db?sslmode=disable",
    "postgresql://us%40er:p%3Aa%2Fs%3Fs%23%20w@host/d%2Fb",
    "postgresql://user:pa+ss@host/db",
    "postgresql://one,two:1,[::1]:2/db?target_session_attrs=read-write",
    "postgresql:///db?host=one,two&port=1,2&user=u&password=p%26q",
    "postgresql://user:pass@/db?host=/cloudsql/project:region:instance",
    "postgresql://user:pass@%2Fcloudsql%2Fproject%3Aregion%3Ainstance/db",
    "postgresql://user@host/db?options=-c%20search_path%3Dx&application_name=a%20b",
    "postgresql://user@host?dbname=db&sslnegotiation=postgres&sslmode=disable",
    "postgresql://user@host?database=db",
    "postgresql://user:p@host/db?sslmode=allow&krbsrvname=k",
    "postgresql://",
]


def understood(**wanted: Any) -> Any:
    """Return what asyncpg makes of its arguments: addresses, and everything about the login."""
    # Private, but what it makes of a URL is what this driver promises.
    parsed: Any = vars(connect_utils)["_parse_connect_dsn_and_args"]
    everything: dict[str, Any] = dict.fromkeys(signature(parsed).parameters)
    addresses, parameters = parsed(**everything | wanted)
    return addresses, parameters._replace(ssl=bool(parameters.ssl))


@pytest.mark.parametrize("url", URLS)
def test_a_url_means_what_it_means_to_the_driver(url: str) -> None:
    assert understood(**arguments(parse(url, setting="X"))) == understood(dsn=url)


@pytest.mark.parametrize(
    ("pairs", "url"),
    [
        ("host=h user=u password=p dbname=d", "postgresql://u:p@h/d"),
        (" host = h  port=1 dbname='my db' password='it\\'s' ", "postgresql://h:1/my%20db?password=it%27s"),
        ("host=/cloudsql/p:r:i user=u dbname=d", "postgresql://u@/d?host=/cloudsql/p:r:i"),
        (r"host=h password=a\ b\\c dbname=d", "postgresql://:a%20b%5Cc@h/d"),
        ("host=a,b port=1,2 dbname=d sslmode=disable", "postgresql://a:1,b:2/d?sslmode=disable"),
    ],
)
def test_pairs_mean_the_same_as_a_url(pairs: str, url: str) -> None:
    assert parse(pairs, setting="X") == parse(url, setting="X")


def test_a_hash_in_a_password_is_a_part_of_it() -> None:
    assert parse("postgresql://u:a#b@h/d", setting="X") == parse("postgresql://u:a%23b@h/d", setting="X")


def test_what_only_other_clients_understand_is_not_sent_to_the_server() -> None:
    offered = "postgresql://u:p@h/d?channel_binding=prefer&connect_timeout=10&pgbouncer=true&keepalives=1"
    assert arguments(parse(offered, setting="X")) == arguments(parse("postgresql://u:p@h/d", setting="X"))


@pytest.mark.parametrize(
    "wrong",
    [
        "secret",
        "mysql://u:secret@h/d",
        "http://u:secret@h/d",
        "mongodb+srv://u:secret@h/d",
        "sqlite:///secret",
        "postgresql://u:12/x?secret@h/d",
        "postgresql://u:12/x?secret=a@h/d",
        "postgresql://u:secret@h/d?requirepeer=secret",
        "postgresql://u:secret@h/d?sslmode=secret",
        "postgresql://u:secret@h/d?service=secret",
        "postgresql://u:secret@h:99999/d",
        "postgresql://u:secret@h\n/d",
        "postgresql://u:secret@a b/d",
        "{'url': 'secret'}",
        "postgresql://u:secret/x@h/d",
        "postgresql://u:12/secret@h/d",
        "postgresql://u:secret?x@h/d",
        "postgresql://h:secret/d",
        "host=h port=secret",
        "host=h password=secret port=1,2",
        "host=h password='secret",
        "host=h secret",
        "",
    ],
)
def test_what_is_none_is_an_error_that_names_the_setting_and_shows_nothing(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="TMCP_X") as raised:
        parse(wrong, setting="TMCP_X")
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
