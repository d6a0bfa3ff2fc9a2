"""Every spelling of `thinking=`, and those that are none."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.thinking.policy import EFFORT_BUDGETS, Decision, Evidence, Thinking, ThinkingPolicy, nearest_effort


@pytest.mark.parametrize(
    ("spelling", "policy"),
    [
        (None, ThinkingPolicy()),
        (True, ThinkingPolicy(enabled=True)),
        (False, ThinkingPolicy(enabled=False)),
        ("low", ThinkingPolicy(enabled=True, effort="low")),
        ("medium", ThinkingPolicy(enabled=True, effort="medium")),
        ("high", ThinkingPolicy(enabled=True, effort="high")),
        (1, ThinkingPolicy(enabled=True, budget=1)),
        (4096, ThinkingPolicy(enabled=True, budget=4096)),
        ("auto", ThinkingPolicy(auto=True)),
    ],
)
def test_every_spelling(spelling, policy):
    assert ThinkingPolicy.of(spelling) == policy


def test_a_policy_is_its_own_spelling():
    policy = ThinkingPolicy(auto=lambda question, evidence: True, effort="low", history="strip")
    assert ThinkingPolicy.of(policy) is policy


@pytest.mark.parametrize("spelling", [0, -1, 1.5, 4096.0, "yes", "", "HIGH", "xhigh", "none", b"low", [], {}, object()])
def test_anything_else_is_refused_by_name(spelling):
    with pytest.raises(ConfigurationError) as error:
        ThinkingPolicy.of(spelling)
    assert repr(spelling) in str(error.value)
    assert "False" in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"effort": "low", "budget": 4096},
        {"enabled": False, "budget": 4096},
        {"enabled": False, "effort": "low"},
        {"enabled": True, "auto": True},
        {"enabled": False, "auto": True},
        {"enabled": 1},
        {"budget": True},
        {"budget": 0},
        {"effort": "xhigh"},
        {"auto": "yes"},
        {"history": "all"},
    ],
)
def test_contradictions_are_refused(arguments):
    with pytest.raises(ConfigurationError):
        ThinkingPolicy(**arguments)


@pytest.mark.parametrize(
    "arguments", [(True, "low", 4096), (False, "low"), (False, None, 1), ("yes",), (True, None, 0), (True, "max")]
)
def test_a_decision_contradicts_itself_no_more_than_a_policy(arguments):
    with pytest.raises(ConfigurationError):
        Decision(*arguments)


def test_a_decision_knows_whether_it_asks_for_anything():
    assert not Decision(None).asks
    assert Decision(False).asks
    assert Decision(None, budget=10).asks


def test_policies_and_decisions_never_change():
    for item in (ThinkingPolicy(), Decision(True), Evidence((0.5,))):
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
            item.enabled = True


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan"), float("inf"), "0.5", None])
def test_evidence_is_made_of_probabilities(score):
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        Evidence((0.5, score))


def test_evidence_can_come_from_an_iterator():
    """Checking would use it up, and nothing would be left for the decision."""
    assert Evidence(score for score in (0.1, 0.9)) == Evidence((0.1, 0.9))


@pytest.mark.parametrize(
    ("budget", "effort"),
    [
        (1, "low"),
        (4096, "low"),
        (8191, "low"),
        (8193, "medium"),
        (16_384, "medium"),
        (65_535, "medium"),
        (65_537, "high"),
        (262_144, "high"),
        (10**9, "high"),
    ],
)
def test_a_budget_becomes_the_nearest_effort(budget, effort):
    assert nearest_effort(budget) == effort


@given(st.sampled_from(list(EFFORT_BUDGETS)))
def test_effort_to_budget_and_back(effort):
    assert nearest_effort(EFFORT_BUDGETS[effort]) == effort


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_more_budget_is_never_less_effort(one, other):
    order = list(EFFORT_BUDGETS)
    less, more = sorted((one, other))
    assert order.index(nearest_effort(less)) <= order.index(nearest_effort(more))


@pytest.mark.parametrize("spelling", [None, True, False, "low", "auto", 4096, ThinkingPolicy(auto=True)])
def test_a_pydantic_field_keeps_every_spelling(spelling):
    class Model(BaseModel):
        thinking: Thinking = None

    kept = Model(thinking=spelling).thinking
    assert kept == spelling
    assert type(kept) is type(spelling)
