"""LlamaIndex's condensing chat engine over a `RagQueryEngine`: it remembers the conversation and rewrites questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self, cast

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import CondenseQuestionChatEngine
from llama_index.core.chat_engine.types import StreamingAgentChatResponse

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.llama_index.query_engines import RagQueryEngine

_OPTIONS: Final = frozenset({"chat_history", "memory", "memory_cls", "verbose"})


class RagChatEngine(CondenseQuestionChatEngine):
    """`CondenseQuestionChatEngine` that rewrites without thinking and streams when it is asked to.

    The `Answer` of a reply is in `response.sources[0].raw_output.metadata["answer"]`; rewriting is not part of its usage.
    """

    @classmethod
    def over(cls, engine: RagQueryEngine, **options: Any) -> Self:
        """Builds one over an engine.

        Args:
            engine: What answers.
            **options: `chat_history`, `memory`, `memory_cls`, as for `CondenseQuestionChatEngine.from_defaults`.

        Raises:
            ConfigurationError: If there are others, which that would ignore.
        """
        if unknown := sorted(options.keys() - _OPTIONS):
            raise ConfigurationError(
                f"unknown option {', '.join(map(repr, unknown))}: a chat engine takes {', '.join(sorted(_OPTIONS))}; how it "
                "answers, say to the query engine"
            )
        whole = engine.with_options(streaming=False)
        return cast("Self", cls.from_defaults(query_engine=whole, llm=engine.llm, **options))

    def stream_chat(self, message: str, chat_history: list[ChatMessage] | None = None) -> StreamingAgentChatResponse:
        """Replies to a message; the reply comes in pieces."""
        response: StreamingAgentChatResponse = super(RagChatEngine, self._streaming()).stream_chat(
            message, chat_history
        )
        return response

    async def astream_chat(
        self, message: str, chat_history: list[ChatMessage] | None = None
    ) -> StreamingAgentChatResponse:
        """Async twin of `stream_chat`."""
        twin = self._streaming()
        response: StreamingAgentChatResponse = await super(RagChatEngine, twin).astream_chat(message, chat_history)
        return response

    def _streaming(self) -> Self:
        # LlamaIndex switches its own engine to and fro instead, under the eyes of all threads.
        engine = self._engine.with_options(streaming=True)
        prompt, manager = self._condense_question_prompt, self.callback_manager
        return type(self)(engine, prompt, self._memory, self._llm, self._verbose, manager)

    @property
    def _engine(self) -> RagQueryEngine:
        return cast("RagQueryEngine", self._query_engine)

    def _condense_question(self, chat_history: Sequence[ChatMessage], last_message: str) -> str:
        return self._engine.condense(last_message, chat_history)

    async def _acondense_question(self, chat_history: Sequence[ChatMessage], last_message: str) -> str:
        return await self._engine.acondense(last_message, chat_history)
