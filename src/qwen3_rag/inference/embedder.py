"""Qwen3-Embedding: the hidden state of the closing `<|endoftext|>`, cut to a width (MRL), then to unit length.

Source of the format: QwenLM/Qwen3-Embedding, `examples/qwen3_embedding_transformers.py`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.inference.local import TOO_LONG, LocalModel, check_max_length, is_integer, unique
from qwen3_rag.inference.options import ModelOptions
from qwen3_rag.inference.packing import TokenIds, Tree
from qwen3_rag.models import DEFAULT_EMBEDDING_MODEL, EMBEDDING_MODELS, MAX_TOKENS, MIN_DIMENSIONS
from qwen3_rag.prompts import DEFAULT_INSTRUCTION, END_OF_TEXT, check_instruction, query_text
from qwen3_rag.texts import check_texts, warn_truncated
from qwen3_rag.types import EmbeddingResult, FloatArray, Truncation

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class LocalEmbedder(LocalModel):
    """A Qwen3 embedding model on this machine.

    Example:
        >>> from qwen3_rag import LocalEmbedder
        >>> embedder = LocalEmbedder("tiny")
        >>> documents = embedder.embed_documents(["Milvus is a vector database.", "Bread needs yeast."])
        >>> query = embedder.embed_query("What is Milvus?")
        >>> int((documents.vectors @ query).argmax())
        0

    Args:
        model: A hub name, a folder, `"tiny"`, or a loaded `SentenceTransformer` of the Qwen3 architecture, whose weights are
            shared and not changed, and stay on its device and in its dtype.
        revision: Branch, tag or commit on the hub.
        cache_folder: Where the hub's files are kept.
        local_files_only: Never ask the hub.
        device: A PyTorch device; `"auto"` is CUDA, MPS or the CPU.
        dtype: `"float32"`, `"float16"`, `"bfloat16"`, or `"auto"`: bfloat16 where it is native.
        dimensions: Width of the vectors, 32 up to the model's own; `None` is the model's own.
        instruction: The query instruction when a call names no other; `None` is the model's own, which for Qwen3 is
            `prompts.DEFAULT_INSTRUCTION`.
        normalize: Whether vectors have unit length.
        max_length: Longest input in tokens, the closing one included; longer texts are cut and reported.
        pack_tokens: Tokens per pack; `None` sets it from the free memory.
        show_progress: Whether to draw a progress bar (tqdm).

    Raises:
        ConfigurationError: If a value can't work.
        MissingDependencyError: If the extra `local` is not installed.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | SentenceTransformer = DEFAULT_EMBEDDING_MODEL,
        *,
        revision: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        dimensions: int | None = None,
        instruction: str | None = None,
        normalize: bool = True,
        max_length: int = MAX_TOKENS,
        pack_tokens: int | None = None,
        show_progress: bool = False,
    ) -> None:
        loaded = None
        if not isinstance(model, (str, os.PathLike)):
            from qwen3_rag.inference.given import check_no_place, given_model, given_prompt

            loaded = given_model(model)
            check_no_place(
                revision=revision,
                cache_folder=cache_folder,
                local_files_only=local_files_only or None,
                device=None if device == "auto" else device,
                dtype=None if dtype == "auto" else dtype,
            )
            instruction = given_prompt(model) if instruction is None else instruction
            model = loaded.name
        options = ModelOptions.create(
            model,
            tiny="embedder",
            revision=revision,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
            device=device,
            dtype=dtype,
        )
        super().__init__(options, reranker=False, pack_tokens=pack_tokens, show_progress=show_progress, loaded=loaded)
        self._instruction = None if instruction is None else check_instruction(instruction)
        self._normalize = normalize
        self._max_length = check_max_length(max_length, 2)
        facts = EMBEDDING_MODELS.get(options.model)
        self._width = facts.dimensions if facts else None
        self._dimensions = dimensions
        if dimensions is not None:
            self._check_dimensions(dimensions, self._width)

    @property
    def model_id(self) -> str:
        """Name, revision and whatever else changes the vectors."""
        limit = "" if self._max_length == MAX_TOKENS else f"|max_length={self._max_length}"
        return f"{self._options.identity}{'' if self._normalize else '|not normalized'}{limit}"

    @property
    def dimensions(self) -> int:
        """Width of the vectors when a call names no other; reads the model's configuration if it is not a known model."""
        if self._dimensions is not None:
            return self._dimensions
        if self._width is None:
            self._width = int(self._ready().loaded.decoder.config.hidden_size)
        return self._width

    @property
    def instruction(self) -> str:
        """The query instruction when a call names no other; may read the model's saved prompts."""
        if self._instruction is None:
            from qwen3_rag.inference.given import saved_instruction

            self._instruction = saved_instruction(self._options) or DEFAULT_INSTRUCTION
        return self._instruction

    def embed_documents(self, texts: Sequence[str], *, dimensions: int | None = None) -> EmbeddingResult:
        """Embeds passages: no instruction, no prefix.

        Args:
            texts: The passages; an empty one is a valid text.
            dimensions: Width of the vectors for this call.

        Returns:
            One row per text, in order.

        Raises:
            InputError: If `texts` is not a list of strings.
            ConfigurationError: If the model can't be cut to `dimensions`.
            ModelCheckError: If the model computes what is no number, as float16 may.
            OutOfMemoryError: If one text alone does not fit the device.
        """
        check_texts(texts)
        return self._embed(texts, dimensions, "document")

    def embed_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, dimensions: int | None = None
    ) -> EmbeddingResult:
        r"""Embeds questions, each as `Instruct: {instruction}\nQuery:{text}`.

        Args:
            texts: The questions.
            instruction: What the retrieval is for, in English; `None` is the embedder's own.
            dimensions: Width of the vectors for this call.

        Returns:
            One row per question, in order.
        """
        check_texts(texts)
        chosen = self.instruction if instruction is None else instruction
        return self._embed([query_text(text, chosen) for text in texts], dimensions, "query")

    def embed_query(self, text: str, *, instruction: str | None = None, dimensions: int | None = None) -> FloatArray:
        """Embeds one question.

        Returns:
            Shape `(dimensions,)`.
        """
        vectors = self.embed_queries([text], instruction=instruction, dimensions=dimensions).vectors
        return np.asarray(vectors[0])

    async def aembed_documents(self, texts: Sequence[str], *, dimensions: int | None = None) -> EmbeddingResult:
        """Async twin of `embed_documents`, in the model's own thread."""
        return await self._in_worker(self.embed_documents, texts, dimensions=dimensions)

    async def aembed_queries(
        self, texts: Sequence[str], *, instruction: str | None = None, dimensions: int | None = None
    ) -> EmbeddingResult:
        """Async twin of `embed_queries`, in the model's own thread."""
        return await self._in_worker(self.embed_queries, texts, instruction=instruction, dimensions=dimensions)

    def _embed(self, texts: Sequence[str], dimensions: int | None, part: str) -> EmbeddingResult:
        engine = self._ready()
        full = int(engine.loaded.decoder.config.hidden_size)
        asked = self._dimensions if dimensions is None else dimensions
        width = self._check_dimensions(full if asked is None else asked, full)
        if not len(texts):
            return EmbeddingResult(np.zeros((0, width), np.float32))
        sequences, truncated = self._tokenize(texts, part)
        distinct, inverse = unique(sequences)
        # Longest first: if memory is short, it shows at once.
        order = sorted(range(len(distinct)), key=lambda i: -len(distinct[i]))
        hidden = engine.last_hidden_states([Tree((), tuple(distinct[i] for i in order))]).numpy()
        vectors = np.empty((len(distinct), width), np.float32)
        vectors[order] = hidden[:, :width]
        if self._normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        warn_truncated(truncated, len(texts), f"max_length={self._max_length}", advice=TOO_LONG, stacklevel=3)
        return EmbeddingResult(vectors[inverse], sum(map(len, distinct)), truncated)

    def _tokenize(self, texts: Sequence[str], part: str) -> tuple[list[TokenIds], tuple[Truncation, ...]]:
        tokenizer = self._ready().loaded.tokenizer
        end, room = tokenizer.token_id(END_OF_TEXT), self._max_length - 1
        ids = tokenizer.text(texts)
        truncated = tuple(Truncation(index, part, len(row), room) for index, row in enumerate(ids) if len(row) > room)
        return [(*row[:room], end) for row in ids], truncated

    @staticmethod
    def _check_dimensions(dimensions: Any, full: int | None) -> int:
        valid = is_integer(dimensions) and dimensions >= MIN_DIMENSIONS
        if not valid or (full is not None and dimensions > full):
            most = full or "the model's own width"
            raise ConfigurationError(f"dimensions must be between {MIN_DIMENSIONS} and {most}, got {dimensions!r}")
        return int(dimensions)
