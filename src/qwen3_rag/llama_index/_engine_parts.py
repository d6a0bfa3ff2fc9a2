"""Between LlamaIndex's objects and the framework-free answer: nodes, messages, responses, and what a model takes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, ThinkingBlock
from llama_index.core.llms import LLM
from llama_index.core.schema import MetadataMode, NodeWithScore

from qwen3_rag.answering import AnswerOptions, AnswerTurn, Message, SourcePassage, Told, known_score
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.retrieval import RELEVANCE_SCORE, RETRIEVAL_SCORE
from qwen3_rag.thinking import ThinkingPolicy, Usage

_CONVERSATION: Final = (MessageRole.USER, MessageRole.ASSISTANT)


def read_nodes(nodes: Iterable[NodeWithScore]) -> list[SourcePassage]:
    """Returns nodes as passages, with their scores. Without a reranker a node's score is the first stage's."""
    found = []
    for scored in nodes:
        metadata = scored.node.metadata
        relevance, retrieval = (known_score(metadata.get(key)) for key in (RELEVANCE_SCORE, RETRIEVAL_SCORE))
        if retrieval is None and relevance is None:
            retrieval = scored.score
        found.append(
            SourcePassage(
                text=scored.node.get_content(metadata_mode=MetadataMode.NONE),
                id=scored.node.node_id,
                metadata=metadata,
                relevance_score=relevance,
                retrieval_score=retrieval,
            )
        )
    return found


def read_history(messages: Iterable[ChatMessage]) -> list[Message]:
    """Returns what user and model said, without reasoning and tool calls; other messages are no conversation.

    Raises:
        InputError: If they are no messages.
    """
    listed = list(messages) if isinstance(messages, Iterable) else [messages]
    if wrong := [message for message in listed if not isinstance(message, ChatMessage)]:
        raise InputError(
            f"chat_history must be a list of ChatMessage, got {wrong[0]!r:.80}: ChatMessage(text, role='user') makes one"
        )
    return [
        ("user" if message.role == MessageRole.USER else "assistant", message.content)
        for message in listed
        if message.role in _CONVERSATION and (message.content or "").strip() and message.content is not None
    ]


def to_messages(messages: Sequence[Message]) -> list[ChatMessage]:
    """Returns the prompt as LlamaIndex has it."""
    return [ChatMessage(role=MessageRole(role), content=text) for role, text in messages]


def read_whole(response: ChatResponse) -> tuple[str, str]:
    """Returns reasoning and text of a whole answer of any model."""
    blocks = [block for block in response.message.blocks if isinstance(block, ThinkingBlock)]
    return "".join(block.content or "" for block in blocks), response.message.content or ""


def read_delta(response: ChatResponse) -> tuple[str, str]:
    """Returns what a piece of a stream adds: reasoning, where LlamaIndex's models put it, and text."""
    return str(response.additional_kwargs.get("thinking_delta") or ""), response.delta or ""


def read_told(response: ChatResponse | None) -> Told:
    """Returns what the last response of a call tells besides the text."""
    if response is None:
        return Told()
    said = response.additional_kwargs
    ours = "healed" in said  # of Qwen3LLM; others may mean something else by these words
    return Told(
        usage=Usage.read(said),
        thinking=said.get("thinking") if ours else None,
        notes=said.get("notes", ()) if ours else (),
        finish_reason=said.get("finish_reason"),
    )


def own_policy(llm: LLM) -> ThinkingPolicy | None:
    """Returns how a `Qwen3LLM` thinks by itself; `None` for any other model, which can't be told."""
    # Where there is a Qwen3LLM its module is loaded; importing it here would bring openai to those who use another model.
    module = sys.modules.get("qwen3_rag.llama_index.llms")
    return ThinkingPolicy.of(llm.thinking) if module is not None and isinstance(llm, module.Qwen3LLM) else None


def check_model(llm: Any, options: AnswerOptions) -> None:
    """Refuses what is no model, and options that it would ignore.

    Raises:
        ConfigurationError: If there is such a thing.
    """
    if not isinstance(llm, LLM):
        raise ConfigurationError(f"llm must be a LlamaIndex LLM, got {type(llm).__name__}")
    refused = [name for name in ("thinking", "budget") if getattr(options, name) is not None]
    if refused and own_policy(llm) is None:
        raise ConfigurationError(
            f"{' and '.join(refused)} would be ignored: only a Qwen3LLM takes them, and the model is {llm.class_name()}"
        )


def for_planning(llm: LLM, options: AnswerOptions) -> dict[str, Any]:
    """Keywords of a call that plans, such as rewriting a question: it never thinks."""
    if own_policy(llm) is None:
        return {}
    return {"thinking": False} if options.budget is None else {"thinking": False, "budget": options.budget}


def for_answering(llm: LLM, options: AnswerOptions, turn: AnswerTurn) -> dict[str, Any]:
    """Keywords of the call that answers."""
    policy = own_policy(llm)
    if policy is None:
        return {}
    asked = policy if options.thinking is None else policy.overruled(options.thinking)
    return turn.thinking_options(asked, options.budget)
