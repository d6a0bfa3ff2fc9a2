"""What `chat` and `compare` do: ask a model, read the answer as it comes, and time it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.texts import check_unicode
from qwen3_rag.thinking import Effort, Price, Thinking, ThinkingPolicy, Usage

if TYPE_CHECKING:
    from qwen3_rag.langchain import ChatQwen3


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Which model, and where it is.

    Attributes:
        model: The model's name, as its server knows it; `ChatQwen3`'s own default without one.
        base_url: The server's URL; DashScope's from the environment by default.
        region: A region of DashScope instead.
        dialect: How the server speaks, where its URL does not say so.
        key_env: Name of the environment variable that holds the key, where the vendor's usual one is not meant.
    """

    model: str | None = None
    base_url: str | None = None
    region: str | None = None
    dialect: str | None = None
    key_env: str | None = None

    def open(self) -> ChatQwen3:
        """Returns the chat model; nothing is sent yet.

        Raises:
            ConfigurationError: If the options contradict each other or a key is missing.
            MissingDependencyError: If LangChain is not installed.
        """
        from qwen3_rag.langchain import ChatQwen3

        return ChatQwen3(
            self.model,
            base_url=self.base_url,
            region=self.region,
            dialect=self.dialect,
            api_key=self._key(),
        )

    def _key(self) -> str | None:
        if self.key_env is None:
            return None
        if not os.environ.get(self.key_env):
            raise ConfigurationError(f"the environment variable {self.key_env!r} is not set: it should hold the key")
        return os.environ[self.key_env]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        text: The question.
        system: The system prompt, if any.

    Raises:
        InputError: If there is no question, or it or the system prompt is no Unicode.
    """

    text: str
    system: str | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InputError("the prompt is empty: give some words, as an argument or on standard input")
        check_unicode(self.text, "the prompt")
        check_unicode(self.system or "", "the system prompt")

    def messages(self) -> list[tuple[str, str]]:
        """Returns the conversation in LangChain's plainest form."""
        system = [] if self.system is None else [("system", self.system)]
        return [*system, ("user", self.text)]


class Listener(Protocol):
    """Is told each piece of an answer as it comes."""

    def reasoning(self, text: str) -> None:
        """Takes more of the reasoning."""

    def answer(self, text: str) -> None:
        """Takes more of the answer."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long an answer took, from the moment it was asked for.

    Attributes:
        first_token: Until anything came; `None` if nothing did.
        first_answer: Until the answer began, that is, the reasoning was over; `None` if there was none.
        total: Until it ended.
    """

    first_token: float | None
    first_answer: float | None
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer.

    Attributes:
        reasoning: The reasoning.
        answer: The answer.
        usage: Token counts; `None` if the server gave none.
        seconds: How long it took.
        metadata: What the call did and why, and what the server said about it.
    """

    reasoning: str
    answer: str
    usage: Usage | None
    seconds: Seconds
    metadata: Mapping[str, Any]

    @property
    def split(self) -> tuple[int, int] | None:
        """Tokens of reasoning and of answer; `None` if the server does not tell them apart."""
        if self.usage is None or (self.usage.reasoning is None and self.reasoning):
            return None
        return self.usage.reasoning or 0, self.usage.answer

    @property
    def ended_early(self) -> str | None:
        """Why the answer is not whole, in the server's words; `None` if it is."""
        finish: str | None = self.metadata.get("finish_reason")
        return None if finish in (None, "stop") else finish


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question, answered twice.

    Attributes:
        server: Who was asked.
        question: What was asked.
        without: The answer without thinking.
        thinking: The answer with it.
        price: Price of the tokens, if it was given.
    """

    server: Server
    question: Question
    without: Reply
    thinking: Reply
    price: Price | None = None

    def cost(self, reply: Reply) -> float | None:
        """Returns what one of the answers cost; `None` if that is not known."""
        return None if self.price is None or reply.usage is None else self.price.cost(reply.usage)


def policy(thinking: bool | None, budget: int | None, effort: str | None, *, auto: bool = False) -> ThinkingPolicy:
    """Reads the options about thinking; a budget or an effort means to think.

    Args:
        thinking: `--thinking` or `--no-thinking`.
        budget: `--budget`.
        effort: `--effort`.
        auto: Whether to decide by the question and by how sure retrieval is; the limits are for when it thinks.

    Raises:
        ConfigurationError: If one has no meaning or they contradict each other.
    """
    limited = budget is not None or effort is not None
    if limited and thinking is False:
        raise ConfigurationError("--no-thinking leaves nothing to limit: leave it out, or --budget and --effort")
    if auto:
        if thinking is not None:
            raise ConfigurationError("--auto decides whether to think: leave it out, or --thinking and --no-thinking")
        return ThinkingPolicy(auto=True, effort=cast("Effort | None", effort), budget=budget)
    return ThinkingPolicy(enabled=True if limited else thinking, effort=cast("Effort | None", effort), budget=budget)


def compare(
    server: Server, question: Question, thinking: Thinking, price: Price | None, listener: Callable[[str], Listener]
) -> Comparison:
    """Asks the same question without thinking and with it, one after the other.

    The call without thinking comes first and opens the connection, so that what the other takes longer is thinking.

    Args:
        server: Whom.
        question: What.
        thinking: How much the second call thinks.
        price: Price of the tokens, if it is known.
        listener: Given the name of a call, returns who is told its pieces.

    Raises:
        Qwen3RagError: What the model raises.
    """
    model = server.open()
    without = ask(model, question, False, listener("without thinking"))
    with_it = ask(model, question, thinking, listener("with thinking"))
    return Comparison(server, question, without, with_it, price)


def ask(model: ChatQwen3, question: Question, thinking: Thinking, listener: Listener) -> Reply:
    """Asks once and reads the answer as it comes.

    Args:
        model: Whom.
        question: What.
        thinking: Whether and how much it thinks.
        listener: Is told every piece.

    Raises:
        Qwen3RagError: What the model raises; the listener has had what came before.
    """
    heard, counts, metadata = Heard(listener), None, dict[str, Any]()
    for chunk in model.stream(question.messages(), thinking=thinking):
        for block in chunk.content_blocks:
            if block["type"] == "reasoning":
                heard.reasoning(block.get("reasoning") or "")
            elif block["type"] == "text":
                heard.answer(block["text"])
        counts = chunk.usage_metadata or counts
        metadata |= chunk.response_metadata
    return heard.reply(_usage(counts), metadata)


class Heard:
    """A listener that passes on what it is told, keeps it, and looks at the clock.

    Args:
        listener: Is told every piece.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._reasoning: list[str] = []
        self._answer: list[str] = []
        self._first_token: float | None = None
        self._first_answer: float | None = None
        self._start = time.perf_counter()

    def reasoning(self, text: str) -> None:
        """Takes more of the reasoning."""
        if text:
            self._first_token = self._first_token or self._passed()
            self._reasoning.append(text)
            self._listener.reasoning(text)

    def answer(self, text: str) -> None:
        """Takes more of the answer."""
        if text:
            self._first_token = self._first_token or self._passed()
            self._first_answer = self._first_answer or self._passed()
            self._answer.append(text)
            self._listener.answer(text)

    def reply(self, usage: Usage | None, metadata: Mapping[str, Any]) -> Reply:
        """Returns the whole answer; it ends now.

        Args:
            usage: Token counts, if they are known.
            metadata: What else is known of it.
        """
        return Reply(
            reasoning="".join(self._reasoning),
            answer="".join(self._answer),
            usage=usage,
            seconds=Seconds(self._first_token, self._first_answer, self._passed()),
            metadata=metadata,
        )

    def _passed(self) -> float:
        return time.perf_counter() - self._start


def _usage(counts: Mapping[str, Any] | None) -> Usage | None:
    """Reads LangChain's names of the counts."""
    if counts is None:
        return None
    read, written = counts.get("input_token_details", {}), counts.get("output_token_details", {})
    return Usage(
        input=counts["input_tokens"],
        output=counts["output_tokens"],
        reasoning=written.get("reasoning"),
        cached=read.get("cache_read") or 0,
        cache_creation=read.get("cache_creation") or 0,
    )
