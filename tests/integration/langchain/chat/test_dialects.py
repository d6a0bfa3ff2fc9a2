"""Nine kinds of servers, and some of their variants: the request as each spells it, the reasoning as each gives it."""

from __future__ import annotations

import pytest

from tests.chat_server import MARK
from tests.integration.langchain.chat.ways import WAYS

# face -> dialect, a hybrid model under the name that it has there
SERVERS = {
    "dashscope": ("dashscope", "qwen3.8-flash"),
    "modelscope": ("modelscope", "Qwen/Qwen3-8B"),
    "siliconflow": ("siliconflow", "Qwen/Qwen3-8B"),
    "vllm": ("vllm", "Qwen/Qwen3-8B"),
    "vllm-legacy": ("vllm", "Qwen/Qwen3.5-27B"),
    "sglang": ("sglang", "Qwen/Qwen3-8B"),
    "llamacpp": ("llamacpp", "Qwen3-8B-Q4_K_M.gguf"),
    "ollama": ("ollama", "qwen3:8b"),
    "openrouter": ("openrouter", "qwen/qwen3-8b"),
    "deepseek": ("deepseek", "deepseek-v4"),
    "lmstudio": ("lmstudio", "qwen3-8b"),
    "lmstudio-separate": ("lmstudio", "qwen3-8b"),
    "tgi": ("tgi", "Qwen/Qwen3-8B"),
}

TEMPLATE = "chat_template_kwargs"
ON, OFF, LOW = {"enable_thinking": True}, {"enable_thinking": False}, 4096
SPELLED = {
    "dashscope": [
        (True, ON),
        (False, OFF),
        ("low", {**ON, "reasoning_effort": "low"}),
        (999, {**ON, "thinking_budget": 999}),
    ],
    "modelscope": [(True, ON), (False, OFF), ("low", {**ON, "thinking_budget": LOW})],
    "siliconflow": [(True, ON), (False, OFF), (999, {**ON, "thinking_budget": 999})],
    "vllm": [(True, {TEMPLATE: ON}), (False, {TEMPLATE: OFF}), (99, {TEMPLATE: ON, "thinking_token_budget": 99})],
    "sglang": [
        (True, {TEMPLATE: ON}),
        (False, {TEMPLATE: OFF}),
        ("low", {TEMPLATE: ON, "custom_params": {"thinking_budget": LOW}}),
    ],
    "llamacpp": [(True, {TEMPLATE: ON}), (False, {TEMPLATE: OFF}), (99, {TEMPLATE: ON, "thinking_budget_tokens": 99})],
    "ollama": [
        (True, {"reasoning_effort": "medium"}),
        (False, {"reasoning_effort": "none"}),
        ("high", {"reasoning_effort": "high"}),
    ],
    "openrouter": [
        (True, {"reasoning": {"enabled": True}}),
        (False, {"reasoning": {"enabled": False}}),
        ("low", {"reasoning": {"effort": "low"}}),
        (99, {"reasoning": {"max_tokens": 99}}),
    ],
    "deepseek": [
        (True, {"thinking": {"type": "enabled"}}),
        (False, {"thinking": {"type": "disabled"}}),
        ("low", {"thinking": {"type": "enabled"}, "reasoning_effort": "low"}),
    ],
    "lmstudio": [(True, {}), (False, {})],
    "tgi": [(True, {}), (False, {})],
}
SWITCHES = {
    *("enable_thinking", "thinking_budget", "reasoning_effort", TEMPLATE, "thinking_token_budget", "custom_params"),
    *("thinking_budget_tokens", "reasoning", "thinking"),
}
PRESET = {"temperature", "top_p", "top_k", "min_p", "presence_penalty"}


def model_on(chat, face, **options):
    dialect, name = SERVERS[face]
    return chat(name, face=face, dialect=dialect, **options)


@pytest.mark.parametrize(("face", "thinking", "body"), [(f, t, b) for f, rows in SPELLED.items() for t, b in rows])
def test_the_knob_is_spelled_as_the_server_wants_it(server, chat, face, thinking, body):
    model_on(chat, face).invoke("Hi", thinking=thinking)
    assert {name: value for name, value in server.last.body.items() if name in SWITCHES} == body
    assert server.last.thinks == (thinking is not False)


@pytest.mark.parametrize("face", SERVERS)
def test_nothing_is_said_about_thinking_unless_asked(server, chat, face):
    model_on(chat, face).invoke("Hi")
    assert not SWITCHES & server.last.body.keys()
    assert server.last.body["messages"] == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("version", ["v0", "v1"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("face", SERVERS)
def test_reasoning_and_answer_are_told_apart(server, chat, face, way, version):
    model = model_on(chat, face, output_version=version)
    message = WAYS[way](model, "Why is it so?", thinking=True)
    reasoning, text = message.content_blocks
    assert (reasoning["type"], text["type"]) == ("reasoning", "text")
    assert reasoning["reasoning"].startswith(MARK)
    assert reasoning["reasoning"] == message.additional_kwargs["reasoning_content"]
    assert text["text"] == message.text
    assert text["text"].startswith("Hello, this is ")
    assert MARK not in message.text
    assert "think>" not in str(message.content)
    assert message.response_metadata["model_provider"] == "qwen"
    assert message.response_metadata["thinking"]["enabled"] is True


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("face", SERVERS)
def test_without_thinking_there_is_no_trace_of_it(server, chat, face, way):
    message = WAYS[way](model_on(chat, face), "Why is it so?", thinking=False)
    assert [block["type"] for block in message.content_blocks] == ["text"]
    assert message.text.startswith("Hello, this is ")
    assert "reasoning_content" not in message.additional_kwargs


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("face", SERVERS)
def test_tools_are_called_while_thinking(server, chat, face, way):
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    message = WAYS[way](model_on(chat, face).bind_tools([tool]), "What is the weather in Paris?", thinking=True)
    [call] = message.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    assert call["id"]
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "tool_call"]


@pytest.mark.parametrize("face", SERVERS)
def test_presets_are_sent_to_self_hosted_servers_only(server, chat, face):
    model = model_on(chat, face, top_p=0.5)
    model.invoke("Hi", thinking=True)
    sent = PRESET & server.last.body.keys()
    hosted = face in {"dashscope", "modelscope", "siliconflow", "openrouter", "deepseek"}
    assert sent == {"top_p"} if hosted else sent > {"top_p", "temperature"}
    assert server.last.body["top_p"] == 0.5


def test_what_the_user_says_in_extra_body_is_merged_deeply_and_wins(server, chat):
    model = model_on(chat, "vllm", thinking=True, extra_body={TEMPLATE: {"custom": 1}, "min_p": 0.3})
    model.invoke("Hi", extra_body={TEMPLATE: {"enable_thinking": False}})
    assert server.last.body[TEMPLATE] == {"custom": 1, "enable_thinking": False}
    assert server.last.body["min_p"] == 0.3
    assert not server.last.thinks
    model.invoke("Hi")
    assert server.last.body[TEMPLATE] == {"custom": 1, "enable_thinking": True}
