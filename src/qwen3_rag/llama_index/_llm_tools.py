"""Calls with tools: what LlamaIndex asks for goes on the wire as it is, and several calls at a time are the default."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    MessageRole,
    ToolCallBlock,
)
from llama_index.core.tools.types import BaseTool
from llama_index.llms.openai.utils import resolve_tool_choice
from typing_extensions import override

from qwen3_rag.llama_index._llm_clients import ClientKeeping

_logger = logging.getLogger("qwen3_rag.thinking")


class ToolCalling(ClientKeeping):
    """What `Qwen3LLM` does with tools.

    The base class forbids parallel calls by default, writes `strict: false` and `additionalProperties: false` into every
    tool, and appends the user's message to the caller's own list.
    """

    @override
    def chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = True,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Lets the model call tools.

        Args:
            tools: The tools.
            user_msg: Appended to the history.
            chat_history: The conversation; not changed.
            verbose: Has no effect here.
            allow_parallel_tool_calls: Whether one answer may hold several calls.
            tool_required: Whether one must be called.
            **kwargs: `tool_choice`, `strict`, and all that `chat` takes.
        """
        return super().chat_with_tools(
            tools, user_msg, chat_history, verbose, allow_parallel_tool_calls, tool_required, **kwargs
        )

    @override
    async def achat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = True,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Async twin of `chat_with_tools`."""
        return await super().achat_with_tools(
            tools, user_msg, chat_history, verbose, allow_parallel_tool_calls, tool_required, **kwargs
        )

    @override
    def stream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = True,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponseGen:
        """Streaming twin of `chat_with_tools`."""
        return super().stream_chat_with_tools(
            tools, user_msg, chat_history, verbose, allow_parallel_tool_calls, tool_required, **kwargs
        )

    @override
    async def astream_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = True,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> ChatResponseAsyncGen:
        """Async twin of `stream_chat_with_tools`."""
        return await super().astream_chat_with_tools(
            tools, user_msg, chat_history, verbose, allow_parallel_tool_calls, tool_required, **kwargs
        )

    @override
    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = True,
        tool_required: bool = False,
        tool_choice: str | dict[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        messages = list(chat_history or [])
        if user_msg is not None:
            messages.append(
                ChatMessage(role=MessageRole.USER, content=user_msg) if isinstance(user_msg, str) else user_msg
            )
        if not tools:
            return {"messages": messages, **kwargs}
        strict = self.strict if strict is None else strict
        return {
            "messages": messages,
            "tools": [_specification(tool, strict=strict) for tool in tools],
            "tool_choice": resolve_tool_choice(tool_choice, tool_required),
            "parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    @override
    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = True,
        **kwargs: Any,
    ) -> ChatResponse:
        blocks = response.message.blocks
        calls = [block for block in blocks if isinstance(block, ToolCallBlock)]
        if allow_parallel_tool_calls or len(calls) < 2:  # noqa: PLR2004
            return response
        dropped = [call.tool_name for call in calls[1:]]
        _logger.warning("%s called several tools though one was allowed: %s left out", self.model, dropped)
        message = response.message.model_copy(
            update={
                "blocks": [block for block in blocks if block not in calls[1:]],
                "additional_kwargs": {"tool_calls": response.message.additional_kwargs["tool_calls"][:1]},
            }
        )
        return response.model_copy(update={"message": message})


def _specification(tool: BaseTool, *, strict: bool) -> dict[str, Any]:
    specification: dict[str, Any] = tool.metadata.to_openai_tool(skip_length_check=True)
    if strict:
        function = specification["function"]
        parameters = {**function["parameters"], "additionalProperties": False}
        specification["function"] = {**function, "strict": True, "parameters": parameters}
    return specification
