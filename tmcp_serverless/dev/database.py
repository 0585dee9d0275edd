"""The database of the instances: the configured one, or a PostgreSQL of our own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tmcp_serverless.config import Settings
from tmcp_serverless.errors import StoreUnavailableError
from tmcp_serverless.postgres.connect import configured
from tmcp_serverless.postgres.connect.dsn import hosts_and_ports
from tmcp_serverless.postgres.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["instances_database"]


def instances_database(
    database_url: str | None, stack: contextlib.ExitStack, *, tell: Callable[[str], None]
) -> dict[str, str]:
    """Return the variables of the instances' database, over ours. Our own database ends with the stack.

    Sentences for the user go to `tell`.

    Raises:
        ConfigurationError: A setting is wrong, or the database cannot be used as it is configured.
    """
    if database_url:
        setting = "--database-url"
        _look(configured.settings_at(database_url, setting=setting), tell)
        return configured.variables_at(database_url, setting=setting)
    settings = Settings.load()
    if not settings.has_database:
        return {**configured.NO_DATABASE, "TMCP_DATABASE_URL": stack.enter_context(_own_database(tell))}
    _look(settings, tell)
    return {}


def _look(settings: Settings, tell: Callable[[str], None]) -> None:
    """Tell the database's hosts, and a note if it is out of reach; the instances connect by themselves."""
    database = Database.from_settings(settings)

    async def look() -> None:
        try:
            hosts = hosts_and_ports(await database.target.parameters())
            # A host alone: all else may be a part of a password that is not quoted rightly.
            tell(f"Database: {', '.join(host for host, _ in hosts)}")
            await database.check_writable()
        except StoreUnavailableError as error:
            tell(f"It is out of reach for now: {error}")
        finally:
            await database.aclose()

    asyncio.run(look())


@contextlib.contextmanager
def _own_database(tell: Callable[[str], None]) -> Generator[str]:
    from tmcp_serverless.testing.postgres import EmbeddedPostgres  # not for every use

    with EmbeddedPostgres(durable=False) as postgres:
        tell(
            f"No database given: using a PostgreSQL {postgres.major_version} of our own. "
            "Its data go when this ends."
        )
        yield postgres.dsn
