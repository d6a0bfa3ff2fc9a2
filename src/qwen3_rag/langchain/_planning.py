"""The planning calls of a deep search: any chat model, asked for an object, within a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableSequence

from qwen3_rag.deep_search import Ask, Said, in_time, within_timeout
from qwen3_rag.langchain._chain_parts import own_policy, read_piece, read_told, unwrapped
from qwen3_rag.models import chat_facts


def plan(llm: Runnable[Any, Any], step: Ask, config: RunnableConfig, options: dict[str, Any]) -> Said | None:
    """Asks a model for an object.

    A sync call can't be broken off; a `ChatQwen3` is told the time that is left as the timeout of each of its attempts,
    unless its own is shorter.

    Args:
        llm: The model.
        step: What to ask.
        config: Of the run.
        options: Further keywords of the model.

    Returns:
        What it said; `None` if the step's time was over.
    """
    told = {**structured_options(llm, step.kind), **options}

    def ask(more: Mapping[str, Any]) -> Said:
        return _read(llm.invoke([*step.messages], config, **told, **more))

    if own_policy(llm)[0] is None:
        return ask({})
    from openai import Timeout  # a ChatQwen3 has loaded it; other models may do without

    inner, bound = unwrapped(llm)
    own = bound.get("timeout", getattr(inner, "request_timeout", None))
    return within_timeout(ask, step.seconds, Timeout(own).read)


async def aplan(llm: Runnable[Any, Any], step: Ask, config: RunnableConfig, options: dict[str, Any]) -> Said | None:
    """Async twin of `plan`; a call whose time is over is cancelled."""
    call = llm.ainvoke([*step.messages], config, **structured_options(llm, step.kind), **options)
    message = await in_time(call, step.seconds)
    return None if message is None else _read(message)


def structured_options(llm: Runnable[Any, Any], kind: type) -> dict[str, Any]:
    """Returns what a model's own `with_structured_output` adds to a call.

    The call is then made without its parser, because the parser drops the usage, and without the second call by which a
    `ChatQwen3` repairs what can't be read, because calls are counted. A model without structured output is asked in words.

    Args:
        llm: The model, perhaps inside `bind`, `with_config` or `with_retry`.
        kind: The class of the object.
    """
    inner, bound = unwrapped(llm)
    if not isinstance(inner, BaseChatModel):
        return {}
    options: Any = {}
    if own_policy(inner)[0] is not None:
        name = bound.get("model", getattr(inner, "model_name", ""))
        options["method"] = "json_schema" if chat_facts(name).json_schema else "function_calling"
    try:
        structured = inner.with_structured_output(kind, **options)
    except NotImplementedError:
        return {}
    first = structured.first if isinstance(structured, RunnableSequence) else None
    return dict(first.kwargs) if isinstance(first, RunnableBinding) else {}


def _read(message: AIMessage) -> Said:
    _, text = read_piece(message)
    calls = [json.dumps(call["args"]) for call in message.tool_calls]
    broken = [call["args"] or "" for call in message.invalid_tool_calls]
    return Said("\n".join(filter(None, [text, *calls, *broken])), read_told([message]))
