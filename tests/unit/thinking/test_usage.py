"""Token counts as every server spells them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.thinking.usage import Usage

DASHSCOPE = {
    "prompt_tokens": 3019,
    "completion_tokens": 104,
    "total_tokens": 3123,
    "completion_tokens_details": {"reasoning_tokens": 40, "text_tokens": 64, "audio_tokens": None},
    "prompt_tokens_details": {
        "cached_tokens": 2048,
        "cache_creation": {"ephemeral_5m_input_tokens": 512},
        "cache_creation_input_tokens": 512,
        "cache_type": "ephemeral",
    },
}


@pytest.mark.parametrize(
    ("server", "usage", "expected"),
    [
        ("DashScope", DASHSCOPE, Usage(3019, 104, 40, 2048, 512)),
        (
            "DashScope, null details",
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "completion_tokens_details": None,
                "prompt_tokens_details": None,
            },
            Usage(9, 5, None),
        ),
        (
            "DashScope, only lifetimes",
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cache_creation": {"ephemeral_5m_input_tokens": 3, "other": 4}},
            },
            Usage(9, 5, None, 0, 7),
        ),
        (
            "DashScope, no reasoning",
            {"prompt_tokens": 9, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 0}},
            Usage(9, 5, 0),
        ),
        ("Ollama", {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}, Usage(9, 5, None)),
        (
            "SGLang",
            {"prompt_tokens": 9, "completion_tokens": 5, "reasoning_tokens": 3, "prompt_tokens_details": None},
            Usage(9, 5, 3),
        ),
        (
            "OpenRouter",
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "cost": 0.001,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(9, 5, 3, 4, 2),
        ),
        (
            "DeepSeek",
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "prompt_cache_hit_tokens": 6,
                "prompt_cache_miss_tokens": 3,
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(9, 5, 2, 6),
        ),
        ("Moonshot", {"prompt_tokens": 9, "completion_tokens": 5, "cached_tokens": 8}, Usage(9, 5, None, 8)),
        (
            "Responses",
            {
                "input_tokens": 9,
                "output_tokens": 5,
                "input_tokens_details": {"cached_tokens": 1},
                "output_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(9, 5, 4, 1),
        ),
        (
            "Anthropic",
            {"input_tokens": 9, "output_tokens": 5, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 3},
            Usage(9, 5, None, 2, 3),
        ),
        ("only the prompt", {"prompt_tokens": 9}, Usage(9)),
        ("whole floats", {"prompt_tokens": 9.0, "completion_tokens": 5.0}, Usage(9, 5)),
    ],
)
def test_every_spelling(server, usage, expected):
    assert Usage.read(usage) == expected, server


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"cost": 1},
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": "9"},
        {"prompt_tokens": -1},
        {"prompt_tokens": True},
        {"prompt_tokens": float("inf")},
        {"prompt_tokens": float("nan")},
    ],
)
def test_nothing_to_read_is_none(usage):
    assert Usage.read(usage) is None


def test_answer_is_output_without_reasoning():
    assert Usage(10, 100, 60).answer == 40
    assert Usage(10, 100).answer == 100
    assert Usage(10, 50, 60).answer == 0  # servers that do not count reasoning as output


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["reasoning_tokens", "cached_tokens", "cache_creation", "x"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        "prompt_tokens",
        "completion_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
        "reasoning_tokens",
        "cached_tokens",
        "input_tokens",
        "cache_creation_input_tokens",
    ]
)


@given(st.dictionaries(KEYS, JSON))
def test_whatever_a_server_sends_counts_are_whole_and_not_negative(usage):
    read = Usage.read(usage)
    if read is not None:
        counts = [read.input, read.output, read.cached, read.cache_creation, read.answer, read.reasoning or 0]
        assert all(type(count) is int and count >= 0 for count in counts)
