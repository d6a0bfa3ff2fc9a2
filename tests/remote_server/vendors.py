"""Apps that behave as each vendor documents: paths, field names, limits, error bodies, and the order of the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.remote_server import engine
from tests.remote_server.loopback import App, Received, Reply

KEY = "sk-test-5f0c"
Handler = Callable[[Any], Reply]


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.reply = Reply(body, status)


def routed(routes: dict[str, Handler], *, key: bool = False) -> App:
    """Answers by path; unknown paths get FastAPI's 404, and a wrong key OpenAI's 401."""

    def app(received: Received) -> Reply:
        if key and received.headers.get("authorization") != f"Bearer {KEY}":
            error = {
                "message": f"Incorrect API key provided: {KEY}",
                "code": "invalid_api_key",
                "type": "invalid_request_error",
            }
            return Reply({"error": error, "request_id": "r-401"}, 401)
        handler = routes.get(received.path)
        if handler is None:
            return Reply({"detail": "Not Found"}, 404)
        try:
            return handler(received.body)
        except Refusal as refusal:
            return refusal.reply

    return app


def only(body: dict[str, Any], *names: str) -> None:
    """Refuses fields that the vendor does not document: a typo must not pass in a test."""
    if unknown := body.keys() - set(names):
        raise Refusal(
            400, {"error": {"message": f"Unrecognized fields: {sorted(unknown)}", "code": "invalid", "type": "t"}}
        )


def openai_data(vectors: Sequence[Sequence[float]], tokens: int) -> dict[str, Any]:
    rows = [{"object": "embedding", "index": i, "embedding": list(v)} for i, v in enumerate(vectors)]
    return {"object": "list", "data": rows, "model": "m", "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def ranked(scores: Sequence[float], name: str = "relevance_score") -> list[dict[str, Any]]:
    """Best first, as nearly every server sorts them."""
    rows = [{"index": i, name: s} for i, s in enumerate(scores)]
    return sorted(rows, key=lambda row: -row[name])


def counted(*texts: str) -> int:
    return sum(engine.words(text) for text in texts)


# --- DashScope -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DashScopeLimits:
    rows: int = 10
    tokens: int = 8192
    documents: int = 500
    item: int = 4000
    request: int = 120_000


def _invalid(message: str) -> Refusal:
    return Refusal(400, {"code": "InvalidParameter", "message": message, "request_id": "r-400"})


@dataclass(frozen=True)
class DashScope:
    """DashScope, with its native reranking, the flat one, or both."""

    limits: DashScopeLimits = field(default_factory=DashScopeLimits)
    rerank: str = "both"
    widths: Sequence[int] = (2048, 1536, 1024, 768, 512, 256, 128, 64)
    score: Callable[..., list[float]] = engine.score

    def app(self) -> App:
        routes = {
            "/api/v1/services/embeddings/text-embedding/text-embedding": self.native,
            "/compatible-mode/v1/embeddings": self.compatible,
            "/api/v1/services/rerank/text-rerank/text-rerank": self.nested,
            "/compatible-api/v1/reranks": self.flat,
        }
        if self.rerank == "nested":
            del routes["/compatible-api/v1/reranks"]
        return routed(routes, key=True)

    def check_texts(self, texts: Any, width: int) -> None:
        if not isinstance(texts, list) or not all(isinstance(t, str) and t for t in texts):
            raise _invalid("Value error, contents is neither str nor list of str.: input.contents")
        if len(texts) > self.limits.rows:
            raise _invalid(
                "<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than "
                f"{self.limits.rows}.: input.contents"
            )
        if any(engine.words(t) > self.limits.tokens for t in texts):
            raise _invalid(f"Range of input length should be [1, {self.limits.tokens}]")
        if width not in self.widths:
            raise _invalid(f"Value error, dimension {width} is invalid")

    def native(self, body: Any) -> Reply:
        only(body, "model", "input", "parameters")
        options = body["parameters"]
        only(options, "text_type", "dimension", "output_type", "instruct")
        texts, width, output = (
            body["input"]["texts"],
            options.get("dimension", 1024),
            options.get("output_type", "dense"),
        )
        self.check_texts(texts, width)
        if options.get("text_type", "document") == "query":
            result = engine.tiny_embedder().embed_queries(texts, instruction=options.get("instruct"))
            vectors = result.vectors.tolist()
        else:
            vectors = engine.embed(texts)
        rows: list[dict[str, Any]] = [{"text_index": i} for i in range(len(texts))]
        for row, text, vector in zip(rows, texts, engine.widened(vectors, width), strict=True):
            if "dense" in output:
                row["embedding"] = vector
            if "sparse" in output:
                row["sparse_embedding"] = engine.sparse(text)
        rows.reverse()  # the order is not promised
        return Reply({"request_id": "r-1", "output": {"embeddings": rows}, "usage": {"total_tokens": counted(*texts)}})

    def compatible(self, body: Any) -> Reply:
        only(body, "model", "input", "dimensions", "encoding_format")
        width = body.get("dimensions", 1024)
        self.check_texts(body["input"], width)
        return Reply(openai_data(engine.widened(engine.embed(body["input"]), width), counted(*body["input"])))

    def nested(self, body: Any) -> Reply:
        if self.rerank == "flat" or "input" not in body:
            raise _invalid("Required parameter is missing: query")
        only(body, "model", "input", "parameters")
        only(body["parameters"], "top_n", "return_documents", "instruct")
        found, tokens = self._scores(body["input"], body["parameters"])
        return Reply({"request_id": "r-2", "output": {"results": found}, "usage": {"total_tokens": tokens}})

    def flat(self, body: Any) -> Reply:
        only(body, "model", "query", "documents", "top_n", "instruct")
        found, tokens = self._scores(body, body)
        return Reply({"object": "list", "results": found, "model": "m", "id": "r-3", "usage": {"total_tokens": tokens}})

    def _scores(self, body: Any, options: Any) -> tuple[list[dict[str, Any]], int]:
        query, documents = body["query"], body["documents"]
        cost = engine.words(query) * len(documents) + counted(*documents)
        if len(documents) > self.limits.documents or cost > self.limits.request:
            raise _invalid("The total number of tokens exceeds the limit of the request")
        if any(engine.words(t) > self.limits.item for t in (query, *documents)):
            raise _invalid(f"Range of input length should be [1, {self.limits.item}]")
        found = ranked(self.score(query, documents, options.get("instruct")))
        return found[: options.get("top_n", len(found))], cost


def dashscope(**options: Any) -> App:
    return DashScope(**options).app()


# --- servers of one's own --------------------------------------------------------------------------------------------


def openai_embeddings(body: Any) -> Reply:
    only(body, "model", "input", "encoding_format")
    return Reply(openai_data(engine.embed(body["input"]), counted(*body["input"])))


def vllm(*, template: bool = False) -> App:
    """vLLM; `template`: started with the Qwen3 reranker's chat template."""

    def run(query: str, documents: Sequence[str], body: Any) -> list[float]:
        if not template:
            return engine.score_as_is(query, documents)
        return engine.score(query, documents, body.get("chat_template_kwargs", {}).get("instruction"))

    def rerank(body: Any) -> Reply:
        only(body, "model", "query", "documents", "top_n", "return_documents", "chat_template_kwargs")
        found = ranked(run(body["query"], body["documents"], body))
        for row in found:
            row["document"] = {"text": body["documents"][row["index"]]}
        tokens = counted(*body["documents"]) + 60 * len(found) * template
        return Reply(
            {
                "id": "rerank-1",
                "model": "m",
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
                "results": found,
            }
        )

    def score(body: Any) -> Reply:
        only(body, "model", "text_1", "text_2", "chat_template_kwargs")
        pairs = zip(body["text_1"], body["text_2"], strict=True)
        rows = [{"index": i, "object": "score", "score": run(q, [d], body)[0]} for i, (q, d) in enumerate(pairs)]
        return Reply({"id": "score-1", "object": "list", "data": rows, "usage": {"total_tokens": 1}})

    return routed({"/v1/embeddings": openai_embeddings, "/v1/rerank": rerank, "/score": score})


def sglang() -> App:
    def rerank(body: Any) -> Reply:
        only(body, "model", "query", "documents", "top_n", "return_documents", "instruct")
        found = ranked(engine.score(body["query"], body["documents"], body.get("instruct")), "score")
        return Reply([{**row, "document": None, "meta_info": None} for row in found])

    return routed({"/v1/embeddings": openai_embeddings, "/v1/rerank": rerank})


def tei() -> App:
    def check(texts: Sequence[str]) -> None:
        if len(texts) > 32:
            raise Refusal(
                413, {"error": f"batch size {len(texts)} > maximum allowed batch size 32", "error_type": "Validation"}
            )

    def embed(body: Any) -> Reply:
        only(body, "inputs", "truncate", "normalize")
        check(body["inputs"])
        return Reply(engine.embed(body["inputs"]))

    def rerank(body: Any) -> Reply:
        only(body, "query", "texts", "truncate", "raw_scores", "return_text")
        check(body["texts"])
        return Reply(ranked(engine.score_as_is(body["query"], body["texts"]), "score"))

    return routed({"/embed": embed, "/rerank": rerank})


def llamacpp() -> App:
    def rerank(body: Any) -> Reply:
        found = ranked(engine.score(body["query"], body["documents"]))
        return Reply(
            {"model": "m", "object": "list", "usage": {"prompt_tokens": 9, "total_tokens": 9}, "results": found}
        )

    return routed({"/v1/embeddings": openai_embeddings, "/v1/rerank": rerank})


def ollama() -> App:
    def embed(body: Any) -> Reply:
        only(body, "model", "input", "truncate")
        if not all(body["input"]):
            raise Refusal(500, {"error": "failed to generate embedding"})
        return Reply(
            {"model": "m", "embeddings": engine.embed(body["input"]), "prompt_eval_count": counted(*body["input"])}
        )

    return routed({"/api/embed": embed})


def jina_rerank(*, as_is: bool, instruction: str | None = None, meta: bool = False) -> Handler:
    def rerank(body: Any) -> Reply:
        only(body, "model", "query", "documents", "top_n", "return_documents", *filter(None, [instruction]))
        if as_is:
            scores = engine.score_as_is(body["query"], body["documents"])
        else:
            scores = engine.score(body["query"], body["documents"], body.get(instruction or ""))
        tokens = counted(*body["documents"])
        usage = {"meta": {"tokens": {"input_tokens": tokens}}} if meta else {"usage": {"total_tokens": tokens}}
        return Reply({"id": "1", "results": ranked(scores), **usage})

    return rerank


def infinity() -> App:
    return routed({"/embeddings": openai_embeddings, "/rerank": jina_rerank(as_is=True)})


def jina() -> App:
    return routed({"/v1/rerank": jina_rerank(as_is=False)}, key=True)


def siliconflow() -> App:
    def embeddings(body: Any) -> Reply:
        only(body, "model", "input", "encoding_format", "dimensions")
        if len(body["input"]) > 32:
            raise Refusal(413, {"code": 20042, "message": "input batch size > 32", "data": None})
        vectors = engine.embed(body["input"])
        return Reply(openai_data(engine.widened(vectors, body.get("dimensions", 128)), counted(*body["input"])))

    return routed(
        {"/v1/embeddings": embeddings, "/v1/rerank": jina_rerank(as_is=False, instruction="instruction", meta=True)},
        key=True,
    )


def openai() -> App:
    return routed({"/v1/embeddings": openai_embeddings, "/v1/rerank": jina_rerank(as_is=False)}, key=True)
