"""What every server is sent for every wish: the exact JSON, and a note for what can't be had."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models import chat_facts
from qwen3_rag.thinking.dialects import DIALECTS, Request, find_dialect
from qwen3_rag.thinking.policy import Decision, ThinkingPolicy

WISHES = (True, False, "low", "medium", "high", 4096, None)


def template(switch, **others):
    return {"chat_template_kwargs": {"enable_thinking": switch}} | others


# (dialect, model): the bodies for WISHES, in their order.
BODIES = {
    ("dashscope", "qwen-plus"): (
        {"enable_thinking": True},
        {"enable_thinking": False},
        {"enable_thinking": True, "thinking_budget": 4096},
        {"enable_thinking": True, "thinking_budget": 16384},
        {"enable_thinking": True},
        {"enable_thinking": True, "thinking_budget": 4096},
        {},
    ),
    ("dashscope", "qwen3.8-max"): (
        {"enable_thinking": True},
        {"enable_thinking": False},
        {"enable_thinking": True, "reasoning_effort": "low"},
        {"enable_thinking": True, "reasoning_effort": "medium"},
        {"enable_thinking": True, "reasoning_effort": "xhigh"},
        {"enable_thinking": True, "thinking_budget": 4096},
        {},
    ),
    ("dashscope", "deepseek-v4-pro"): (
        {"enable_thinking": True},
        {"enable_thinking": False},
        {"enable_thinking": True, "reasoning_effort": "high"},
        {"enable_thinking": True, "reasoning_effort": "high"},
        {"enable_thinking": True, "reasoning_effort": "high"},
        {"enable_thinking": True, "reasoning_effort": "high"},
        {},
    ),
    ("dashscope", "glm-5.2"): (
        {"enable_thinking": True},
        {"enable_thinking": False},
        {"enable_thinking": True, "thinking_budget": 4096},
        {"enable_thinking": True, "thinking_budget": 16384},
        {"enable_thinking": True, "reasoning_effort": "high"},
        {"enable_thinking": True, "thinking_budget": 4096},
        {},
    ),
    ("dashscope", "MiniMax-M3"): (
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "enabled"}},
        {},
    ),
    ("modelscope", "Qwen/Qwen3-8B"): (
        {"enable_thinking": True},
        {"enable_thinking": False},
        {"enable_thinking": True, "thinking_budget": 4096},
        {"enable_thinking": True, "thinking_budget": 16384},
        {"enable_thinking": True},
        {"enable_thinking": True, "thinking_budget": 4096},
        {},
    ),
    ("vllm", "Qwen/Qwen3-8B"): (
        template(True),
        template(False),
        template(True, thinking_token_budget=4096),
        template(True, thinking_token_budget=16384),
        template(True),
        template(True, thinking_token_budget=4096),
        {},
    ),
    ("vllm", "Qwen/Qwen3.8-27B"): (
        template(True),
        template(False),
        {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"}},
        {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "medium"}},
        {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "xhigh"}},
        template(True, thinking_token_budget=4096),
        {},
    ),
    ("vllm", "deepseek-ai/DeepSeek-V3.1"): (
        {"chat_template_kwargs": {"thinking": True}},
        {"chat_template_kwargs": {"thinking": False}},
        {"chat_template_kwargs": {"thinking": True}, "thinking_token_budget": 4096},
        {"chat_template_kwargs": {"thinking": True}, "thinking_token_budget": 16384},
        {"chat_template_kwargs": {"thinking": True}},
        {"chat_template_kwargs": {"thinking": True}, "thinking_token_budget": 4096},
        {},
    ),
    ("sglang", "Qwen/Qwen3-8B"): (
        template(True),
        template(False),
        template(True, custom_params={"thinking_budget": 4096}),
        template(True, custom_params={"thinking_budget": 16384}),
        template(True),
        template(True, custom_params={"thinking_budget": 4096}),
        {},
    ),
    ("llamacpp", "Qwen3-8B-Q4_K_M.gguf"): (
        template(True),
        template(False),
        template(True, thinking_budget_tokens=4096),
        template(True, thinking_budget_tokens=16384),
        template(True),
        template(True, thinking_budget_tokens=4096),
        {},
    ),
    ("ollama", "qwen3:8b"): (
        {"reasoning_effort": "medium"},
        {"reasoning_effort": "none"},
        {"reasoning_effort": "low"},
        {"reasoning_effort": "medium"},
        {"reasoning_effort": "high"},
        {"reasoning_effort": "low"},
        {},
    ),
    ("openrouter", "qwen/qwen3.5-397b-a17b"): (
        {"reasoning": {"enabled": True}},
        {"reasoning": {"enabled": False}},
        {"reasoning": {"effort": "low"}},
        {"reasoning": {"effort": "medium"}},
        {"reasoning": {"effort": "high"}},
        {"reasoning": {"max_tokens": 4096}},
        {},
    ),
    ("deepseek", "deepseek-v4-pro"): (
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "low"},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "low"},
        {},
    ),
    ("transformers", "Qwen/Qwen3-8B"): (template(True), template(False), *(template(True),) * 4, {}),
    ("lmstudio", "qwen3-8b"): ({},) * 7,
    ("tgi", "Qwen/Qwen3-8B"): ({},) * 7,
    ("openai", "gpt-4o"): ({},) * 7,
}

NOTED = {  # (dialect, model): the wishes that can't be had in full, with words of the note
    ("dashscope", "deepseek-v4-pro"): {"low": "no effort 'low'", "medium": "no effort 'medium'", 4096: "no numbers"},
    ("dashscope", "MiniMax-M3"): dict.fromkeys(("low", "medium", "high", 4096), "can't limit reasoning"),
    ("vllm", "Qwen/Qwen3-8B"): dict.fromkeys(("low", "medium", 4096), "--reasoning-parser"),
    ("vllm", "Qwen/Qwen3.8-27B"): {4096: "--reasoning-parser"},
    ("vllm", "deepseek-ai/DeepSeek-V3.1"): dict.fromkeys(("low", "medium", 4096), "--reasoning-parser"),
    ("sglang", "Qwen/Qwen3-8B"): dict.fromkeys(("low", "medium", 4096), "--enable-strict-thinking"),
    ("ollama", "qwen3:8b"): {4096: "no numbers"},
    ("deepseek", "deepseek-v4-pro"): {"medium": "no effort 'medium'", 4096: "no numbers"},
    ("transformers", "Qwen/Qwen3-8B"): dict.fromkeys(("low", "medium", "high", 4096), "serve can't limit reasoning"),
    ("lmstudio", "qwen3-8b"): dict.fromkeys(("low", "medium", "high", 4096), "LM Studio can't limit reasoning"),
    ("tgi", "Qwen/Qwen3-8B"): dict.fromkeys(("low", "medium", "high", 4096), "TGI can't limit reasoning"),
    ("openai", "gpt-4o"): dict.fromkeys((True, False, "low", "medium", "high", 4096), "dialect="),
}

TABLE = [(*where, wish, body) for where, bodies in BODIES.items() for wish, body in zip(WISHES, bodies, strict=True)]


def decide(wish):
    policy = ThinkingPolicy.of(wish)
    return Decision(policy.enabled, policy.effort, policy.budget, source="asked")


def ask(dialect, model, wish):
    return DIALECTS[dialect].request(decide(wish), chat_facts(model))


def test_the_table_is_whole():
    nine = {"dashscope", "vllm", "sglang", "llamacpp", "ollama", "openrouter", "deepseek", "lmstudio", "tgi"}
    assert nine <= {dialect for dialect, _ in BODIES}
    assert nine | {"modelscope", "siliconflow", "transformers", "openai"} == set(DIALECTS)


@pytest.mark.parametrize(("dialect", "model", "wish", "body"), TABLE)
def test_the_exact_body(dialect, model, wish, body):
    request = ask(dialect, model, wish)
    assert request.body == body
    assert json.loads(json.dumps(request.body)) == body


@pytest.mark.parametrize(("dialect", "model", "wish", "body"), TABLE)
def test_a_note_for_what_can_not_be_had_and_for_nothing_else(dialect, model, wish, body):
    words = {repr(k): v for k, v in NOTED.get((dialect, model), {}).items()}.get(repr(wish))
    notes = ask(dialect, model, wish).notes
    assert (words in " ".join(notes)) if words else notes == ()


@pytest.mark.parametrize(("dialect", "model"), [("lmstudio", "qwen3-8b"), ("tgi", "Qwen/Qwen3-8B")])
def test_the_soft_switch_is_the_only_one_there(dialect, model):
    switches = [ask(dialect, model, wish).soft_switch for wish in WISHES]
    assert switches == ["/think", "/no_think", "/think", "/think", "/think", "/think", None]


@pytest.mark.parametrize("dialect", ["lmstudio", "tgi"])
@pytest.mark.parametrize("model", ["qwen3.5-27b", "glm-4.6", "someone/finetune"])
@pytest.mark.parametrize("wish", [True, False, "low", 4096])
def test_words_are_not_sent_to_models_that_would_read_them_as_text(dialect, model, wish):
    request = ask(dialect, model, wish)
    assert (request.body, request.soft_switch) == ({}, None)
    assert "can't switch thinking" in request.notes[0]


@pytest.mark.parametrize("dialect", sorted(set(DIALECTS) - {"lmstudio", "tgi"}))
@pytest.mark.parametrize("wish", WISHES)
def test_words_are_not_sent_where_there_is_a_field(dialect, wish):
    assert ask(dialect, "qwen3-8b", wish).soft_switch is None


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("model", ["qwen3-30b-a3b-thinking-2507", "qwq-plus", "deepseek-reasoner"])
def test_a_model_that_always_thinks(dialect, model):
    off = ask(dialect, model, False)
    assert (off.body, off.soft_switch) == ({}, None)
    assert "always thinks" in off.notes[0]
    assert ask(dialect, model, True) == Request()
    assert ask(dialect, model, None) == Request()


def test_a_model_that_always_thinks_still_takes_a_budget():
    model = "qwen3-30b-a3b-thinking-2507"
    assert ask("dashscope", model, 4096).body == {"thinking_budget": 4096}
    assert ask("vllm", model, 4096).body == {"thinking_token_budget": 4096}
    assert ask("sglang", model, "low").body == {"custom_params": {"thinking_budget": 4096}}
    assert ask("openrouter", model, 4096).body == {"reasoning": {"max_tokens": 4096}}
    assert ask("deepseek", "deepseek-reasoner", "low").body == {"reasoning_effort": "low"}
    assert ask("dashscope", "qwq-plus", 4096).body == {}
    assert "can't limit reasoning" in ask("dashscope", "qwq-plus", 4096).notes[0]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("model", ["qwen-max", "qwen3-30b-a3b-instruct-2507", "deepseek-chat"])
def test_a_model_that_never_thinks_is_sent_nothing(dialect, model):
    for wish in (False, None):
        assert ask(dialect, model, wish) == Request()
    for wish in (True, "low", 4096):
        request = ask(dialect, model, wish)
        assert (request.body, request.soft_switch) == ({}, None)
        assert "never thinks" in request.notes[0]


def test_a_model_that_is_not_known_is_sent_what_was_asked():
    assert ask("dashscope", "new-model", False).body == {"enable_thinking": False}
    assert ask("dashscope", "new-model", 4096).body == {"enable_thinking": True, "thinking_budget": 4096}
    assert ask("vllm", "new-model", False).body == template(False)


def test_a_budget_beyond_the_model_is_cut_with_a_note():
    request = ask("dashscope", "qwen-plus", 100_000)
    assert request.body == {"enable_thinking": True, "thinking_budget": 81_920}
    assert "81920" in request.notes[0]
    assert "100000" in request.notes[0]
    assert ask("dashscope", "qwen-plus", 81_920).notes == ()
    assert ask("dashscope", "new-model", 10**6).body["thinking_budget"] == 10**6


def test_an_effort_keeps_within_the_model_too():
    facts = dataclasses.replace(chat_facts("qwen-plus"), max_thinking_tokens=10_000)
    bodies = [DIALECTS["dashscope"].request(decide(effort), facts).body for effort in ("low", "medium")]
    assert [body["thinking_budget"] for body in bodies] == [4096, 10_000]


def test_the_range_of_a_server_counts_too():
    assert ask("siliconflow", "Qwen/Qwen3-8B", 100).body["thinking_budget"] == 128
    assert ask("siliconflow", "Qwen/Qwen3-8B", 40_000).body["thinking_budget"] == 32_768
    assert ask("siliconflow", "new-model", 40_000).body["thinking_budget"] == 32_768
    assert len(ask("siliconflow", "Qwen/Qwen3-8B", 100).notes) == 1


def test_a_limit_without_a_switch_leaves_the_switch_alone():
    decision = Decision(None, budget=1000)
    assert DIALECTS["dashscope"].request(decision, chat_facts("qwen-plus")).body == {"thinking_budget": 1000}
    assert DIALECTS["vllm"].request(decision, chat_facts("qwen3-8b")).body == {"thinking_token_budget": 1000}
    assert DIALECTS["lmstudio"].request(decision, chat_facts("qwen3-8b")).soft_switch is None


MODELS = st.sampled_from(
    ["qwen3.8-max", "qwen-plus", "qwen3-8b", "qwq-plus", "qwen-max", "deepseek-v4-pro", "glm-5.2", "kimi-k3", "x"]
)
DECISIONS = st.one_of(
    st.builds(Decision, st.sampled_from([True, None]), st.sampled_from(["low", "medium", "high"])),
    st.builds(lambda enabled, budget: Decision(enabled, None, budget), st.sampled_from([True, None]), st.integers(1)),
    st.builds(Decision, st.sampled_from([True, False, None])),
)


@given(st.sampled_from(sorted(DIALECTS)), MODELS, DECISIONS)
def test_what_excludes_each_other_is_never_sent_together(dialect, model, decision):
    request = DIALECTS[dialect].request(decision, chat_facts(model))
    flat = dict(request.body)
    for nested in request.body.values():
        flat |= nested if isinstance(nested, dict) else {}
    assert not {"reasoning_effort", "thinking_budget"} <= flat.keys()
    assert not {"effort", "max_tokens"} <= flat.keys()
    assert not {"reasoning_effort", "thinking_token_budget", "thinking_budget_tokens"} <= flat.keys()
    assert not (request.soft_switch and request.body)
    if not decision.asks:
        assert request == Request()


@given(st.sampled_from(sorted(DIALECTS)), MODELS, DECISIONS)
def test_a_request_shares_nothing_with_the_next(dialect, model, decision):
    facts = chat_facts(model)
    first = DIALECTS[dialect].request(decision, facts)
    before = json.dumps(first.body)
    first.body["x"] = 1
    for value in first.body.values():
        if isinstance(value, dict):
            value["y"] = 2
    assert json.dumps(DIALECTS[dialect].request(decision, facts).body) == before


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://dashscope.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://dashscope-us.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://cn-hongkong.dashscope.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://llm-abc123.cn-beijing.maas.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://trial.ap-southeast-1.maas.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://token-plan.eu-central-1.maas.aliyuncs.com/compatible-mode/v1", "dashscope"),
        ("https://DashScope.aliyuncs.com./compatible-mode/v1", "dashscope"),
        ("https://api-inference.modelscope.cn/v1", "modelscope"),
        ("https://api.siliconflow.cn/v1", "siliconflow"),
        ("https://api.siliconflow.com/v1", "siliconflow"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.deepseek.com:8080/v1", "deepseek"),
        ("https://api.openai.com/v1", "openai"),
        ("http://localhost:11434/v1", "ollama"),
        ("http://gpu.example.com:11434/v1", "ollama"),
        ("http://127.0.0.1:1234/v1", "lmstudio"),
        ("http://localhost:30000/v1", "sglang"),
        ("http://localhost:8080/v1", "llamacpp"),
        ("http://localhost:8000/v1", "vllm"),
        ("http://gpu.example.com:8000/v1", "vllm"),
        ("http://localhost:5123/v1", "vllm"),
        ("http://10.1.2.3/v1", "vllm"),
        ("http://[::1]:9999/v1", "vllm"),
        ("http://inference/v1", "vllm"),
        ("http://box.local:4000/v1", "vllm"),
        ("https://api.example.com/v1", "openai"),
        ("https://8.8.8.8/v1", "openai"),
        ("https://dashscope.aliyuncs.com.example.com/v1", "openai"),
        ("https://evil-dashscope.aliyuncs.com.io/v1", "openai"),
        ("https://maas.aliyuncs.com.example.com/v1", "openai"),
        ("https://example.com/dashscope.aliyuncs.com/v1", "openai"),
        ("https://notopenrouter.ai/v1", "openai"),
    ],
)
def test_the_server_is_known_by_its_url(url, name):
    assert find_dialect(url).name == name


def test_a_given_name_is_not_guessed():
    assert find_dialect("http://localhost:11434/v1", "dashscope").name == "dashscope"


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigurationError, match=r"'mistral'.*dashscope, modelscope"):
        find_dialect("http://localhost:8000/v1", "mistral")


@pytest.mark.parametrize("url", ["", "localhost", "http://", "http://[::1", "http://host:port/v1", "http://h:99999/v1"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ConfigurationError, match="base_url"):
        find_dialect(url)


def test_where_servers_want_reasoning_back():
    fields = {name: dialect.reasoning_field for name, dialect in DIALECTS.items()}
    assert {name for name, field in fields.items() if field == "reasoning"} == {"vllm", "ollama", "openrouter"}


def test_presets_are_for_servers_of_ones_own():
    own = {"vllm", "sglang", "llamacpp", "ollama", "lmstudio", "tgi"}
    assert {name for name, dialect in DIALECTS.items() if dialect.self_hosted} == own
    assert {name for name, dialect in DIALECTS.items() if dialect.needs_key} == set(DIALECTS) - own - {
        "openai",
        "transformers",
    }


def test_a_dialect_prints_without_its_functions():
    assert "function" not in repr(DIALECTS["dashscope"])
