"""Between LangChain's objects and the framework-free answer: questions, documents, messages, and what a model takes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NotRequired, TypeAlias

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from typing_extensions import TypedDict

from qwen3_rag.answering import Message, SourcePassage, Told, known_score
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.retrieval import RELEVANCE_SCORE, RETRIEVAL_SCORE
from qwen3_rag.thinking import ThinkingPolicy, Usage


class RagInput(TypedDict):
    """A question with the conversation before it.

    Attributes:
        question: What the user asks.
        chat_history: Messages, or what LangChain turns into messages, the oldest first.
    """

    question: str
    chat_history: NotRequired[Sequence[Any]]


Question: TypeAlias = str | RagInput

_KEYS: Final = frozenset(RagInput.__annotations__)


def read_question(given: Any) -> tuple[str, list[Message]]:
    """Returns the question and what the user and the model said before it; other messages are no conversation.

    Raises:
        InputError: If it is something else than a question or a mapping with one.
    """
    if isinstance(given, str):
        return given, []
    if not isinstance(given, Mapping) or "question" not in given or given.keys() - _KEYS:
        shown = f"a mapping with {', '.join(map(repr, given))}" if isinstance(given, Mapping) else repr(given)
        raise InputError(f"expected a question, or a mapping with 'question' and perhaps 'chat_history', got {shown}")
    return given["question"], read_history(given.get("chat_history") or ())


def read_history(messages: Any) -> list[Message]:
    """Returns what user and model said, without reasoning and tool calls.

    Raises:
        InputError: If LangChain makes no messages of them.
    """
    what = "chat_history must be a list of messages, or of what LangChain makes messages of, such as ('user', 'Where?')"
    if isinstance(messages, str | Mapping):  # whose letters or keys it would take for messages
        raise InputError(f"{what}, got {messages!r:.80}")
    try:
        read = convert_to_messages(messages)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InputError(f"{what}, got {messages!r:.80}: {str(error).partition(chr(10))[0]}") from error
    return [
        ("user" if isinstance(message, HumanMessage) else "assistant", message.text)
        for message in read
        if isinstance(message, HumanMessage | AIMessage) and message.text.strip()
    ]


def read_documents(documents: Iterable[Document]) -> list[SourcePassage]:
    """Returns documents as passages, with their scores."""
    return [
        SourcePassage(
            text=document.page_content,
            id=document.id,
            metadata=document.metadata,
            relevance_score=known_score(document.metadata.get(RELEVANCE_SCORE)),
            retrieval_score=known_score(document.metadata.get(RETRIEVAL_SCORE)),
        )
        for document in documents
    ]


def read_piece(message: Any) -> tuple[str, str]:
    """Returns reasoning and text of a message, or of a piece of one, of any model.

    Raises:
        ConfigurationError: If it is no message.
    """
    if not isinstance(message, BaseMessage):
        raise ConfigurationError(f"llm must be a chat model, but it answered with a {type(message).__name__}")
    blocks = message.content_blocks
    return "".join(str(block.get("reasoning") or "") for block in blocks if block["type"] == "reasoning"), message.text


def read_told(messages: Sequence[AIMessage]) -> Told:
    """Returns what an answer, whole or in pieces, tells besides its text."""
    pieces = [message for message in messages if isinstance(message, AIMessageChunk)]
    whole = add_ai_message_chunks(*pieces) if pieces else messages[-1]
    metadata = whole.response_metadata
    ours = "healed" in metadata  # of ChatQwen3; others may mean something else by these words
    return Told(
        usage=_usage(whole),
        thinking=metadata.get("thinking") if ours else None,
        notes=metadata.get("notes", ()) if ours else (),
        finish_reason=metadata.get("finish_reason") or metadata.get("stop_reason"),
    )


def _usage(message: AIMessage) -> Usage | None:
    counts = message.usage_metadata
    if counts is None:
        return None
    read = counts.get("input_token_details") or {}
    return Usage(
        input=counts["input_tokens"],
        output=counts["output_tokens"],
        reasoning=(counts.get("output_token_details") or {}).get("reasoning"),
        cached=read.get("cache_read") or 0,
        cache_creation=read.get("cache_creation") or 0,
    )


def unwrapped(given: Runnable[Any, Any]) -> tuple[Runnable[Any, Any], dict[str, Any]]:
    """Returns what is inside `bind`, `with_config` or `with_retry`, and the keywords of `bind`."""
    bound: dict[str, Any] = {}
    while isinstance(given, RunnableBindingBase):
        bound = {**given.kwargs, **bound}
        given = given.bound
    return given, bound


def check_taken(retriever: Runnable[Any, Any], options: Collection[str]) -> None:
    """Refuses what a retriever would ignore: LangChain drops the arguments of one whose method takes none.

    Args:
        retriever: The retriever, perhaps inside `bind`, `with_config` or `with_retry`.
        options: The names of the arguments.

    Raises:
        ConfigurationError: If there are such.
    """
    inner, _ = unwrapped(retriever)
    # There is no public way to ask.
    if options and isinstance(inner, BaseRetriever) and not inner._expects_other_args:  # noqa: SLF001
        raise ConfigurationError(
            f"{type(inner).__name__} takes no arguments, so {', '.join(map(repr, options))} would be ignored"
        )


def own_policy(llm: Runnable[Any, Any]) -> tuple[ThinkingPolicy | None, dict[str, Any]]:
    """Returns how a model thinks by itself, and what was bound to it.

    Returns:
        The policy of a `ChatQwen3`, perhaps inside `bind`, `with_config` or `with_retry`, and `None` for any other model,
        which doesn't take `thinking`, `budget` and `evidence`; and the keywords of `bind`.
    """
    inner, bound = unwrapped(llm)
    # Where there is a ChatQwen3 its module is loaded; importing it here would bring openai to those who use another model.
    module = sys.modules.get("qwen3_rag.langchain.chat_models")
    if module is None or not isinstance(inner, module.ChatQwen3):
        return None, bound
    return ThinkingPolicy.of(inner.thinking), bound
