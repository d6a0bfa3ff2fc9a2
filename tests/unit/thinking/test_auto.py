"""The rule of `thinking="auto"`: a table of questions, a table of scores, and that nothing else counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.thinking.auto import Evidence, thinks

# Work: think, whatever was found.
WORK = [
    ("A leaves 2 hours earlier at 5 km/h, B follows at 15 km/h. When will B catch up?", "calculation"),
    ("What is 17 * 23?", "calculation"),
    ("３×４は", "calculation"),
    ("Solve x^2 - 5x + 6 = 0", "calculation"),
    ("What is the sum of the first hundred primes?", "calculation"),
    ("How long will a tank of $20 and another of $35 last?", "calculation"),
    ("Compute the checksum", "calculation"),
    ("计算 12 的阶乘", "calculation"),
    ("小明有 3 元，小红有 5 元，他们一共有多少元？", "calculation"),
    ("この方程式を解いてください", "calculation"),
    ("평균을 계산해 주세요", "calculation"),
    ("Compare HNSW and IVF_FLAT", "comparison"),
    ("What is the difference between a segment and a partition?", "comparison"),
    ("Which is better for recall, HNSW or DiskANN?", "comparison"),
    ("Is Milvus faster than Faiss?", "comparison"),
    ("HNSW vs. IVF", "comparison"),
    ("HNSW 和 IVF 有什么区别？", "comparison"),
    ("HNSWとIVFの違いは何ですか", "comparison"),
    ("HNSW와 IVF의 차이는 무엇인가요?", "comparison"),
    ("Explain step by step how compaction works", "several steps"),
    ("Prove that the square root of two is irrational", "several steps"),
    ("If the proxy dies while a flush runs, what happens to the data?", "several steps"),
    ("Suppose all query nodes restart", "several steps"),
    ("如果代理宕机，数据会丢失吗", "several steps"),
    ("もしノードが落ちたらどうなりますか", "several steps"),
    ("만약 노드가 죽는다면 데이터는?", "several steps"),
    ("Make a migration plan for our cluster", "a plan"),
    ("Plan a trip to Rome", "a plan"),
    ("Design a schema for product search", "a plan"),
    ("设计一个检索系统", "a plan"),
    ("移行の計画を立ててください", "a plan"),
    ("이전 계획을 세워 주세요", "a plan"),
    ("Write a function that reverses a list", "code"),
    ("Fix the bug in this query", "code"),
    ("```python\nprint(1)\n``` why so slow", "code"),
    ("写一个排序函数", "code"),
    ("リストを反転する関数を書いて", "code"),
    ("리스트를 뒤집는 함수를 작성해 줘", "code"),
]

# Reasons and amounts: think, unless a passage answers.
AMOUNTS = [
    ("Why is the sky blue?", "reasons"),
    ("What causes a compaction?", "reasons"),
    ("为什么天空是蓝色的？", "reasons"),
    ("空はなぜ青いのですか", "reasons"),
    ("하늘은 왜 파란가요?", "reasons"),
    ("How many partitions can a collection have?", "an amount"),
    ("一个集合最多有多少分区？", "an amount"),
    ("パーティションはいくつまで作れますか", "an amount"),
    ("파티션은 몇 개까지 만들 수 있나요?", "an amount"),
]

LOOK_UPS = [
    "",
    "   \n",
    "How is data stored in milvus?",
    "What is the capital of France?",
    "Who wrote Dune?",
    "What does error 404 in version 2.6.10 mean?",
    "What was released on 2024-01-05, 2025-02-06 and 2026-03-07?",
    "Is the default port 19530 or 9091 in milvus 2.6?",
    "Is 24/7 support offered?",
    "How do I install pymilvus?",
    "What is the Coding Plan?",
    "When was Alibaba founded?",
    "Show the differential pressure gauge",
    "什么是向量数据库？",
    "Milvus 的作者是谁？",
    "Milvusとは何ですか",
    "밀버스가 뭐예요?",
]

SURE, WEAK, CLOSE = Evidence((0.97, 0.21)), Evidence((0.31, 0.30)), Evidence((0.8, 0.75))


@pytest.mark.parametrize(("question", "kind"), WORK)
@pytest.mark.parametrize("evidence", [None, SURE, WEAK, CLOSE], ids=["alone", "sure", "weak", "close"])
def test_work_is_thought_about_whatever_was_found(question, kind, evidence):
    decision = thinks(question, evidence)
    assert (decision.enabled, decision.source) == (True, "auto")
    assert kind in decision.reason


@pytest.mark.parametrize(("question", "kind"), AMOUNTS)
def test_reasons_and_amounts_are_thought_about_unless_a_passage_answers(question, kind):
    alone = thinks(question)
    assert alone.enabled
    assert kind in alone.reason
    assert not thinks(question, SURE).enabled
    assert thinks(question, WEAK).enabled


@pytest.mark.parametrize("question", LOOK_UPS)
def test_look_ups_are_answered_directly(question):
    decision = thinks(question)
    assert (decision.enabled, decision.source) == (False, "auto")
    assert "look-up" in decision.reason


@pytest.mark.parametrize("question", LOOK_UPS)
def test_a_look_up_is_thought_about_where_retrieval_is_not_sure(question):
    assert thinks(question, WEAK).enabled
    assert thinks(question, CLOSE).enabled
    assert not thinks(question, SURE).enabled


@pytest.mark.parametrize(
    ("scores", "enabled", "reason"),
    [
        ((0.99,), False, "clearly"),
        ((0.99, 0.98, 0.97), False, "clearly"),  # many passages that answer are no conflict
        ((0.9, 0.9), False, "clearly"),
        ((0.89, 0.85), True, "conflicts"),
        ((0.7, 0.49), False, "clearly"),
        ((0.7, 0.51), True, "conflicts"),
        ((0.5, 0.45), True, "conflicts"),
        ((0.5,), False, "clearly"),
        ((0.49,), True, "weak"),
        ((0.49, 0.01), True, "weak"),
        ((0.0, 0.0), True, "weak"),
        ((0.21, 0.97), False, "clearly"),  # in any order
        ((), False, "look-up"),  # nothing was scored, so the question alone decides
    ],
)
def test_how_sure_retrieval_is(scores, enabled, reason):
    decision = thinks("How is data stored in milvus?", Evidence(scores))
    assert decision.enabled is enabled
    assert reason in decision.reason


def test_the_reason_names_the_scores_and_the_words():
    assert "0.97" in thinks("Who?", SURE).reason
    assert "0.21" in thinks("Who?", SURE).reason
    assert "'compare'" in thinks("Compare HNSW and IVF").reason


def test_a_long_question_is_thought_about():
    assert not thinks("word " * 59).enabled
    assert thinks("word " * 60).enabled
    assert not thinks("数据" * 59).enabled
    assert thinks("数据" * 60).enabled
    assert "long" in thinks("数据" * 60).reason


@given(st.text(), st.none() | st.lists(st.floats(0, 1)).map(lambda scores: Evidence(tuple(scores))))
def test_any_question_has_one_answer_and_a_reason(question, evidence):
    decision = thinks(question, evidence)
    assert decision == thinks(question, evidence)
    assert isinstance(decision.enabled, bool)
    assert decision.reason
    assert (decision.source, decision.effort, decision.budget) == ("auto", None, None)


@given(st.permutations([0.1, 0.4, 0.6, 0.95]))
def test_the_order_of_scores_does_not_matter(scores):
    assert thinks("Who?", Evidence(tuple(scores))) == thinks("Who?", Evidence((0.95, 0.6, 0.4, 0.1)))


def test_case_and_width_do_not_matter():
    assert thinks("ＣＯＭＰＡＲＥ these").enabled
    assert thinks("WHY?").enabled


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["if ", "1 ", "first ", "which is ", "$1", "もし", "a" * 50, "write "])
def test_hostile_questions_take_no_time(piece):
    assert isinstance(thinks(piece * 20_000).enabled, bool)
