"""Where to send and with which key: regions, workspaces, the environment, and keys that stay with their vendor."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models import chat_facts
from qwen3_rag.models.hosts import DASHSCOPE_REGIONS
from qwen3_rag.thinking.dialects import DIALECTS
from qwen3_rag.thinking.endpoints import resolve_endpoint
from qwen3_rag.thinking.policy import Decision

SHARED = "/compatible-mode/v1"
KEYS = {
    "DASHSCOPE_API_KEY": "sk-dashscope",
    "OPENROUTER_API_KEY": "sk-openrouter",
    "DEEPSEEK_API_KEY": "sk-deepseek",
    "OPENAI_API_KEY": "sk-openai",
    "MODELSCOPE_API_KEY": "sk-modelscope",
    "SILICONFLOW_API_KEY": "sk-siliconflow",
}


def resolve(env=None, **arguments):
    endpoint = resolve_endpoint(env=KEYS if env is None else env, **arguments)
    return endpoint.base_url, endpoint.dialect.name, endpoint.api_key.get_secret_value()


def test_nothing_said_is_dashscope_in_beijing():
    assert resolve() == ("https://dashscope.aliyuncs.com/compatible-mode/v1", "dashscope", "sk-dashscope")


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("cn-beijing", "dashscope.aliyuncs.com"),
        ("cn", "dashscope.aliyuncs.com"),
        ("Beijing", "dashscope.aliyuncs.com"),
        ("ap-southeast-1", "dashscope-intl.aliyuncs.com"),
        ("intl", "dashscope-intl.aliyuncs.com"),
        ("singapore", "dashscope-intl.aliyuncs.com"),
        ("us-east-1", "dashscope-us.aliyuncs.com"),
        ("us", "dashscope-us.aliyuncs.com"),
        ("cn-hongkong", "cn-hongkong.dashscope.aliyuncs.com"),
        ("hk", "cn-hongkong.dashscope.aliyuncs.com"),
    ],
)
def test_regions_have_a_shared_host(region, host):
    assert resolve(region=region)[0] == f"https://{host}{SHARED}"
    assert resolve(env=KEYS | {"DASHSCOPE_API_REGION": region})[0] == f"https://{host}{SHARED}"


@pytest.mark.parametrize("region", DASHSCOPE_REGIONS, ids=lambda region: region.name)
def test_a_workspace_has_a_host_of_its_own_in_every_region(region):
    expected = f"https://ws-1.{region.name}.maas.aliyuncs.com{SHARED}"
    for name in (region.name, *region.aliases):
        assert resolve(region=name, workspace_id="ws-1") == (expected, "dashscope", "sk-dashscope")


def test_a_workspace_in_the_environment_counts_outside_the_default_region():
    env = KEYS | {"DASHSCOPE_WORKSPACE_ID": "ws-1"}
    assert resolve(env=env)[0] == f"https://dashscope.aliyuncs.com{SHARED}"  # as the vendor's SDK has it
    assert resolve(env=env, region="intl")[0] == f"https://ws-1.ap-southeast-1.maas.aliyuncs.com{SHARED}"
    assert (
        resolve(env=env | {"DASHSCOPE_API_REGION": "eu"})[0] == f"https://ws-1.eu-central-1.maas.aliyuncs.com{SHARED}"
    )
    assert resolve(env=env, workspace_id="ws-2")[0] == f"https://ws-2.cn-beijing.maas.aliyuncs.com{SHARED}"


def test_a_workspace_alone_is_in_beijing():
    assert resolve(workspace_id="ws-1")[0] == f"https://ws-1.cn-beijing.maas.aliyuncs.com{SHARED}"


@pytest.mark.parametrize("region", ["eu-central-1", "frankfurt", "tokyo"])
def test_the_newer_regions_need_a_workspace(region):
    with pytest.raises(ConfigurationError, match=r"workspace_id.*DASHSCOPE_WORKSPACE_ID"):
        resolve(region=region)


def test_a_region_that_is_newer_than_this_table():
    assert resolve(region="me-central-1", workspace_id="w")[0] == f"https://w.me-central-1.maas.aliyuncs.com{SHARED}"
    with pytest.raises(ConfigurationError, match="'me-central-1'"):
        resolve(region="me-central-1")


@pytest.mark.parametrize("region", ["cn.evil.com", "cn-beijing/x", "a@b", "cn beijing"])
def test_no_region_breaks_out_of_the_host(region):
    with pytest.raises(ConfigurationError, match="region"):
        resolve(region=region, workspace_id="w")


@pytest.mark.parametrize("workspace", ["evil.com/", "a.b", "a@b", "a b", "-a", "a" * 65, "a\n", "a:1", "a#"])
def test_no_workspace_breaks_out_of_the_host(workspace):
    with pytest.raises(ConfigurationError, match="workspace_id"):
        resolve(workspace_id=workspace)
    with pytest.raises(ConfigurationError, match="workspace_id"):
        resolve(
            base_url="https://{workspace_id}.cn-beijing.maas.aliyuncs.com/compatible-mode/v1", workspace_id=workspace
        )


@given(st.text(min_size=1, max_size=70))
def test_whatever_the_workspace_the_host_is_dashscopes(workspace):
    try:
        endpoint = resolve_endpoint(workspace_id=workspace, env=KEYS)
    except ConfigurationError:
        return
    assert endpoint.base_url == f"https://{workspace}.cn-beijing.maas.aliyuncs.com{SHARED}"


def test_the_environment_names_the_url():
    for name in ("DASHSCOPE_COMPATIBLE_BASE_URL", "DASHSCOPE_API_BASE"):
        env = KEYS | {name: "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/"}
        assert resolve(env=env) == (
            "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
            "dashscope",
            "sk-dashscope",
        )
        assert resolve(env=env, region="us")[0] == f"https://dashscope-us.aliyuncs.com{SHARED}"
        assert resolve(env=env, base_url="http://localhost:8000/v1")[0] == "http://localhost:8000/v1"


@pytest.mark.parametrize("place", ["{workspace_id}", "{WorkspaceId}", "{workspaceid}"])
def test_the_place_of_a_workspace_is_filled_in(place):
    url = f"https://{place}.ap-southeast-1.maas.aliyuncs.com/compatible-mode/v1"
    filled = "https://w1.ap-southeast-1.maas.aliyuncs.com/compatible-mode/v1"
    assert resolve(base_url=url, workspace_id="w1")[0] == filled
    assert resolve(env=KEYS | {"DASHSCOPE_WORKSPACE_ID": "w1", "DASHSCOPE_COMPATIBLE_BASE_URL": url})[0] == filled
    with pytest.raises(ConfigurationError, match="needs a workspace"):
        resolve(base_url=url)


@pytest.mark.parametrize(
    ("url", "dialect", "key"),
    [
        ("https://openrouter.ai/api/v1", "openrouter", "sk-openrouter"),
        ("https://api.deepseek.com/v1", "deepseek", "sk-deepseek"),
        ("https://api-inference.modelscope.cn/v1", "modelscope", "sk-modelscope"),
        ("https://api.siliconflow.com/v1", "siliconflow", "sk-siliconflow"),
        ("https://api.openai.com/v1", "openai", "sk-openai"),
        ("https://trial.us-east-1.maas.aliyuncs.com/compatible-mode/v1", "dashscope", "sk-dashscope"),
        ("http://localhost:8000/v1", "vllm", "EMPTY"),
        ("http://localhost:11434/v1", "ollama", "EMPTY"),
        ("http://192.168.0.7:30000/v1", "sglang", "EMPTY"),
        ("https://api.example.com/v1", "openai", "EMPTY"),
        ("https://dashscope.aliyuncs.com.example.com/v1", "openai", "EMPTY"),
    ],
)
def test_every_vendor_gets_its_own_key_and_nobody_else_any(url, dialect, key):
    assert resolve(base_url=url) == (url, dialect, key)


@pytest.mark.parametrize(
    ("dialect", "url", "key"),
    [
        ("deepseek", "https://api.deepseek.com", "sk-deepseek"),
        ("openrouter", "https://openrouter.ai/api/v1", "sk-openrouter"),
        ("siliconflow", "https://api.siliconflow.cn/v1", "sk-siliconflow"),
        ("vllm", "http://localhost:8000/v1", "EMPTY"),
        ("ollama", "http://localhost:11434/v1", "EMPTY"),
        ("dashscope", "https://dashscope.aliyuncs.com/compatible-mode/v1", "sk-dashscope"),
    ],
)
def test_a_dialect_alone_is_where_such_a_server_usually_is(dialect, url, key):
    assert resolve(dialect=dialect) == (url, dialect, key)


@pytest.mark.parametrize("dialect", ["tgi", "openai"])
def test_not_every_kind_of_server_has_a_usual_place(dialect):
    with pytest.raises(ConfigurationError, match="base_url"):
        resolve(dialect=dialect)


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "http://127.0.0.1:5000/v1", "http://localhost:8000/v1"])
def test_a_gateway_gets_no_key_but_the_one_it_is_given(url):
    with pytest.raises(ConfigurationError, match=r"no host of DashScope.*api_key="):
        resolve(base_url=url, dialect="dashscope")
    assert resolve(base_url=url, dialect="dashscope", api_key="mine") == (url, "dashscope", "mine")


def test_the_key_goes_by_the_host_and_the_spelling_by_the_dialect():
    url = "https://openrouter.ai/api/v1"
    assert resolve(base_url=url, dialect="dashscope") == (url, "dashscope", "sk-openrouter")
    with pytest.raises(ConfigurationError, match=r"OpenRouter needs a key.*OPENROUTER_API_KEY"):
        resolve(env={"DASHSCOPE_API_KEY": "sk-dashscope"}, base_url=url, dialect="dashscope")


def test_a_gateway_that_dashscopes_own_variables_name_gets_its_key():
    env = KEYS | {"DASHSCOPE_API_BASE": "https://gateway.example.com/v1"}
    assert resolve(env=env) == ("https://gateway.example.com/v1", "dashscope", "sk-dashscope")


@pytest.mark.parametrize(
    ("url", "dialect", "key"),
    [
        ("http://localhost:11434/v1", "ollama", "EMPTY"),
        ("https://openrouter.ai/api/v1", "openrouter", "sk-openrouter"),
    ],
)
def test_but_not_where_that_is_another_server(url, dialect, key):
    assert resolve(env=KEYS | {"DASHSCOPE_API_BASE": url}) == (url, dialect, key)


def test_a_given_key_wins_in_both_forms():
    assert resolve(api_key="mine")[2] == "mine"
    assert resolve(api_key=SecretStr(" mine\n"))[2] == "mine"
    assert resolve(base_url="http://localhost:8000/v1", api_key="mine")[2] == "mine"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, ["DashScope", "DASHSCOPE_API_KEY", "DASHSCOPE_API_KEY_FILE_PATH", "api_key="]),
        ({"region": "intl"}, ["DASHSCOPE_API_KEY", "api_key="]),
        ({"dialect": "openrouter"}, ["OpenRouter", "OPENROUTER_API_KEY", "api_key="]),
        ({"base_url": "https://api.deepseek.com/v1"}, ["DeepSeek", "DEEPSEEK_API_KEY", "api_key="]),
        ({"base_url": "https://api.openai.com/v1"}, ["OPENAI_API_KEY", "api_key="]),
    ],
)
def test_a_missing_key_is_named(arguments, names):
    with pytest.raises(ConfigurationError) as error:
        resolve(env={}, **arguments)
    assert all(name in str(error.value) for name in names)
    with pytest.raises(ConfigurationError):
        resolve(env=dict.fromkeys(KEYS, ""), **arguments)


def test_the_key_can_lie_in_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("sk-from-file\n", encoding="utf-8")
    env = {"DASHSCOPE_API_KEY_FILE_PATH": str(file)}
    assert resolve(env=env)[2] == "sk-from-file"
    assert resolve(env=env | {"DASHSCOPE_API_KEY": "sk-first"})[2] == "sk-first"
    assert resolve(env=env, base_url="http://localhost:8000/v1")[2] == "EMPTY"


def test_a_file_that_can_not_be_read_is_named(tmp_path):
    env = {"DASHSCOPE_API_KEY_FILE_PATH": str(tmp_path / "none")}
    with pytest.raises(ConfigurationError, match=r"DASHSCOPE_API_KEY_FILE_PATH.*none"):
        resolve(env=env)
    (tmp_path / "none").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="DASHSCOPE_API_KEY_FILE_PATH"):
        resolve(env=env)


@pytest.mark.parametrize("key", ["", "  ", "sk-secret\nX-Evil: 1", "sk secret", "sk-sécret", "sk-secret\x00"])
def test_what_can_be_no_key_is_refused_and_not_printed(key, tmp_path):
    (tmp_path / "key").write_text(key, encoding="utf-8")
    for arguments in (
        {"api_key": key},
        {"api_key": SecretStr(key)},
        {"env": {"DASHSCOPE_API_KEY": key or " "}},
        {"env": {"DASHSCOPE_API_KEY_FILE_PATH": str(tmp_path / "key")}},
    ):
        with pytest.raises(ConfigurationError) as error:
            resolve(**arguments)
        assert "secret" not in str(error.value)
        assert "sécret" not in str(error.value)


def test_an_endpoint_does_not_show_its_key():
    endpoint = resolve_endpoint(env=KEYS)
    shown = f"{endpoint!r} {endpoint} {endpoint.api_key!r} {endpoint.api_key}"
    assert "sk-dashscope" not in shown


def test_the_real_environment_is_the_default(monkeypatch):
    for name in (
        "DASHSCOPE_COMPATIBLE_BASE_URL",
        "DASHSCOPE_API_BASE",
        "DASHSCOPE_API_REGION",
        "DASHSCOPE_WORKSPACE_ID",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-real")
    assert resolve_endpoint().api_key.get_secret_value() == "sk-real"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"base_url": "http://localhost:8000/v1", "region": "cn"}, "give one"),
        ({"base_url": "http://localhost:8000/v1", "workspace_id": "w"}, "no place for workspace_id"),
        ({"dialect": "deepseek", "region": "cn"}, "belong to DashScope"),
        ({"dialect": "vllm", "workspace_id": "w"}, "belong to DashScope"),
        ({"dialect": "mistral"}, "unknown dialect"),
        ({"base_url": "ftp://localhost/v1"}, "http://"),
        ({"base_url": "localhost:8000/v1"}, "base_url"),
        ({"base_url": ""}, "base_url"),
        ({"base_url": "http://localhost:8000/v1\n/x"}, "base_url"),
        ({"base_url": "http://\ud800/v1"}, "base_url"),
        ({"api_key": 5}, "api_key must be a string"),
        ({"base_url": "http://localhost:8000/v1?x=1"}, "before"),
        ({"base_url": "http://localhost:8000/v1/chat/completions"}, "before /chat/completions"),
        ({"base_url": "http://dashscope.aliyuncs.com/compatible-mode/v1"}, "unencrypted"),
        ({"base_url": "https://dashscope.aliyuncs.com/api/v1"}, "/compatible-mode/v1"),
        ({"base_url": "https://dashscope.aliyuncs.com"}, "/compatible-mode/v1"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        resolve(**arguments)


def test_a_password_in_the_url_is_refused_and_not_printed():
    with pytest.raises(ConfigurationError, match="api_key=") as error:
        resolve(base_url="https://user:hunter2@example.com/v1")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_endpoint_survives_pickling_and_copying(dialect):
    endpoint = resolve_endpoint(base_url="http://localhost:1/v1", dialect=dialect, api_key="mine", env={})
    for again in (pickle.loads(pickle.dumps(endpoint)), copy.deepcopy(endpoint)):
        assert (again.base_url, again.api_key) == (endpoint.base_url, endpoint.api_key)
        wish = Decision(True, "low"), chat_facts("qwen3-8b")
        assert again.dialect.request(*wish) == endpoint.dialect.request(*wish)
