"""Qwen3-Reranker: P(yes) of a yes/no question about one document, its prefix computed once per query.

Source of the format: QwenLM/Qwen3-Embedding, `README.md` and `examples/qwen3_reranker_transformers.py`. The score is
`softmax([logit(no), logit(yes)])[1]`, which is `sigmoid(logit(yes) - logit(no))`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.inference.local import TOO_LONG, LocalModel, check_max_length, is_integer, unique
from qwen3_rag.inference.options import ModelOptions
from qwen3_rag.inference.packing import TokenIds, Tree, count_tokens
from qwen3_rag.inference.tokens import PromptTokenizer
from qwen3_rag.models import DEFAULT_RERANKER_MODEL
from qwen3_rag.prompts import DEFAULT_INSTRUCTION, RERANK_DOCUMENT, check_instruction, rerank_instruct
from qwen3_rag.texts import check_pairs, check_texts, warn_truncated
from qwen3_rag.types import RerankResult, Truncation

_MIN_LENGTH = 128
"""The frame and the default instruction take about 70 tokens."""


@dataclass(slots=True)
class _Query:
    """One distinct query of a call: its prefix, and its distinct documents with the pairs that ask for each."""

    prefix: TokenIds
    leaves: dict[TokenIds, list[int]] = field(default_factory=dict)


class LocalReranker(LocalModel):
    """A Qwen3 reranker on this machine.

    Example:
        >>> from qwen3_rag import LocalReranker
        >>> reranker = LocalReranker("tiny")
        >>> result = reranker.rerank("What is Milvus?", ["Bread needs yeast.", "Milvus is a vector database."])
        >>> int(result.scores.argmax())
        1

    Args:
        model: A hub name, a folder, or `"tiny"`.
        revision: Branch, tag or commit on the hub.
        cache_folder: Where the hub's files are kept.
        local_files_only: Never ask the hub.
        device: A PyTorch device; `"auto"` is CUDA, MPS or the CPU.
        dtype: `"float32"`, `"float16"`, `"bfloat16"`, or `"auto"`: bfloat16 where it is native.
        instruction: What counts as relevant, in English, when a call names nothing else.
        max_length: Longest pair in tokens, frame included; longer documents are cut and reported.
        max_query_length: Longest query in tokens, so that a long query can't squeeze the document out; longer ones are cut and
            reported. `None` is a quarter of `max_length`.
        pack_tokens: Tokens per pack; `None` sets it from the free memory.
        show_progress: Whether to draw a progress bar (tqdm).

    Raises:
        ConfigurationError: If a value can't work.
        MissingDependencyError: If the extra `local` is not installed.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_RERANKER_MODEL,
        *,
        revision: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        instruction: str | None = None,
        max_length: int = 8192,
        max_query_length: int | None = None,
        pack_tokens: int | None = None,
        show_progress: bool = False,
    ) -> None:
        options = ModelOptions.create(
            model,
            tiny="reranker",
            revision=revision,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
            device=device,
            dtype=dtype,
        )
        super().__init__(options, reranker=True, pack_tokens=pack_tokens, show_progress=show_progress)
        self._instruction = DEFAULT_INSTRUCTION if instruction is None else check_instruction(instruction)
        self._max_length = check_max_length(max_length, _MIN_LENGTH)
        self._max_query_length = max_length // 4 if max_query_length is None else max_query_length
        if not is_integer(self._max_query_length) or not 1 <= self._max_query_length < max_length:
            raise ConfigurationError(
                f"max_query_length must be between 1 and max_length={max_length}, got {max_query_length!r}"
            )

    @property
    def model_id(self) -> str:
        """Name, revision and whatever else changes the scores."""
        return f"{self._options.identity}|max_length={self._max_length}|max_query_length={self._max_query_length}"

    @property
    def instruction(self) -> str:
        """The instruction when a call names no other."""
        return self._instruction

    def rerank(self, query: str, documents: Sequence[str], *, instruction: str | None = None) -> RerankResult:
        """Scores every document against one query.

        Args:
            query: The question.
            documents: The texts to judge.
            instruction: What counts as relevant, in English; `None` is the reranker's own.

        Returns:
            Scores in the order of `documents`; they don't depend on the other documents.

        Raises:
            InputError: If `documents` is not a list of strings.
            ModelCheckError: If the model computes what is no number, as float16 may.
            OutOfMemoryError: If one document alone does not fit the device.
        """
        check_texts([query], "query")
        check_texts(documents, "documents")
        return self._score([(query, document) for document in documents], instruction)

    def score_pairs(self, pairs: Sequence[tuple[str, str]], *, instruction: str | None = None) -> RerankResult:
        """Scores (query, document) pairs; pairs with the same query share its computation.

        Returns:
            Scores in the order of `pairs`.
        """
        check_pairs(pairs)
        return self._score(pairs, instruction)

    async def arerank(self, query: str, documents: Sequence[str], *, instruction: str | None = None) -> RerankResult:
        """Async twin of `rerank`, in the model's own thread."""
        return await self._in_worker(self.rerank, query, documents, instruction=instruction)

    async def ascore_pairs(self, pairs: Sequence[tuple[str, str]], *, instruction: str | None = None) -> RerankResult:
        """Async twin of `score_pairs`, in the model's own thread."""
        return await self._in_worker(self.score_pairs, pairs, instruction=instruction)

    def _score(self, pairs: Sequence[tuple[str, str]], instruction: str | None) -> RerankResult:
        chosen = self._instruction if instruction is None else check_instruction(instruction)
        if not pairs:
            return RerankResult(np.zeros(0, np.float32), np.zeros(0, np.float32))
        engine = self._ready()
        queries, truncated = self._tokenize(engine.loaded.tokenizer, pairs, chosen)
        trees = [Tree(q.prefix, tuple(q.leaves)) for q in queries]
        hidden = engine.last_hidden_states(trees)
        yes, no = (hidden @ engine.loaded.answers.T.cpu()).T.numpy()  # type: ignore[union-attr]
        logits = np.empty(len(pairs), np.float32)
        asked = [places for query in queries for places in query.leaves.values()]
        for places, value in zip(asked, yes - no, strict=True):
            logits[places] = value
        limits = f"max_length={self._max_length}, max_query_length={self._max_query_length}"
        warn_truncated(truncated, len(pairs), limits, advice=TOO_LONG, stacklevel=3)
        scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
        return RerankResult(scores.astype(np.float32), logits, count_tokens(trees), truncated)

    def _tokenize(
        self, tokenizer: PromptTokenizer, pairs: Sequence[tuple[str, str]], instruction: str
    ) -> tuple[list[_Query], tuple[Truncation, ...]]:
        """Groups the pairs by query and frames them, cutting what is too long."""
        start, end = tokenizer.frame()
        texts, which = unique([query for query, _ in pairs])
        heads, truncated = self._heads(tokenizer, texts, which, instruction)
        queries = [_Query(start + head) for head in heads]
        # The space between `<Document>:` and the document is the document's: cutting there is exact for every text.
        documents = tokenizer.text([f" {document}" for _, document in pairs])
        for place, (number, ids) in enumerate(zip(which, documents, strict=True)):
            query = queries[number]
            room = self._max_length - len(query.prefix) - len(end)
            if len(ids) > room:
                truncated.append(Truncation(place, "document", len(ids), room))
            query.leaves.setdefault((*ids[:room], *end), []).append(place)
        return queries, tuple(truncated)

    def _heads(
        self, tokenizer: PromptTokenizer, queries: list[str], which: list[int], instruction: str
    ) -> tuple[list[TokenIds], list[Truncation]]:
        """Tokens of `<Instruct>: … <Query>: … <Document>:` for each query, capped."""
        truncated = []
        texts = list(queries)
        for number, ids in enumerate(tokenizer.text(queries)):
            if len(ids) > self._max_query_length:
                texts[number] = tokenizer.cut(queries[number], self._max_query_length)
                truncated.append(Truncation(which.index(number), "query", len(ids), self._max_query_length))
        heads = tokenizer.text([f"{rerank_instruct(instruction)}{text}{RERANK_DOCUMENT}" for text in texts])
        start, end = tokenizer.frame()
        for text, head in zip(texts, heads, strict=True):
            if len(start) + len(head) + len(end) >= self._max_length:
                raise InputError(
                    f"instruction and query {text!r:.60} take {len(head)} tokens and leave no room for a document within "
                    f"max_length={self._max_length}: shorten them, lower max_query_length, or raise max_length"
                )
        return [tuple(head) for head in heads], truncated
