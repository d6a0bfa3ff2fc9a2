"""What a remote embedder and a remote reranker share: a server, a client, and one way in for sync and async callers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from qwen3_rag.remote.batching import Outcome, Send, raise_failed, send_all
from qwen3_rag.remote.connection import ConnectionOptions, connect
from qwen3_rag.remote.loop import LOOP
from qwen3_rag.remote.profiles import split_name

T = TypeVar("T")
J = TypeVar("J")
S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Generic[R, T]):
    """A call as rows that are sent in requests.

    Attributes:
        rows: How many there are.
        batches: Groups those that are missing into requests.
        send: Sends one request.
        inputs: For each input of the call, its rows.
        what: How messages call the inputs.
        value: Makes what an error shows of an input from the results of its rows.
        finish: Does the whole call again, but for the rows that are done.
    """

    rows: int
    batches: Callable[[Sequence[int]], list[tuple[int, ...]]]
    send: Send[R]
    inputs: Sequence[Sequence[int]]
    what: str
    value: Callable[[Sequence[R]], Any]
    finish: Callable[[Mapping[int, R]], Coroutine[Any, Any, T]]


class RemoteModel(ABC, Generic[S]):
    """A model at a server: nothing is sent before the first use or `warm_up()`.

    Args:
        model: `"server:model"`.
        connection: Where and how to connect.
    """

    def __init__(self, model: str, connection: ConnectionOptions) -> None:
        self._server, self._model = split_name(model)
        self._client = connect(self._server, connection)
        self._learned: S | None = None
        self._learning: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_learning": None}  # a lock of this process

    def __repr__(self) -> str:
        return f"{type(self).__name__}({f'{self._server.name}:{self._model}'!r}, {self._client.server!r})"

    def warm_up(self) -> Self:
        """Connects now, and finds out how the server has to be spoken to, instead of at the first call."""
        LOOP.run(self._greet())
        return self

    async def awarm_up(self) -> Self:
        """Async twin of `warm_up`."""
        await LOOP.arun(self._greet())
        return self

    def close(self) -> None:
        """Closes the connections; a later call would open new ones."""
        LOOP.run(self._client.aclose())

    async def aclose(self) -> None:
        """Async twin of `close`."""
        await LOOP.arun(self._client.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    @abstractmethod
    async def _greet(self) -> None:
        """Sends what `warm_up` sends."""

    @abstractmethod
    async def _learn(self) -> S:
        """Finds out how the server has to be spoken to."""

    async def _switches(self) -> S:
        """Returns what was found out about the server; the first caller finds it out, and the others wait."""
        if self._learned is None:
            loop = asyncio.get_running_loop()
            if self._learning is None or self._learning[0] is not loop:
                self._learning = (loop, asyncio.Lock())
            async with self._learning[1]:
                if self._learned is None:
                    self._learned = await self._learn()
        return self._learned

    def _call(self, plan: Callable[[], J], send: Callable[[J], Coroutine[Any, Any, T]]) -> T:
        """Plans a call in the caller's thread and sends it in the background."""
        return LOOP.run(send(plan()))

    async def _acall(self, plan: Callable[[], J], send: Callable[[J], Coroutine[Any, Any, T]]) -> T:
        """Async twin of `_call`; counting the tokens of many texts would hold up the caller's loop, so a thread does."""
        return await LOOP.arun(send(await asyncio.to_thread(plan)))

    async def _work(self, work: Work[R, T], done: Mapping[int, R]) -> Outcome[R]:
        """Sends the rows that are missing.

        Raises:
            RemoteError: If some failed; what is done is in it if anything is.
        """
        outcome: Outcome[R] = Outcome(dict(done))
        batches = work.batches([row for row in range(work.rows) if row not in done])
        await send_all(batches, work.send, concurrency=self._client.concurrency, outcome=outcome)
        raise_failed(
            outcome,
            work.inputs,
            what=work.what,
            value=work.value,
            resume=lambda: LOOP.run(work.finish(outcome.done)),
            aresume=lambda: LOOP.arun(work.finish(outcome.done)),
        )
        return outcome
