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
        if pack_tokens is not None and pack_tokens < 1:
            raise ConfigurationError(f"pack_tokens must be positive or None, got {pack_tokens!r}")
        self._options = options
        self._reranker = reranker
        self._pack_tokens = pack_tokens
        self._show_progress = show_progress
        self._given = loaded
        self._engine: Engine | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._guard = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.model!r}, device={self._options.device!r}, dtype={self._options.dtype!r})"

    def warm_up(self) -> Self:
        """Loads tokenizer and weights now instead of at the first call."""
        self._ready()
        return self

    def close(self) -> None:
        """Lets go of the weights and the worker thread; a later call would load again."""
        with self._guard:
            self._engine, worker, self._worker = None, self._worker, None
        if worker is not None:
            worker.shutdown()

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
        """Runs a call in the model's own thread: the event loop stays free, and so do the loop's default threads."""
        with self._guard:
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, thread_name_prefix="qwen3-rag")
            worker = self._worker
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(worker, partial(context.run, call, *args, **kwargs))


def check_max_length(max_length: int, least: int) -> int:
    """Returns the limit, or says why it can't be one.

    Raises:
        ConfigurationError: If it is outside what the model was made for.
    """
    if isinstance(max_length, bool) or not isinstance(max_length, int) or not least <= max_length <= MAX_TOKENS:
        raise ConfigurationError(f"max_length must be between {least} and {MAX_TOKENS} tokens, got {max_length!r}")
    return max_length


def unique(items: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Returns the distinct items in order of first appearance, and for each item where its equal is among them."""
    where: dict[Any, int] = {}
    inverse = [where.setdefault(item, len(where)) for item in items]
    return list(where), inverse
