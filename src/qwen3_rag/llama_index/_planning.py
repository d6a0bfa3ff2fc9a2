"""The planning calls of a deep search: any LlamaIndex model, asked for an object, within a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

import llama_index.core.instrumentation as instrument
from llama_index.core.base.llms.types import ChatResponse, ToolCallBlock
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.program.function_program import get_function_tool

from qwen3_rag.answering import AnswerOptions
from qwen3_rag.deep_search import Ask, Said, in_time, within_timeout
from qwen3_rag.llama_index._engine_parts import for_planning, own_policy, read_told, read_whole, to_messages

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


# The object is offered as a tool, as LlamaIndex's structured prediction does it; that itself drops the usage, and a
# `Qwen3LLM` repairs there what can't be read with a second call, which nobody could count. A model without tools is asked
# in words.


@dispatcher.span
def plan(llm: LLM, options: AnswerOptions, step: Ask) -> Said | None:
    """Asks a model for an object.

    A sync call can't be broken off; a `Qwen3LLM` is told the time that is left as the timeout of each of its attempts,
    unless its own is shorter.

    Args:
        llm: The model.
        options: The settings of the answer.
        step: What to ask.

    Returns:
        What it said; `None` if the step's time was over.
    """
    messages, keywords = to_messages(step.messages), for_planning(llm, options)

    def ask(more: Mapping[str, Any]) -> Said:
        if _calls_functions(llm):
            return _read(llm.chat_with_tools(chat_history=messages, **_tool(step), **keywords, **more))
        return _read(llm.chat(messages, **keywords, **more))

    return ask({}) if own_policy(llm) is None else within_timeout(ask, step.seconds, getattr(llm, "timeout", None))


@dispatcher.span
async def aplan(llm: LLM, options: AnswerOptions, step: Ask) -> Said | None:
    """Async twin of `plan`; a call whose time is over is cancelled."""
    messages, keywords = to_messages(step.messages), for_planning(llm, options)
    if _calls_functions(llm):
        call = llm.achat_with_tools(chat_history=messages, **_tool(step), **keywords)
    else:
        call = llm.achat(messages, **keywords)
    response = await in_time(call, step.seconds)
    return None if response is None else _read(response)


def _calls_functions(llm: LLM) -> TypeGuard[FunctionCallingLLM]:
    return isinstance(llm, FunctionCallingLLM) and llm.metadata.is_function_calling_model


def _tool(step: Ask) -> dict[str, Any]:
    return {"tools": [get_function_tool(step.kind)], "tool_required": True, "allow_parallel_tool_calls": False}


def _read(response: ChatResponse) -> Said:
    _, text = read_whole(response)
    calls = [block.tool_kwargs for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    said = [call if isinstance(call, str) else json.dumps(call) for call in calls]
    return Said("\n".join(filter(None, [text, *said])), read_told(response))
