"""What `ChatQwen3` raises: this package's chat errors, each of them LangChain's own kind of error too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from langchain_core import exceptions as langchain

from qwen3_rag import errors


class ChatAuthenticationError(errors.AuthenticationError, langchain.ModelAuthenticationError):
    """The key is missing, wrong, or of another region or vendor than the URL."""


class ChatAccessDeniedError(errors.AccessDeniedError, langchain.ModelPermissionDeniedError):
    """The key is good, but not for this model or workspace."""


class ChatRateLimitError(errors.RateLimitError, langchain.ModelRateLimitError):
    """Too many requests or tokens per minute; waiting helps."""


class ChatQuotaError(errors.QuotaError, langchain.ModelPermissionDeniedError):
    """An allowance is used up; no `ModelRateLimitError`, since waiting does not help."""


class ChatArrearsError(errors.ArrearsError, langchain.ModelPermissionDeniedError):
    """The account has to be paid first."""


class ChatModerationError(errors.ModerationError, langchain.ModelInvalidRequestError):
    """The server's content check stopped the prompt or the answer."""


class ChatContextOverflowError(errors.ContextOverflowError, langchain.ContextOverflowError):
    """The prompt is longer than the model's context; LangChain's summarization catches it."""


class ChatUnknownModelError(errors.UnknownModelError, langchain.ModelNotFoundError):
    """The server does not have this model, or not under this name."""


class ChatInvalidRequestError(errors.InvalidRequestError, langchain.ModelInvalidRequestError):
    """The server does not accept the request as it is."""


class ChatServerError(errors.ServerError, langchain.ModelAPIError):
    """The server failed on its side."""


class ChatServerConnectionError(errors.ServerConnectionError, langchain.ModelConnectionError):
    """The server can't be reached."""


class ChatServerTimeoutError(errors.ServerTimeoutError, langchain.ModelTimeoutError):
    """The server did not answer in time."""


class ChatStreamError(errors.StreamError, langchain.ModelConnectionError):
    """An answer broke off: the connection was cut, or the server reported an error in the middle."""


class ChatResponseError(errors.ResponseError, langchain.ModelAPIError):
    """The server's answer is malformed or empty."""


_OURS: Final = (
    ChatAuthenticationError,
    ChatAccessDeniedError,
    ChatRateLimitError,
    ChatQuotaError,
    ChatArrearsError,
    ChatModerationError,
    ChatContextOverflowError,
    ChatUnknownModelError,
    ChatInvalidRequestError,
    ChatServerError,
    ChatServerConnectionError,
    ChatServerTimeoutError,
    ChatStreamError,
    ChatResponseError,
)

CLASSES: Final[Mapping[type[errors.ChatError], type[errors.ChatError]]] = MappingProxyType(
    {ours.__bases__[0]: ours for ours in _OURS}
)
"""The framework-free error and what is raised instead of it."""
