"""`qwen3-rag ask` over a real Milvus Lite file and the loopback chat server: what goes where, and what is asked of whom."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

import qwen3_rag
from qwen3_rag.cli import main, steps
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.thinking import LEARNED
from qwen3_rag.types import Passage
from tests.chat_server import KEY, MARK, ChatServer
from tests.fakes import OverlapReranker, WordEmbedder
from tests.planner import answers, judges, plans, stages

QUESTION = "Where does Milvus Lite keep its data?"
TEXTS = ["Milvus Lite does keep its data in one local file.", "Bread dough needs yeast.", "河流向东流。"]
SAID = "In one file [1]. So they say [1, 2], and [9]."
SHOWN = "In one file [1]. So they say [1][2], and."


def fill(collection: str, uri: str = "milvus.db") -> None:
    embedder = WordEmbedder()
    heads = ["Data", "Bread", "河流"]
    passages = [
        Passage(f"{collection}-{i}", text, {"source": f"{collection}.md", "headings": [heads[i]]})
        for i, text in enumerate(TEXTS)
    ]
    with MilvusCollection(uri, collection) as opened:
        opened.upsert(passages, embedder.embed_documents(TEXTS).vectors, embedder=embedder)


@pytest.fixture(scope="module")
def running_server():
    with ChatServer() as server:
        yield server


@pytest.fixture(autouse=True)
def server(running_server, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("DASHSCOPE_", "FORCE_", "MILVUS_", "NO_COLOR"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DASHSCOPE_COMPATIBLE_BASE_URL", running_server.url)
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    # The command sets these for its own process; here they are put back.
    for name in ("HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(steps, "load_embedder", lambda model: WordEmbedder())
    monkeypatch.setattr(steps, "load_reranker", lambda model: OverlapReranker())
    monkeypatch.chdir(tmp_path)
    LEARNED.clear()
    yield running_server
    running_server.clear()


@pytest.fixture
def filled():
    fill("qwen3_rag")


def failure(capsys, status: int, *argv: str) -> str:
    """Runs a command that must fail and returns its single line on standard error."""
    assert main(["ask", *argv]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def answered(capsys, *argv: str) -> dict:
    """Runs `ask … --json` and returns what it wrote, which is all there is."""
    assert main(["ask", *argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


@pytest.mark.usefixtures("filled")
def test_the_answer_comes_with_its_sources(server, capsys):
    server.reply(SAID, reasoning="Hm.\nWell.")
    assert main(["ask", QUESTION, "--thinking"]) == 0
    out, err = capsys.readouterr()
    answer, sources = out.split("\n\n")
    assert answer == SHOWN
    first, second, third = sources.splitlines()
    assert first.startswith("[1] qwen3_rag.md › Data  P(yes) 0.")
    assert "  retrieval " in first
    assert second.startswith("[2] qwen3_rag.md › ")
    assert not second.endswith("not cited")
    assert third.startswith("[3] ")
    assert third.endswith("not cited")
    assert "[9]" not in out
    reasoning, *told = err.split("\nnote: ")
    assert reasoning == "Hm.\nWell."
    note, thinking, done = "".join(told).splitlines()
    assert note == "the model cited 9, which no passage has; these were removed"
    assert thinking == "thinking: yes: asked to think"
    assert done.startswith("done: qwen-plus; ")
    assert all(word in done for word in (" of reasoning, ", "first token after", "retrieve ", "generate "))
    assert "\x1b" not in out + err
    assert (
        f'<passage number="1" source="qwen3_rag.md › Data">\n{TEXTS[0]}' in server.last.body["messages"][-1]["content"]
    )


@pytest.mark.usefixtures("filled")
def test_json_is_all_there_is(server, capsys):
    server.reply(SAID)
    result = answered(capsys, QUESTION, "--top-n", "2", "--no-thinking")
    assert (result["question"], result["answer"], result["found"]) == (QUESTION, SHOWN, True)
    assert result["searched"] == QUESTION
    assert result["thinking"]["enabled"] is False
    assert [source["number"] for source in result["sources"]] == [1, 2]
    best = result["sources"][0]
    assert (best["text"], best["source"], best["id"]) == (TEXTS[0], "qwen3_rag.md › Data", "qwen3_rag-0")
    assert best["relevance_score"] > result["sources"][1]["relevance_score"]
    assert best["retrieval_score"] == best["metadata"]["retrieval_score"]
    for citation in result["citations"]:
        assert result["answer"][citation["start"] : citation["end"]] == f"[{citation['number']}]"
    assert [citation["number"] for citation in result["citations"]] == [1, 1, 2]
    assert result["invalid_citations"] == [9]
    assert result["tokens"]["output"] == result["tokens"]["answer"] > 0
    assert list(result["seconds"]["stages"]) == ["retrieve", "pack", "generate"]
    assert result["seconds"]["first_answer"] > result["seconds"]["stages"]["retrieve"]


@pytest.mark.usefixtures("filled")
def test_where_nothing_is_found_no_model_is_asked(server, capsys):
    assert main(["ask", QUESTION, "--score-threshold", "1"]) == 0
    out, err = capsys.readouterr()
    assert out == "Nothing relevant to this question was found, so it can't be answered from the documents.\n"
    assert err.startswith("done: nothing was found, so no model was asked to answer; retrieve ")
    assert server.requests == []
    assert answered(capsys, "天气怎么样", "--score-threshold", "1")["answer"].startswith("没有找到")


def test_without_retrieval_nothing_is_opened(server, capsys, tmp_path):
    server.reply("Who knows [1].")
    assert main(["ask", QUESTION, "--no-rag", "--system", "Be brief."]) == 0
    assert capsys.readouterr().out == "Who knows [1].\n"
    assert server.last.body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert list(tmp_path.iterdir()) == []
    result = answered(capsys, QUESTION, "--no-rag", "--thinking")
    assert (result["question"], MARK in result["reasoning"]) == (QUESTION, True)


@pytest.mark.usefixtures("filled")
def test_compare_rag_shows_both_side_by_side(server, capsys):
    server.reply("Nobody knows.", when=lambda request: "<passages>" not in str(request.body))
    server.reply(SAID, reasoning="I look.", when=lambda request: "<passages>" in str(request.body))
    assert main(["ask", QUESTION, "--compare-rag", "--thinking"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["without", "retrieval", "with", "retrieval"]
    rows = {line[:20].strip(): line[20:].split() for line in lines[2:]}
    assert rows["answer"] == f"Nobody knows. {SHOWN}".split()
    assert rows["reasoning"] == ["I", "look."]
    assert rows["passages"] == ["none", "3", "given,", "2", "cited"]
    assert "[1] qwen3_rag.md › Data  P(yes) " in out
    assert err == "note: with retrieval: the model cited 9, which no passage has; these were removed\n"
    assert [request.thinks for request in server.requests] == [True, True]


@pytest.mark.usefixtures("filled")
def test_wide_characters_stay_in_their_columns(server, capsys):
    server.reply("数据保存在本地文件中" * 20 + " [1]。", reasoning="想一想。" * 200, times=2)
    assert main(["ask", "数据保存在哪里？", "--compare-rag", "--thinking", "--top-n", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) == 110  # of an output that is no terminal
    assert len({cell_len(line) for line in lines[: lines.index("")]}) == 1


@pytest.mark.usefixtures("filled")
def test_compare_rag_as_json(server, capsys):
    result = answered(capsys, QUESTION, "--compare-rag")
    assert result["question"] == QUESTION
    assert "sources" not in result["without_retrieval"]
    assert result["without_retrieval"]["answer"]
    assert result["with_retrieval"]["sources"][0]["text"] == TEXTS[0]
    assert len(server.requests) == 2


@pytest.mark.usefixtures("filled")
def test_auto_thinks_by_the_evidence(server, capsys):
    clear = answered(capsys, "does milvus lite keep its data in one local file", "--auto")["thinking"]
    assert (clear["enabled"], clear["source"]) == (False, "auto")
    unsure = answered(capsys, "Why does an unusual purple data elephant keep singing?", "--auto")["thinking"]
    assert unsure["source"] == "auto"
    assert unsure["reason"]
    assert [request.thinks for request in server.requests] == [clear["enabled"], unsure["enabled"]]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("argv", "sent"),
    [
        (["--budget", "20"], {"enable_thinking": True, "thinking_budget": 20}),
        (["--effort", "low"], {"enable_thinking": True, "thinking_budget": 4096}),
        (["--no-thinking"], {"enable_thinking": False}),
        ([], {}),
    ],
)
def test_the_options_about_thinking_reach_the_server(server, capsys, argv, sent):
    assert main(["ask", QUESTION, *argv]) == 0
    body = server.last.body
    assert {name: body[name] for name in body if "think" in name} == sent


@pytest.mark.usefixtures("filled")
def test_the_chat_model_the_instructions_and_the_question_from_standard_input(server, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("怎样保存数据？"))
    assert main(["ask", "-", "--llm", "qwen3-max", "--system", "Be brief.", "--mode", "hybrid"]) == 0
    out, err = capsys.readouterr()
    assert "this is qwen3-max" in out
    assert "qwen3-max; " in err
    system, user = (message["content"] for message in server.last.body["messages"])
    assert system.endswith("\n\nBe brief.")
    assert "怎样保存数据？\n\n请用中文回答" in user


def test_several_collections_are_one_search(server, capsys):
    fill("faq")
    fill("docs")
    with MilvusCollection("milvus.db", "docs") as docs:
        docs.upsert(
            [Passage("only", "keep data where", {"source": "only.md"})], WordEmbedder().embed_documents(["x"]).vectors
        )
    argv = [QUESTION, "--collection", "faq", "--collection", "docs", "--top-n", "9"]
    found = {source["metadata"]["retrieval_collection"] for source in answered(capsys, *argv)["sources"]}
    assert found == {"faq", "docs"}
    assert {s["metadata"]["retrieval_collection"] for s in answered(capsys, *argv[:3])["sources"]} == {"faq"}


@pytest.mark.usefixtures("filled")
def test_what_a_source_is_called_can_not_drive_the_terminal(server, capsys):
    with MilvusCollection("milvus.db", "qwen3_rag") as opened:
        passage = Passage("evil", QUESTION, {"source": "a\x1b[2J\nb\x07[red].md"})
        opened.upsert([passage], WordEmbedder().embed_documents([QUESTION]).vectors)
    assert main(["ask", QUESTION, "--top-n", "1"]) == 0
    assert "[1] a\ufffd[2J b\ufffd[red].md  P(yes) " in capsys.readouterr().out


@pytest.mark.usefixtures("filled")
def test_an_answer_that_breaks_off_is_kept_and_the_error_is_one_line(server, capsys):
    server.fail("cut_in_answer", times=None)
    assert main(["ask", QUESTION]) == 1
    out, err = capsys.readouterr()
    assert out.strip()
    assert err.splitlines()[-1].startswith("error: qwen-plus")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([" "], ["prompt is empty"]),
        (["a"], ["no collection 'qwen3_rag'", "qwen3-rag ingest"]),
        (["a", "--no-rag", "--compare-rag"], ["--compare-rag", "--no-rag"]),
        (["a", "--auto", "--thinking"], ["--auto", "--thinking"]),
        (["a", "--no-thinking", "--budget", "9"], ["--no-thinking", "--budget"]),
        (["a", "--mode", "fuzzy"], ["'fuzzy'", "hybrid"]),
        (["a", "-k", "0"], ["k must be", "0"]),
        (["a", "--top-n", "-1"], ["top_n", "-1"]),
        (["a", "--score-threshold", "2"], ["score_threshold", "2"]),
        (["a", "--collection", "a b"], ["'a b'"]),
        (["a", "--dialect", "klingon"], ["'klingon'"]),
        (["a", "--key-env", "NO_SUCH_KEY"], ["'NO_SUCH_KEY'"]),
    ],
)
def test_errors_are_one_line_and_status_1(server, capsys, tmp_path, argv, words):
    error = failure(capsys, 1, *argv)
    assert error.startswith("error: ")
    assert all(word in error for word in words), error
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("filled")
def test_another_model_than_the_collections_is_refused(server, capsys, monkeypatch):
    monkeypatch.setattr(steps, "load_embedder", lambda model: WordEmbedder(model_id="other/model"))
    error = failure(capsys, 1, QUESTION)
    assert "'fake/words'" in error
    assert "'other/model'" in error
    assert server.requests == []


def test_without_langchain_the_extra_is_named():
    program = "import sys; sys.modules['langchain_core'] = None; from qwen3_rag.cli import main; sys.exit(main(['ask', 'hi']))"
    environment = {**os.environ, "PYTHONPATH": str(Path(qwen3_rag.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: 'langchain-core' is not installed: pip install 'qwen3-rag[langchain]'\n"


def test_the_help_has_the_commands(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in ("ask", "collections", "mcp"))
    assert main(["ask", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(option in out for option in ("--no-rag", "--compare-rag", "--llm", "--mode", "--auto", "MILVUS_URI"))


@pytest.mark.usefixtures("filled")
def test_deep_search_shows_its_searches(server, capsys):
    plans(server, "What is Milvus Lite?", "Where is a local file?")
    judges(server, "Does bread need yeast?", gaps=["bread"])
    answers(server, SAID)
    # The third round does not judge: nobody would act on it.
    judges(server, "What of rivers?", gaps=["rivers"])
    assert main(["ask", QUESTION, "--deep"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{SHOWN}\n\n[1] qwen3_rag.md › Data")
    told = err.splitlines()
    assert told[:3] == [f"search 1: {QUESTION}", "search 1: What is Milvus Lite?", "search 1: Where is a local file?"]
    assert told[3:5] == ["search 2: Does bread need yeast?", "search 3: What of rivers?"]
    assert "searched: 5 questions in 3 rounds, 3 passages found, 4 calls of the model; ended by max_rounds" in told
    assert stages(server) == ["decompose", "reflect", "reflect", "answer"]


@pytest.mark.usefixtures("filled")
def test_a_deep_search_that_finds_nothing_has_asked_a_model_all_the_same(server, capsys):
    plans(server, "What is Milvus Lite?")
    judges(server, enough=True)
    assert main(["ask", QUESTION, "--deep", "--score-threshold", "1"]) == 0
    done = capsys.readouterr().err.splitlines()[-1]
    assert done.startswith("done: nothing was found, so no model was asked to answer; qwen-plus; ")
    assert " tokens in, " in done
    assert stages(server) == ["decompose", "reflect"]


@pytest.mark.usefixtures("filled")
def test_deep_search_as_json(server, capsys):
    plans(server, "Does bread need yeast?")
    judges(server, enough=True)
    answers(server, SAID)
    result = answered(capsys, QUESTION, "--deep", "--top-n", "1")
    assert (result["answer"], [source["number"] for source in result["sources"]]) == (
        "In one file [1]. So they say [1], and.",
        [1],
    )
    trace = result["trace"]
    assert (trace["limit"], trace["calls"], trace["candidates"]) == (None, 3, 3)
    assert [one["text"] for one in trace["rounds"][0]["sub_questions"]] == [QUESTION, "Does bread need yeast?"]


@pytest.mark.parametrize("pair", [("--deep", "--no-rag"), ("--deep", "--compare-rag"), ("--no-rag", "--compare-rag")])
def test_ways_to_ask_exclude_each_other(pair, capsys):
    assert "exclude each other" in failure(capsys, 1, QUESTION, *pair)
