"""What pymilvus and gRPC raise and log, turned into this package's errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from qwen3_rag.errors import CollectionError, StoreConnectionError, StoreError, UnsupportedError

_CONNECT_FAILED: Final = 2
_COLLECTION_NOT_FOUND: Final = 100
_COLLECTION_NOT_LOADED: Final = 101
_CLOSED: Final = ("closed channel", "should create connection first")
_GONE: Final = ("UNAVAILABLE", "CANCELLED", *_CLOSED)
_REFUSED: Final = ("UNAUTHENTICATED", "PERMISSION_DENIED", "DEADLINE_EXCEEDED")
_NOISY: Final = ("pymilvus.decorators", "pymilvus.client.connection_manager", "pymilvus.client.grpc_handler")

_quiet: ContextVar[bool] = ContextVar("qwen3_rag_quiet", default=False)


class ConnectionLostError(StoreConnectionError):
    """The server is gone, or was, so this connection is of no use any more."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps pymilvus from logging the tracebacks of errors that we handle, in this thread or task only."""
    for name in _NOISY:
        logging.getLogger(name).addFilter(_is_loud)  # adding it a second time changes nothing
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def _is_loud(_record: logging.LogRecord) -> bool:
    return not _quiet.get()


@contextmanager
def captured(logger_name: str, *, any_thread: bool = False) -> Iterator[list[BaseException]]:
    """Collects the exceptions that a library logs, instead of letting it log them in this thread or in any."""
    causes: list[BaseException] = []
    thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        ours = any_thread or record.thread == thread
        if not ours or not record.exc_info or record.exc_info[1] is None:
            return True
        causes.append(record.exc_info[1])
        return False

    logger = logging.getLogger(logger_name)
    logger.addFilter(keep)
    try:
        yield causes
    finally:
        logger.removeFilter(keep)


@contextmanager
def translated(action: str, token: str | None = None) -> Iterator[None]:
    """Turns errors of pymilvus and gRPC into ours; none of them shows the token.

    Args:
        action: What was tried, to begin the message with.
        token: The secret to keep out of it.

    Raises:
        StoreConnectionError: If the server can't be reached, refuses the credentials or does not answer in time.
        UnsupportedError: If this Milvus can't do it.
        CollectionError: If the collection is gone or was released.
        StoreError: For everything else.
    """
    import grpc  # type: ignore[import-untyped,unused-ignore]
    from pymilvus.exceptions import MilvusException

    try:
        with quiet():
            yield
    except (MilvusException, grpc.RpcError) as error:
        ours = _typed(error, f"{action} failed: {_redacted(_text(error), token)}")
        raise ours from (error if _text(error) == _redacted(_text(error), token) else None)
    except ValueError as error:  # what gRPC raises when another thread closed the connection
        if not any(words in str(error) for words in _CLOSED):
            raise
        raise ConnectionLostError(f"{action} failed: the connection was closed meanwhile") from error


def _text(error: Any) -> str:
    details = error.details() if callable(getattr(error, "details", None)) else getattr(error, "message", None)
    return str(details or error)


def _redacted(text: str, token: str | None) -> str:
    if not token:
        return text
    password = token.partition(":")[2]
    return text.replace(token, "***").replace(password, "***") if password else text.replace(token, "***")


def _typed(error: Any, message: str) -> StoreError:
    status = error.code() if callable(error.code) else error.code
    name = getattr(status, "name", "")
    if name == "UNIMPLEMENTED" or "UNIMPLEMENTED" in message:
        return UnsupportedError(message)
    if status == _CONNECT_FAILED or any(words in f"{name} {message}" for words in _GONE):
        return ConnectionLostError(message)
    if any(words in f"{name} {message}" for words in _REFUSED):
        return StoreConnectionError(message)
    if status in (_COLLECTION_NOT_FOUND, _COLLECTION_NOT_LOADED):
        return CollectionError(message)
    return StoreError(message)
