"""The shared budget: what is granted never adds up to more, whoever asks, and the ledger says what it cost."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.thinking.budget import Entry, Price, ThinkingBudget
from qwen3_rag.thinking.usage import Usage


def test_a_call_gets_what_it_wants_while_there_is_enough():
    budget = ThinkingBudget(10_000)
    grant = budget.reserve(4_000)
    assert (grant.tokens, budget.remaining, budget.spent) == (4_000, 6_000, 0)
    assert grant.settle(Usage(10, 1_500, 1_000), "m") == 3_000
    assert (budget.remaining, budget.spent, budget.tokens) == (9_000, 1_000, 10_000)


def test_a_later_call_gets_what_is_left_and_then_nothing():
    budget = ThinkingBudget(5_000)
    budget.reserve(4_000)
    assert budget.reserve(4_000).tokens == 1_000
    assert budget.reserve(4_000).tokens == 0
    assert budget.reserve().tokens == 0


def test_without_a_wish_a_call_reserves_all():
    budget = ThinkingBudget(5_000)
    first = budget.reserve()
    assert (first.tokens, budget.reserve().tokens) == (5_000, 0)
    first.settle(Usage(1, 700, 500), "m")
    assert budget.reserve().tokens == 4_500


def test_a_limit_per_call_lets_parallel_calls_share():
    budget = ThinkingBudget(10_000, per_call=4_000)
    assert [budget.reserve(wanted).tokens for wanted in (None, 9_000, 1_000, None)] == [4_000, 4_000, 1_000, 1_000]


def test_a_rest_too_small_to_think_with_is_not_granted():
    budget = ThinkingBudget(1_000, minimum=300)
    budget.reserve(800)
    assert budget.reserve(500).tokens == 0
    assert budget.reserve().tokens == 0
    assert budget.reserve(100).tokens == 100  # this one wants no more
    assert budget.remaining == 100


def test_the_minimum_does_not_forbid_small_calls():
    assert ThinkingBudget(100).reserve(50).tokens == 50
    assert ThinkingBudget(1_000, per_call=100).reserve().tokens == 100
    assert ThinkingBudget(100).reserve().tokens == 0
    assert ThinkingBudget(100, minimum=0).reserve().tokens == 100


def test_a_grant_ends_once():
    budget = ThinkingBudget(1_000)
    grant = budget.reserve(600)
    assert grant.settle(Usage(1, 300, 200), "m") == 400
    assert grant.settle(Usage(1, 300, 200), "m") == 400
    grant.release()
    assert (budget.spent, budget.remaining, len(budget.ledger)) == (200, 800, 1)


def test_a_released_grant_is_whole_again_and_stays_so():
    budget = ThinkingBudget(1_000)
    grant = budget.reserve(600)
    grant.release()
    grant.release()
    grant.settle(Usage(1, 300, 200), "m")
    assert (budget.spent, budget.remaining, budget.ledger) == (0, 1_000, ())


@pytest.mark.parametrize(
    ("usage", "charged"),
    [
        (Usage(1, 900, 0), 0),
        (Usage(1, 900, 400), 400),
        (Usage(1, 900, 700), 700),  # a server that did not honour the budget
        (Usage(1, 900, None), 600),  # not said: the whole grant at most
        (Usage(1, 100, None), 100),  # … and no more than there is output
        (None, 600),
    ],
)
def test_what_a_call_is_charged(usage, charged):
    budget = ThinkingBudget(1_000)
    grant = budget.reserve(600)
    assert grant.settle(usage, "m") == max(0, 600 - charged)
    assert (budget.spent, budget.remaining) == (charged, 1_000 - charged)
    assert budget.ledger == (Entry(model="m", granted=600, charged=charged, usage=usage),)


def test_a_server_that_takes_more_than_the_budget_leaves_nothing():
    budget = ThinkingBudget(1_000)
    budget.reserve(600).settle(Usage(1, 5_000, 4_000), "m")
    assert (budget.spent, budget.remaining, budget.reserve(1).tokens) == (4_000, 0, 0)


def test_calls_that_do_not_think_stand_in_the_ledger_too():
    budget = ThinkingBudget(500)
    budget.reserve(500)
    spent = budget.reserve(500)
    assert spent.settle(Usage(10, 20, 0), "m") == 0
    assert budget.ledger == (Entry(model="m", granted=0, charged=0, usage=Usage(10, 20, 0)),)


def test_a_call_that_does_not_think_holds_nothing():
    budget = ThinkingBudget(500)
    grant = budget.reserve(0)
    assert (grant.tokens, budget.remaining) == (0, 500)
    grant.settle(Usage(10, 20, 0), "m")
    assert (len(budget.ledger), budget.spent) == (1, 0)


@pytest.mark.parametrize("tokens", [0, -1, 1.5, True, "1000", None])
def test_numbers_of_tokens_are_checked(tokens):
    with pytest.raises(ConfigurationError, match="tokens"):
        ThinkingBudget(tokens)
    if tokens is not None:
        with pytest.raises(ConfigurationError, match="per_call"):
            ThinkingBudget(1_000, per_call=tokens)
    if tokens:
        with pytest.raises(ConfigurationError, match="wanted"):
            ThinkingBudget(1_000).reserve(tokens)
    with pytest.raises(ConfigurationError, match="minimum"):
        ThinkingBudget(1_000, minimum=-1)


def test_a_copy_is_the_same_budget():
    budget = ThinkingBudget(1_000)
    assert copy.copy(budget) is copy.deepcopy({"budget": budget})["budget"] is budget


class Calls(RuleBasedStateMachine):
    """Any order of calls that begin, settle, and fail."""

    grants = Bundle("grants")

    def __init__(self):
        super().__init__()
        self.budget = ThinkingBudget(2_000, per_call=900, minimum=100)
        self.open = {}
        self.charged = 0

    @rule(target=grants, wanted=st.none() | st.integers(1, 3_000))
    def reserve(self, wanted):
        grant = self.budget.reserve(wanted)
        assert grant.tokens <= min(wanted or 3_000, 900)
        self.open[grant] = grant.tokens
        return grant

    @rule(grant=grants, share=st.floats(0, 1))
    def settle(self, grant, share):
        took = int(grant.tokens * share)
        grant.settle(Usage(1, took + 5, took), "m")
        if self.open.pop(grant, None) is not None:
            self.charged += took

    @rule(grant=grants)
    def release(self, grant):
        grant.release()
        self.open.pop(grant, None)

    @invariant()
    def adds_up(self):
        reserved = sum(self.open.values())
        assert self.budget.spent == self.charged
        assert self.budget.spent + reserved + self.budget.remaining == 2_000
        assert sum(entry.charged for entry in self.budget.ledger) == self.budget.spent


Calls.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestCalls = Calls.TestCase


def test_threads_never_get_more_than_there_is():
    budget = ThinkingBudget(50_000, per_call=700, minimum=1)
    begin = threading.Barrier(16)

    def calls(worker):
        begin.wait()
        granted = 0
        for i in range(200):
            grant = budget.reserve(100 + (worker * 31 + i * 17) % 900)
            if i % 5 == 0:
                grant.release()
                continue
            granted += grant.tokens
            grant.settle(Usage(10, grant.tokens + 7, grant.tokens), f"model-{worker % 3}")
            grant.settle(Usage(10, 10**6, 10**6), "twice")
        return granted

    with ThreadPoolExecutor(16) as pool:
        granted = sum(pool.map(calls, range(16)))
    assert granted == budget.spent == 50_000  # enough was wanted to spend it all
    assert budget.remaining == 0
    assert len(budget.ledger) == 16 * 160
    assert sum(entry.charged for entry in budget.ledger) == 50_000


PRICES = {
    "qwen-plus": Price(0.8, 2.0, 0.16, 1.0, 8.0, currency="CNY"),
    "qwen-flash": Price(0.15, 1.5, currency="CNY"),
    "qwen/qwen3.5": Price(1, 2, currency="USD"),
}


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        ("qwen-plus", Usage(1_000_000, 0, 0), 0.8),
        ("qwen-plus", Usage(1_000_000, 0, 0, cached=500_000), 0.4 + 0.08),
        ("qwen-plus", Usage(1_000_000, 0, 0, cached=500_000, cache_creation=250_000), 0.2 + 0.08 + 0.25),
        ("qwen-plus", Usage(0, 1_000_000, 0), 2.0),
        ("qwen-plus", Usage(0, 1_000_000, None), 2.0),
        ("qwen-plus", Usage(0, 1_000_000, 600_000), 8.0),
        ("qwen-flash", Usage(1_000_000, 1_000_000, 600_000, cached=500_000, cache_creation=500_000), 1.65),
        ("qwen-plus", Usage(100, 0, 0, cached=10**9, cache_creation=10**9), 100 * 0.16e-6),
    ],
)
def test_the_cost_of_a_call(model, usage, cost):
    assert PRICES[model].cost(usage) == pytest.approx(cost)


@pytest.mark.parametrize("price", [-0.1, float("nan"), float("inf"), "1"])
@pytest.mark.parametrize("name", ["input", "output", "cached", "cache_creation", "thinking_output"])
def test_prices_are_checked(name, price):
    with pytest.raises(ConfigurationError, match=name):
        Price(**({"input": 1, "output": 1} | {name: price}), currency="CNY")


def test_the_ledger_holds_the_cost():
    budget = ThinkingBudget(10_000, prices=PRICES)
    budget.reserve(100).settle(Usage(1_000_000, 0, 0), "qwen-plus")
    budget.reserve(100).settle(Usage(1_000_000, 0, 0), "no price")
    budget.reserve(100).settle(None, "qwen-plus")
    assert [(entry.cost, entry.currency) for entry in budget.ledger] == [(0.8, "CNY"), (None, None), (None, None)]


def test_the_table_in_full():
    budget = ThinkingBudget(20_000, prices=PRICES)
    budget.reserve(4_096).settle(Usage(1_200, 1_500, 1_000, cached=200), "qwen-plus")
    budget.reserve(4_096).settle(Usage(800, 100, 0), "qwen-plus")
    budget.reserve(4_096).settle(Usage(1_000_000, 3_000, 2_000), "qwen/qwen3.5")
    assert budget.table() == str(budget)
    assert budget.table().splitlines() == [
        "thinking budget: 3000 of 20000 reasoning tokens spent, 17000 left",
        "model         calls    input  cached  reasoning  answer                     cost",
        "------------  -----  -------  ------  ---------  ------  -----------------------",
        "qwen-plus         2     2000     200       1000     600               0.0137 CNY",
        "qwen/qwen3.5      1  1000000       0       2000    1000               1.0060 USD",
        "all               3  1002000     200       3000    1600  0.0137 CNY + 1.0060 USD",
    ]


def test_the_table_marks_what_nobody_said():
    budget = ThinkingBudget(20_000)
    budget.reserve(1_000).settle(Usage(100, 500, None), "qwen3:8b")
    budget.reserve(1_000).settle(None, "cut")
    lines = budget.table().splitlines()
    assert lines[3].split() == ["qwen3:8b", "1", "100", "0", "0*", "500*", "-*"]
    assert lines[4].split() == ["cut", "1", "0*", "0*", "0*", "0*", "-*"]
    assert lines[-1].startswith("* incomplete")


def test_an_empty_table_is_a_table():
    lines = ThinkingBudget(1_000).table().splitlines()
    assert lines[0] == "thinking budget: 0 of 1000 reasoning tokens spent, 1000 left"
    assert lines[-1].split() == ["all", "0", "0", "0", "0", "0", "-"]


def test_reprs_are_short():
    budget = ThinkingBudget(1_000)
    assert repr(budget) == "ThinkingBudget(tokens=1000, spent=0, remaining=1000)"
    assert repr(budget.reserve(500)) == "Grant(tokens=500)"
