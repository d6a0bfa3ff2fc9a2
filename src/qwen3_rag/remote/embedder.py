"""Embedding models behind HTTP."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar, Unpack

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.prompts import DEFAULT_INSTRUCTION, END_OF_TEXT
from qwen3_rag.remote.answers import read_rows
from qwen3_rag.remote.api import Embedding, Role
from qwen3_rag.remote.batching import Outcome, pack
from qwen3_rag.remote.connection import ConnectionOptions
from qwen3_rag.remote.embedding_plan import (
    EmbeddingJob,
    EmbeddingSettings,
    dense_rows,
    read_embeddings,
)
from qwen3_rag.remote.http import Request
from qwen3_rag.remote.hybrid import HybridMethods
from qwen3_rag.remote.inputs import TooLong, check_count, warn_cut
from qwen3_rag.remote.loop import LOOP
from qwen3_rag.remote.model import Work
from qwen3_rag.remote.probe import (
    EMBEDDING_EXAMPLE,
    EmbeddingEvidence,
    EmbeddingProbe,
    is_conclusive,
    judge_embeddings,
)
from qwen3_rag.remote.profiles import embedding_profile, split_name
from qwen3_rag.remote.servers import DashScopeApi
from qwen3_rag.tokens import token_counter
from qwen3_rag.types import EmbeddingResult, FloatArray, HybridEmbeddingResult

T = TypeVar("T")

_ANY_TEXT = "Milvus"
"""Sent where the answer does not matter, only that there is one."""


class RemoteEmbedder(HybridMethods):
    """An embedding model at DashScope or at a server of your own.

    Equal texts are sent once. Requests go out side by side within the model's limits; what fails for a while is sent
    again, and what fails for good raises, with everything that succeeded kept in the error.

    Example:
        >>> from qwen3_rag.remote import RemoteEmbedder
        >>> embedder = RemoteEmbedder("dashscope:text-embedding-v4", dimensions=512)  # doctest: +SKIP
        >>> embedder.embed_documents(["Milvus is a vector database."]).vectors.shape  # doctest: +SKIP
        (1, 512)

    Args:
        model: `"server:model"`: `dashscope:`, `vllm:`, `sglang:`, `tei:`, `llamacpp:`, `ollama:`, `infinity:`,
            `siliconflow:`, or `openai:` for any other server of that form.
        dimensions: Width of the vectors; `None` is the model's own.
        instruction: The query instruction when a call names no other; `None` is `prompts.DEFAULT_INSTRUCTION`.
        normalize: Whether vectors have unit length.
        too_long: What happens to a text over the limit: `"error"`, or `"truncate"` with a report.
        max_tokens: Tokens per text; `None` is the model's limit where it is known.
        rows: Texts per request at most; `None` is the server's usual limit.
        api: DashScope: `"native"`, or `"compatible"` where only that can be reached; it knows no roles, instructions and
            sparse vectors, so that queries get their instruction in the text.
        append_eos: Whether to write `<|endoftext|>` after each text, for servers that don't append it (old GGUF files).
            `None` asks the probe, and does not if there is none.
        probe: Whether the first use sends the published example once and refuses a server that answers it wrongly; `None`
            does for self-hosted servers.
        tokenizer: Counts tokens exactly: a tokenizer with `encode`, or a function. `None` estimates from above.
        **connection: `base_url`, `api_key`, `region`, `workspace_id`, `headers`, `timeout`, `retries`, `rate_limit`,
            `concurrency`; see `qwen3_rag.remote.ConnectionOptions`.

    Raises:
        ConfigurationError: If a value can't work.
    """

    def __init__(
        self,
        model: str,
        *,
        dimensions: int | None = None,
        instruction: str | None = None,
        normalize: bool = True,
        too_long: TooLong = "error",
        max_tokens: int | None = None,
        rows: int | None = None,
        api: DashScopeApi | None = None,
        append_eos: bool | None = None,
        probe: bool | None = None,
        tokenizer: Any = None,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        profile = embedding_profile(*split_name(model), api)
        super().__init__(model, connection)
        if too_long not in {"error", "truncate"}:
            raise ConfigurationError(f"too_long must be 'error' or 'truncate' for embeddings, got {too_long!r}")
        self._settings = EmbeddingSettings(
            profile=replace(
                profile,
                rows=check_count("rows", rows) or profile.rows,
                tokens=check_count("max_tokens", max_tokens) or profile.tokens,
                probe=profile.probe if probe is None else probe,
            ),
            model=self._model,
            instruction=DEFAULT_INSTRUCTION if instruction is None else instruction,
            dimensions=dimensions,
            normalize=normalize,
            too_long=too_long,
            count=token_counter(tokenizer),
        )
        self._append_eos = append_eos
        self._seen_width: int | None = None

    @property
    def model_id(self) -> str:
        """Server, model and whatever else changes the vectors; not the host, which may move."""
        return "|".join(
            [f"{self._server.name}:{self._model}", *self._settings.marks(), *["eos"] * bool(self._append_eos)]
        )

    @property
    def dimensions(self) -> int:
        """Width of the vectors when a call names no other; asks the server if nothing else tells it."""
        known = self._settings.width(self._settings.dimensions) or self._seen_width
        return known or int(self.embed_documents([_ANY_TEXT]).vectors.shape[1])

    @property
    def instruction(self) -> str:
        """The query instruction when a call names no other."""
        return self._settings.instruction

    @property
    def has_sparse(self) -> bool:
        """Whether `hybrid_documents` and `hybrid_queries` work: DashScope's models from `text-embedding-v3` on have them."""
        return self._settings.profile.sparse

    def embed_documents(self, texts: Sequence[str], *, dimensions: int | None = None) -> EmbeddingResult:
        """Embeds passages: no instruction, no prefix.

        Args:
            texts: The passages.
            dimensions: Width of the vectors for this call.

        Returns:
            One row per text, in order. Without texts nothing is sent, and the array is as wide as is known by then.

        Raises:
            InputError: If `texts` is not a list of strings, or one is too long and `too_long="error"`.
            ConfigurationError: If the model has no such width.
            RemoteError: If the server can't be reached, refuses, or answers wrongly.
            RemoteBatchError: If only a part failed.
        """
        return self._call(partial(self._plan, texts, "document", None, dimensions), self._embed)

    def embed_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, dimensions: int | None = None
    ) -> EmbeddingResult:
        """Embeds questions, each under the instruction.

        Args:
            texts: The questions.
            instruction: What the retrieval is for, in English; `None` is the embedder's own.
            dimensions: Width of the vectors for this call.

        Returns:
            One row per question, in order. Raises as `embed_documents`.
        """
        return self._call(partial(self._plan, texts, "query", instruction, dimensions), self._embed)

    async def aembed_documents(self, texts: Sequence[str], *, dimensions: int | None = None) -> EmbeddingResult:
        """Async twin of `embed_documents`."""
        return await self._acall(partial(self._plan, texts, "document", None, dimensions), self._embed)

    async def aembed_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, dimensions: int | None = None
    ) -> EmbeddingResult:
        """Async twin of `embed_queries`."""
        return await self._acall(partial(self._plan, texts, "query", instruction, dimensions), self._embed)

    def probe(self) -> EmbeddingProbe:
        """Sends the published example and says what the server does with a text.

        Raises:
            ModelCheckError: If its vectors are not those of a Qwen3 embedding model.
            RemoteError: If the server can't be asked.
        """
        return LOOP.run(self._probe())

    async def aprobe(self) -> EmbeddingProbe:
        """Async twin of `probe`."""
        return await LOOP.arun(self._probe())

    def _plan(self, *args: Any) -> EmbeddingJob:
        job = self._settings.plan(*args)
        warn_cut(job.truncated, len(job.inputs))
        return job

    async def _embed(self, job: EmbeddingJob, done: Mapping[int, Embedding] = MappingProxyType({})) -> EmbeddingResult:
        outcome = await self._send_job(job, done, partial(self._embed, job))
        vectors = dense_rows(job, outcome, self._client.server, self._seen_width)
        return EmbeddingResult(vectors, outcome.tokens, job.truncated)

    async def _embed_hybrid(
        self, job: EmbeddingJob, done: Mapping[int, Embedding] = MappingProxyType({})
    ) -> HybridEmbeddingResult:
        outcome = await self._send_job(job, done, partial(self._embed_hybrid, job))
        vectors = (
            None if job.call.output == "sparse" else dense_rows(job, outcome, self._client.server, self._seen_width)
        )
        sparse = tuple(found for (row,) in job.inputs if (found := outcome.done[row].sparse) is not None)
        return HybridEmbeddingResult(vectors, sparse, outcome.tokens, job.truncated)

    async def _send_job(
        self, job: EmbeddingJob, done: Mapping[int, Embedding], finish: Callable[..., Coroutine[Any, Any, T]]
    ) -> Outcome[Embedding]:
        append_eos = await self._switches() if job.inputs else False
        profile = self._settings.profile

        def batches(missing: Sequence[int]) -> list[tuple[int, ...]]:
            groups = pack([job.costs[row] for row in missing], rows=profile.rows, tokens=profile.request_tokens)
            return [tuple(missing[position] for position in group) for group in groups]

        work: Work[Embedding, T] = Work(
            rows=len(job.call.texts),
            batches=batches,
            send=partial(self._send, job, append_eos, self._settings.normalize),
            inputs=job.inputs,
            what="texts",
            value=_shown,
            finish=finish,
        )
        return await self._work(work, done)

    async def _send(
        self,
        job: EmbeddingJob,
        append_eos: bool,
        normalize: bool,
        rows: Sequence[int],
    ) -> tuple[list[Embedding], int]:
        api, server = self._settings.profile.api, self._client.server
        end = END_OF_TEXT if append_eos else ""
        call = replace(job.call, texts=[job.call.texts[row] + end for row in rows])
        data = await self._client.post(Request(api.path, api.body(call), sum(job.costs[row] for row in rows)))
        answer = read_rows(api.rows, data, server)
        found = read_embeddings(job, answer, len(rows), server=server, normalize=normalize)
        if found[0].dense is not None and job.keep is None and job.call.width is None:
            self._seen_width = len(found[0].dense)
        return found, answer.tokens

    async def _greet(self) -> None:
        await self._embed(self._settings.plan([_ANY_TEXT], "document"))

    async def _learn(self) -> bool:
        if self._settings.profile.probe:
            return (await self._probe()).append_eos
        return bool(self._append_eos)

    async def _probe(self) -> EmbeddingProbe:
        tried: dict[bool, EmbeddingEvidence] = {}
        for append_eos in (False, True) if self._append_eos is None else (self._append_eos,):
            queries, used = await self._example(EMBEDDING_EXAMPLE.queries, "query", append_eos)
            documents, more = await self._example(EMBEDDING_EXAMPLE.documents, "document", append_eos)
            tried[append_eos] = EmbeddingEvidence(queries, documents, used + more)
            if is_conclusive(tried):
                break
        return judge_embeddings(tried, self._client.server)

    async def _example(self, texts: Sequence[str], role: Role, append_eos: bool) -> tuple[list[FloatArray], int]:
        job = replace(self._settings, dimensions=None).plan(texts, role, DEFAULT_INSTRUCTION)
        found, tokens = await self._send(job, append_eos, False, range(len(texts)))
        return [item.dense for item in found if item.dense is not None], tokens


def _shown(embeddings: Sequence[Embedding]) -> Any:
    """What an error shows of a text: its dense vector, or all there is where sparse ones were asked for."""
    (found,) = embeddings
    return found if found.sparse is not None else found.dense
