"""Qwen3-Embedding as LangChain embeddings."""

from __future__ import annotations

from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.stores import ByteStore
from pydantic import Field

from qwen3_rag.backends import load_embedder
from qwen3_rag.cache import CachedEmbedder
from qwen3_rag.langchain._adapter import ModelAdapter
from qwen3_rag.models import DEFAULT_EMBEDDING_MODEL
from qwen3_rag.texts import check_dimensions
from qwen3_rag.types import Embedder, EmbeddingResult

Vector = list[float]


class Qwen3Embeddings(ModelAdapter, Embeddings):
    """Embeds queries under an instruction and documents bare, as Qwen3-Embedding was trained.

    Texts are embedded as they are: newlines, code and control-token look-alikes stay text. Equal texts cost once.

    Args:
        model: `"tiny"` (bundled, offline), a hub name, a folder, a loaded `SentenceTransformer`, or any
            `qwen3_rag.types.Embedder`. Nothing is loaded before the first text is embedded.
        instruction: Query instruction; `None` takes the model's own, which is the official web-search one.
        dimensions: Length of the vectors, cut and normalised again (MRL); `None` takes the model's full length.
        cache: Where vectors are kept, for example `LocalFileStore` or `InMemoryByteStore`. The keys hold model,
            length, role and instruction; LangChain's own `CacheBackedEmbeddings` keys by the bare text, so a query
            would get a document's vector.
        **options: Passed to `qwen3_rag.inference.LocalEmbedder`: `device`, `dtype`, `max_length`, `cache_folder`, …; or to
            `qwen3_rag.remote.RemoteEmbedder`: `base_url`, `api_key`, …

    Raises:
        ConfigurationError: If an argument has a value that cannot work.
        MissingDependencyError: If the model's back end is not installed.

    Example:
        ```python
        from qwen3_rag.langchain import Qwen3Embeddings

        embeddings = Qwen3Embeddings("Qwen/Qwen3-Embedding-0.6B", dimensions=512)
        passages = embeddings.embed_documents(["Milvus stores segments in object storage."])
        query = embeddings.embed_query("Where is data stored?")
        code = embeddings.embed_query("parse json", instruction="Given a task, retrieve code that solves it")
        ```
    """

    dimensions: int | None = None
    cache: ByteStore | None = Field(default=None, exclude=True)

    def __init__(
        self,
        model: Any = DEFAULT_EMBEDDING_MODEL,
        *,
        instruction: str | None = None,
        dimensions: int | None = None,
        cache: ByteStore | None = None,
        **options: Any,
    ) -> None:
        check_dimensions(dimensions)
        super().__init__(model, instruction=instruction, dimensions=dimensions, cache=cache, **options)

    @property
    def embedder(self) -> Embedder:
        """What embeds: share it with other adapters, or call its own `warm_up()` and `close()`."""
        core: Embedder = self._core
        return core

    def embed_documents(self, texts: list[str], *, dimensions: int | None = None) -> list[Vector]:
        """Embeds passages.

        Args:
            texts: The passages.
            dimensions: Overrides the instance's own for this call.

        Returns:
            One vector for each text, in their order, of unit length.
        """
        result = self.embedder.embed_documents(texts, dimensions=self._width(dimensions))
        return _floats(result)

    def embed_query(self, text: str, *, instruction: str | None = None, dimensions: int | None = None) -> Vector:
        """Embeds a question.

        Args:
            text: The question, bare: the instruction is put before it here.
            instruction: Overrides the instance's own for this call.
            dimensions: Overrides the instance's own for this call.

        Returns:
            The vector, of unit length.
        """
        result = self.embedder.embed_queries([text], **self._query_options(instruction, dimensions))
        return _floats(result)[0]

    async def aembed_documents(self, texts: list[str], *, dimensions: int | None = None) -> list[Vector]:
        """Async twin of `embed_documents`."""
        result = await self.embedder.aembed_documents(texts, dimensions=self._width(dimensions))
        return _floats(result)

    async def aembed_query(self, text: str, *, instruction: str | None = None, dimensions: int | None = None) -> Vector:
        """Async twin of `embed_query`."""
        result = await self.embedder.aembed_queries([text], **self._query_options(instruction, dimensions))
        return _floats(result)[0]

    def _load(self, **secrets: Any) -> Embedder:
        embedder = load_embedder(self.model, **self._options, **secrets)
        return embedder if self.cache is None else CachedEmbedder(embedder, self.cache)

    def _width(self, dimensions: int | None) -> int | None:
        check_dimensions(dimensions)
        return self.dimensions if dimensions is None else dimensions

    def _query_options(self, instruction: str | None, dimensions: int | None) -> dict[str, Any]:
        return {
            "instruction": self.instruction if instruction is None else instruction,
            "dimensions": self._width(dimensions),
        }


def as_embeddings(value: Any) -> Embeddings:
    """Returns LangChain embeddings as they are; anything else is the first argument of `Qwen3Embeddings`."""
    return value if isinstance(value, Embeddings) else Qwen3Embeddings(value)


def _floats(result: EmbeddingResult) -> list[Vector]:
    vectors: list[Vector] = result.vectors.tolist()
    return vectors
