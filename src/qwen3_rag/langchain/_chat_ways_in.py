"""The ways into a chat model, which are the only places where the config is known."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableConfig
from langchain_openai.chat_models.base import BaseChatOpenAI
from typing_extensions import override

from qwen3_rag.langchain._chat_options import configured


class ConfiguredChat(BaseChatOpenAI):
    """Adds what `config["configurable"]` says about thinking to the keywords of each call.

    LangChain's own `configurable_fields` would need the model to be wrapped, and would make a copy of it for each call.
    """

    @override
    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        return super().invoke(input, config, stop=stop, **configured(config, kwargs))

    @override
    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        return await super().ainvoke(input, config, stop=stop, **configured(config, kwargs))

    @override
    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        yield from super().stream(input, config, stop=stop, **configured(config, kwargs))

    @override
    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        chunks = super().astream(input, config, stop=stop, **configured(config, kwargs))
        async with aclosing(cast("AsyncGenerator[AIMessageChunk, None]", chunks)):
            async for chunk in chunks:
                yield chunk

    @override
    def stream_events(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return super().stream_events(input, config, **_for_v3(config, kwargs))

    @override
    def astream_events(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return super().astream_events(input, config, **_for_v3(config, kwargs))


def _for_v3(config: RunnableConfig | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The older versions go through `astream`, which reads the config itself."""
    return configured(config, kwargs) if kwargs.get("version") == "v3" else kwargs
