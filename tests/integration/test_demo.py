"""The demo and the other commands with the bundled models, as a user runs them: offline, in a process of their own."""

from __future__ import annotations

import json
import re
import resource
import shutil
from importlib.resources import as_file, files

import pytest

from qwen3_rag.backends import load_embedder, load_reranker
from qwen3_rag.chunking import split_markdown
from qwen3_rag.cli import steps
from qwen3_rag.demo import CORPUS, QUESTIONS
from qwen3_rag.ingest import ingest
from qwen3_rag.milvus import MilvusCollection
from tests.integration.offline import run_command

EXPECTED = [
    {"Milvus Lite keeps everything in one local file"},
    {"Thinking mode in the chat models"},
    {"文档切分"},
]
"""The sections that answer the demo's questions."""


def sections():
    return [p for path in sorted(CORPUS.glob("*.md")) for p in split_markdown(path.read_text("utf-8"), path.name)]


def test_the_corpus_is_large_enough_and_in_two_languages():
    passages = sections()
    chinese = [p for p in passages if len(re.findall(r"[\u4e00-\u9fff]", p.text)) > len(p.text) / 4]
    assert len(passages) >= 40
    assert len(chinese) >= 12
    assert len(passages) - len(chinese) >= 28
    assert len({p.text for p in passages}) == len(passages)
    assert all(p.metadata["headings"] for p in passages)


def test_the_corpus_is_package_data():
    with as_file(files("qwen3_rag.demo") / "corpus") as folder:
        assert {path.suffix for path in folder.iterdir()} == {".md"}


def test_the_expected_sections_exist_and_share_few_words_with_their_questions():
    by_heading = {p.metadata["headings"][-1]: p.text for p in sections()}
    for question, headings in zip(QUESTIONS, EXPECTED, strict=True):
        assert headings <= by_heading.keys()
        assert all(question not in by_heading[heading] for heading in headings)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed_demo(folder):
    before = cpu_seconds()
    result = run_command(["demo"], cwd=folder)
    return result, cpu_seconds() - before


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return timed_demo(tmp_path_factory.mktemp("demo"))


def test_the_demo_runs_offline_without_a_word_on_standard_error(demo):
    result, _ = demo
    assert result.stderr == ""
    assert result.returncode == 0


def test_the_demo_says_what_it_is_and_shows_both_orders(demo):
    out = demo[0].stdout
    assert "tiny" in out
    assert "offline" in out
    assert re.search(r"6 files, \d+ passages: \d+ added, 0 unchanged, [\d,]+ tokens", out)
    assert out.count("dense order") == out.count("P(yes)   was") == 3
    assert [line for line in out.splitlines() if line.startswith("Q: ")] == [f"Q: {q}" for q in QUESTIONS]


def test_the_demo_is_quick(demo, tmp_path):
    # Processor time, so that a busy machine does not fail the test; alone, it is about the time on the clock. The first
    # run on a machine also pays for reading and compiling the libraries.
    assert demo[1] < 15 or timed_demo(tmp_path)[1] < 15


def test_the_demo_finds_the_answers(tmp_path):
    embedder, reranker = load_embedder("tiny"), load_reranker("tiny")
    with MilvusCollection(tmp_path / "demo.db") as collection:
        ingest(CORPUS, embedder, collection)
        for question, expected in zip(QUESTIONS, EXPECTED, strict=True):
            found = steps.find(steps.Search(question, k=10), collection, embedder, reranker)
            kept = [ranked.item.passage.metadata["headings"][-1] for ranked in found.reranked]
            assert expected & set(kept), (question, kept, found.dense)


def test_the_demo_can_keep_its_collection(tmp_path):
    first = run_command(["demo", "--uri", "kept.db"], cwd=tmp_path)
    second = run_command(["demo", "--uri", "kept.db"], cwd=tmp_path)
    assert first.returncode == second.returncode == 0
    assert " 0 added" in second.stdout
    assert (tmp_path / "kept.db").exists()
    found = first.stdout.partition("\nQ:")[2]
    assert found == second.stdout.partition("\nQ:")[2]


def test_ingest_and_search_with_the_tiny_models(tmp_path):
    shutil.copytree(CORPUS, tmp_path / "docs")
    ingest = run_command(["ingest", "docs", "--model", "tiny"], cwd=tmp_path)
    assert (ingest.returncode, ingest.stderr) == (0, "")
    again = run_command(["ingest", "docs", "--model", "tiny"], cwd=tmp_path)
    assert " 0 added" in again.stdout
    search = run_command(["search", QUESTIONS[0], "--model", "tiny", "--json"], cwd=tmp_path)
    assert (search.returncode, search.stderr) == (0, "")
    result = json.loads(search.stdout)
    assert len(result["dense"]) == 10
    assert len(result["reranked"]) == 3
    scores = [hit["relevance_score"] for hit in result["reranked"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
