"""`qwen3-rag evaluate` and what it runs: the tiny models on the demo corpus, and on the tutorial's where it is at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from qwen3_rag import load_embedder, load_reranker
from qwen3_rag.cli import main
from qwen3_rag.demo import CORPUS, EVALUATION
from qwen3_rag.errors import CollectionError, ConfigurationError, InputError
from qwen3_rag.evaluation import Question, Section, evaluate_collection, read_questions
from qwen3_rag.evaluation.questions import find_relevant
from qwen3_rag.ingest import ingest, split_at
from qwen3_rag.milvus import MilvusCollection
from tests.fakes import OverlapReranker, WordEmbedder

TUTORIAL = os.environ.get("QWEN3_RAG_TUTORIAL_CORPUS")
TUTORIAL_QUESTIONS = Path(__file__).parents[1] / "data" / "tutorial_questions.jsonl"
WAYS = ["dense", "BM25", "hybrid", "hybrid + rerank"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    with MilvusCollection(tmp_path_factory.mktemp("evaluate") / "milvus.db") as collection:
        ingest([CORPUS], WordEmbedder(), collection)
        yield collection


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    with MilvusCollection(tmp_path_factory.mktemp("evaluate") / "tiny.db") as collection:
        ingest([CORPUS], load_embedder("tiny"), collection)
        yield collection


def test_relevance_by_id_by_place_and_by_text(collection):
    [flush] = [p for p in collection.find({}) if "Flushing seals" in p.text]
    [lite] = [p for p in collection.find({}) if p.text.startswith("## Milvus Lite keeps")]
    asked = [
        Question("id", "q", passages=(flush.id, lite.id)),
        Question("heading", "q", sections=(Section("milvus-basics.md", "Flush, load and release"),)),
        Question("text", "q", answer=("Flushing seals", "in one local file\n")),
    ]
    assert find_relevant(asked, collection) == [{flush.id, lite.id}, {flush.id}, {flush.id, lite.id}]
    [everything] = find_relevant([Question("file", "q", sections=(Section("retrieval.md"),))], collection)
    assert everything == {p.id for p in collection.find({"source": "retrieval.md"})}
    assert len(everything) >= 10


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"passages": ("no-such",)}, "no passage 'no-such'"),
        ({"sections": (Section("milvus-basics.md", "No such"),)}, "no passage under 'milvus-basics.md › No such'"),
        ({"sections": (Section("no-such.md"),)}, r"no passage under 'no-such\.md'"),
        ({"answer": ("Flushing seals", "no such text")}, "no passage contains 'no such text'"),
    ],
)
def test_an_answer_that_is_not_there_is_an_error_that_names_the_question(collection, wanted, reason):
    asked = [Question("fine", "q", answer=("Flushing seals",)), Question("lost", "q", **wanted)]
    with pytest.raises(InputError, match=rf"lacks what is to answer 'lost': {reason}"):
        evaluate_collection(asked, collection, WordEmbedder(), OverlapReranker())


def test_what_can_not_be_run(collection, tmp_path):
    one = [Question("a", "q", answer=("Flushing seals",))]
    with pytest.raises(ConfigurationError, match="k is 9"):
        evaluate_collection(one, collection, WordEmbedder(), None, k=9)
    with pytest.raises(ConfigurationError, match="no question"):
        evaluate_collection([], collection, WordEmbedder(), None)
    with pytest.raises(CollectionError, match="was written with 'fake/words'"):
        evaluate_collection(one, collection, WordEmbedder(model_id="fake/other"), None)
    with MilvusCollection(tmp_path / "empty.db") as empty, pytest.raises(CollectionError, match="no collection"):
        evaluate_collection(one, empty, WordEmbedder(), None)


def test_the_ways_that_a_collection_can_be_searched(tmp_path):
    asked = read_questions(EVALUATION)[:2]
    seen = []
    with MilvusCollection(tmp_path / "milvus.db", sparse=None) as wordless:
        ingest([CORPUS], WordEmbedder(), wordless)
        run = evaluate_collection(
            asked, wordless, WordEmbedder(), OverlapReranker(), progress=lambda *state: seen.append(state)
        )
        assert list(run.reports) == ["dense", "dense + rerank"]
        assert list(evaluate_collection(asked, wordless, WordEmbedder(), None).reports) == ["dense"]
    assert seen == [(1, 2), (2, 2)]


def test_the_tiny_models_on_the_demo_corpus(tiny):
    asked = read_questions(EVALUATION)
    run = evaluate_collection(asked, tiny, load_embedder("tiny"), load_reranker("tiny"), k=12)
    assert list(run.reports) == list(run.ranks) == WAYS
    for way, report in run.reports.items():
        ranks = run.ranks[way]
        assert report.queries == len(ranks) == len(asked)
        for k in (1, 3, 10):
            assert report.recall[k] == pytest.approx(sum(r is not None and r <= k for r in ranks) / len(ranks))
    # Reranking reorders the candidates of the hybrid search and loses none.
    found = [[rank is not None for rank in run.ranks[way]] for way in ("hybrid", "hybrid + rerank")]
    assert found[0] == found[1]
    figures = {way: report.figures() for way, report in run.reports.items()}
    assert figures["hybrid"]["recall@3"] > figures["BM25"]["recall@3"]
    assert figures["dense"]["recall@10"] > 0.8


@pytest.mark.skipif(TUTORIAL is None, reason="QWEN3_RAG_TUTORIAL_CORPUS names no folder")
def test_the_tiny_models_on_the_tutorial_corpus(tmp_path):
    asked = read_questions(TUTORIAL_QUESTIONS)
    with MilvusCollection(tmp_path / "milvus.db") as collection:
        ingest([TUTORIAL], load_embedder("tiny"), collection, splitter=split_at("# "))
        assert collection.count() == 72
        run = evaluate_collection(asked, collection, load_embedder("tiny"), load_reranker("tiny"))
    figures = {way: report.figures() for way, report in run.reports.items()}
    for name in ("recall@1", "recall@3", "MRR@10", "nDCG@10"):
        assert figures["BM25"][name] < figures["dense"][name] < figures["hybrid"][name]
    assert figures["dense"]["recall@10"] > 0.95


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch):
    monkeypatch.delenv("MILVUS_URI", raising=False)
    return lambda *arguments: main(["evaluate", *map(str, arguments)])


def test_the_command_without_anything_is_about_the_demo(command, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    assert command("--plot", tmp_path / "plot.png") == 0
    out = capsys.readouterr().out
    assert "51 questions, 10 candidates each, on the demo corpus" in out
    rows = [line for line in out.splitlines() if line.startswith(tuple(WAYS))]
    assert [row.split("  ")[0] for row in rows] == WAYS
    assert all(len(row.replace("hybrid + rerank", "x").split()) == 6 for row in rows)
    assert (tmp_path / "plot.png").stat().st_size > 1000
    (tmp_path / "folder.png").mkdir()
    assert command("--plot", tmp_path / "folder.png", "--json") == 1
    told = capsys.readouterr()
    assert list(json.loads(told.out)["figures"]) == WAYS  # not lost
    assert "can't write the plot" in told.err


def test_the_command_as_json(command, capsys, tmp_path, tiny):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"question": "How do I free the RAM?", "answer": "Flushing seals"}))
    tiny.close()
    assert command(path, "--uri", tiny.uri, "--model", "tiny", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["figures"]) == WAYS
    assert set(told["figures"]["dense"]) == {"recall@1", "recall@3", "recall@10", "MRR@10", "nDCG@10"}
    [question] = told["questions"]
    assert (question["id"], question["question"]) == ("line 1", "How do I free the RAM?")
    assert set(question["ranks"]) == set(WAYS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["no-such.jsonl"], "no-such.jsonl"),
        (["-k", "3"], "k is 3"),
        (["--plot", "plot.docx"], "no format of a picture"),
        ([EVALUATION, "--model", "tiny"], "no collection 'qwen3_rag'"),
        (["--collection", "mine"], "'mine' needs QUESTIONS"),  # the demo's corpus must not get into it
    ],
)
def test_errors_are_one_line(command, options, message, capsys, tmp_path):
    if "--plot" in options:
        pytest.importorskip("matplotlib")
    assert command(*options, "--uri", tmp_path / "m.db") == 1
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
