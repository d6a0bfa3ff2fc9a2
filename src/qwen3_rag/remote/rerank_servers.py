"""How reranking servers spell it. There is no standard; most follow Jina's and Cohere's form, some half of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qwen3_rag.remote.api import IndexedRows, RerankCall, Rows


@dataclass(frozen=True, slots=True)
class JinaRerank:
    """`POST /v1/rerank` as Jina, vLLM, llama.cpp, Infinity, SiliconFlow and others serve it.

    Sources: https://jina.ai/reranker, https://docs.vllm.ai (pooling models, rerank API), llama.cpp `tools/server/README.md`,
    https://michaelfeil.eu/infinity, https://docs.siliconflow.cn/en/api-reference/rerank/create-rerank

    Attributes:
        path: Where on the host.
        instruction_fields: Names under which the instruction is sent, from outside in; empty if the server takes none.
        usage_names: Where the answer has its usage, from outside in.
    """

    path: str = "/v1/rerank"
    instruction_fields: tuple[str, ...] = ()
    usage_names: tuple[str, ...] = ("usage",)

    def body(self, call: RerankCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        body: dict[str, Any] = {
            "model": call.model,
            "query": call.query,
            "documents": list(call.documents),
            "top_n": len(call.documents),
            "return_documents": False,
        }
        if call.instruction is not None and self.instruction_fields:
            value: Any = call.instruction
            for name in reversed(self.instruction_fields):
                value = {name: value}
            body |= value
        return body

    def rows(self, data: Any) -> Rows:
        """Reads an answer."""
        return IndexedRows("results", "relevance_score", self.usage_names)(data)


@dataclass(frozen=True, slots=True)
class SGLangRerank:
    """SGLang's `POST /v1/rerank`: Jina's request with `instruct`, and a bare list as the answer.

    Source: https://github.com/sgl-project/sglang/pull/16403
    """

    path: str = "/v1/rerank"

    def body(self, call: RerankCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        return JinaRerank(instruction_fields=("instruct",)).body(call)

    def rows(self, data: Any) -> Rows:
        """Reads an answer."""
        return IndexedRows("", "score")(data)


@dataclass(frozen=True, slots=True)
class TeiRerank:
    """text-embeddings-inference's `POST /rerank`: `texts` instead of `documents`, and a bare list as the answer.

    Source: https://huggingface.github.io/text-embeddings-inference (OpenAPI).
    """

    path: str = "/rerank"

    def body(self, call: RerankCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        return {
            "query": call.query,
            "texts": list(call.documents),
            "truncate": False,
            "raw_scores": False,
            "return_text": False,
        }

    def rows(self, data: Any) -> Rows:
        """Reads an answer."""
        return IndexedRows("", "score")(data)


@dataclass(frozen=True, slots=True)
class VllmScore:
    """vLLM's `POST /score`: one query per document, so that pairs with different queries fit one request.

    Source: https://docs.vllm.ai (pooling models, score API).
    """

    path: str = "/score"

    def body(self, call: RerankCall) -> dict[str, Any]:
        """Returns the request's JSON."""
        body: dict[str, Any] = {"model": call.model, "text_1": list(call.queries), "text_2": list(call.documents)}
        if call.instruction is not None:
            body["chat_template_kwargs"] = {"instruction": call.instruction}
        return body

    def rows(self, data: Any) -> Rows:
        """Reads an answer."""
        return IndexedRows("data", "score")(data)
