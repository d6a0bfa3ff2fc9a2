"""What `ask` does: find passages, in one search or many, have a chat model answer from them, or without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

from qwen3_rag.cli import chat
from qwen3_rag.cli.chat import Listener, Question, Reply
from qwen3_rag.thinking import Thinking

if TYPE_CHECKING:
    from qwen3_rag.answering import Answer
    from qwen3_rag.deep_search import DeepPiece, SearchPiece
    from qwen3_rag.langchain import ChatQwen3, Qwen3Retriever


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of whom.

    Attributes:
        model: The chat model.
        question: The question; its system prompt are rules of the application, where passages are found after ours.
        thinking: Whether and how much to think.
    """

    model: ChatQwen3
    question: Question
    thinking: Thinking


@dataclass(frozen=True, slots=True)
class Grounded:
    """An answer over passages.

    Attributes:
        reply: The answer as one of any model, and how long it took, retrieval included.
        answer: What it rests on.
    """

    reply: Reply
    answer: Answer


@dataclass(frozen=True, slots=True)
class RagComparison:
    """One question, answered by the model alone and from passages.

    Attributes:
        question: What was asked.
        without: The model's own answer.
        grounded: The answer over passages.
    """

    question: Question
    without: Reply
    grounded: Grounded


def alone(call: Call, listener: Listener) -> Reply:
    """Asks the model, and nothing else.

    Args:
        call: What is asked of whom.
        listener: Is told every piece.

    Raises:
        Qwen3RagError: What the model raises; the listener has had what came before.
    """
    return chat.ask(call.model, call.question, call.thinking, listener)


def from_passages(call: Call, retriever: Qwen3Retriever, listener: Listener) -> Grounded:
    """Asks the model about what is found.

    Args:
        call: What is asked of whom.
        retriever: What finds passages.
        listener: Is told every piece.

    Raises:
        Qwen3RagError: What retriever and model raise; the listener has had what came before.
    """
    from qwen3_rag.langchain import create_rag_chain

    chain = create_rag_chain(retriever, call.model, thinking=call.thinking, instructions=call.question.system)
    return listen(lambda: chain.stream(call.question.text), call.model, listener)


def deeply(
    call: Call,
    retriever: Qwen3Retriever,
    listener: Listener,
    searching: Callable[[SearchPiece], object] | None = None,
) -> Grounded:
    """Has the model break the question down, and asks it about what is found for the parts.

    Args:
        call: What is asked of whom.
        retriever: What finds passages.
        listener: Is told every piece.
        searching: Is told every round of searches.

    Raises:
        Qwen3RagError: What retriever and model raise; the listener has had what came before.
    """
    from qwen3_rag.langchain import create_deep_search

    search = create_deep_search(
        retriever, call.model, thinking=call.thinking, instructions=call.question.system, top_n=retriever.top_n
    )
    return listen(lambda: search.stream(call.question.text), call.model, listener, searching)


def compare(call: Call, retriever: Qwen3Retriever, listener: Callable[[str], Listener]) -> RagComparison:
    """Asks the model alone, which opens the connection, and then about what is found.

    Args:
        call: What is asked of whom.
        retriever: What finds passages.
        listener: Given the name of an answer, returns who is told its pieces.

    Raises:
        Qwen3RagError: What retriever and model raise.
    """
    without = alone(call, listener("without retrieval"))
    return RagComparison(call.question, without, from_passages(call, retriever, listener("with retrieval")))


def listen(
    send: Callable[[], Iterable[DeepPiece]],
    model: ChatQwen3,
    listener: Listener,
    searching: Callable[[SearchPiece], object] | None = None,
) -> Grounded:
    """Reads the pieces of an answer as they come.

    Args:
        send: Asks, and returns the stream: searches if there are many, reasoning, text, and the answer at the end.
        model: What answers.
        listener: Is told every piece of the answer.
        searching: Is told every round of searches.
    """
    from qwen3_rag.answering import ReasoningPiece, TextPiece
    from qwen3_rag.deep_search import SearchPiece

    heard = chat.Heard(listener)
    last: DeepPiece | None = None
    for last in send():
        if isinstance(last, SearchPiece) and searching is not None:
            searching(last)
        elif isinstance(last, ReasoningPiece):
            heard.reasoning(last.text)
        elif isinstance(last, TextPiece):
            heard.answer(last.text)
    answer = cast("Answer", last)  # as every stream ends
    metadata = {
        "model_name": model.model_name,
        "thinking": answer.thinking and asdict(answer.thinking),
        "notes": list(answer.notes),
    }
    return Grounded(heard.reply(answer.usage, metadata), answer)
