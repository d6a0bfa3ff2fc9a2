"""The table of chat models: the documented lists, and names as servers spell them."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qwen3_rag.models
from qwen3_rag.models import ChatFacts, Sampling, chat_facts

ON_BY_DEFAULT = [
    "qwen3.8-max",
    "qwen3.8-flash",
    "Qwen/Qwen3.8-27B",
    "qwen3.7-max",
    "qwen3.7-plus",
    "qwen3.7-flash",
    "qwen3.6-max-preview",
    "qwen3.6-plus",
    "qwen3.6-flash",
    "qwen3.6-35b-a3b",
    "qwen3.5-plus",
    "qwen3.5-flash",
    "qwen3.5-397b-a17b",
    "qwen3.5-122b-a10b",
    "qwen3.5-35b-a3b",
    "qwen3.5-27b",
    "qwen3-235b-a22b",
    "qwen3-32b",
    "qwen3-30b-a3b",
    "qwen3-14b",
    "qwen3-8b",
    "qwen3-4b",
    "qwen3-1.7b",
    "qwen3-0.6b",
    "deepseek-v4-pro",
    "deepseek-v4-flash",
    "glm-4.5",
    "glm-4.6",
    "glm-5",
    "glm-5.1",
]
OFF_BY_DEFAULT = [
    "qwen3-max",
    "qwen3-max-2026-01-23",
    "qwen3-max-preview",
    "qwen-plus",
    "qwen-plus-latest",
    "qwen-plus-2025-04-28",
    "qwen-plus-2025-07-28",
    "qwen-flash",
    "qwen-turbo",
    "qwen3-vl-plus",
    "qwen3-vl-flash",
    "deepseek-v3.1",
    "deepseek-v3.2-exp",
    "kimi-k2.5",
    "kimi-k2.6",
    "Qwen/Qwen3.5-0.8B",
    "Qwen/Qwen3.5-2B",
]
ALWAYS = [
    "qwen3-235b-a22b-thinking-2507",
    "qwen3-30b-a3b-thinking-2507",
    "qwen3-4b-thinking-2507",
    "qwen3-next-80b-a3b-thinking",
    "qwen3-vl-235b-a22b-thinking",
    "qwen3-vl-8b-thinking",
    "qwq-plus",
    "Qwen/QwQ-32B",
    "qvq-max",
    "qwen3.7-max-preview",
    "qwen3.7-max-2026-05-17",
    "qwen3.8-2.4t-a95b",
    "kimi-k2-thinking",
    "kimi-k2.7-code",
    "kimi-k3",
    "MiniMax-M2.5",
    "deepseek-r1",
    "deepseek-r1-0528",
    "deepseek-r1-distill-qwen-32b",
    "deepseek-reasoner",
]
NEVER = [
    "qwen3-235b-a22b-instruct-2507",
    "qwen3-30b-a3b-instruct-2507",
    "qwen3-next-80b-a3b-instruct",
    "qwen3-vl-8b-instruct",
    "qwen3-coder-plus",
    "qwen3-coder-480b-a35b-instruct",
    "qwen3-coder-next",
    "qwen-max",
    "qwen-max-latest",
    "qwen2.5-72b-instruct",
    "qwen2-7b-instruct",
    "qwen1.5-110b-chat",
    "qwen-long",
    "qwen-mt-plus",
    "qwen-vl-max",
    "qwen-plus-1220",
    "qwen-plus-2025-01-25",
    "qwen-turbo-1101",
    "deepseek-v3",
    "deepseek-v3-0324",
    "deepseek-chat",
    "kimi-k2-0905-preview",
]
UNKNOWN = ["", "gpt-4o", "my-finetune", "qwen", "qwen4-max", "qwen3.55", "qwen-maximal", "notqwen3-8b", "qwen3-8bit"]


@pytest.mark.parametrize("model", ON_BY_DEFAULT)
def test_hybrids_that_think_by_default(model):
    assert (chat_facts(model).thinking, chat_facts(model).thinks_by_default) == ("hybrid", True)


@pytest.mark.parametrize("model", OFF_BY_DEFAULT)
def test_hybrids_that_do_not_think_by_default(model):
    assert (chat_facts(model).thinking, chat_facts(model).thinks_by_default) == ("hybrid", False)


@pytest.mark.parametrize("model", ALWAYS)
def test_models_that_only_think(model):
    assert (chat_facts(model).thinking, chat_facts(model).thinks_by_default) == ("always", True)


@pytest.mark.parametrize("model", NEVER)
def test_models_that_never_think(model):
    facts = chat_facts(model)
    assert (facts.thinking, facts.thinks_by_default, facts.history) == ("never", None, "strip")
    assert facts.sampling_thinking is None
    assert facts.efforts == ()


@pytest.mark.parametrize("model", UNKNOWN)
def test_a_model_that_is_not_known_promises_nothing(model):
    assert chat_facts(model) == ChatFacts(family="unknown")


@pytest.mark.parametrize(
    ("spelling", "same_as"),
    [
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("qwen3:8b", "qwen3-8b"),
        ("qwen3:8b-q4_K_M", "qwen3-8b"),
        ("qwen3", "qwen3-8b"),
        ("qwen3:latest", "qwen3-8b"),
        ("Qwen3-8B-Q4_K_M.gguf", "qwen3-8b"),
        ("/models/Qwen_Qwen3-8B-Q8_0.gguf", "qwen3-8b"),
        ("C:\\models\\qwen3-8b.gguf", "qwen3-8b"),
        ("unsloth/Qwen3-8B-GGUF:Q4_K_M", "qwen3-8b"),
        ("Qwen/Qwen3-8B-AWQ", "qwen3-8b"),
        ("qwen/qwen3-8b:free", "qwen3-8b"),
        ("accounts/fireworks/models/qwen3-235b-a22b", "qwen3-235b-a22b"),
        ("Qwen/Qwen3-4B-Thinking-2507-FP8", "qwen3-4b-thinking-2507"),
        ("qwen3:30b-a3b-thinking-2507-q4_K_M", "qwen3-30b-a3b-thinking-2507"),
        ("qwen/qwen3.5-397b-a17b:free", "qwen3.5-397b-a17b"),
        ("qwen3.5:27b", "qwen3.5-27b"),
        ("qwen3.7-max-2026-06-02", "qwen3.7-max"),
        ("siliconflow/deepseek-v3.2", "deepseek-v3.2"),
        ("deepseek-v3-1", "deepseek-v3.1"),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "deepseek-r1"),
        ("Moonshot-Kimi-K2-Instruct", "kimi-k2"),
        ("zai-org/GLM-4.5-Air", "glm-4.5"),
    ],
)
def test_names_as_servers_spell_them(spelling, same_as):
    assert chat_facts(spelling) == chat_facts(same_as) != ChatFacts(family="unknown")


@pytest.mark.parametrize(
    ("model", "stream_only"),
    [
        ("qwen3-8b", "thinking"),
        ("qwen3-235b-a22b", "thinking"),
        ("qwen3-235b-a22b-thinking-2507", "always"),
        ("qwq-plus", "always"),
        ("qvq-max", "always"),
        ("qwen3-omni-flash", "always"),
        ("qwen-omni-turbo", "always"),
        ("qwen2.5-omni-7b", "always"),
        ("qwen-plus", "never"),
        ("qwen3-max", "never"),
        ("qwen3.5-397b-a17b", "never"),
        ("qwen3.8-max", "never"),
        ("qwen3-235b-a22b-instruct-2507", "never"),
    ],
)
def test_what_must_be_streamed(model, stream_only):
    assert chat_facts(model).stream_only == stream_only


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("qwen3.8-max", 262_144),
        ("qwen3.7-plus", 262_144),
        ("qwen3.6-flash", 131_072),
        ("qwen3.6-plus", 81_920),
        ("qwen3.5-plus", 81_920),
        ("qwen-plus", 81_920),
        ("qwen-turbo", 38_912),
        ("qwen3-8b", 38_912),
        ("qwen3-0.6b", 30_720),
        ("qwen3-30b-a3b-thinking-2507", 81_920),
        ("glm-5", 32_768),
        ("kimi-k2.6", 81_920),
        ("qwen3.5-27b", None),
    ],
)
def test_upper_end_of_the_budget(model, tokens):
    assert chat_facts(model).max_thinking_tokens == tokens


def test_only_these_have_no_budget_on_dashscope():
    models = [*ON_BY_DEFAULT, *OFF_BY_DEFAULT, *ALWAYS]
    without = {model for model in models if not chat_facts(model).takes_budget}
    families = ("deepseek", "qwq", "qvq", "kimi-k3", "minimax", "qwen/qwq")
    assert without == {model for model in models if model.lower().startswith(families)}


def test_efforts_are_named_as_the_model_names_them():
    assert chat_facts("qwen3.8-max").efforts == chat_facts("Qwen/Qwen3.8-27B").efforts == ("low", "medium", "xhigh")
    assert chat_facts("deepseek-v4-pro").efforts == ("high", "max")
    assert chat_facts("deepseek-v4-flash-0731").efforts == ("low", "high", "max")
    assert chat_facts("qwen3.7-flash").efforts == ()  # accepts and ignores it


def test_structured_output_is_promised_for_these_only():
    models = [*ON_BY_DEFAULT, *OFF_BY_DEFAULT, *ALWAYS, *NEVER]
    promised = {model for model in models if chat_facts(model).json_schema}
    assert promised == {
        "qwen3.8-max",
        "qwen3.8-flash",
        "qwen3.7-max",
        "qwen3.7-plus",
        "qwen3.7-flash",
        "qwen3.7-max-preview",
        "qwen3.7-max-2026-05-17",
    }
    assert promised == {model for model in models if chat_facts(model).json_while_thinking}


def test_history_follows_the_contract():
    models = [*ON_BY_DEFAULT, *OFF_BY_DEFAULT, *ALWAYS]
    assert {m for m in models if chat_facts(m).history == "preserve"} == {"qwen3.8-max", "qwen3.8-flash"}
    assert {m for m in models if chat_facts(m).history == "strip"} == {m for m in models if "deepseek-r1" in m}


def test_the_soft_switch_is_of_april_2025_only():
    models = [*ON_BY_DEFAULT, *OFF_BY_DEFAULT, *ALWAYS, *NEVER]
    soft = {model for model in models if chat_facts(model).soft_switch}
    assert soft == {m for m in ON_BY_DEFAULT if m.startswith("qwen3-")} | {"qwen-plus-2025-04-28"}


def test_templates_that_open_the_tag_in_the_prompt():
    opening = ["Qwen/Qwen3-4B-Thinking-2507", "Qwen/Qwen3.5-27B", "Qwen/Qwen3.8-27B", "Qwen/QwQ-32B", "deepseek-r1"]
    assert all(chat_facts(model).opens_in_prompt for model in opening)
    assert not any(chat_facts(model).opens_in_prompt for model in ["qwen3-8b", *NEVER])


@pytest.mark.parametrize(
    ("model", "thinking", "answering"),
    [
        ("qwen3-8b", Sampling(0.6, 0.95, 20, 0.0), Sampling(0.7, 0.8, 20, 0.0)),
        ("qwq-32b", Sampling(0.6, 0.95, 20, 0.0), None),
        ("qwen3-4b-thinking-2507", Sampling(0.6, 0.95, 20, 0.0), None),
        ("qwen3-4b-instruct-2507", None, Sampling(0.7, 0.8, 20, 0.0)),
        ("qwen3.5-27b", Sampling(1.0, 0.95, 20, 0.0, 1.5), Sampling(0.7, 0.8, 20, 0.0, 1.5)),
        ("qwen3.6-27b", Sampling(1.0, 0.95, 20, 0.0, 0.0), Sampling(0.7, 0.8, 20, 0.0, 1.5)),
        ("glm-4.6", None, None),
    ],
)
def test_sampling_of_the_model_cards(model, thinking, answering):
    assert (chat_facts(model).sampling_thinking, chat_facts(model).sampling_answering) == (thinking, answering)


def test_a_preset_holds_what_is_set_and_nothing_else():
    assert Sampling(0.6, min_p=0.0).as_body() == {"temperature": 0.6, "min_p": 0.0}
    assert Sampling().as_body() == {}


def test_no_preset_is_greedy():
    for model in [*ON_BY_DEFAULT, *OFF_BY_DEFAULT, *ALWAYS]:
        for preset in (chat_facts(model).sampling_thinking, chat_facts(model).sampling_answering):
            assert preset is None or (preset.temperature or 0) >= 0.6


@given(st.text(max_size=60))
def test_any_name_has_an_answer(model):
    facts = chat_facts(model)
    assert facts == chat_facts(model.upper().lower()) or not model.isascii()
    assert facts.context_tokens is None or facts.context_tokens > (facts.max_output_tokens or 0)


def test_facts_can_not_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        chat_facts("qwen3-8b").thinking = "never"


def test_the_package_still_offers_the_retrieval_facts():
    for name in qwen3_rag.models.__all__:
        assert getattr(qwen3_rag.models, name) is not None
    assert qwen3_rag.models.EMBEDDING_MODELS["Qwen/Qwen3-Embedding-8B"].dimensions == 4096
