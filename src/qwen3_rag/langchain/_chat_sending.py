"""Sends what was planned, until the server takes it: sync and async differ in nothing but the sending."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Self

import openai
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from openai.resources.chat import AsyncCompletions
from typing_extensions import override

from qwen3_rag.langchain._cancelling import ended_if_cancelled
from qwen3_rag.langchain._chat_attempt import ChatAttempt, Piece
from qwen3_rag.langchain._chat_loops import in_this_loop
from qwen3_rag.langchain._chat_reader import gather
from qwen3_rag.langchain._chat_ways_in import ConfiguredChat
from qwen3_rag.thinking.asked import Asked


class SendingChat(ConfiguredChat):
    """Generates and streams through attempts; whether the server streams is the plan's choice, call by call."""

    @abstractmethod
    def _ask(
        self, messages: LanguageModelInput, stop: list[str] | None, options: Mapping[str, Any], *, stream: bool
    ) -> Asked:
        """Returns a call, from the arguments of LangChain's methods."""

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _result(list(self._exchange(self._ask(messages, stop, kwargs, stream=False))))

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        async with ended_if_cancelled(run_manager.on_llm_error if run_manager else None):
            return _result([piece async for piece in self._aexchange(self._ask(messages, stop, kwargs, stream=False))])

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for _, chunk in self._exchange(self._ask(messages, stop, kwargs, stream=True)):
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self._aexchange(self._ask(messages, stop, kwargs, stream=True))) as pieces:
            async for _, chunk in pieces:
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()  # it shares the clients, which can't be copied

    def _async_completions(self) -> AsyncCompletions:
        own: AsyncCompletions = self.async_client
        if self.http_async_client is not None or self.http_socket_options is not None:
            return own  # connections as the user wants them
        return in_this_loop(self.root_async_client).chat.completions

    def _exchange(self, asked: Asked) -> Iterator[Piece]:
        self._ensure_sync_client_available()
        before = None
        while True:
            with ChatAttempt(asked, before) as attempt:
                if attempt.plan.stream:
                    with self.client.create(**attempt.request()) as stream:
                        attempt.received(stream.response.headers, keep=self.include_response_headers)
                        for chunk in stream:
                            yield from attempt.read(chunk)
                    yield from attempt.end()
                else:
                    raw = self.client.with_raw_response.create(**attempt.request())
                    attempt.received(raw.headers, keep=self.include_response_headers)
                    yield from attempt.whole(raw.parse())
                if attempt.follow_up is None:
                    return
                asked, before = attempt.follow_up, attempt

    async def _aexchange(self, asked: Asked) -> AsyncGenerator[Piece, None]:
        completions = self._async_completions()
        before = None
        while True:
            with ChatAttempt(asked, before) as attempt:
                if attempt.plan.stream:
                    async with await completions.create(**attempt.request()) as stream:
                        attempt.received(stream.response.headers, keep=self.include_response_headers)
                        async for chunk in _timed(stream, self.stream_chunk_timeout):
                            for piece in attempt.read(chunk):
                                yield piece
                    for piece in attempt.end():
                        yield piece
                else:
                    raw = await completions.with_raw_response.create(**attempt.request())
                    attempt.received(raw.headers, keep=self.include_response_headers)
                    for piece in attempt.whole(raw.parse()):
                        yield piece
                if attempt.follow_up is None:
                    return
                asked, before = attempt.follow_up, attempt


def _result(pieces: Sequence[Piece]) -> ChatResult:
    choices: dict[int, list[ChatGenerationChunk]] = defaultdict(list)
    for index, chunk in pieces:
        choices[index].append(chunk)
    generations = [gather(chunks) for chunks in choices.values()]
    first = generations[0].message
    usage = first.usage_metadata if isinstance(first, AIMessage) else None
    counts = usage and {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
    }
    return ChatResult(
        generations=list(generations),
        llm_output={"token_usage": counts, "model_name": first.response_metadata["model_name"]},
    )


async def _timed(stream: openai.AsyncStream[Any], seconds: float | None) -> AsyncIterator[Any]:
    """Waits at most so long for each chunk: keep-alive comments count as life for the HTTP client."""
    chunks = aiter(stream)
    while True:
        try:
            async with asyncio.timeout(seconds or None):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise openai.APITimeoutError(stream.response.request) from TimeoutError(
                f"no chunk for {seconds} s (stream_chunk_timeout): {error}"
            )
        yield chunk
