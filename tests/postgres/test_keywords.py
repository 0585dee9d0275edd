"""The keywords of connection strings: each of libpq 18 and asyncpg has a treatment, and it is that one."""

from __future__ import annotations

import ctypes
import ssl
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import asyncpg
import pytest
from asyncpg import connect_utils

from tests.support.relay import relay
from tests.support.servers import small_server
from tmcp_serverless import (
    ConfigurationError,
    Database,
    Notifier,
    PostgresStreamSessionManager,
    create_handler,
)
from tmcp_serverless.postgres.connect import login
from tmcp_serverless.postgres.connect.dsn import arguments, connect_seconds, parse
from tmcp_serverless.postgres.connect.keywords import ALIASES, KEYWORDS, canonical
from tmcp_serverless.postgres.connect.tls import make_context, sslmode_of
from tmcp_serverless.testing.postgres import list_binaries

if TYPE_CHECKING:
    from collections.abc import Mapping

BASE = "postgresql://u:p@h/d"

# Private, but the way of every secret and parameter, without AWS.
read_secret: Any = vars(login)["_read"]

OF_LIBPQ_18 = [
    "service",
    "user",
    "password",
    "passfile",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "client_encoding",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslmode",
    "sslnegotiation",
    "sslcompression",
    "sslcert",
    "sslkey",
    "sslcertmode",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "requirepeer",
    "require_auth",
    "min_protocol_version",
    "max_protocol_version",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "gssencmode",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "replication",
    "target_session_attrs",
    "load_balance_hosts",
    "scram_client_key",
    "scram_server_key",
    "oauth_issuer",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
    "sslkeylogfile",
]

SECURITY_AND_PLACE = [
    "sslmode",
    "ssl",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslcertmode",
    "channel_binding",
    "require_auth",
    "requirepeer",
    "target_session_attrs",
    "hostaddr",
    "host",
    "port",
    "dbname",
    "service",
    "passfile",
    "user",
    "password",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "load_balance_hosts",
    "scram_client_key",
    "oauth_issuer",
    "direct_tls",
    "socketFactory",
    "cloudSqlInstance",
    "endpoint",
    "requiressl",
    "ssl_require",
    "sslinline",
    "krbspn",
]
"""Keywords of which no value is passed over."""

STRICT: Mapping[str, str] = {
    "gssencmode": "require",
    "gssdelegation": "1",
    "sslsni": "0",
    "min_protocol_version": "3.2",
    "max_protocol_version": "2.0",
    "require_auth": "scram-sha-256",
    "sslcertmode": "require",
    "replication": "database",
    "sslaccept": "strict",
    "readOnly": "true",
    "channel_binding": "always",
    "load_balance_hosts": "sometimes",
    "sslmode": "requires",
    "ssl": "maybe",
    "sslnegotiation": "later",
    "direct_tls": "later",
}
"""Values of keywords that are obeyed or passed over with others, and are refused."""

SAYING: Mapping[str, str] = {
    "host": "h2",
    "port": "1",
    "hostaddr": "127.0.0.1",
    "connect_timeout": "9",
    "direct_tls": "true",
}


def said(keyword: str, value: str) -> dict[str, str]:
    pairs = "" if keyword in ("host", "hostaddr") else "host=h "
    return parse(f"{pairs}user=u password=p dbname=d {keyword}='{value}'", setting="TMCP_X")


class Option(ctypes.Structure):
    """`PQconninfoOption`."""

    _fields_: ClassVar = [
        *(
            (name, ctypes.c_char_p)
            for name in ("keyword", "variable", "compiled", "value", "label", "display")
        ),
        ("size", ctypes.c_int),
    ]


def keywords_of_installed_libraries() -> set[str]:
    found: set[str] = set()
    for binaries in list_binaries():
        for file in Path(binaries.bin).parent.rglob("libpq.so*"):
            with suppress(OSError):
                library = ctypes.CDLL(str(file))
                library.PQconndefaults.restype = ctypes.POINTER(Option)
                options = library.PQconndefaults()
                position = 0
                while name := options[position].keyword:
                    found.add(name.decode())
                    position += 1
    return found


def test_every_keyword_of_libpq_and_of_the_driver_is_in_the_table() -> None:
    taken = signature(asyncpg.connect).parameters
    of_the_driver = {*signature(vars(connect_utils)["_parse_connect_dsn_and_args"]).parameters, *taken}
    # Not of a connection, but of the call.
    of_the_driver -= {"dsn", "loop", "connection_class", "record_class", "server_settings"}
    known = {*KEYWORDS, *ALIASES}
    assert {*OF_LIBPQ_18, *of_the_driver, *keywords_of_installed_libraries()} - known == set()


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_a_keyword_is_obeyed_passed_over_or_refused_as_the_table_says(keyword: str) -> None:
    rule = KEYWORDS[keyword]
    if keyword in ("service", "servicefile"):
        return  # They need a file, and have a test of their own.
    value = SAYING.get(keyword) or (min(rule.values) if rule.values else "1")
    if rule.treatment == "refused":
        with pytest.raises(ConfigurationError, match=rf"^TMCP_X: {keyword} .*{rule.reason[:20]}"):
            said(keyword, value)
        return
    found = said(keyword, value)
    if rule.treatment == "passed over":
        assert rule.reason
        assert arguments(found) == arguments(said("user", "u")), (
            "neither the driver nor the server hears of it"
        )
    else:
        nothing = said("user", "u")
        assert (arguments(found), found) != (arguments(nothing), nothing)
        assert keyword not in arguments(found).get("server_settings", {}) or keyword in (
            "options",
            "application_name",
        )


@pytest.mark.parametrize("keyword", SECURITY_AND_PLACE)
def test_nothing_that_concerns_security_or_the_server_is_passed_over(keyword: str) -> None:
    assert KEYWORDS[keyword].treatment != "passed over"


@pytest.mark.parametrize(("keyword", "value"), STRICT.items())
def test_a_value_that_cannot_be_kept_is_refused(keyword: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^TMCP_X: {keyword} ") as raised:
        said(keyword, value)
    assert f"'{value}'" not in str(raised.value)


@pytest.mark.parametrize("keyword", [*KEYWORDS, *ALIASES])
def test_a_keyword_in_another_case_is_the_same(keyword: str) -> None:
    assert canonical(keyword.upper()) == canonical(keyword)


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        *(
            (f"ssl={mode}", mode)
            for mode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
        ),
        *((f"ssl={yes}", "require") for yes in ("1", "on", "true", "True", "yes", "TRUE")),
        *((f"ssl={no}", "disable") for no in ("0", "off", "false", "False", "no")),
        ("ssl=true&sslmode=verify-full", "verify-full"),
        ("ssl=false&sslmode=require", "require"),
        ("sslmode=prefer&ssl=1", "require"),
        ("SSLMODE=Require", "require"),
        ("sslmode=verify-full&sslrootcert=system", "verify-full"),
        ("sslrootcert=system", "verify-full"),
        ("sslrootcert=/ca.pem", "verify-ca"),
        ("sslnegotiation=direct", "require"),
        ("direct_tls=true", "require"),
        ("channel_binding=require", "verify-full"),
        ("sslmode=require&channel_binding=require", "verify-full"),
        ("channel_binding=prefer", "prefer"),
        ("", "prefer"),
    ],
)
def test_every_way_to_say_tls_is_one_sslmode(query: str, mode: str) -> None:
    assert sslmode_of(parse(f"{BASE}?{query}", setting="X")) == mode


def test_channel_binding_is_made_up_for_by_verifying_the_server() -> None:
    context = make_context(parse(f"{BASE}?sslmode=require&channel_binding=require", setting="X"))
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    for cannot in ("sslmode=disable&channel_binding=require", "host=/run&channel_binding=require"):
        with pytest.raises(ConfigurationError, match="channel_binding=require needs TLS"):
            parse(f"postgresql:///d?{cannot}", setting="X")


def test_a_folder_of_revocations_is_looked_into(tmp_path: Path) -> None:
    context = make_context(parse(f"{BASE}?sslrootcert=system&sslcrldir={tmp_path}", setting="X"))
    assert context is not None
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_CHAIN
    with pytest.raises(ConfigurationError, match="sslcrldir"):
        make_context(parse(f"{BASE}?sslrootcert=system&sslcrldir={tmp_path}/none", setting="X"))


@pytest.mark.parametrize(
    ("value", "seconds"), [("30", 30), ("1", 2), ("0", 60), ("-1", 60), ("5&host=a,b", 10)]
)
def test_connecting_takes_as_long_as_the_string_allows(value: str, seconds: float) -> None:
    assert connect_seconds(parse(f"postgresql:///d?connect_timeout={value}", setting="X")) == seconds
    with pytest.raises(ConfigurationError, match="X: connect_timeout has to be"):
        parse("postgresql:///d?connect_timeout=soon", setting="X")


def test_a_service_says_what_the_string_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "services"
    file.write_text("[orders]\nhost=db.example\nuser=me\npassword=a%b\nssl=require\nkeepalives=1\n")
    whole = {"host": "db.example", "user": "you", "password": "a%b", "sslmode": "require", "dbname": "d"}
    assert parse(f"service=orders user=you dbname=d servicefile={file}", setting="X") == whole
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    assert parse("postgresql://you@/d?service=orders", setting="X") == whole
    with pytest.raises(ConfigurationError, match="X: service: there is none of that name"):
        parse("service=another", setting="X")
    file.write_text("[orders]\nrequirepeer=postgres\n")
    with pytest.raises(ConfigurationError, match="X: requirepeer"):
        parse("service=orders", setting="X")


def test_require_auth_none_gives_no_password_away() -> None:
    assert arguments(parse(f"{BASE}?require_auth=none", setting="X"))["password"] == ""


def test_an_address_without_a_name_is_the_host_and_beside_a_name_is_refused() -> None:
    assert parse("hostaddr=10.0.0.1 dbname=d", setting="X") == {"host": "10.0.0.1", "dbname": "d"}
    with pytest.raises(ConfigurationError, match="hostaddr"):
        parse("host=h hostaddr=10.0.0.1", setting="X")


@pytest.mark.parametrize(
    "pasted",
    [
        f"  {BASE}\n",
        f'"{BASE}"',
        f"'{BASE}' ",
        f"DATABASE_URL={BASE}",
        f'export DATABASE_URL="{BASE}"\n',
        f"TMCP_DATABASE_URL = '{BASE}'",
        f"DATABASE_URL: {BASE}",
        f"psql {BASE}",
        f"psql '{BASE}'",
        f'psql -d "{BASE}"',
        f"{BASE};",
        f'DATABASE_URL="{BASE}";',
        f"{BASE}?",
        f"{BASE}?&",
        f"{BASE}?pgbouncer=true&",
        "\ufeff" + BASE,
        *(
            BASE.replace("postgresql", scheme)
            for scheme in (
                "postgres",
                "POSTGRES",
                "postgresql+asyncpg",
                "postgresql+psycopg",
                "postgres+psycopg2",
            )
        ),
        "jdbc:postgresql://h/d?user=u&password=p&prepareThreshold=0",
        "host=h user=u password=p dbname=d\n",
        "host=h\nuser=u\npassword=p\ndbname=d",
        "psql 'host=h user=u password=p dbname=d'",
        "host=h username=u password=p database=d",
        "server=h uid=u pwd=p db=d",
        f"{BASE}?pgbouncer=true&amp;connection_limit=1",
        f"{BASE}?statement-cache-capacity=100",
        f"{BASE}?binary_parameters=yes&pool_min_idle_conns=1",
        f"{BASE}?prepare=false&max_lifetime=60&idle_timeout=20&fetch_types=false",
        f"{BASE}?connectTimeout=10&tcpNoDelay=true&autosave=conservative&readOnly=false",
        f"{BASE}?serverVersion=16&charset=utf8",
        f"{BASE}?conn_max_age=60&conn_health_checks=true",
    ],
)
def test_what_is_copied_along_does_no_harm(pasted: str) -> None:
    assert parse(pasted, setting="X") == parse(BASE, setting="X")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("mysql://u:secret@h/d", "mysql"),
        ("https://secret.supabase.co", "address of the web"),
        ("postgresql://u:[YOUR-PASSWORD]@h/d", "placeholder"),
        ("postgresql://u:<password>@h/d", "placeholder"),
        ("postgresql://u:${DB_PASSWORD}@h/d", "placeholder"),
        ("postgresql://{{user}}:x@h/d", "placeholder"),
        ("postgresql://u:secret@<host>/d", "placeholder"),
        ("postgresql://u:secret@h/[database]", "placeholder"),
        ("host=h password=<your password>", "placeholder"),
        ("postgresql://u:se/secret@h/d", "percent-encoded"),
        ("postgresql://u:secret@h/d?sslmode", "percent-encoded"),
        ("postgresql://u:p?secret-x=1@h/d", "percent-encoded"),
        ("Host=h;Port=5433;Username=u;Password=secret;Database=d", ".NET"),
        ("Server=h; Port=5433; User Id=u; Password=secret; Database=d; Ssl Mode=Require;", ".NET"),
        ("User ID=u;Password=secret;Host=h;Port=5433;Database=d;Pooling=true;", ".NET"),
        ("Password=secret==;Host=h;Username=u", ".NET"),
        ("Data Source=h;Initial Catalog=d;User Id=u;Password=secret", ".NET"),
        ("postgresql://u:secret@h\r\n/d", "line break"),
    ],
)
def test_what_would_do_harm_is_named(wrong: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^TMCP_X: .*{said}") as raised:
        parse(wrong, setting="TMCP_X")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "password", ["[x]", "<>", "a{b}", "<3", "$HOME", "p@ss", "a#b", "p w", "a:b", "p+w", "[1]"]
)
def test_a_password_may_look_strange(password: str) -> None:
    assert parse(f"postgresql://u:{password}@h/d", setting="X")["password"] == password


@pytest.mark.parametrize("password", ["a;b", "a;b=c", "a;b;", ";"])
def test_a_password_may_have_semicolons(password: str) -> None:
    assert parse(f"host=h password={password} user=u", setting="X")["password"] == password


def test_keywords_of_sqlx_are_those_of_libpq() -> None:
    found = parse(f"{BASE}?ssl-mode=verify-full&ssl-root-cert=/ca&options[search_path]=x", setting="X")
    assert found.items() >= {"sslmode": "verify-full", "sslrootcert": "/ca", "search_path": "x"}.items()


@pytest.mark.parametrize("wrong", ["mysql://u:secret@h/d", f"{BASE}?requirepeer=secret", "secret"])
def test_it_is_refused_when_the_object_is_made(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    makers: dict[str, Any] = {
        "TMCP_DATABASE_URL": lambda: create_handler(small_server(), database_url=wrong),
        "TMCP_LISTEN_URL": lambda: create_handler(small_server(), database_url=BASE, listen_url=wrong),
        "Notifier": lambda: Notifier(wrong),
        "DATABASE_URL": lambda: PostgresStreamSessionManager(wrong),
    }
    for name, make in makers.items():
        with pytest.raises(ConfigurationError, match=name) as raised:
            make()
        assert "secret" not in str(raised.value)
    monkeypatch.setenv("TMCP_DATABASE_URL", wrong)
    with pytest.raises(ConfigurationError, match="TMCP_DATABASE_URL"):
        create_handler(small_server())


def test_a_secret_is_read_by_the_same_rules() -> None:
    rds = '{"engine": "postgres", "username": "u", "password": "p", "host": "h", "port": 5432, "dbname": "d"'
    assert read_secret(rds + ', "ssl": true, "dbInstanceIdentifier": "x", "masterarn": "y"}', "S") == {
        "user": "u",
        "password": "p",
        "host": "h",
        "port": "5432",
        "dbname": "d",
        "sslmode": "require",
    }
    assert read_secret(f'{{"DATABASE_URL": "{BASE}"}}', "S") == parse(BASE, setting="X")
    with pytest.raises(ConfigurationError, match="what S names: requirepeer"):
        read_secret(rds + ', "requirepeer": "x"}', "S")
    with pytest.raises(ConfigurationError, match=r"what S names: .*placeholder"):
        read_secret("postgresql://u:<password>@h/d", "S")


async def test_an_unknown_keyword_is_a_setting_of_the_server_or_refused_by_it(database_url: str) -> None:
    async def work_mem(query: str) -> str:
        database = Database(f"{database_url}?{query}")
        try:
            row = await database.fetchrow("SELECT current_setting('work_mem')", idempotent=True)
            assert row is not None
            return row[0]
        finally:
            await database.aclose()

    assert await work_mem("work_mem=1234kB") == "1234kB"
    assert await work_mem("options=-c%20work_mem=1235kB") == "1235kB"
    with pytest.raises(ConfigurationError, match=r'TMCP_DATABASE_URL.*"speling"'):
        await work_mem("speling=1")


async def test_a_name_of_the_application_is_the_connections(database_url: str) -> None:
    database = Database(f"{database_url}?application_name=orders")
    row = await database.fetchrow("SELECT current_setting('application_name')", idempotent=True)
    assert row is not None
    assert row[0] == "orders"
    await database.aclose()


async def test_a_server_that_takes_long_to_let_us_in_is_waited_for(database_url: str) -> None:
    async with relay(database_url, delay_seconds=6) as slow:
        database = Database(f"{slow}?connect_timeout=60")
        assert await database.fetchrow("SELECT 1", idempotent=True)
        await database.aclose()
