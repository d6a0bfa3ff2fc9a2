"""From what the user asks for to what one call does: the model, the user's body and the server's lessons have a say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models import ChatFacts
from qwen3_rag.thinking.auto import thinks
from qwen3_rag.thinking.bodies import read_amount, read_switch
from qwen3_rag.thinking.budget import Grant, ThinkingBudget
from qwen3_rag.thinking.healing import Fix, FixName
from qwen3_rag.thinking.policy import EFFORT_BUDGETS, Decision, Effort, Evidence, ThinkingPolicy, nearest_effort


def wish(policy: ThinkingPolicy, question: str, evidence: Evidence | None) -> Decision:
    """Returns what the policy wants for a question.

    Raises:
        ConfigurationError: If the caller's own rule returns neither a bool nor a `Decision`.
    """
    if policy.auto:
        return _ruled(policy, question, evidence)
    if policy.enabled is None and policy.effort is None and policy.budget is None:
        return Decision(None, reason="nothing asked: the model's own default")
    enabled = policy.enabled is not False
    return Decision(enabled, policy.effort, policy.budget, f"asked {'' if enabled else 'not '}to think", "asked")


def _ruled(policy: ThinkingPolicy, question: str, evidence: Evidence | None) -> Decision:
    verdict = (policy.auto if callable(policy.auto) else thinks)(question, evidence)
    if isinstance(verdict, bool):
        verdict = Decision(verdict, reason="the caller's own rule")
    if not isinstance(verdict, Decision):
        raise ConfigurationError(f"a rule for auto must return a bool or a Decision, got {verdict!r}")
    if verdict.enabled and verdict.effort is None and verdict.budget is None:
        verdict = replace(verdict, effort=policy.effort, budget=policy.budget)
    return replace(verdict, source="auto")


def heed_body(decision: Decision, body: Mapping[str, Any]) -> Decision:
    """Applies what the user's own body says about thinking, so that all that follows fits to it."""
    switch, amount = read_switch(body), read_amount(body)
    if switch is None and amount is None:
        return decision
    enabled = decision.enabled if switch is None else switch
    if enabled is False:
        return Decision(False, reason="extra_body says so", source="asked")
    effort, budget = decision.effort, decision.budget
    if amount is not None:
        effort = amount if amount in get_args(Effort) else None
        budget = amount if isinstance(amount, int) and not isinstance(amount, bool) and amount > 0 else None
    return Decision(enabled, effort, budget, "extra_body says so", "asked")


def learned_facts(facts: ChatFacts, known: Mapping[FixName, Fix]) -> ChatFacts:
    """Corrects the facts about a model by what its server has said."""
    if "thinking_on" in known:
        facts = replace(facts, thinking="always", thinks_by_default=True)
    elif "no_thinking_switch" in known and facts.thinking != "always":
        facts = replace(facts, thinking="never", thinks_by_default=False)
    if "no_budget" in known:
        facts = replace(facts, takes_budget=False)
    limit = known["smaller_budget"].limit if "smaller_budget" in known else None
    return (
        facts if limit is None else replace(facts, max_thinking_tokens=min(limit, facts.max_thinking_tokens or limit))
    )


def heed_model(decision: Decision, facts: ChatFacts, model: str) -> Decision:
    """Returns what the model will do, where it has no choice."""
    if facts.thinking == "never" and decision.enabled is not False:
        return Decision(False, reason=f"{model} does not think", source="model")
    if facts.thinking == "always" and decision.enabled is False:
        return Decision(True, reason=f"{model} always thinks", source="model")
    return decision


def thinking_expected(decision: Decision, facts: ChatFacts) -> bool | None:
    """Returns whether the call will think; `None` where only the server knows."""
    if facts.thinking in ("always", "never"):
        return facts.thinking == "always"
    return facts.thinks_by_default if decision.enabled is None else decision.enabled


def within_session(
    decision: Decision, facts: ChatFacts, budget: ThinkingBudget | None
) -> tuple[Decision, Grant | None, str | None]:
    """Reserves what the call may think from the session's budget.

    Returns:
        The decision that keeps to the grant; the grant, which a call that does not think has too; and a note where the
        budget can't be kept to.
    """
    if budget is None:
        return decision, None, None
    if thinking_expected(decision, facts) is False:
        return decision, budget.reserve(0), None  # so that the ledger has the call
    wanted = decision.budget or (EFFORT_BUDGETS[decision.effort] if decision.effort else None)
    most = facts.max_thinking_tokens
    grant = budget.reserve(min(wanted or most, most) if most else wanted)
    if grant.tokens == 0:
        spent = "the session's thinking budget is spent"
        if facts.thinking != "always":
            return Decision(False, reason=spent, source="session budget"), grant, None
        note = f"{spent}, but the model always thinks: it was given one token for it"
        return Decision(True, budget=1, reason=note, source="session budget"), grant, note
    if wanted is not None and grant.tokens >= min(wanted, most or wanted):
        return decision, grant, None
    reason = f"{decision.reason}; the session's budget grants {grant.tokens} tokens"
    return replace(decision, effort=None, budget=grant.tokens, reason=reason, source="session budget"), grant, None


def within_limits(
    decision: Decision, facts: ChatFacts, known: Mapping[FixName, Fix]
) -> tuple[Decision, str | None, FixName | None]:
    """Keeps to what the server has said about budgets.

    Returns:
        The decision; where it had to change, a note and the lesson that changed it.
    """
    amount = decision.budget or (EFFORT_BUDGETS[decision.effort] if decision.effort else None)
    if amount is None:
        return decision, None, None
    if "no_budget" in known:
        effort = (decision.effort or nearest_effort(amount)) if facts.efforts else None
        note = f"the server takes no thinking budget: {f'effort {effort!r}' if effort else 'none'} was sent for {amount} tokens"
        return replace(decision, effort=effort, budget=None), note, "no_budget"
    limit = known["smaller_budget"].limit if "smaller_budget" in known else None
    if limit is None or amount <= limit or (decision.effort and facts.efforts):
        return decision, None, None
    note = f"the server takes thinking budgets up to {limit} tokens: {limit} was sent instead of {amount}"
    return replace(decision, effort=None, budget=limit), note, "smaller_budget"
