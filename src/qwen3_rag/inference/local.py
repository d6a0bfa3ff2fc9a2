"""What a local embedder and a local reranker share: late loading, one worker thread for async callers, closing."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.inference.options import ModelOptions
from qwen3_rag.models import MAX_TOKENS

if TYPE_CHECKING:
    from qwen3_rag.inference.engine import Engine
    from qwen3_rag.inference.loading import LoadedModel

TOO_LONG: Final = "Split them before, or raise the limit."
"""What to do about texts that were cut."""

abandoned: Final[contextvars.ContextVar[threading.Event | None]] = contextvars.ContextVar("abandoned", default=None)
"""Set once nobody waits for the call any more, so that it need not go on."""

P = ParamSpec("P")
R = TypeVar("R")


class LocalModel:
    """A model on this machine: nothing is read before the first use or `warm_up()`.

    Args:
        options: Which weights.
        reranker: Whether they are a reranker's.
        pack_tokens: Tokens per pack; `None` sets it from the free memory.
        show_progress: Whether to draw a progress bar.
        loaded: A model that the caller has in memory already.
    """

    def __init__(
        self,
        options: ModelOptions,
        *,
        reranker: bool,
        pack_tokens: int | None,
        show_progress: bool,
        loaded: LoadedModel | None = None,
    ) -> None:
        if pack_tokens is not None and (not is_integer(pack_tokens) or pack_tokens < 1):
            raise ConfigurationError(f"pack_tokens must be a positive integer or None, got {pack_tokens!r}")
        self._options = options
        self._reranker = reranker
        self._pack_tokens = pack_tokens
        self._show_progress = show_progress
        self._given = loaded
        self._start_empty()

    def _start_empty(self) -> None:
        self._engine: Engine | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._guard = threading.Lock()
        # Apart from the other, which is held while weights are loaded: the event loop must not wait for that.
        self._worker_guard = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        held = ("_engine", "_worker", "_guard", "_worker_guard")
        return {name: value for name, value in self.__dict__.items() if name not in held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_empty()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.model!r}, device={self._options.device!r}, dtype={self._options.dtype!r})"

    def warm_up(self) -> Self:
        """Loads tokenizer and weights now instead of at the first call."""
        self._ready()
        return self

    def close(self) -> None:
        """Lets go of the weights and the worker thread; a later call would load again."""
        with self._worker_guard:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown()
        with self._guard:
            self._engine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _ready(self) -> Engine:
        with self._guard:
            if self._engine is None:
                self._engine = self._start()
            return self._engine

    def _start(self) -> Engine:
        from qwen3_rag.inference.device import pack_budget
        from qwen3_rag.inference.engine import Engine
        from qwen3_rag.inference.loading import load

        loaded = self._given or load(self._options, reranker=self._reranker)
        budget = self._pack_tokens or pack_budget(loaded.decoder.config, loaded.device, loaded.dtype)
        return Engine(loaded, budget, show_progress=self._show_progress)

    async def _in_worker(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs a call in the model's own thread: the event loop stays free, and so do the loop's default threads.

        A call that is cancelled ends with the pack that it is at.
        """
        context, left = contextvars.copy_context(), threading.Event()
        context.run(abandoned.set, left)
        with self._worker_guard:
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="qwen3-rag")
            work = partial(context.run, call, *args, **kwargs)
            result = asyncio.get_running_loop().run_in_executor(self._worker, work)
        try:
            return await result
        finally:
            left.set()


def is_integer(value: object) -> bool:
    """Whether a value counts something; `True` does not."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_max_length(max_length: int, least: int) -> int:
    """Returns the limit, or says why it can't be one.

    Raises:
        ConfigurationError: If it is outside what the model was made for.
    """
    if not is_integer(max_length) or not least <= max_length <= MAX_TOKENS:
        raise ConfigurationError(f"max_length must be between {least} and {MAX_TOKENS} tokens, got {max_length!r}")
    return max_length


def unique(items: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Returns the distinct items in order of first appearance, and for each item where its equal is among them."""
    where: dict[Any, int] = {}
    inverse = [where.setdefault(item, len(where)) for item in items]
    return list(where), inverse
