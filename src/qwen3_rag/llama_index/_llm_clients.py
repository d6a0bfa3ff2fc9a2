"""The SDK's clients of `Qwen3LLM`: one for all sync calls, one per event loop for async ones, with the key of one endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Self, TypeVar
from weakref import WeakKeyDictionary

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.llms.openai_like import OpenAILike
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout
from openai import OpenAI as SyncOpenAI
from typing_extensions import override

from qwen3_rag.thinking import Endpoint
from qwen3_rag.thinking.loops import at_shutdown, forget_closed

Client = TypeVar("Client", SyncOpenAI, AsyncOpenAI)

_CONNECT_SECONDS: Final = 5.0  # the openai package's own; `timeout` is for the answer


class ClientKeeping(OpenAILike):
    """What `Qwen3LLM` does with clients; opened at the first call, or for each one with `reuse_client=False`."""

    _endpoint: Endpoint = PrivateAttr()
    # A client's connections belong to the event loop that opened them; kept for the next loop they are "closed" there.
    _aclients: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[AsyncOpenAI, object]] = PrivateAttr(
        default_factory=WeakKeyDictionary
    )

    def close(self) -> None:
        """Closes the connections of sync calls; a later call opens new ones. What the user gave stays open."""
        client, self._client = self._client, None
        if client is not None and self._http_client is None:
            client.close()

    async def aclose(self) -> None:
        """Closes the connections of the calls in this event loop."""
        kept = self._aclients.pop(asyncio.get_running_loop(), None)
        if kept is not None and self._async_http_client is None:
            await kept[0].close()

    @override
    def _get_credential_kwargs(self, is_async: bool = False) -> dict[str, Any]:
        return {
            **super()._get_credential_kwargs(is_async),
            "api_key": self._endpoint.api_key.get_secret_value(),
            "timeout": Timeout(self.timeout, connect=min(self.timeout, _CONNECT_SECONDS)),
        }

    @override
    def _get_client(self) -> SyncOpenAI:
        return _anonymous(super()._get_client())

    @override
    def _get_aclient(self) -> AsyncOpenAI:
        loop = asyncio.get_running_loop()
        forget_closed(self._aclients)
        if loop in self._aclients:
            return self._aclients[loop][0]
        client = self._new_aclient()
        if self.reuse_client:
            ours = self._async_http_client is None
            self._aclients[loop] = client, at_shutdown(client.close) if ours else None
        return client

    def _new_aclient(self) -> AsyncOpenAI:
        options = self._get_credential_kwargs(is_async=True)
        # The SDK's own would, when let go of, close itself in whatever loop runs then, and fail there.
        http_client = options.pop("http_client", None) or DefaultAsyncHttpxClient()
        return _anonymous(AsyncOpenAI(**options, http_client=http_client))

    @contextmanager
    def _connected(self) -> Iterator[SyncOpenAI]:
        client = self._get_client()
        try:
            yield client
        finally:
            if not self.reuse_client and self._http_client is None:
                client.close()

    @asynccontextmanager
    async def _aconnected(self) -> AsyncIterator[AsyncOpenAI]:
        client = self._get_aclient()
        try:
            yield client
        finally:
            if not self.reuse_client and self._async_http_client is None:
                await client.close()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        copied: Self = self.model_copy()  # it shares the clients, which can't be copied
        return copied


def _anonymous(client: Client) -> Client:
    """The SDK takes organization and project of an OpenAI account from the environment; no other vendor is to know them."""
    client.organization = client.project = None
    return client
