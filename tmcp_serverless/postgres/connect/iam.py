"""RDS IAM authentication: a signed token as the password.

A token is signed on this machine, without a request, and is good for 15 minutes from then on. A connection
that it has opened stays open. (AWS: "IAM database authentication for PostgreSQL")
"""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.postgres.connect.dsn import hosts_and_ports
from tmcp_serverless.postgres.connect.login import in_thread, keep_secrets_out_of_logs, missing_extra

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["IamLogin"]

_LASTS_SECONDS = 900
_RENEWED_SECONDS = 600.0
_ENDPOINT = re.compile(r"\.([a-z0-9-]+)\.rds\.amazonaws\.com$|\.rds\.(cn-[a-z0-9-]+)\.amazonaws\.com\.cn$")


class IamLogin:
    """A login with a token. A connection gets a new token when the last one is older than ten minutes.

    Args:
        setting: The source of the address, for error messages.

    """

    needs_tls = True

    def __init__(self, *, setting: str = "TMCP_DATABASE_IAM") -> None:
        self._setting = setting
        self._session: Any = None
        self._tokens: dict[tuple[str, str, str], tuple[str, float]] = {}
        self._signing = threading.Lock()

    async def complete(
        self, parameters: Mapping[str, str], *, refused: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """Return the keywords with a token as the password."""
        address = self._address(parameters)
        token, made_at = self._tokens.get(address, ("", 0.0))
        is_refused = refused is not None and refused.get("password") == token
        # The wall clock: the monotonic clock may stand still while the process is frozen.
        if is_refused or time.time() - made_at > _RENEWED_SECONDS:
            token = await in_thread(lambda: self._renew(address, token), self._setting)
        return {**parameters, "password": token}

    def _address(self, parameters: Mapping[str, str]) -> tuple[str, str, str]:
        places = hosts_and_ports(parameters)
        if len(places) != 1 or "host" not in parameters or "user" not in parameters:
            raise ConfigurationError(
                f"{self._setting} needs one host and a user in the connection string: "
                "postgresql://user@host:port/dbname"
            )
        return *places[0], parameters["user"]

    def _renew(self, address: tuple[str, str, str], known: str) -> str:
        with self._signing:
            token, made_at = self._tokens.get(address, ("", 0.0))
            if token == known or time.time() - made_at > _RENEWED_SECONDS:
                token = self._sign(*address)
                self._tokens[address] = (token, time.time())
            return token

    def _sign(self, host: str, port: str, user: str) -> str:
        """Make a token, as boto3's `generate_db_auth_token` does.

        That method belongs to a client for all of RDS. The client takes 80 ms to make and adds nothing here.
        """
        try:
            import boto3  # an extra
            from botocore.model import ServiceId  # the same
            from botocore.signers import RequestSigner  # the same
        except ImportError:
            raise missing_extra(self._setting) from None
        keep_secrets_out_of_logs()
        if self._session is None:
            self._session = boto3.Session()
        found = _ENDPOINT.search(host)
        region = (found[1] or found[2]) if found else self._session.region_name
        credentials = self._session.get_credentials()
        if region is None or credentials is None:
            what = "region" if region is None else "credentials"
            raise ConfigurationError(f"{self._setting}: there are no AWS {what} to sign a token with")
        signer = RequestSigner(ServiceId("rds"), region, "rds-db", "v4", credentials, self._session.events)
        url: Any = signer.generate_presigned_url(
            {
                "method": "GET",
                "url": f"https://{host}:{port}/",
                "body": {"Action": "connect", "DBUser": user},
                "headers": {},
                "context": {},
            },
            operation_name="connect",
            expires_in=_LASTS_SECONDS,
            region_name=region,
        )
        return str(url).removeprefix("https://")
