"""The two calls of a model that an answer takes: rewriting the question, and answering. Sync, async, and in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import llama_index.core.instrumentation as instrument
from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.llms import LLM

from qwen3_rag.answering import AnswerOptions, AnswerTurn, Piece
from qwen3_rag.llama_index._engine_parts import (
    for_answering,
    for_planning,
    read_delta,
    read_told,
    read_whole,
    to_messages,
)

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


@dispatcher.span
def condense(llm: LLM, options: AnswerOptions, turn: AnswerTurn) -> None:
    """Rewrites the question of a turn, if there is a conversation."""
    if messages := turn.condensing():
        with turn.stage("condense"):
            response = llm.chat(to_messages(messages), **for_planning(llm, options))
            turn.condensed(read_whole(response)[1], read_told(response))


@dispatcher.span
async def acondense(llm: LLM, options: AnswerOptions, turn: AnswerTurn) -> None:
    """Async twin of `condense`."""
    if messages := turn.condensing():
        with turn.stage("condense"):
            response = await llm.achat(to_messages(messages), **for_planning(llm, options))
            turn.condensed(read_whole(response)[1], read_told(response))


def answer(llm: LLM, options: AnswerOptions, turn: AnswerTurn, *, stream: bool) -> Iterator[Piece]:
    """Answers a turn that has its passages; without any no model is asked.

    Args:
        llm: What answers.
        options: The settings.
        turn: The turn.
        stream: Whether the model's answer comes in pieces.

    Yields:
        What can be shown as it comes, then the `Answer`.
    """
    response: ChatResponse | None = None
    if turn.found:
        prompt, keywords = to_messages(turn.messages()), for_answering(llm, options, turn)
        with turn.stage("generate"):
            if stream:
                for response in llm.stream_chat(prompt, **keywords):
                    yield from turn.read(*read_delta(response))
            else:
                response = llm.chat(prompt, **keywords)
                yield from turn.read(*read_whole(response))
    yield from turn.end(read_told(response) if turn.found else None)


async def aanswer(llm: LLM, options: AnswerOptions, turn: AnswerTurn, *, stream: bool) -> AsyncGenerator[Piece, None]:
    """Async twin of `answer`."""
    response: ChatResponse | None = None
    if turn.found:
        prompt, keywords = to_messages(turn.messages()), for_answering(llm, options, turn)
        with turn.stage("generate"):
            if stream:
                responses = await llm.astream_chat(prompt, **keywords)
                async with aclosing(responses):
                    async for response in responses:
                        for piece in turn.read(*read_delta(response)):
                            yield piece
            else:
                response = await llm.achat(prompt, **keywords)
                for piece in turn.read(*read_whole(response)):
                    yield piece
    for last in turn.end(read_told(response) if turn.found else None):
        yield last
