"""TLS: the context for an `sslmode`, made once and not at every connection.

Loading a bundle of certificates takes longer than the rest of connecting (the public roots: 13.5 of 15 ms).
The modes mean the same as in libpq (postgresql.org/docs/current/libpq-ssl.html), `sslrootcert=system`
included.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tmcp_serverless.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ENCRYPTED",
    "MODES",
    "home_is_closed",
    "make_context",
    "optional_contexts",
    "sslmode_of",
    "with_tls_settled",
]

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
ENCRYPTED = ("require", "verify-ca", "verify-full")
_ON = ("1", "on", "true", "yes", "t", "y")
_FILES = ("postgresql.crt", "postgresql.key", "root.crt", "root.crl")
_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def with_tls_settled(found: dict[str, str]) -> dict[str, str]:
    """Return the keywords with one `sslmode` in the place of all keywords about the use of TLS.

    `ssl` is the same as `sslmode` to asyncpg, and `true` or `false` elsewhere. If both are there, the
    stricter one holds.

    Raises:
        ValueError: The keywords contradict each other.

    """
    settled = dict(found)
    modes = [mode.lower() for key in ("sslmode", "ssl") if (mode := settled.pop(key, None)) is not None]
    modes = ["require" if mode in _ON else mode if mode in MODES else "disable" for mode in modes]
    if settled.pop("direct_tls", "").lower() in _ON:
        settled["sslnegotiation"] = "direct"
    if modes:
        settled["sslmode"] = max(modes, key=MODES.index)
    if "channel_binding" in settled:
        settled["channel_binding"] = settled["channel_binding"].lower()
    if settled.get("channel_binding") == "require":
        if settled.get("sslmode") == "disable" or settled.get("host", "").startswith("/"):
            raise ValueError("channel_binding=require needs TLS")
        settled["sslmode"] = "verify-full"
    if settled.get("sslnegotiation") == "direct" and settled.get("sslmode") not in (None, *ENCRYPTED):
        raise ValueError("sslnegotiation=direct needs sslmode=require, verify-ca or verify-full")
    return settled


def sslmode_of(parameters: Mapping[str, str]) -> str:
    """Return the `sslmode` that holds for these keywords, and for the environment.

    If the keywords name a root certificate, the server is verified with it, even without an `sslmode`.

    Raises:
        ConfigurationError: There is no such mode.

    """
    default = "prefer"
    if _root(parameters) == "system":
        default = "verify-full"
    elif parameters.get("sslrootcert"):
        default = "verify-ca"
    elif parameters.get("sslnegotiation") == "direct":
        default = "require"
    mode = parameters.get("sslmode") or os.environ.get("PGSSLMODE") or default
    if mode not in MODES:
        said_by = "sslmode" if parameters.get("sslmode") else "PGSSLMODE"
        raise ConfigurationError(f"{said_by} is {mode!r}; it has to be one of {', '.join(MODES)}")
    return mode


def make_context(parameters: Mapping[str, str]) -> ssl.SSLContext | None:
    """Return the TLS context for the keywords; `None` if encryption is optional.

    It is optional with `disable`, `allow` and `prefer`. For `allow` and `prefer`, asyncpg itself tries with
    and without TLS, and there is no bundle to be loaded.

    Raises:
        ConfigurationError: A file is missing or holds no certificate.

    """
    mode = sslmode_of(parameters)
    return _context(parameters, mode) if mode in ENCRYPTED else None


def optional_contexts(parameters: Mapping[str, str]) -> list[ssl.SSLContext | Literal[False]]:
    """Return the attempts, in order, if encryption is optional: with TLS, and without.

    asyncpg does this by itself, but fails for accounts with a home that it cannot look into.
    """
    mode = sslmode_of(parameters)
    if mode == "disable":
        return [False]
    context = _context(parameters, mode)
    return [context, False] if mode == "prefer" else [False, context]


def home_is_closed() -> bool:
    """Return true if libpq's files in the home of this account cannot be looked at."""
    try:
        folder = Path.home() / ".postgresql"
    except RuntimeError:
        return False
    for name in _FILES:
        try:
            is_closed = (folder / name).is_file() and not os.access(folder / name, os.R_OK)
        except OSError:
            return True
        if is_closed:
            return True
    return False


def _context(parameters: Mapping[str, str], mode: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    context.set_alpn_protocols(["postgresql"])
    if mode in ENCRYPTED:
        _trust(context, parameters, mode)
    else:
        context.verify_mode = ssl.CERT_NONE
    _revoke(context, parameters)
    _revoke_by_folder(context, parameters)
    _identify(context, parameters)
    _bound(context, parameters)
    return context


def _root(parameters: Mapping[str, str]) -> str | None:
    return parameters.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")


def _own(name: str) -> Path | None:
    """Return a file of the user's own, from libpq's folder in the home; `None` if there is none."""
    try:
        path = Path.home() / ".postgresql" / name
        return path if path.is_file() else None
    except (RuntimeError, OSError):
        return None


def _trust(context: ssl.SSLContext, parameters: Mapping[str, str], mode: str) -> None:
    root = _root(parameters) or _own("root.crt")
    if root is None and parameters.get("channel_binding") == "require":
        # The driver has no channel binding. Verifying the server has the same effect: no third party stands
        # in between.
        root = "system"
    if root == "system":
        if mode != "verify-full":
            raise ConfigurationError(f"sslrootcert=system needs sslmode=verify-full, and not {mode}")
        context.load_default_certs()
    elif root is not None:
        _load(context, root, "sslrootcert")
    elif mode == "require":
        context.verify_mode = ssl.CERT_NONE
    else:
        raise ConfigurationError(
            f"sslmode={mode} needs a root certificate: set sslrootcert to a bundle's path, or to `system`"
        )


def _revoke(context: ssl.SSLContext, parameters: Mapping[str, str]) -> None:
    listed = parameters.get("sslcrl") or os.environ.get("PGSSLCRL") or _own("root.crl")
    if listed is not None and context.verify_mode is not ssl.CERT_NONE:
        _load(context, listed, "sslcrl")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _revoke_by_folder(context: ssl.SSLContext, parameters: Mapping[str, str]) -> None:
    folder = parameters.get("sslcrldir") or os.environ.get("PGSSLCRLDIR")
    if folder and context.verify_mode is not ssl.CERT_NONE:
        if not Path(folder).is_dir():
            raise ConfigurationError(f"sslcrldir: {folder} is no folder")
        context.load_verify_locations(capath=folder)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _load(context: ssl.SSLContext, path: str | Path, keyword: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{keyword}: {path} cannot be used: {error}") from error


def _identify(context: ssl.SSLContext, parameters: Mapping[str, str]) -> None:
    if parameters.get("sslcertmode", "").lower() == "disable":
        return
    certificate = parameters.get("sslcert") or os.environ.get("PGSSLCERT") or _own("postgresql.crt")
    if certificate is None:
        return
    key = parameters.get("sslkey") or os.environ.get("PGSSLKEY") or _own("postgresql.key")
    password = parameters.get("sslpassword", "")
    try:
        context.load_cert_chain(certificate, keyfile=key, password=lambda: password)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"sslcert: {certificate} cannot be used: {error}") from error


def _bound(context: ssl.SSLContext, parameters: Mapping[str, str]) -> None:
    for keyword, variable, attribute, default in (
        ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", "minimum_version", "TLSv1.2"),
        ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", "maximum_version", None),
    ):
        version = parameters.get(keyword) or os.environ.get(variable) or default
        if version is None:
            continue
        if version not in _VERSIONS:
            raise ConfigurationError(f"{keyword} is {version!r}; it has to be one of {', '.join(_VERSIONS)}")
        setattr(context, attribute, _VERSIONS[version])
