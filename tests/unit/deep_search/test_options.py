from __future__ import annotations

import pytest

from qwen3_rag.deep_search import DeepOptions, DeepSearchOptions, Limits
from qwen3_rag.errors import ConfigurationError


def test_options_are_sorted():
    options = DeepOptions.of(max_rounds=2, deadline=1.5, score_threshold=0.5, context_tokens=100, top_n=None)
    assert options.limits == Limits(max_rounds=2, deadline=1.5, top_n=None)
    assert (options.answer.score_threshold, options.answer.context_tokens) == (0.5, 100)
    assert DeepOptions.of().limits == Limits()
    assert DeepSearchOptions.__annotations__.keys() > Limits.__dataclass_fields__.keys()


@pytest.mark.parametrize(
    "name", ["max_rounds", "max_calls", "max_tokens", "max_sub_questions", "top_n", "deadline", "context_tokens"]
)
@pytest.mark.parametrize("value", [0, -1, True, "3", 2.5, float("nan"), float("inf"), [], None])
def test_what_can_not_work(name, value):
    if value is None and name not in ("max_rounds", "max_sub_questions", "context_tokens"):
        return
    if name == "deadline" and value == 2.5:
        return
    with pytest.raises(ConfigurationError, match=name):
        DeepOptions.of(**{name: value})


def test_what_is_unknown():
    with pytest.raises(ConfigurationError, match="unknown option 'max_round': there are score_threshold"):
        DeepOptions.of(max_round=3)
    with pytest.raises(ConfigurationError, match="score_threshold"):
        DeepOptions.of(score_threshold=2)
