"""`Qwen3LLM` without a server: its options, what it says of itself, and that its key stays with it."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import httpx
import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms.utils import resolve_llm

from qwen3_rag import llama_index
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.llama_index import Qwen3LLM
from qwen3_rag.models import chat_facts
from qwen3_rag.thinking import Evidence, ThinkingBudget, ThinkingPolicy

KEY = "sk-0123456789abcdef-secret"
LOCAL = {"base_url": "http://localhost:8000/v1"}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (
        "DASHSCOPE_API_BASE",
        "DASHSCOPE_COMPATIBLE_BASE_URL",
        "DASHSCOPE_API_REGION",
        "DASHSCOPE_WORKSPACE_ID",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)


# --- where it sends


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "https://dashscope.aliyuncs.com/compatible-mode/v1"),
        ({"region": "singapore"}, "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"),
        (
            {"region": "eu-central-1", "workspace_id": "ws1"},
            "https://ws1.eu-central-1.maas.aliyuncs.com/compatible-mode/v1",
        ),
        (LOCAL, "http://localhost:8000/v1"),
        ({"api_base": "http://localhost:8000/v1"}, "http://localhost:8000/v1"),
        ({"dialect": "ollama"}, "http://localhost:11434/v1"),
    ],
)
def test_the_server(options, url):
    assert Qwen3LLM(**options).api_base == url


def test_the_key_of_dashscope_goes_to_dashscope_only():
    assert Qwen3LLM()._get_credential_kwargs()["api_key"] == KEY
    assert Qwen3LLM(**LOCAL)._get_credential_kwargs()["api_key"] == "EMPTY"


def test_a_missing_key_is_named(monkeypatch):
    monkeypatch.delenv("DASHSCOPE_API_KEY")
    with pytest.raises(ConfigurationError, match="DASHSCOPE_API_KEY"):
        Qwen3LLM()


# --- the key


def test_the_key_is_shown_nowhere(caplog):
    llm = Qwen3LLM(api_key=KEY, budget=ThinkingBudget(1000), default_headers={"X-Team": "a"})
    with caplog.at_level(logging.DEBUG):
        shown = [repr(llm), str(llm), str(llm.to_dict()), llm.to_json(), str(llm.to_payload()), str(llm.api_key)]
        shown += [str(vars(llm)), repr(llm._endpoint), caplog.text]
    assert not any(KEY in text for text in shown)
    assert KEY.encode() not in pickle.dumps(Qwen3LLM(api_key=KEY))
    assert KEY.encode() not in pickle.dumps(Qwen3LLM(api_key=KEY, thinking=ThinkingPolicy(budget=5)))
    assert llm.api_key.get_secret_value() == KEY


def test_a_pickle_finds_the_key_in_the_environment_again(monkeypatch):
    llm = Qwen3LLM("qwen3-max", thinking=512, temperature=0.3, max_tokens=7, region="intl", system_prompt="Be brief.")
    state = pickle.dumps(llm)
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-another")
    restored = pickle.loads(state)
    assert restored.model_dump() == llm.model_dump()
    assert restored.api_base == llm.api_base
    assert restored._get_credential_kwargs()["api_key"] == "sk-another"


def test_a_pickle_never_forgets_a_budget_or_a_client():
    """A copy in another process that thinks without limit, or around the proxy, would be worse than none."""
    for options in ({"budget": ThinkingBudget(1000)}, {"http_client": httpx.Client()}):
        with pytest.raises((TypeError, pickle.PicklingError)):
            pickle.dumps(Qwen3LLM(**LOCAL, **options))


def test_copies_share_clients_and_budget():
    llm = Qwen3LLM(budget=ThinkingBudget(1000))
    for copied in (copy.copy(llm), copy.deepcopy(llm), llm.model_copy(update={"model": "qwen3-max"})):
        assert copied.budget is llm.budget
        assert copied._get_credential_kwargs()["api_key"] == KEY
        assert copied._aclients is llm._aclients


@pytest.mark.parametrize("thinking", [None, True, "low", "auto", 512, ThinkingPolicy(budget=9, history="strip")])
def test_it_can_be_serialised_and_made_again(thinking):
    llm = Qwen3LLM("qwen3-max", thinking=thinking, region="intl", temperature=0.3, extra_body={"top_k": 5}, strict=True)
    for restored in (Qwen3LLM.from_dict(llm.to_dict()), Qwen3LLM.from_json(llm.to_json())):
        assert restored.to_dict() == llm.to_dict()
        assert ThinkingPolicy.of(restored.thinking) == ThinkingPolicy.of(llm.thinking)
    assert json.loads(llm.to_json())["class_name"] == "Qwen3LLM"


# --- what it says of itself


@pytest.mark.parametrize("model", ["qwen-plus", "qwen3.7-max", "Qwen/Qwen3-8B", "qwen3:8b", "nobody-knows-it"])
def test_metadata(model):
    llm = Qwen3LLM(model, **LOCAL)
    assert llm.metadata.model_name == model
    assert llm.metadata.is_chat_model
    assert llm.metadata.is_function_calling_model
    assert llm.metadata.context_window == (chat_facts(model).context_tokens or 32_768)
    assert llm.metadata.num_output == -1
    assert llm.metadata.system_role is MessageRole.SYSTEM
    assert Qwen3LLM(model, max_tokens=9, context_window=99, **LOCAL).metadata.context_window == 99
    assert llm._tokenizer is None  # so nothing is downloaded


def test_llama_index_takes_it_for_an_llm():
    llm = Qwen3LLM()
    assert resolve_llm(llm) is llm
    assert llm.class_name() == "Qwen3LLM"


def test_the_package_offers_it_lazily():
    assert llama_index.Qwen3LLM is Qwen3LLM
    with pytest.raises(AttributeError, match="Qwen4LLM"):
        _ = llama_index.Qwen4LLM


# --- options


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"thinking": 0}, "thinking"),
        ({"thinking": "lots"}, "'lots'"),
        ({"thinking": 1.5}, "1.5"),
        ({"budget": 4096}, "ThinkingBudget"),
        ({"temprature": 0.1}, "'temprature'"),
        ({"additional_kwargs": {"temprature": 0.1}}, "'temprature'"),
        ({"is_chat_model": False}, "is_chat_model"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"temperature": 5}, "temperature"),
        ({"max_retries": -1}, "max_retries"),
        ({"region": "atlantis"}, "atlantis"),
        ({"dialect": "klingon"}, "klingon"),
        ({"base_url": "http://a/v1", "region": "intl"}, "region"),
        ({"base_url": "http://a/v1", "api_base": "http://b/v1"}, "api_base"),
    ],
)
def test_an_option_that_can_not_work_is_named(options, text):
    with pytest.raises(ConfigurationError, match=text):
        Qwen3LLM(**options)


@pytest.mark.parametrize(
    "options", [{"thinking": "lots"}, {"budget": 4096}, {"evidence": [0.5]}, {"enable_thought": True}]
)
@pytest.mark.parametrize("way", ["chat", "stream_chat"])
def test_an_option_of_a_call_too(options, way):
    with pytest.raises(ConfigurationError):
        getattr(Qwen3LLM(**LOCAL), way)([ChatMessage("Hi")], **options)


def test_the_two_bodies_of_the_constructor_are_merged():
    llm = Qwen3LLM(extra_body={"a": {"b": 1}}, additional_kwargs={"extra_body": {"a": {"c": 2}}, "top_p": 0.5})
    assert llm.additional_kwargs == {"extra_body": {"a": {"b": 1, "c": 2}}, "top_p": 0.5}


def test_fields_of_the_body_may_stand_among_the_options():
    llm = Qwen3LLM(top_k=5, reasoning_effort="low", enable_search=True, extra_body={"top_k": 6})
    assert llm.additional_kwargs == {"extra_body": {"top_k": 6, "reasoning_effort": "low", "enable_search": True}}
    asked = llm._ask([ChatMessage("Hi")], {"top_k": 7}, stream=False)
    assert asked.call.user_body["top_k"] == 7


def test_what_is_given_is_not_changed():
    body, kwargs = {"a": {"b": 1}}, {"extra_body": {"a": {"c": 2}}}
    llm = Qwen3LLM(extra_body=body, additional_kwargs=kwargs)
    llm._ask([ChatMessage("Hi")], {"extra_body": {"a": {"b": 2}}}, stream=False)
    assert (body, kwargs) == ({"a": {"b": 1}}, {"extra_body": {"a": {"c": 2}}})


def test_evidence_and_budget_reach_the_plan():
    budget, evidence = ThinkingBudget(10), Evidence((0.5,))
    asked = Qwen3LLM(budget=budget)._ask([ChatMessage("Hi")], {"evidence": evidence, "thinking": "auto"}, stream=True)
    assert (asked.call.budget, asked.call.evidence, asked.call.question) == (budget, evidence, "Hi")
    assert asked.call.stream
    assert Qwen3LLM(budget=budget)._ask([ChatMessage("Hi")], {"budget": None}, stream=False).call.budget is None


def test_a_call_keeps_the_history_mode_unless_it_brings_a_whole_policy():
    llm = Qwen3LLM(thinking=ThinkingPolicy(enabled=True, history="strip"))

    def policy(**options):
        return llm._ask([ChatMessage("Hi")], options, stream=False).call.policy

    assert policy() == llm.thinking
    assert policy(thinking=512) == ThinkingPolicy(enabled=True, budget=512, history="strip")
    assert policy(thinking=None) == ThinkingPolicy(history="strip")
    assert policy(thinking=ThinkingPolicy(budget=9)) == ThinkingPolicy(budget=9)


def test_what_llama_index_calls_log_probabilities():
    asked = Qwen3LLM(logprobs=True, top_logprobs=3)._ask([ChatMessage("Hi")], {}, stream=False)
    assert (asked.payload["logprobs"], asked.payload["top_logprobs"]) == (True, 3)
    assert "logprobs" not in Qwen3LLM()._ask([ChatMessage("Hi")], {}, stream=False).payload


def test_closing_leaves_alone_what_the_user_gave():
    given = httpx.Client()
    llm = Qwen3LLM(http_client=given)
    assert llm._get_client() is llm._get_client()
    llm.close()
    assert not given.is_closed
    own = Qwen3LLM()
    client = own._get_client()
    own.close()
    assert client.is_closed()
    assert not own._get_client().is_closed()
    own.close()


async def test_closing_async():
    llm = Qwen3LLM()
    client = llm._get_aclient()
    assert llm._get_aclient() is client
    await llm.aclose()
    assert client.is_closed()
    await llm.aclose()


def test_half_of_a_surrogate_pair_is_refused_with_its_place():
    llm = Qwen3LLM(**LOCAL)
    with pytest.raises(InputError, match=r"messages\[0\]\.content holds half of a surrogate pair"):
        llm.complete("a\ud800")
    with pytest.raises(InputError, match=r"messages\[0\]\.content holds half of a surrogate pair"):
        list(llm.stream_complete("a\ud800"))
