from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict

import pytest

from qwen3_rag.answering import Answer, AnswerOptions, AnswerTurn, ReasoningPiece, SourcePassage, TextPiece, Told
from qwen3_rag.answering.turn import last_answer
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.thinking import Decision, Evidence, ThinkingBudget, ThinkingPolicy, Usage

PASSAGES = [
    SourcePassage("Segments hold the data.", "a", {"source": "a.md"}, relevance_score=0.9, retrieval_score=0.4),
    SourcePassage("Bread needs yeast.", "b", {"source": "b.md"}, relevance_score=0.2, retrieval_score=0.6),
]
TOLD = Told(usage=Usage(10, 5, 2), thinking={"enabled": False, "reason": "why not", "source": "asked"}, notes=["n"])


def turn(question="Where is the data?", history=(), **options) -> AnswerTurn:
    return AnswerTurn(AnswerOptions.of(**options), question, history)


def run(one: AnswerTurn, text: str, told: Told = TOLD, passages=PASSAGES) -> Answer:
    one.retrieved(passages)
    pieces = [*one.read("hm", ""), *(piece for letter in text for piece in one.read("", letter)), *one.end(told)]
    answer = last_answer(pieces)
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)) == answer.text == str(answer)
    assert [piece for piece in pieces if isinstance(piece, ReasoningPiece)] == [ReasoningPiece("hm")]
    return answer


def test_an_answer():
    answer = run(turn(), "In segments [1]. Not [7].")
    assert answer.text == "In segments [1]. Not."
    assert answer.found
    assert answer.question == "Where is the data?"
    (citation,) = answer.citations
    assert answer.text[citation.start : citation.end] == "[1]"
    assert (citation.number, citation.source, citation.passage.id) == (1, "a.md", "a")
    assert (citation.passage.relevance_score, citation.passage.retrieval_score) == (0.9, 0.4)
    assert answer.invalid_citations == (7,)
    assert answer.reasoning == "hm"
    assert [passage.number for passage in answer.passages] == [1, 2]
    assert answer.cited == answer.given[:1]
    assert answer.usage == Usage(10, 5, 2)
    assert answer.thinking == Decision(False, reason="why not", source="asked")
    assert answer.timings.keys() == {"pack"}
    assert answer.notes == ("the model cited 7, which no passage has; these were removed", "n")


def test_an_answer_can_be_stored():
    answer = run(turn(), "In segments [1].")
    assert pickle.loads(pickle.dumps(answer)) == copy.deepcopy(answer) == answer
    assert json.loads(json.dumps(asdict(answer)))["citations"][0]["passage"]["id"] == "a"


def test_what_is_not_relevant_is_not_given_but_shown():
    one = turn(score_threshold=0.5)
    answer = run(one, "In segments [2].")
    assert [passage.number for passage in answer.passages] == [1, None]
    assert one.given == (0,)
    assert answer.invalid_citations == (2,)
    assert "Bread" not in one.messages()[1][1]


@pytest.mark.parametrize(("question", "word"), [("Why?", "Nothing relevant"), ("为什么？", "没有找到")])
def test_nothing_relevant(question, word):
    one = turn(question, score_threshold=0.95)
    one.retrieved(PASSAGES)
    assert not one.found
    text, answer = one.end()
    assert word in answer.text == text.text
    assert not answer.found
    assert (answer.citations, answer.given, answer.usage, answer.thinking) == ((), (), None, None)
    assert [passage.id for passage in answer.passages] == ["a", "b"]


@pytest.mark.parametrize("said", ["no idea", lambda question: f"no idea about {question}"])
def test_the_answer_to_nothing_can_be_ones_own(said):
    one = turn("x", not_found=said)
    one.retrieved([])
    assert last_answer(one.end()).text.startswith("no idea")


def test_a_threshold_needs_scores():
    with pytest.raises(ConfigurationError, match="no relevance_score"):
        turn(score_threshold=0.5).retrieved([SourcePassage("x")])


def test_what_did_not_fit_is_reported():
    answer = run(turn(context_tokens=140, tokenizer=len), "Yes.")
    assert [passage.number for passage in answer.passages] == [1, None]
    assert "1 of 2 passages did not fit into context_tokens=140: 'b.md'" in answer.notes
    assert "the answer cites no passage" in answer.notes


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS"])
def test_a_cut_answer_says_so(reason):
    answer = run(turn(), "Yes [1", Told(finish_reason=reason))
    assert answer.text == "Yes [1"
    assert "the answer was cut at the model's token limit" in answer.notes
    assert (answer.usage, answer.thinking) == (None, None)


def test_a_conversation():
    one = turn("And there?", [("user", "Where is the data?"), ("assistant", "Here.")])
    assert "And there?" in one.condensing()[1][1]
    one.condensed(" Where is the index? ", Told(usage=Usage(3, 4, None)))
    assert one.query == "Where is the index?"
    answer = run(one, "There [1].")
    assert answer.question == "Where is the index?"
    assert answer.usage == Usage(13, 9, 2)
    assert turn().condensing() == ()


def test_a_question_that_was_rewritten_to_nothing_stays():
    one = turn("And there?", [("user", "Where " * 100), ("assistant", "Here.")], history_tokens=30, tokenizer=len)
    one.condensing()
    one.condensed(" ", Told())
    assert one.query == "And there?"
    notes = run(one, "x [1]").notes
    assert "the oldest 1 messages of the conversation are over history_tokens=30 and were not read" in notes
    assert "the model rewrote the question to nothing, so it was used as it is" in notes


def test_half_a_surrogate_pair_in_a_rewritten_question_is_no_text_to_search_for():
    one = turn("And there?", [("user", "Where?")])
    one.condensed("Where is \ud83d?", Told())
    assert one.query == "Where is ??"


def test_thinking_knows_the_question_and_the_scores_of_what_is_given():
    one = turn("What is a segment?", score_threshold=0.1)
    one.retrieved([*PASSAGES, SourcePassage("calculate 3 * 4 and compare", relevance_score=0.05)])
    budget = ThinkingBudget(1000)
    options = one.thinking_options("auto", budget)
    assert options["evidence"] == Evidence((0.9, 0.2))
    assert options["budget"] is budget
    rule = options["thinking"].auto
    assert rule("compare all of the passages in the prompt", options["evidence"]).enabled is False
    assert one.thinking_options(None, None).keys() == {"evidence"}
    assert one.thinking_options(2048, None)["thinking"] == ThinkingPolicy.of(2048)


def test_an_own_rule_gets_the_question_too():
    asked = []
    policy = ThinkingPolicy(auto=lambda question, evidence: asked.append((question, evidence)) or True)
    one = turn("What is a segment?")
    one.retrieved([SourcePassage("no score")])
    options = one.thinking_options(policy, None)
    assert "evidence" not in options
    assert options["thinking"].auto("prompt", None) is True
    assert asked == [("What is a segment?", None)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_tokens": 0}, "context_tokens"),
        ({"history_tokens": True}, "history_tokens"),
        ({"score_threshold": 2}, "score_threshold"),
        ({"score_threshold": "0.5"}, "score_threshold"),
        ({"thinking": "much"}, "thinking must be"),
        ({"budget": 100}, "ThinkingBudget"),
        ({"tokenizer": 3}, "tokenizer"),
        ({"instructions": ["Be brief."]}, "instructions must be a string"),
        ({"not_found": 3}, "not_found must be"),
        ({"treshold": 1}, "unknown option 'treshold'"),
    ],
)
def test_options_that_can_not_work(options, message):
    with pytest.raises(ConfigurationError, match=message):
        AnswerOptions.of(**options)


@pytest.mark.parametrize("question", ["", "  ", None, 3])
def test_a_question_that_is_none(question):
    with pytest.raises(InputError, match="question"):
        turn(question)
