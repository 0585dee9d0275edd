"""Notifications to clients about changes: from a tool, a webhook handler, or a cron job with only a DSN."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from tmcp_serverless.closable import Closable
from tmcp_serverless.config import Settings
from tmcp_serverless.errors import ConfigurationError, TmcpError
from tmcp_serverless.managers import managers_for
from tmcp_serverless.sessions.addresses import BROADCAST, EVENTS
from tmcp_serverless.sessions.send_order import CALLS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tmcp_serverless.overrides import SettingsOverrides
    from tmcp_serverless.sessions import SessionManagers

__all__ = ["Notifier"]

logger = logging.getLogger(__name__)


class Notifier(Closable):
    """Sends notifications to clients of both eras, on any instance that has their streams.

    A handler has one (`handler.notifier`); anywhere else, a connection string is enough:

        async with Notifier("postgresql://…") as notifier:
            await notifier.resource_updated("orders://open")

    Delivery: when a method returns, the notification is committed. It reaches each session that it concerns
    once, on the session's open stream or on its next one. It reaches each `subscriptions/listen` stream of
    the 2026-07-28 revision that asked for it and is open now, once. The notifications of one process to a
    session arrive in the order of the calls, even if the calls are not awaited one after the other. A
    broadcast (the three lists, and `send` to `None`) keeps its place among broadcasts only. Sessions and
    listen streams are told in two steps: if the second one fails, a repeated call tells the sessions twice.

    Every method raises `StoreUnavailableError` if the database cannot be reached now (the notification may or
    may not have been committed), `ConfigurationError` if a setting is wrong or the tables are missing, and
    `TmcpError` after `aclose`.

    Args:
        target: A Postgres connection string, with all other settings from the environment; empty if these
            name the database. Settings of another database (`TMCP_DATABASE_NAME`, `TMCP_LISTEN_URL`) are
            ignored. So are a secret if the string has a user, and IAM if it has a password. Or the session
            managers to send through, which stay open.
        namespace: The namespace of the clients' server: the server's name unless `TMCP_NAMESPACE` says
            another. It may be left out if the database has exactly one namespace. That is looked up before
            the first notification; while there is none, there are no clients to tell.

    Raises:
        ConfigurationError: No database is named, or a setting is wrong.

    """

    def __init__(self, target: str | SessionManagers, *, namespace: str | None = None) -> None:
        self._closed = False
        self._settings: Settings | None = None
        self._finding = asyncio.Lock()
        self._managers: SessionManagers | None = None
        if isinstance(target, str):
            self._settings = _settings_at(target, namespace)
            if self._settings.namespace is not None:
                self._managers = managers_for(self._settings)
        elif namespace in (None, target.namespace):
            self._managers = target
        else:
            raise ConfigurationError(
                f"namespace: the session managers are in {target.namespace!r}, not in {namespace!r}"
            )

    async def tools_changed(self) -> None:
        """Tell all clients that the list of tools has changed."""
        await self.send(None, {"method": "notifications/tools/list_changed"})

    async def prompts_changed(self) -> None:
        """Tell all clients that the list of prompts has changed."""
        await self.send(None, {"method": "notifications/prompts/list_changed"})

    async def resources_changed(self) -> None:
        """Tell all clients that the list of resources has changed."""
        await self.send(None, {"method": "notifications/resources/list_changed"})

    async def resource_updated(self, uri: str) -> None:
        """Tell the clients that are subscribed to the resource, and only these, that it has changed."""
        self._check_open()
        uri = str(uri)
        if "\0" in uri:
            return  # Nobody can be subscribed to it.
        data = _message({"method": "notifications/resources/updated", "params": {"uri": uri}})
        if (managers := await self._found()) is None:
            return
        streams = managers.streams
        with streams.send_order.take(EVENTS) as published:
            with streams.send_order.take(CALLS) as call:
                sessions = await managers.info.get_subscriptions(uri)
                await call.come()
                turn = streams.send_order.take(*sessions)
            with turn:
                await turn.come()
                await streams.send(sessions, data)
            await published.come()
            await managers.topic.publish(data)

    async def send(self, sessions: Iterable[str] | None, notification: dict[str, Any]) -> None:
        """Send a notification to the given sessions: `None` is every session, `[]` is none.

        Args:
            sessions: Session ids.
            notification: A JSON object with `method` and, if it has any, `params`.

        Raises:
            TmcpError: The object is no notification, or `sessions` is one id instead of several.

        """
        self._check_open()
        if isinstance(sessions, (str, bytes)):
            # Its characters would be taken for session ids, and none of them exists.
            raise TmcpError("`sessions` is one text; one session is a list of one id")
        if not isinstance(notification.get("method"), str) or "id" in notification:
            raise TmcpError('a notification has a "method" and no "id"')
        data, recipients = _message(notification), sessions if sessions is None else list(sessions)
        if (managers := await self._found()) is None:
            return
        streams = managers.streams
        with streams.send_order.take(*([EVENTS] if recipients is None else [])) as published:
            with streams.send_order.take(CALLS) as call:
                await call.come()
                turn = streams.send_order.take(*_mailboxes(recipients))
            with turn:
                await turn.come()
                await streams.send(recipients, data)
            if recipients is None:
                await published.come()
                await managers.topic.publish(data)

    async def aclose(self) -> None:
        """Close the connections that are this object's own; it cannot be used afterwards. Idempotent."""
        if self._settings is not None:
            self._closed = True
            if self._managers is not None:
                await self._managers.aclose()

    async def _found(self) -> SessionManagers | None:
        """Return the managers of the namespace; `None` while the database has none."""
        if self._managers is None and self._settings is not None:
            async with self._finding:  # Those who wait here go on in the order in which they came.
                namespace = None if self._managers else await _only_namespace(self._settings)
                if namespace is not None:
                    self._managers = managers_for(self._settings, namespace=namespace)
        return self._managers

    def _check_open(self) -> None:
        if self._closed:
            raise TmcpError("this notifier is closed")


def _settings_at(address: str, namespace: str | None) -> Settings:
    """Return settings with few connections, and otherwise those of the environment, as for the handlers."""
    given: SettingsOverrides = {"database_connections": 2}
    if namespace is not None:
        given["namespace"] = namespace
    if not address:
        settings = Settings.load(**given)
    else:
        from tmcp_serverless.postgres.connect.configured import settings_at  # imports the driver

        settings = settings_at(address, setting="Notifier's target", **given)
    if not settings.has_database:
        raise ConfigurationError("there is no database: give Notifier a connection string")
    return settings


async def _only_namespace(settings: Settings) -> str | None:
    """Return the database's namespace; `None` if it has none yet.

    Raises:
        ConfigurationError: It has several.

    """
    from tmcp_serverless.postgres.connect.configured import database_for  # imports the driver
    from tmcp_serverless.postgres.operate.overview import list_namespaces  # the same

    async with database_for(settings) as database:
        found = await list_namespaces(database, create=settings.create_tables)
    if len(found) > 1:
        raise ConfigurationError(
            f"the database has the namespaces {', '.join(map(repr, found))}: say whose clients are told with "
            "Notifier(…, namespace=…) or TMCP_NAMESPACE"
        )
    if not found:
        logger.warning("the database has had no clients yet, so nobody was told")
        return None
    return found[0]


def _mailboxes(sessions: list[str] | None) -> set[str]:
    return {BROADCAST} if sessions is None else set(sessions)


def _message(notification: dict[str, Any]) -> str:
    message = {"jsonrpc": "2.0", **notification}
    try:
        return json.dumps(message, separators=(",", ":"), allow_nan=False)
    except ValueError:
        # It has a value that is no number in JSON, such as NaN.
        from tmcp_serverless.http import dump  # nearly nobody needs it

        return dump(message).decode()
