"""What an answer chain can be told, in both frameworks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self, TypedDict, Unpack

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.retrieval import check_selection
from qwen3_rag.thinking import Thinking, ThinkingBudget, ThinkingPolicy
from qwen3_rag.tokens import TokenCounter, token_counter

CONTEXT_TOKENS: Final = 8192
HISTORY_TOKENS: Final = 4096


class RagOptions(TypedDict, total=False):
    """What `create_rag_chain` and `create_query_engine` take by name; `AnswerOptions` tells the meaning."""

    score_threshold: float | None
    context_tokens: int
    history_tokens: int
    tokenizer: Any
    instructions: str | None
    not_found: str | Callable[[str], str] | None
    thinking: Thinking
    budget: ThinkingBudget | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """The settings of an answer chain.

    Attributes:
        score_threshold: Lowest P(yes) of a passage that is used. If none is left, the answer says so and no model is asked.
            `None` uses what the retriever returns.
        context_tokens: Most tokens of the passages in the prompt.
        history_tokens: Most tokens of the conversation that a follow-up question is rewritten with; the newest turns count.
        count: Counts the tokens of a text.
        instructions: Rules of the application, put after ours.
        not_found: The answer where nothing relevant was found, or a function of the question that gives it.
        thinking: Whether and how much to think; `None` leaves it to the model.
        budget: Reasoning tokens that all calls share; `None` leaves it to the model.
    """

    count: TokenCounter
    score_threshold: float | None = None
    context_tokens: int = CONTEXT_TOKENS
    history_tokens: int = HISTORY_TOKENS
    instructions: str | None = None
    not_found: str | Callable[[str], str] | None = None
    thinking: Thinking = None
    budget: ThinkingBudget | None = None

    @classmethod
    def of(cls, **options: Unpack[RagOptions]) -> Self:
        """Checks the options that a user gave.

        Raises:
            ConfigurationError: If one is unknown or can't work.
        """
        if unknown := sorted(options.keys() - RagOptions.__annotations__.keys()):
            known = ", ".join(RagOptions.__annotations__)
            raise ConfigurationError(f"unknown option {', '.join(map(repr, unknown))}: there are {known}")
        given: dict[str, Any] = {name: value for name, value in options.items() if name != "tokenizer"}
        made = cls(count=token_counter(options.get("tokenizer")), **given)
        check_selection(None, made.score_threshold)
        for name in ("context_tokens", "history_tokens"):
            tokens = getattr(made, name)
            if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
                raise ConfigurationError(f"{name} must be a positive number of tokens, got {tokens!r}")
        if not isinstance(made.instructions, str | None):
            raise ConfigurationError(f"instructions must be a string, got {made.instructions!r}")
        if not (isinstance(made.not_found, str | None) or callable(made.not_found)):
            raise ConfigurationError(
                f"not_found must be a string or a function of the question, got {made.not_found!r}"
            )
        ThinkingPolicy.of(made.thinking)
        if made.budget is not None and not isinstance(made.budget, ThinkingBudget):
            raise ConfigurationError(f"budget must be a ThinkingBudget, got {made.budget!r}")
        return made
