"""DashScope (Alibaba Cloud Model Studio): embeddings and reranking, in the vendor's own form and in the compatible ones.

Sources: https://www.alibabacloud.com/help/en/model-studio/text-embedding-synchronous-api,
https://www.alibabacloud.com/help/en/model-studio/text-rerank-api, and the vendor's SDK 2.0.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwen3_rag.remote.api import EmbeddingCall, IndexedRows, RerankCall, Rows, used_tokens

COMPATIBLE_EMBEDDINGS_PATH = "/compatible-mode/v1/embeddings"


@dataclass(frozen=True, slots=True)
class DashScopeEmbeddings:
    """The vendor's own embeddings API, the only one that knows queries, instructions and sparse vectors.

    Attributes:
        path: Where on the host.
        roles: Whether the model tells queries from documents.
    """

    path: str = "/api/v1/services/embeddings/text-embedding/text-embedding"
    roles: bool = True

    def body(self, call: EmbeddingCall) -> dict[str, Any]:
        """Returns the request's JSON. `instruct` only acts on queries, so it is only sent with them."""
        parameters: dict[str, Any] = {}
        if self.roles:
            parameters["text_type"] = call.role
        if call.width is not None:
            parameters["dimension"] = call.width
        if call.output != "dense":
            parameters["output_type"] = call.output
        if call.role == "query" and call.instruction is not None:
            parameters["instruct"] = call.instruction
        return {"model": call.model, "input": {"texts": list(call.texts)}, "parameters": parameters}

    def rows(self, data: Any) -> Rows:
        """Reads an answer; a row's value is the whole row, since it can hold two vectors."""
        rows = [(row["text_index"], row) for row in data["output"]["embeddings"]]
        return Rows(rows, used_tokens(data.get("usage")))


@dataclass(frozen=True, slots=True)
class DashScopeRerank:
    """The vendor's own reranking API, with `input` and `parameters`, as its SDK sends it.

    Attributes:
        path: Where on the host.
    """

    path: str = "/api/v1/services/rerank/text-rerank/text-rerank"

    def body(self, call: RerankCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        parameters: dict[str, Any] = {"top_n": len(call.documents), "return_documents": False}
        if call.instruction is not None:
            parameters["instruct"] = call.instruction
        return {
            "model": call.model,
            "input": {"query": call.query, "documents": list(call.documents)},
            "parameters": parameters,
        }

    def rows(self, data: Any) -> Rows:
        """Reads an answer."""
        read = IndexedRows("results", "relevance_score", ())(data["output"])
        return Rows(read.items, used_tokens(data.get("usage")))


@dataclass(frozen=True, slots=True)
class DashScopeFlatRerank:
    """The OpenAI-like reranking API: every field at the top, and `reranks` in the plural.

    Attributes:
        path: Where on the host.
    """

    path: str = "/compatible-api/v1/reranks"

    def body(self, call: RerankCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        body: dict[str, Any] = {
            "model": call.model,
            "query": call.query,
            "documents": list(call.documents),
            "top_n": len(call.documents),
        }
        if call.instruction is not None:
            body["instruct"] = call.instruction
        return body

    def rows(self, data: Any) -> Rows:
        """Reads an answer."""
        return IndexedRows("results", "relevance_score")(data)
