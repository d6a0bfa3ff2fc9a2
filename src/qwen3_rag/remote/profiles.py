"""From `"server:model"` to how that model is used there: the server's usual way, with the limits of the model. Pure."""

from __future__ import annotations

from dataclasses import replace

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models.remote import (
    DASHSCOPE_EMBEDDING_MODELS,
    DASHSCOPE_RERANK_MODELS,
    RETIRED_MODELS,
    HostedEmbeddingFacts,
    HostedRerankFacts,
    open_embedding_facts,
)
from qwen3_rag.remote.dashscope import COMPATIBLE_EMBEDDINGS_PATH, DashScopeEmbeddings
from qwen3_rag.remote.openai_compatible import OpenAIEmbeddings
from qwen3_rag.remote.servers import SERVERS, DashScopeApi, EmbeddingProfile, RerankProfile, Server

_STRICTEST_EMBEDDING = HostedEmbeddingFacts(widths=(), default_width=0, rows=10, tokens=8_192, instructions=True)
_STRICTEST_RERANK = HostedRerankFacts(documents=100, tokens=4_000, request_tokens=30_000)


def split_name(name: str) -> tuple[Server, str]:
    """Splits `"server:model"`.

    Raises:
        ConfigurationError: If the server is unknown, or no model is named.
    """
    scheme, colon, model = name.partition(":")
    server = SERVERS.get(scheme)
    if not colon or server is None:
        raise ConfigurationError(f"{name!r} must begin with one of {', '.join(f'{known}:' for known in SERVERS)}")
    if not model.strip():
        raise ConfigurationError(f"{name!r} names no model: it is part of the identity of what is stored, so name it")
    return server, model


def embedding_profile(server: Server, model: str, api: DashScopeApi | None = None) -> EmbeddingProfile:
    """Returns how an embedding model is used.

    Args:
        server: Where it is.
        model: Its name there.
        api: DashScope only: its own API, or the OpenAI-compatible one, which knows no roles and instructions, so that
            queries get them in their text.

    Raises:
        ConfigurationError: If the server has no embedding models, or no such API.
    """
    if server.embedding is None:
        raise ConfigurationError(f"{server.title} has no embedding models that take Qwen3's query format")
    profile = server.embedding
    if server.name != "dashscope":
        if api is not None:
            raise ConfigurationError(f"api={api!r} is an option of dashscope:, and not of {server.name}:")
        facts = open_embedding_facts(model)
        return replace(profile, tokens=facts.max_tokens, default_width=facts.dimensions) if facts else profile
    _check_api(api)
    hosted = DASHSCOPE_EMBEDDING_MODELS.get(model, _STRICTEST_EMBEDDING)
    compatible = api == "compatible"
    return replace(
        profile,
        api=OpenAIEmbeddings(COMPATIBLE_EMBEDDINGS_PATH, sends_width=True)
        if compatible
        else DashScopeEmbeddings(roles=hosted.roles),
        rows=hosted.rows,
        tokens=hosted.tokens,
        request_tokens=hosted.request_tokens,
        widths=hosted.widths,
        default_width=hosted.default_width or None,
        queries="server" if not compatible else "client" if hosted.instructions else "nobody",
        instructions=hosted.instructions,
        sparse=hosted.sparse and not compatible,
    )


def rerank_profile(server: Server, model: str, api: DashScopeApi | None = None) -> RerankProfile:
    """Returns how a reranking model is used.

    Args:
        server: Where it is.
        model: Its name there.
        api: DashScope only: its own API or the compatible one; `None` tries the first, and the second where it is refused.

    Raises:
        ConfigurationError: If the server has no reranking, no such API, or the model is retired.
    """
    if server.rerank is None:
        raise ConfigurationError(f"{server.title} has no reranking: take another server or a local reranker")
    if server.name != "dashscope":
        if api is not None:
            raise ConfigurationError(f"api={api!r} is an option of dashscope:, and not of {server.name}:")
        return server.rerank
    _check_api(api)
    if model in RETIRED_MODELS:
        raise ConfigurationError(f"{model!r} is {RETIRED_MODELS[model]}")
    hosted = DASHSCOPE_RERANK_MODELS.get(model, _STRICTEST_RERANK)
    apis = server.rerank.apis
    return replace(
        server.rerank,
        apis=apis if api is None else (apis[api == "compatible"],),
        documents=hosted.documents,
        tokens=hosted.tokens,
        request_tokens=hosted.request_tokens,
        instructions=hosted.instructions,
    )


def _check_api(api: DashScopeApi | None) -> None:
    if api not in {None, "native", "compatible"}:
        raise ConfigurationError(f"api must be 'native', 'compatible' or None, got {api!r}")
