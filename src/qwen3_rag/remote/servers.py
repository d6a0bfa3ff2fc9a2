"""The servers that can be named, and how each is spoken to. Data; the vendors' forms are in the modules it points to."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from qwen3_rag.models.hosts import DASHSCOPE_KEY_ENV, DASHSCOPE_PATHS
from qwen3_rag.remote.api import EmbeddingApi, RerankApi
from qwen3_rag.remote.dashscope import DashScopeEmbeddings, DashScopeFlatRerank, DashScopeRerank
from qwen3_rag.remote.embedding_servers import OllamaEmbeddings, TeiEmbeddings
from qwen3_rag.remote.openai_compatible import OpenAIEmbeddings
from qwen3_rag.remote.rerank_servers import JinaRerank, SGLangRerank, TeiRerank, VllmScore

Side: TypeAlias = Literal["server", "client"]
Template: TypeAlias = Literal["server", "client", "auto"]
DashScopeApi: TypeAlias = Literal["native", "compatible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingProfile:
    """How one embedding model at one server is used.

    Attributes:
        api: How the server spells it.
        rows: Texts per request.
        tokens: Tokens per text; `None` leaves the limit to the server.
        request_tokens: Tokens per request.
        widths: The widths that the server makes; empty if they are not known.
        default_width: The width when none is asked for, if it is known.
        queries: Who marks a query as one: the server by a field, the client in the text, or nobody, since there is no way.
        shortens: Who cuts a vector to a width.
        instructions: Whether queries can have an instruction.
        sparse: Whether there are sparse vectors.
        empty_texts: Whether the server takes empty texts.
        probe: Whether the server is probed before its first use.
    """

    api: EmbeddingApi
    rows: int = 64
    tokens: int | None = None
    request_tokens: int | None = None
    widths: tuple[int, ...] = ()
    default_width: int | None = None
    queries: Literal["server", "client", "nobody"] = "client"
    shortens: Side = "client"
    instructions: bool = True
    sparse: bool = False
    empty_texts: bool = True
    probe: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankProfile:
    """How one reranking model at one server is used.

    Attributes:
        apis: How the server spells it; the second is tried where the first is refused.
        pairs: A form that takes another query for each document, if there is one.
        documents: Documents per request.
        tokens: Tokens per text or per pair; `None` leaves the limit to the server.
        tokens_of: Whether that limit is for query and document each, or for both with the prompt around them.
        request_tokens: Limit of `query tokens * documents + sum of document tokens`.
        template: Who puts the Qwen3 prompt around the texts; `"auto"` is found out by the probe.
        instructions: Whether a server that puts the prompt takes an instruction with the request.
        probe: Whether the server is probed before its first use.
    """

    apis: tuple[RerankApi, ...]
    pairs: RerankApi | None = None
    documents: int = 64
    tokens: int | None = None
    tokens_of: Literal["text", "pair"] = "pair"
    request_tokens: int | None = None
    template: Template = "auto"
    instructions: bool = False
    probe: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A kind of server.

    Attributes:
        name: What stands before the colon.
        title: What messages call it.
        base_url: Where it usually is; `None` if that is found by region.
        repeated: Ends of a `base_url` that the paths have too, so that both spellings work.
        key_env: Environment variable of the key.
        key_hosts: Hosts, and domains with a leading dot, that a key from the environment may go to.
        needs_key: Whether it can't be used without.
        embedding: The profile of its embedding models, `None` if it has none.
        rerank: The profile of its reranking models, `None` if it has none.
    """

    name: str
    title: str
    base_url: str | None
    repeated: tuple[str, ...] = ("/v1",)
    key_env: str | None = None
    key_hosts: tuple[str, ...] = ()
    needs_key: bool = False
    embedding: EmbeddingProfile | None = None
    rerank: RerankProfile | None = None


_HOSTED_OPENAI = OpenAIEmbeddings("/embeddings")

SERVERS = MappingProxyType(
    {
        server.name: server
        for server in (
            Server(
                name="dashscope",
                title="DashScope",
                base_url=None,
                repeated=DASHSCOPE_PATHS,
                key_env=DASHSCOPE_KEY_ENV,
                needs_key=True,
                embedding=EmbeddingProfile(
                    api=DashScopeEmbeddings(),
                    queries="server",
                    shortens="server",
                    empty_texts=False,
                    probe=False,
                ),
                rerank=RerankProfile(
                    apis=(DashScopeRerank(), DashScopeFlatRerank()),
                    tokens_of="text",
                    template="server",
                    instructions=True,
                    probe=False,
                ),
            ),
            Server(
                name="vllm",
                title="vLLM",
                base_url="http://localhost:8000",
                embedding=EmbeddingProfile(api=OpenAIEmbeddings(), rows=128),
                rerank=RerankProfile(
                    apis=(JinaRerank(instruction_fields=("chat_template_kwargs", "instruction")),),
                    pairs=VllmScore(),
                    documents=128,
                    instructions=True,
                ),
            ),
            Server(
                name="sglang",
                title="SGLang",
                base_url="http://localhost:30000",
                embedding=EmbeddingProfile(api=OpenAIEmbeddings(), rows=128),
                rerank=RerankProfile(apis=(SGLangRerank(),), documents=128, instructions=True),
            ),
            Server(
                name="tei",
                title="text-embeddings-inference",
                base_url="http://localhost:8080",
                embedding=EmbeddingProfile(api=TeiEmbeddings(), rows=32),
                rerank=RerankProfile(apis=(TeiRerank(),), documents=32),
            ),
            Server(
                name="llamacpp",
                title="llama.cpp",
                base_url="http://localhost:8080",
                embedding=EmbeddingProfile(api=OpenAIEmbeddings(), rows=32),
                rerank=RerankProfile(apis=(JinaRerank(),), documents=32),
            ),
            Server(
                name="ollama",
                title="Ollama",
                base_url="http://localhost:11434",
                embedding=EmbeddingProfile(api=OllamaEmbeddings(), empty_texts=False),
            ),
            Server(
                name="infinity",
                title="Infinity",
                base_url="http://localhost:7997",
                repeated=(),
                embedding=EmbeddingProfile(api=_HOSTED_OPENAI),
                rerank=RerankProfile(apis=(JinaRerank("/rerank"),)),
            ),
            Server(
                name="jina",
                title="Jina",
                base_url="https://api.jina.ai/v1",
                repeated=(),
                key_env="JINA_API_KEY",
                key_hosts=("api.jina.ai",),
                needs_key=True,
                rerank=RerankProfile(apis=(JinaRerank("/rerank"),), template="server", probe=False),
            ),
            Server(
                name="siliconflow",
                title="SiliconFlow",
                base_url="https://api.siliconflow.cn/v1",
                repeated=(),
                key_env="SILICONFLOW_API_KEY",
                key_hosts=(".siliconflow.cn", ".siliconflow.com"),
                needs_key=True,
                embedding=EmbeddingProfile(
                    api=OpenAIEmbeddings("/embeddings", sends_width=True), rows=32, shortens="server", probe=False
                ),
                rerank=RerankProfile(
                    apis=(JinaRerank("/rerank", ("instruction",), ("meta", "tokens")),),
                    template="server",
                    instructions=True,
                    probe=False,
                ),
            ),
            Server(
                name="openai",
                title="The OpenAI-compatible server",
                base_url="https://api.openai.com/v1",
                repeated=(),
                key_env="OPENAI_API_KEY",
                key_hosts=("api.openai.com",),
                embedding=EmbeddingProfile(api=_HOSTED_OPENAI, probe=False),
                rerank=RerankProfile(apis=(JinaRerank("/rerank"),), template="server", probe=False),
            ),
        )
    }
)
"""By the name before the colon."""
