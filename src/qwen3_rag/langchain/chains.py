"""`create_rag_chain`: question in, answer with citations out, as a LangChain Runnable."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Unpack

from langchain_core.documents import Document
from langchain_core.runnables import Runnable
from typing_extensions import override

from qwen3_rag.answering import Answer, AnswerOptions, AnswerTurn, Piece, RagOptions
from qwen3_rag.langchain._chain_base import RETRIEVE, AnsweringChain, Call
from qwen3_rag.langchain._chain_parts import Question, RagInput, read_documents, read_question

__all__ = ["Question", "RagChain", "RagInput", "create_rag_chain"]


def create_rag_chain(
    retriever: Runnable[str, list[Document]], llm: Runnable[Any, Any], **options: Unpack[RagOptions]
) -> RagChain:
    """Builds a chain that answers from what a retriever finds, and cites it.

    The passages are packed into the prompt best first, within `context_tokens`, as numbered quotations that can't act as
    instructions; citations are checked against them. With a conversation the question is first rewritten so that it stands
    alone, without thinking. Where nothing relevant is found the answer says so, and no model is asked.

    Example:
        ```python
        from qwen3_rag.langchain import ChatQwen3, Qwen3Retriever, create_rag_chain

        retriever = Qwen3Retriever.from_texts(chunks, uri="./milvus.db", k=10, top_n=3)
        chain = create_rag_chain(retriever, ChatQwen3("qwen-plus", thinking="auto"), score_threshold=0.3)
        answer = chain.invoke("How is data stored in milvus?")
        for citation in answer.citations:
            print(citation.number, citation.source, citation.passage.relevance_score)
        again = chain.invoke({"question": "And where?", "chat_history": [("user", answer.question), ("ai", answer.text)]})
        for piece in chain.stream("How is data stored in milvus?"):
            ...  # ReasoningPiece, then TextPiece, then the Answer
        ```

    Args:
        retriever: A `Qwen3Retriever`, or any other LangChain retriever.
        llm: A `ChatQwen3`, or any other LangChain chat model, with what is bound to it.
        **options: `score_threshold`: lowest P(yes) of a passage that is used. `context_tokens` (8192): most tokens of the
            passages in the prompt. `history_tokens` (4096): most tokens of the conversation that is read. `tokenizer`:
            what counts them; an estimate from above without. `instructions`: rules of your application, put after ours.
            `not_found`: the answer where nothing relevant was found, or a function of the question. `thinking` and
            `budget`: as for `ChatQwen3`, whose own they overrule; other models don't take them.

    Returns:
        A Runnable. `invoke(question, config, thinking=…, budget=…, **more)` overrules the two for a call; `more` goes to
        the retriever, which acts on it or raises (`k`, `mode`, `filter`, … of a `Qwen3Retriever`).

    Raises:
        ConfigurationError: If an option is unknown, can't work, or would be ignored by the model.
    """
    return RagChain(retriever, llm, AnswerOptions.of(**options))


class RagChain(AnsweringChain[Answer, Piece]):
    """What `create_rag_chain` returns: an ordinary Runnable whose stream gives the answer's pieces, then the answer.

    Args:
        retriever: What finds passages.
        llm: What answers.
        options: The settings.

    Raises:
        ConfigurationError: If one of them is of another kind, or the model would ignore an option.
    """

    @property
    @override
    def OutputType(self) -> type[Answer]:
        """`Answer`."""
        return Answer

    @override
    def _pieces(self, given: Question, call: Call, *, stream: bool) -> Iterator[Piece]:
        turn = AnswerTurn(self._options, *read_question(given))
        self._condense(turn, call)
        with turn.stage("retrieve"):
            documents = self._retriever.invoke(turn.query, call.named(RETRIEVE), **call.for_retriever)
        turn.retrieved(read_documents(documents))
        yield from self._answer(turn, call, stream=stream)

    @override
    async def _apieces(self, given: Question, call: Call, *, stream: bool) -> AsyncGenerator[Piece, None]:
        turn = AnswerTurn(self._options, *read_question(given))
        await self._acondense(turn, call)
        with turn.stage("retrieve"):
            documents = await self._retriever.ainvoke(turn.query, call.named(RETRIEVE), **call.for_retriever)
        turn.retrieved(read_documents(documents))
        async with aclosing(self._aanswer(turn, call, stream=stream)) as pieces:
            async for piece in pieces:
                yield piece
