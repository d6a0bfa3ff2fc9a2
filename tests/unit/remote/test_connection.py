"""Which host, and which key may go there."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from qwen3_rag import load_embedder, load_reranker
from qwen3_rag.backends import REMOTE
from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models.hosts import dashscope_origin, dashscope_region, is_dashscope_host
from qwen3_rag.remote import RemoteEmbedder, RetryPolicy
from qwen3_rag.remote.connection import connect
from qwen3_rag.remote.http import check_key
from qwen3_rag.remote.servers import SERVERS
from tests.remote_server.faults import right
from tests.remote_server.loopback import Loopback

CN, WORKSPACE = "https://dashscope.aliyuncs.com", "https://ws-1.{}.maas.aliyuncs.com"


def base_url(server: str = "dashscope", env: dict[str, str] | None = None, **options) -> str:
    key = {} if "api_key" in options else {"api_key": "k"}
    return connect(SERVERS[server], {**key, **options}, env or {})._base_url


def test_every_server_that_can_be_named_is_known_to_the_back_ends():
    assert set(REMOTE) == set(SERVERS)


@pytest.mark.parametrize(
    ("options", "env", "url"),
    [
        ({}, {}, CN),
        ({"region": "singapore"}, {}, "https://dashscope-intl.aliyuncs.com"),
        ({"region": "us-east-1"}, {}, "https://dashscope-us.aliyuncs.com"),
        ({"region": "HK"}, {}, "https://cn-hongkong.dashscope.aliyuncs.com"),
        ({"workspace_id": "ws-1"}, {}, WORKSPACE.format("cn-beijing")),
        ({"workspace_id": "ws-1", "region": "eu"}, {}, WORKSPACE.format("eu-central-1")),
        ({"region": "eu-west-9", "workspace_id": "ws-1"}, {}, WORKSPACE.format("eu-west-9")),
        ({}, {"DASHSCOPE_API_REGION": "ap-southeast-1"}, "https://dashscope-intl.aliyuncs.com"),
        (
            {},
            {"DASHSCOPE_API_REGION": "ap-southeast-1", "DASHSCOPE_WORKSPACE_ID": "ws-1"},
            WORKSPACE.format("ap-southeast-1"),
        ),
        ({}, {"DASHSCOPE_WORKSPACE_ID": "ws-1"}, CN),  # as the vendor's SDK has it
        ({}, {"DASHSCOPE_HTTP_BASE_URL": "https://gateway.example/api/v1"}, "https://gateway.example"),
        (
            {},
            {"DASHSCOPE_COMPATIBLE_BASE_URL": "https://gateway.example/compatible-mode/v1/"},
            "https://gateway.example",
        ),
        (
            {"region": "us"},
            {"DASHSCOPE_HTTP_BASE_URL": "https://gateway.example/api/v1"},
            "https://dashscope-us.aliyuncs.com",
        ),
        ({"base_url": f"{CN}/compatible-mode/v1"}, {}, CN),
        ({"base_url": "https://proxy.example/qwen/"}, {}, "https://proxy.example/qwen"),
    ],
)
def test_dashscope_is_found_by_region_workspace_or_url(options, env, url):
    assert base_url(env=env, **options) == url


@pytest.mark.parametrize(
    "url", ["http://localhost:8000", "http://localhost:8000/", "http://localhost:8000/v1", "http://localhost:8000/v1/"]
)
def test_both_spellings_of_a_servers_address_work(url):
    assert base_url("vllm", base_url=url) == "http://localhost:8000"


@pytest.mark.parametrize(
    ("server", "options", "message"),
    [
        ("dashscope", {"region": "eu"}, "workspace_id"),
        ("dashscope", {"region": "evil.example/"}, "region must be one of cn-beijing"),
        ("dashscope", {"workspace_id": "evil.example/#"}, "workspace_id must be letters"),
        ("dashscope", {"workspace_id": "x", "base_url": "https://a.example"}, "without base_url"),
        ("vllm", {"region": "cn"}, "DashScope host"),
        ("vllm", {"base_url": "localhost:8000"}, "base_url must be http"),
        ("vllm", {"base_url": "ftp://localhost"}, "base_url must be http"),
        ("vllm", {"base_url": "http://"}, "base_url must be http"),
        ("vllm", {"base_url": "http://user:secret@localhost"}, "no user, password"),
        ("vllm", {"base_url": "http://localhost?key=secret"}, "password or query"),
        ("vllm", {"base_url": "http://local host:x"}, "base_url must be"),
        ("vllm", {"concurrency": 0}, "concurrency must be between 1 and 256"),
        ("vllm", {"concurrency": True}, "concurrency"),
        ("vllm", {"timeout": -1}, "timeout must be a positive number"),
        ("vllm", {"retries": 3}, "retries must be a RetryPolicy"),
        ("vllm", {"rate_limit": 60}, "rate_limit must be a RateLimit"),
        ("vllm", {"api_key": ""}, "API key is empty"),
        ("vllm", {"api_key": "sk-1\n"}, "API key"),
        ("vllm", {"api_key": "ключ"}, "API key"),
        ("vllm", {"api_key": 5}, "API key must be a string"),
        ("vllm", {"headers": {"X-Team": "sécret"}}, "header 'X-Team' must be"),
        ("vllm", {"headers": {"X-Team": "secret\nX: y"}}, "header 'X-Team' must be"),
        ("vllm", {"headers": {"X-Team": None}}, "header 'X-Team' must be"),
        ("vllm", {"headers": {"X Team": "a"}}, "'X Team' is no name"),
        ("vllm", {"headers": "X-Team: secret"}, "headers must be a dict"),
        ("vllm", {"max_retries": 3}, "unknown option 'max_retries': a connection takes base_url"),
    ],
)
def test_what_can_not_work_is_refused_at_once(server, options, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        connect(SERVERS[server], {"api_key": "k"} | options, {})
    assert "secret" not in str(caught.value)


def test_a_region_is_known_by_its_names():
    assert dashscope_region(" Singapore ").name == dashscope_region("ap-southeast-1").name == "ap-southeast-1"
    assert dashscope_origin() == CN


@pytest.mark.parametrize(
    ("host", "belongs"),
    [
        ("dashscope.aliyuncs.com", True),
        ("cn-hongkong.dashscope.aliyuncs.com", True),
        ("dashscope-intl.aliyuncs.com", True),
        ("ws.eu-central-1.maas.aliyuncs.com", True),
        ("DASHSCOPE.aliyuncs.com.", True),
        ("aliyuncs.com", False),
        ("dashscope.aliyuncs.com.evil.example", False),
        ("evildashscope.aliyuncs.com", False),
        ("maas.aliyuncs.com.evil.example", False),
        ("localhost", False),
    ],
)
def test_dashscope_s_hosts_are_told_from_others(host, belongs):
    assert is_dashscope_host(host) is belongs


def key(server: str, env: dict[str, str], **options) -> str | None:
    found = connect(SERVERS[server], options, env)._key
    return None if found is None else found.get_secret_value()


def test_keys_come_from_the_environment_for_the_vendors_own_hosts():
    assert key("dashscope", {"DASHSCOPE_API_KEY": "d "}) == "d"
    assert key("siliconflow", {"SILICONFLOW_API_KEY": "s"}) == "s"
    assert key("siliconflow", {"SILICONFLOW_API_KEY": "s"}, base_url="https://api.siliconflow.com/v1") == "s"
    assert key("openai", {"OPENAI_API_KEY": "o"}) == "o"
    assert key("vllm", {"DASHSCOPE_API_KEY": "d", "OPENAI_API_KEY": "o"}) is None


@pytest.mark.parametrize(
    "host", ["https://gateway.example", "http://localhost:1", "https://dashscope.aliyuncs.com.evil.example"]
)
def test_a_key_from_the_environment_goes_nowhere_else(host):
    assert key("openai", {"OPENAI_API_KEY": "o"}, base_url=host) is None
    with pytest.raises(ConfigurationError, match="is not sent there: pass api_key="):
        key("dashscope", {"DASHSCOPE_API_KEY": "d"}, base_url=host)
    assert key("dashscope", {"DASHSCOPE_API_KEY": "d"}, base_url=host, api_key="mine") == "mine"


def test_a_missing_key_is_said_with_its_variable():
    for server, name in (
        ("dashscope", "DASHSCOPE_API_KEY"),
        ("jina", "JINA_API_KEY"),
        ("siliconflow", "SILICONFLOW_API_KEY"),
    ):
        with pytest.raises(ConfigurationError, match=name):
            key(server, {})


def test_a_key_can_lie_in_a_file(tmp_path):
    path = tmp_path / "key"
    path.write_text("from-file\n")
    assert key("dashscope", {"DASHSCOPE_API_KEY_FILE_PATH": str(path)}) == "from-file"
    with pytest.raises(ConfigurationError, match="can't be read"):
        key("dashscope", {"DASHSCOPE_API_KEY_FILE_PATH": str(tmp_path / "none")})


def test_a_key_is_in_no_repr(monkeypatch):
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-very-secret")
    embedder = load_embedder("dashscope:text-embedding-v4")
    reranker = load_reranker("dashscope:qwen3-rerank", api_key=SecretStr("sk-very-secret"))
    for model in (embedder, reranker):
        assert repr(model) == f"{type(model).__name__}({model.model_id!r}, 'DashScope at dashscope.aliyuncs.com')"
        shown = repr(vars(model)) + repr(vars(model._client)) + repr(model._settings)
        assert "very-secret" not in shown


def test_a_key_is_in_no_log(caplog):
    with Loopback(right) as server, caplog.at_level("DEBUG"):
        load_embedder("vllm:m", base_url=server.url, api_key="sk-very-secret", probe=False).embed_documents(["a"])
        assert server.received[0].headers["authorization"] == "Bearer sk-very-secret"
    assert caplog.text
    assert "very-secret" not in caplog.text


def test_a_key_that_is_one_passes():
    assert check_key(SecretStr("sk-1")).get_secret_value() == "sk-1"


def test_constructing_sends_and_opens_nothing(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("opened")

    monkeypatch.setattr("qwen3_rag.remote.loop.LOOP._running", refuse)
    monkeypatch.setattr("httpx.AsyncClient", refuse)
    embedder = RemoteEmbedder(
        "vllm:Qwen/Qwen3-Embedding-0.6B", base_url="http://localhost:1", retries=RetryPolicy(attempts=1)
    )
    assert embedder.dimensions == 1024
    assert embedder.model_id == "vllm:Qwen/Qwen3-Embedding-0.6B"
    load_reranker("vllm:Qwen/Qwen3-Reranker-0.6B")


@pytest.mark.parametrize(
    ("load", "name", "options", "message"),
    [
        (load_embedder, "vllm:", {}, "names no model"),
        (load_embedder, "jina:jina-embeddings-v4", {}, "Jina has no embedding models"),
        (load_reranker, "ollama:qwen3-reranker", {}, "Ollama has no reranking"),
        (load_reranker, "dashscope:gte-rerank", {"api_key": "k"}, "retired on 2026-05-30; use 'qwen3-rerank'"),
        (load_embedder, "vllm:m", {"api": "native"}, "an option of dashscope:"),
        (load_reranker, "vllm:m", {"api": "native"}, "an option of dashscope:"),
        (load_embedder, "dashscope:text-embedding-v4", {"api": "rest", "api_key": "k"}, "api must be 'native'"),
        (load_embedder, "vllm:m", {"too_long": "best_window"}, "too_long must be 'error' or 'truncate'"),
        (load_reranker, "vllm:m", {"too_long": "cut"}, "too_long must be one of"),
        (load_embedder, "vllm:m", {"rows": 0}, "rows must be a positive"),
        (load_reranker, "vllm:m", {"max_tokens": 1.5}, "max_tokens must be a positive"),
        (load_reranker, "vllm:m", {"template": "both"}, "template must be"),
        (load_reranker, "vllm:m", {"probe": False}, "pass template='server' or 'client'"),
        (load_reranker, "vllm:m", {"scores": "percent"}, "scores must be"),
        (load_embedder, "vllm:m", {"dimensions": 8}, "dimensions must be between 32"),
        (load_embedder, "vllm:Qwen3-Embedding-0.6B", {"dimensions": 1025}, "between 32 and 1024"),
        (load_embedder, "dashscope:text-embedding-v4", {"dimensions": 100, "api_key": "k"}, "2048, 1536, 1024"),
        (load_embedder, "vllm:m", {"dimensions": 0}, "got 0"),
        (load_embedder, "vllm:m", {"instruction": " "}, "instruction must be"),
        (
            load_embedder,
            "dashscope:text-embedding-v3",
            {"instruction": "find code", "api_key": "k"},
            "takes no instruction",
        ),
        (load_embedder, "vllm:m", {"tokenizer": 5}, "tokenizer must"),
        (load_embedder, "vllm:m", {"dtype": "float32"}, "unknown option 'dtype'"),
    ],
)
def test_models_and_options_that_can_not_work_are_refused(load, name, options, message):
    with pytest.raises(ConfigurationError, match=message):
        load(name, **options)


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("vllm:Qwen/Qwen3-Embedding-4B", 2560),
        ("ollama:qwen3-embedding:8b", 4096),
        ("llamacpp:Qwen3-Embedding-0.6B-Q8_0.gguf", 1024),
        ("tei:qwen3_embedding_0.6b", 1024),
    ],
)
def test_the_open_models_are_known_in_every_spelling(name, width):
    assert load_embedder(name).dimensions == width


def test_the_identity_names_what_changes_vectors_and_not_the_host():
    def identity(load, name="dashscope:m", **options):
        return load(name, api_key="k", **options).model_id

    assert (
        identity(load_embedder, base_url="https://a.example") == identity(load_embedder, region="us") == "dashscope:m"
    )
    assert identity(load_embedder, dimensions=512, instruction="find code", rows=3) == "dashscope:m"
    assert identity(load_embedder, api="compatible") == "dashscope:m|compatible"
    assert identity(load_embedder, normalize=False) == "dashscope:m|not normalized"
    assert identity(load_embedder, too_long="truncate", max_tokens=64) == "dashscope:m|max_tokens=64"
    assert identity(load_embedder, "llamacpp:m", append_eos=True) == "llamacpp:m|eos"
    assert identity(load_reranker, too_long="best_window") == "dashscope:m|best_window=4000"
