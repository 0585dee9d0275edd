"""Statements that Postgres has run, compared with those that the package has."""

from __future__ import annotations

import re
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING

from tmcp_serverless.postgres.sql_files import built_in, load_statements, silenced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["LOGGING", "Statements", "logged"]

_MARK = "@entry@"
LOGGING = {
    "log_statement": "all",
    "log_line_prefix": f"{_MARK}%a@",
    "log_parameter_max_length": "0",
    "log_min_error_statement": "panic",
}
"""Settings of a Postgres server, so that `logged` can read its log."""

_ENTRY = re.compile(
    rf"{_MARK}(?P<application>[^@]*)@LOG:  (?:statement|execute [^:]*): (?P<sql>.*)", re.DOTALL
)
_NAME = re.compile(r"\\\{\w+\\\}")
_ANY_NAME = r"(?:(?:\"[^\"]+\"\.)?\"[^\"]+\"|'[^']*')"

_OF_THE_CODE = (
    r"BEGIN( ISOLATION LEVEL READ COMMITTED)?",
    r"COMMIT",
    r"ROLLBACK",
    r"(UN)?LISTEN \"tmcp_\w+\"(; (UN)?LISTEN \"tmcp_\w+\")*",
    r"SET LOCAL search_path = pg_catalog, pg_temp",
    r"SELECT 1",
    r"SELECT pg_catalog\.pg_advisory_xact_lock\(\$1::bigint\)",
    r"SELECT pg_catalog\.pg_notify\(\$1, ''\)",
    r"SELECT current_setting\('transaction_read_only'\)",
    r"SELECT NOT EXISTS \(SELECT FROM pg_catalog\.pg_namespace WHERE nspname = \$1\)",
    r"SELECT pg_catalog\.set_config\(name, value, false\) FROM \(VALUES [^$;]* WHERE [^$;]* IS NOT NULL",
    r"WITH path AS MATERIALIZED \( SELECT pg_catalog\.set_config\('search_path', [^$;]* FROM path",
    r"WITH lacking AS \( SELECT name, verb [^;]* FROM lacking",
    rf"SELECT component, version FROM {_ANY_NAME} WHERE component IN \(\$1, \$2\)",
    rf"INSERT INTO {_ANY_NAME} \(component, version\) VALUES \(\$1, \$2\) ON CONFLICT [^;]*now\(\)",
    rf"CREATE TABLE IF NOT EXISTS {_ANY_NAME} \( component text PRIMARY KEY, [^;]* DEFAULT now\(\) \)",
)
"""Statements that modules issue themselves, beside those of the `.sql` files."""


class Statements:
    """The statements of the `.sql` files, of the migrations, and the few of the code."""

    def is_known(self, sql: str) -> bool:
        """Return `True` if the package has this statement, with any tables' names."""
        return self._known.fullmatch(_plain(sql)) is not None

    @cached_property
    def _known(self) -> re.Pattern[str]:
        forms = [*_OF_THE_CODE]
        for sql in _of_the_files():
            forms += [
                _NAME.sub(lambda _: _ANY_NAME, re.escape(_plain(each))) for each in (sql, silenced(sql))
            ]
        return re.compile("|".join(f"(?:{form})" for form in dict.fromkeys(forms)))


def _plain(sql: str) -> str:
    return " ".join(sql.split()).rstrip("; ")


def _of_the_files() -> Iterator[str]:
    folder = files("tmcp_serverless.postgres")
    for entry in folder.joinpath("sql").iterdir():
        names = _Unfilled()
        yield from load_statements(entry.name.removesuffix(".sql"), names).values()
    for entry in folder.joinpath("migrations").iterdir():
        yield built_in(entry.read_text(encoding="utf-8"))


class _Unfilled(dict[str, str]):
    """Names that stand for themselves."""

    def __missing__(self, name: str) -> str:
        return f"{{{name}}}"


def logged(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each statement in the log of a server with the settings `LOGGING`, with its client's name."""
    entry = ""
    with path.open(encoding="utf-8", errors="replace") as log:
        for line in log:
            if line.startswith(_MARK):
                yield from _statement(entry)
                entry = line
            else:
                entry += line
    yield from _statement(entry)


def _statement(entry: str) -> Iterator[tuple[str, str]]:
    found = _ENTRY.fullmatch(entry.rstrip("\n"))
    if found is not None:
        yield found["application"], found["sql"]
