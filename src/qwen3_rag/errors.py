"""One exception tree. Every message names the offending value and the way out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


class Qwen3RagError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigurationError(Qwen3RagError, ValueError):
    """An argument has a value that cannot work; raised before any expensive work."""


class MissingDependencyError(Qwen3RagError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class ModelError(Qwen3RagError):
    """Base class of what can be wrong with a model."""


class ModelNotFoundError(ModelError, OSError):
    """Neither a folder nor the cache nor the hub has the model, or the hub can't be reached."""


class ModelCheckError(ModelError):
    """The files loaded, but they are not the Qwen3 model that they were taken for.

    Raised instead of returning vectors or scores that would be silently wrong: a tokenizer that appends no EOS, a
    reranker whose language-model head is newly initialised, a frame that does not tokenise as documented.
    """


class InputError(Qwen3RagError, ValueError):
    """A text, vector or record can't be processed; the message says which one and why."""


class OutOfMemoryError(Qwen3RagError, MemoryError):
    """One single sequence does not fit the device, so halving the packs can't help any more."""


class StoreError(Qwen3RagError):
    """Base class of what can go wrong with a Milvus collection."""


class StoreConnectionError(StoreError, ConnectionError):
    """The database can't be opened or reached; the message names the cause."""


class CollectionError(StoreError):
    """The collection exists but does not fit: other fields, dimension, metric or model."""


class FilterError(StoreError, ValueError):
    """A metadata filter can't be expressed, so nothing was searched or deleted."""


class UnsupportedError(StoreError, NotImplementedError):
    """This Milvus (often Milvus Lite) can't do what was asked."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What of an answer had arrived when it broke off.

    Attributes:
        reasoning: The reasoning so far.
        text: The answer so far.
        tool_calls: The calls so far, each with `id`, `name` and `arguments` (a string, perhaps half of its JSON).
    """

    reasoning: str = ""
    text: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.reasoning or self.text or self.tool_calls)


class ApiError(Qwen3RagError):
    """Base class of what a server, of chat, embeddings or reranking, can give instead of a result.

    Attributes:
        retryable: Whether the same request may succeed later.
        status: HTTP status, where there was one.
        code: The server's own error code, or an empty string.
        request_id: What the vendor's support asks for.
        retry_after: Seconds after which the server wants to be asked again.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after


class ChatError(ApiError):
    """Base class of what a chat server can send instead of an answer.

    Attributes:
        partial: What had arrived before the error.
    """

    def __init__(self, message: str, *, partial: Partial | None = None, **said: Any) -> None:
        super().__init__(message, **said)
        self.partial = partial


class AuthenticationError(ChatError, PermissionError):
    """The key is missing, wrong, or of another region or vendor than the URL."""


class AccessDeniedError(ChatError, PermissionError):
    """The key is good, but not for this model or workspace."""


class RateLimitError(ChatError):
    """Too many requests or tokens per minute; waiting helps."""

    retryable = True


class QuotaError(ChatError):
    """An allowance is used up; waiting does not help."""


class ArrearsError(ChatError):
    """The account has to be paid first."""


class ModerationError(ChatError):
    """The server's content check stopped the prompt or the answer."""


class ContextOverflowError(ChatError, ValueError):
    """Prompt and answer together are longer than the model's context."""


class UnknownModelError(ChatError, LookupError):
    """The server does not have this model, or not under this name."""


class InvalidRequestError(ChatError, ValueError):
    """The server does not accept the request as it is."""


class ServerError(ChatError):
    """The server failed on its side; the same request may succeed later."""

    retryable = True


class ServerConnectionError(ChatError, ConnectionError):
    """The server can't be reached."""

    retryable = True


class ServerTimeoutError(ChatError, TimeoutError):
    """The server did not answer in time."""

    retryable = True


class StreamError(ChatError, ConnectionError):
    """An answer broke off: the connection was cut, or the server reported an error in the middle."""

    retryable = True


class ResponseError(ChatError, ValueError):
    """The server's answer is malformed or empty."""

    retryable = True


class RemoteError(ApiError):
    """Base class of what can go wrong with an embedding or reranking server.

    Attributes:
        attempts: How often the request was sent.
    """

    def __init__(self, message: str, **said: Any) -> None:
        super().__init__(message, **said)
        self.attempts = 1

    def __str__(self) -> str:
        told = [
            f"HTTP {self.status}" if self.status else "",
            f"code {self.code}" if self.code else "",
            f"request {self.request_id}" if self.request_id else "",
            f"{self.attempts} attempts" if self.attempts > 1 else "",
        ]
        details = ", ".join(filter(None, told))
        return f"{self.args[0]} [{details}]" if details else str(self.args[0])


class RemoteAuthenticationError(RemoteError):
    """The server does not accept the key, or the key may not use this model or region."""


class RemoteQuotaError(RemoteError):
    """The account is in arrears or its quota is used up: waiting does not help."""


class RemoteRequestError(RemoteError, ValueError):
    """The server understood the request and refuses it: wrong model, option or text."""


class RemoteInputTooLongError(RemoteRequestError):
    """A text, or a request as a whole, is over the server's limit."""


class RemoteModerationError(RemoteRequestError):
    """The server's content inspection refuses a text."""


class RemoteRateLimitError(RemoteError):
    """Too many requests or tokens, and still so after all attempts."""

    retryable = True


class RemoteServerError(RemoteError):
    """The server failed or was overloaded, and still so after all attempts."""

    retryable = True


class RemoteConnectionError(RemoteError, ConnectionError):
    """The server can't be reached, or the connection broke, and still so after all attempts."""

    retryable = True


class RemoteTimeoutError(RemoteError, TimeoutError):
    """No complete answer within the deadline."""

    retryable = True


class RemoteAnswerError(RemoteError):
    """The server answered, but not with what was asked for: nothing of such an answer is used."""


class RemoteBatchError(RemoteError):
    """Some of a call's requests failed; what succeeded is here.

    Attributes:
        done: Results by position in the call's input: vectors for embedding, scores for reranking.
        failed: Errors by position; a position that was never sent has the error that stopped the call.
    """

    def __init__(
        self,
        message: str,
        *,
        done: Mapping[int, Any],
        failed: Mapping[int, RemoteError],
        resume: Callable[[], Any] | None = None,
        aresume: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        super().__init__(message)
        self.done = done
        self.failed = failed
        self._resume = resume
        self._aresume = aresume

    def __reduce__(self) -> tuple[Any, ...]:
        # A connection can't be pickled, so that a copy in another process has the results but can't go on.
        return _unpickled_batch_error, (self.args[0], dict(self.done), dict(self.failed))

    def resume(self) -> Any:
        """Sends what is missing, and returns the call's whole result.

        Raises:
            RemoteError: As the call itself did, if something is still missing.
        """
        if self._resume is None:
            raise ConfigurationError("this error was copied from another process: call the method again instead")
        return self._resume()

    async def aresume(self) -> Any:
        """Async twin of `resume`."""
        if self._aresume is None:
            raise ConfigurationError("this error was copied from another process: call the method again instead")
        return await self._aresume()


def _unpickled_batch_error(message: str, done: dict[int, Any], failed: dict[int, RemoteError]) -> RemoteBatchError:
    return RemoteBatchError(message, done=done, failed=failed)


class TruncationWarning(UserWarning):
    """Some texts were longer than the model's limit and lost tokens; given once per call."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and all that led to it, each once: some libraries raise errors from themselves, which is a circle."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop(0)
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            pending += [each.__cause__, each.__context__]


def missing_dependency(package: str, extra: str) -> MissingDependencyError:
    """Builds the error for an optional dependency that is not installed.

    Args:
        package: Name of the distribution that could not be imported.
        extra: The extra of this package that installs it.

    Returns:
        The error, ready to be raised `from` the original `ImportError`.
    """
    return MissingDependencyError(f"{package!r} is not installed: pip install 'qwen3-rag[{extra}]'")
