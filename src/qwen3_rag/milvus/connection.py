"""Opening and closing a database: paths, addresses, and the lock of Milvus Lite."""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from qwen3_rag.errors import ConfigurationError, StoreConnectionError, causes, missing_dependency
from qwen3_rag.milvus.failures import captured, quiet, translated

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to wait for a server when the caller names no timeout."""

_TRANSPORTS: Final = 3
"""Connections to a server that are tried at most. gRPC's channels to one address share a transport; if the server has just
ended it for too many pings (as Milvus Lite's does with clients that were idle for long), the next attempt gets a new one."""

_SCHEMES: Final = ("http", "https", "tcp")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a database is.

    Attributes:
        address: Absolute path of a Milvus Lite database, or the address of a server, without credentials.
        path: The path if it is Milvus Lite.
        token: API key or `user:password`; in no repr.
    """

    address: str
    path: Path | None
    token: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, uri: str | Path, token: str | None) -> Target:
        """Reads a path or an address, without touching the file system or the network.

        Raises:
            ConfigurationError: If it is neither.
        """
        if isinstance(uri, str) and "://" in uri:
            return cls._parse_address(uri, token)
        text = str(uri)
        if not text.endswith(".db"):
            raise ConfigurationError(
                f"uri {text!r} is neither a Milvus Lite database (a path that ends with '.db', in lower case) nor the "
                "address of a server ('http://host:19530', 'https://…zillizcloud.com')"
            )
        if token:
            raise ConfigurationError(f"uri {text!r} is a local database, which takes no token; remove one of them")
        path = Path(text).expanduser().absolute()
        return cls(str(path), path)

    @classmethod
    def _parse_address(cls, uri: str, token: str | None) -> Target:
        try:
            parts = urlsplit(uri)
            host, _port = parts.hostname, parts.port
        except ValueError as error:
            raise ConfigurationError(f"the uri is no address of a Milvus server: {error}") from None
        if parts.scheme.lower() not in _SCHEMES or not host:
            # The rest is not quoted, because it may hold a password.
            raise ConfigurationError(
                f"the uri that begins with {parts.scheme + '://'!r} is no address of a Milvus server; use "
                "'http://host:19530' or 'https://host', or a path that ends with '.db'"
            )
        credentials, _, location = parts.netloc.rpartition("@")
        return cls(urlunsplit(parts._replace(netloc=location)), None, token or credentials or None)


@dataclass(slots=True)
class Connection:
    """An open client.

    Attributes:
        client: The `pymilvus.MilvusClient`.
        target: Where it is connected to.
        lite: Whether Milvus Lite answers, in this process or as a server.
        version: Major and minor version of another server, if it says them.
        writing: Shared by all writers of this process to one database: Milvus Lite reports errors for writes that
            collide, even though it makes them.
        may_follow_crash: Whether the process that had a Milvus Lite database open before may have been killed.
    """

    client: Any
    target: Target
    lite: bool
    version: tuple[int, int] | None
    writing: threading.RLock
    may_follow_crash: bool

    def close(self) -> None:
        """Closes the client, and gives a local database back when nobody else in this process uses it."""
        with quiet():
            self.client.close()
        if self.target.path is not None:
            _release(self.target.path)


def connect(target: Target, *, db_name: str | None, timeout: float | None) -> Connection:
    """Opens a database.

    Raises:
        MissingDependencyError: If pymilvus or milvus-lite is not installed.
        StoreConnectionError: If it can't be opened or reached; the message names the cause.
    """
    try:
        import pymilvus
    except ImportError as error:
        raise missing_dependency("pymilvus", "milvus") from error
    options = {
        "token": target.token or "",
        "db_name": db_name or "",
        "timeout": timeout or CONNECT_TIMEOUT,
        # Otherwise pymilvus shares connections by address and token alone, so that one with TLS may get one without.
        "dedicated": True,
    }
    if target.path is None:
        for _ in range(_TRANSPORTS - 1):
            try:
                return _connect_to_server(target, options)
            except StoreConnectionError as error:
                if not any("too many pings" in str(cause).lower() for cause in causes(error)):
                    raise
        return _connect_to_server(target, options)
    path = target.path.resolve()
    may_follow_crash = _acquire(path)
    with ExitStack() as undo, translated(f"opening {str(path)!r}"):
        undo.callback(_release, path)
        client = pymilvus.MilvusClient(uri=str(path), **options)
        undo.pop_all()
    return Connection(client, Target(target.address, path), True, None, _writing(str(path)), may_follow_crash)


def _connect_to_server(target: Target, options: dict[str, Any]) -> Connection:
    import pymilvus

    with ExitStack() as undo, translated(f"connecting to {target.address!r}", target.token):
        client = pymilvus.MilvusClient(uri=target.address, **options)
        undo.callback(client.close)
        version = client.get_server_version()
        _check_database(client, target, options["db_name"])
        undo.pop_all()
        lite = version.startswith("milvus_lite")  # an old server says "2.3-lite"
        return Connection(client, target, lite, _numbers(version), _writing(target.address), may_follow_crash=lite)


def _check_database(client: Any, target: Target, name: str) -> None:
    """Milvus 2.3 answers for a database that does not exist as if it were empty.

    Raises:
        StoreConnectionError: If there is none of that name.
    """
    if not name:
        return
    from pymilvus import MilvusException

    with suppress(MilvusException):  # not every account may list them
        known = client.list_databases()
        if name not in known:
            names = ", ".join(map(repr, sorted(known)))
            raise StoreConnectionError(f"{target.address!r} has no database {name!r}; it has {names}")


def _numbers(version: str) -> tuple[int, int] | None:
    """Reads `v2.5.4`, or the longer sentences of Zilliz Cloud."""
    found = re.search(r"(\d+)\.(\d+)", version)
    return None if found is None else (int(found[1]), int(found[2]))


@dataclass(slots=True)
class _Database:
    """A Milvus Lite database that is open in this process.

    Attributes:
        users: How many connections use it.
        ours: Whether we opened it; a database that the application had open before is not ours to close.
        may_follow_crash: Whether there was a log, which a process that ends orderly takes away.
    """

    users: int
    ours: bool
    may_follow_crash: bool


_lock = threading.RLock()
_databases: dict[Path, _Database] = {}
_writers: dict[str, threading.RLock] = {}


def _writing(address: str) -> threading.RLock:
    with _lock:
        return _writers.setdefault(address, threading.RLock())


def _acquire(path: Path) -> bool:
    """Starts the database in this process, or joins it, counts one user more, and says whether a crash came before."""
    try:
        from milvus_lite.server_manager import server_manager_instance
    except ImportError as error:
        raise missing_dependency("milvus-lite", "milvus") from error
    with _lock:
        if path not in _databases:
            _check_path(path)
            ours = str(path) not in getattr(server_manager_instance, "_servers", {})
            may_follow_crash = not ours or any(path.glob("**/wal/*"))
            with captured("milvus_lite.server_manager") as causes:
                if server_manager_instance.start_and_get_uri(str(path)) is None:
                    cause = causes[-1] if causes else None
                    raise StoreConnectionError(f"can't open {str(path)!r}: {_reason(cause)}") from cause
            _databases[path] = _Database(0, ours, may_follow_crash)
        _databases[path].users += 1
        return _databases[path].may_follow_crash


def _release(path: Path) -> None:
    from milvus_lite.server_manager import server_manager_instance

    with _lock:
        database = _databases[path]
        database.users -= 1
        if not database.users:
            del _databases[path]
            if database.ours:
                server_manager_instance.release_server(str(path))


def _check_path(path: Path) -> None:
    if not path.parent.is_dir():
        raise StoreConnectionError(
            f"can't open {str(path)!r}: the folder {str(path.parent)!r} does not exist; create it first"
        )
    if path.exists() and not path.is_dir():
        raise StoreConnectionError(
            f"can't open {str(path)!r}: it is a single file, and Milvus Lite 3 keeps a database in a folder. If Milvus "
            "Lite 2 wrote it, choose another path and ingest again"
        )


def _reason(cause: BaseException | None) -> str:
    if cause is None:
        return "Milvus Lite gave no reason"
    if type(cause).__name__ == "DataDirLockedError":
        return "another process has it open; close it there, or let processes share one server (`milvus-lite server`)"
    if isinstance(cause, PermissionError) or "Read-only file system" in str(cause):
        return f"it can't be written ({cause}), which Milvus Lite needs even to read"
    return f"{type(cause).__name__}: {cause}"
