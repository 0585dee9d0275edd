"""The keywords of connection strings: libpq 18's, asyncpg's and those of other clients.

Every keyword is obeyed, passed over for a reason, or refused with one sentence. No keyword about security or
the choice of the server is passed over. A keyword that is not in the table goes to the server as a setting of
the session, and the server refuses settings that it does not know.
(postgresql.org/docs/18/libpq-connect.html, "Parameter Key Words")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from tmcp_serverless.postgres.connect.tls import MODES

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ALIASES", "KEYWORDS", "MAKES_TLS", "Rule", "canonical", "ruled"]

Treatment: TypeAlias = Literal["obeyed", "passed over", "refused"]

_OFF = frozenset({"0", "off", "false", "no", "disable"})
_ON = frozenset({"1", "on", "true", "yes", "t", "y", "require"})
_ANY_MODE = ", ".join(MODES)


@dataclass(frozen=True, slots=True)
class Rule:
    """The treatment of one keyword."""

    treatment: Treatment

    reason: str = ""
    """The reason for passing the keyword over; for a refused keyword, the remedy."""

    values: frozenset[str] | None = None
    """The only values with that treatment, in lower case. Every other value is refused."""


def _obeyed(*names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, Rule("obeyed"))


def _passed(reason: str, *names: str, values: frozenset[str] | None = None) -> dict[str, Rule]:
    return dict.fromkeys(names, Rule("passed over", reason, values))


def _refused(reason: str, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, Rule("refused", reason))


_LOOKED_FOR = "the kit bounds its connections by itself, on both sides"
_OTHER_POOL = "it is about another client's pool, and the kit's is TMCP_DATABASE_CONNECTIONS"
_OTHER_CACHE = "it is about another client's statements; the kit finds out what a pooler takes"
_NO_OAUTH = "the driver has no OAuth: give a password, or TMCP_DATABASE_IAM"
_NO_KEYS = "the driver has no SCRAM pass-through: give the password"
_SAY_SOCKET = "say the socket as host=/cloudsql/project:region:instance"
_SAY_SSLMODE = "say it as sslmode, sslrootcert, sslcert and sslkey"

KEYWORDS: Mapping[str, Rule] = {
    # The server and the database.
    **_obeyed("host", "port", "dbname", "service", "servicefile", "target_session_attrs"),
    "hostaddr": Rule("obeyed", "beside `host` it cannot be obeyed: say the address as `host` alone"),
    "load_balance_hosts": Rule("obeyed", "it is `disable` or `random`", frozenset({"disable", "random"})),
    **_refused("say it as target_session_attrs", "targetServerType"),
    **_passed("hosts are tried in the order given", "hostRecheckSeconds"),
    **_refused(_SAY_SOCKET, "socketFactory", "socketFactoryArg", "cloudSqlInstance", "unixSocketPath"),
    **_refused("say it as options=endpoint%3D... or options=project%3D...", "endpoint", "project"),
    "readOnly": Rule("passed over", "the kit writes: say target_session_attrs=read-write", _OFF),
    # The login.
    **_obeyed("user", "password", "passfile", "krbsrvname", "gsslib"),
    **_refused("say it as krbsrvname", "krbspn", "kerberosServerName"),
    **_refused(_NO_KEYS, "scram_client_key", "scram_server_key"),
    **_refused(_NO_OAUTH, "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"),
    "require_auth": Rule(
        "obeyed",
        "the driver answers to whatever the server asks for, so only `none` can be kept; sslmode=verify-full "
        "makes sure of the server instead",
        frozenset({"none"}),
    ),
    "requirepeer": Rule("refused", "the driver cannot look who owns the socket"),
    "gssencmode": Rule(
        "passed over", "the driver has no GSSAPI encryption: say sslmode", frozenset({"disable", "prefer"})
    ),
    "gssdelegation": Rule("passed over", "the driver delegates no credentials", _OFF),
    # TLS.
    **_obeyed("sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslcrldir"),
    "sslmode": Rule("obeyed", f"it has to be one of {_ANY_MODE}", frozenset(MODES)),
    "ssl": Rule(
        "obeyed", f"it has to be `true`, `false` or one of {_ANY_MODE}", _ON | _OFF | frozenset(MODES)
    ),
    "sslnegotiation": Rule("obeyed", "it is `postgres` or `direct`", frozenset({"postgres", "direct"})),
    "direct_tls": Rule("obeyed", "it is `true` or `false`", _ON | _OFF),
    **_obeyed("ssl_min_protocol_version", "ssl_max_protocol_version"),
    "channel_binding": Rule(
        "obeyed",
        "it is `disable`, `prefer` or `require`",
        frozenset({"disable", "prefer", "require"}),
    ),
    "sslcertmode": Rule(
        "obeyed",
        "the driver cannot see whether its certificate was asked for: set `allow`, and sslcert",
        frozenset({"allow", "disable"}),
    ),
    "sslsni": Rule("passed over", "the driver always names the host", _ON),
    "sslcompression": Rule("passed over", "TLS is never compressed", _OFF | _ON),
    "sslkeylogfile": Rule("passed over", "the keys of a connection are written nowhere"),
    "sslaccept": Rule(
        "passed over",
        "for verification, say sslmode=verify-full and sslrootcert",
        frozenset({"accept_invalid_certs"}),
    ),
    **_refused(_SAY_SSLMODE, "sslidentity", "sslfactory", "sslhostnameverifier", "sslresponsetimeout", "tls"),
    **_refused(_SAY_SSLMODE, "requiressl", "ssl_require", "sslinline", "sslpasswordcallback"),
    # The connection.
    "connect_timeout": Rule("obeyed", "it has to be a whole number of seconds"),
    **_obeyed("application_name", "fallback_application_name", "options"),
    **_passed("text is always sent as UTF-8", "client_encoding", "charset", "encoding", "characterEncoding"),
    **_passed(_LOOKED_FOR, "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    **_passed(_LOOKED_FOR, "tcp_user_timeout", "tcpKeepAlive", "socketTimeout", "socket_timeout"),
    **_passed(_LOOKED_FOR, "loginTimeout", "command_timeout", "timeout", "cancelSignalTimeout"),
    **_passed(_LOOKED_FOR, "keepAlive", "keepAliveInitialDelayMillis", "keepalives_retries", "query_timeout"),
    **_passed(_LOOKED_FOR, "connectTimeout", "connectionTimeoutMillis", "tcpNoDelay"),
    "replication": Rule("passed over", "streams of the write-ahead log are not for the kit", _OFF),
    "min_protocol_version": Rule(
        "passed over", "the driver speaks version 3.0 of the protocol", frozenset({"3.0"})
    ),
    "max_protocol_version": Rule(
        "passed over", "the driver speaks version 3.0", frozenset({"3.0", "3.2", "latest"})
    ),
    # Other clients: Prisma, Supabase, node-postgres, postgres.js, pgx, lib/pq, sqlx, JDBC, SQLAlchemy, Rails,
    # Django, Doctrine.
    **_passed(_OTHER_POOL, "pgbouncer", "connection_limit", "pool_timeout", "supa", "workaround", "pool"),
    **_passed(_OTHER_POOL, "pool_max_conns", "pool_min_conns", "pool_max_conn_lifetime", "pool_size"),
    **_passed(
        _OTHER_POOL, "pool_max_conn_idle_time", "pool_health_check_period", "max_overflow", "pool_mode"
    ),
    **_passed(_OTHER_POOL, "min_size", "max_size", "max", "max_idle_connection_lifetime", "conn_max_age"),
    **_passed(_OTHER_POOL, "pool_max_conn_lifetime_jitter", "pool_min_idle_conns", "pool_recycle", "min"),
    **_passed(_OTHER_POOL, "pool_pre_ping", "max_connection_lifetime", "single_use_connections", "pooling"),
    **_passed(_OTHER_POOL, "idle_timeout", "idleTimeoutMillis", "max_lifetime", "checkout_timeout"),
    **_passed(_OTHER_POOL, "reaping_frequency", "conn_health_checks"),
    **_passed(_OTHER_CACHE, "binary_parameters", "disable_prepared_binary_result", "prepare", "fetch_types"),
    **_passed(_OTHER_CACHE, "autosave", "binaryTransfer", "preferQueryMode", "defaultRowFetchSize"),
    **_passed(_OTHER_CACHE, "async_fallback", "cleanupSavepoints", "adaptiveFetch"),
    **_passed("it tells another client the server's version", "serverVersion", "assumeMinServerVersion"),
    **_passed(_OTHER_CACHE, "statement_cache_size", "max_cached_statement_lifetime", "prepareThreshold"),
    **_passed(_OTHER_CACHE, "max_cacheable_statement_size", "prepared_statement_cache_size"),
    **_passed(_OTHER_CACHE, "prepared_statement_name_func", "statement_cache_capacity", "preparedStatements"),
    **_passed(_OTHER_CACHE, "description_cache_capacity", "default_query_exec_mode", "prepared_statements"),
    **_passed(_OTHER_CACHE, "preparedStatementCacheQueries", "reWriteBatchedInserts", "stringtype"),
    **_passed("it is node-postgres's way to read sslmode", "uselibpqcompat"),
    **_passed("it is Prisma's schema; the kit's tables do not stand in it", "schema"),
    **_refused("say it as `options=-c search_path=...`", "currentSchema"),
}
"""The rules of all known keywords, by name."""

ALIASES: Mapping[str, str] = {
    "database": "dbname",
    "server": "host",
    "hostname": "host",
    "db": "dbname",
    "username": "user",
    "uid": "user",
    "userid": "user",
    "pass": "password",
    "passwd": "password",
    "pwd": "password",
    "ssl_mode": "sslmode",
    "ssl_root_cert": "sslrootcert",
    "ssl_ca": "sslrootcert",
    "ssl_cert": "sslcert",
    "ssl_key": "sslkey",
    "ApplicationName": "application_name",
    "channelBinding": "channel_binding",
    "gssEncMode": "gssencmode",
    "loadBalanceHosts": "load_balance_hosts",
    "requireAuth": "require_auth",
}
"""Other clients' names for the same keywords."""

_TLS_WORDS = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslcertmode",
)
MAKES_TLS = frozenset(
    {*_TLS_WORDS, "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding"}
)
"""The keywords that determine a TLS context."""

_BY_LOWER = {name.lower(): name for name in (*KEYWORDS, *ALIASES)}


def canonical(name: str) -> str:
    """Return the keyword's name in the table. Aliases are resolved; case and hyphens do not matter."""
    name = _BY_LOWER.get(name.lower().replace("-", "_"), name)
    return ALIASES.get(name, name)


def ruled(name: str, value: str) -> Rule:
    """Return the keyword's rule, if it allows the value.

    Raises:
        ValueError: The keyword or the value is refused. The message names the keyword, and shows nothing of
            the value.

    """
    rule = KEYWORDS.get(name, Rule("obeyed"))
    if name.startswith("_pq_"):
        raise ValueError(f"{name} is a part of the protocol, and no setting")
    if rule.treatment == "refused" or (rule.values is not None and value.lower() not in rule.values):
        raise ValueError(f"{name} is not supported{' with this value' if rule.values else ''}: {rule.reason}")
    return rule
