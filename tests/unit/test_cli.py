"""The command line in this process: what it prints where, its exit status, and that errors are one line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

import qwen3_rag
from qwen3_rag.cli import main, steps, view
from qwen3_rag.errors import ModelError, TruncationWarning
from qwen3_rag.types import Passage
from tests.fakes import OverlapReranker, WordEmbedder


class Shop:
    """Stands in for the back ends and remembers what was asked for."""

    def __init__(self) -> None:
        self.named: list[tuple[str, str]] = []
        self.embedder = WordEmbedder()
        self.reranker = OverlapReranker()

    def load_embedder(self, model, **options):
        self.named.append(("embedder", model))
        return self.embedder

    def load_reranker(self, model, **options):
        self.named.append(("reranker", model))
        return self.reranker


@pytest.fixture(autouse=True)
def shop(monkeypatch, tmp_path):
    shop = Shop()
    monkeypatch.setattr(steps, "load_embedder", shop.load_embedder)
    monkeypatch.setattr(steps, "load_reranker", shop.load_reranker)
    for name in ("MILVUS_URI", "MILVUS_TOKEN", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    # The command sets these for its own process; here they are put back.
    for name in ("HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return shop


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    text = "# Fruit\n\n[bold]An apple[/bold] is round.\n\n# Water\n\nA river flows.\n\n# Light\n\nThe sun shines.\n"
    (folder / "a.md").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def filled(docs, capsys):
    assert main(["ingest", str(docs)]) == 0
    capsys.readouterr()


def failure(capsys, status: int, *argv: str) -> str:
    """Runs a command that must fail and returns its single line on standard error."""
    assert main(argv) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err


def test_ingest_twice(docs, capsys, shop, tmp_path):
    assert main(["ingest", str(docs), "--collection", "notes", "--uri", "x.db", "--model", "some/model"]) == 0
    out, err = capsys.readouterr()
    assert "1 files, 3 passages: 3 added, 0 unchanged" in out
    assert out.rstrip().endswith("x.db [notes]")
    assert err == ""
    assert shop.named == [("embedder", "some/model")]
    assert (tmp_path / "x.db").exists()
    assert main(["ingest", str(docs), "--collection", "notes", "--uri", "x.db"]) == 0
    assert "0 added, 3 unchanged" in capsys.readouterr().out


def test_search_shows_both_orders_with_both_scores(filled, capsys):
    assert main(["search", "which river flows", "-k", "3", "--top-n", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [line.split() for line in out.splitlines() if line.strip()[:1] in {"1", "2", "3"}]
    assert {row[1] for row in rows[:3]} == {"Fruit", "Water", "Light"}
    assert all(-1 <= float(row[2]) <= 1 for row in rows[:3])
    assert rows[0][3] == "Water"
    assert float(rows[0][4]) > float(rows[1][4])
    assert rows[0][5] == str(next(i for i, row in enumerate(rows[:3], 1) if row[1] == "Water"))
    assert len(rows[2]) == 3  # only two are kept after reranking
    assert "a.md:5-7 › Water" in out
    assert "A river flows." in out


def test_output_is_plain_text_where_it_is_no_terminal(filled, capsys):
    assert main(["search", "an apple", "--top-n", "1"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    # What looks like markup in a passage is shown, not obeyed.
    assert "[bold]An apple[/bold] is round." in out


def test_json_is_all_there_is_on_standard_output(filled, capsys):
    assert main(["search", "the sun shines", "-k", "2", "--top-n", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out)
    assert result["question"] == "the sun shines"
    assert [hit["rank"] for hit in result["dense"]] == [1, 2]
    (best,) = result["reranked"]
    assert best["text"] == "# Light\n\nThe sun shines."
    (root,) = best["metadata"].pop("roots")
    assert root.startswith("docs-")
    assert best["metadata"] == {"source": "a.md", "headings": ["Light"], "start_line": 9, "end_line": 11}
    before = result["dense"][best["retrieval_rank"] - 1]
    assert (best["id"], best["retrieval_score"]) == (before["id"], before["retrieval_score"])
    assert 0 < best["relevance_score"] < 1


def test_json_survives_a_terminal_without_unicode(docs, capsys, monkeypatch):
    (docs / "a.md").write_text("# 标题\n\n河流 🙂\n", encoding="utf-8")
    assert main(["ingest", str(docs)]) == 0
    capsys.readouterr()
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["search", "河流", "--json"]) == 0
    narrow.flush()
    out = narrow.buffer.getvalue().decode("ascii")
    assert json.loads(out)["reranked"][0]["text"] == "# 标题\n\n河流 🙂"


def test_text_that_a_terminal_cannot_show_does_no_harm(docs, capsys, monkeypatch):
    (docs / "a.md").write_text("# 标题\n\n河流 🙂\n", encoding="utf-8")
    assert main(["ingest", str(docs)]) == 0
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["search", "河流"]) == 0
    narrow.flush()
    assert b"a.md:1-3" in narrow.buffer.getvalue()


def test_the_demo_asks_three_questions_and_leaves_nothing_behind(capsys, shop, tmp_path, monkeypatch):
    monkeypatch.setenv("MILVUS_TOKEN", "not for a temporary file")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "tiny models run offline" in out
    assert out.count("\nQ: ") == out.count("dense order") == 3
    assert shop.named == [("embedder", "tiny"), ("reranker", "tiny")]
    assert list(tmp_path.iterdir()) == []
    assert main(["demo", "--model", "a/b", "--uri", "kept.db"]) == 1  # a local file takes no token
    monkeypatch.delenv("MILVUS_TOKEN")
    assert main(["demo", "--model", "a/b", "--uri", "kept.db"]) == 0
    assert "tiny" not in capsys.readouterr().out
    assert shop.named[-2:] == [("embedder", "a/b"), ("reranker", "Qwen/Qwen3-Reranker-0.6B")]
    assert (tmp_path / "kept.db").exists()


def test_the_instruction_reaches_both_models(filled, shop):
    assert main(["search", "apple", "--instruction", "invert"]) == 0
    assert shop.embedder.calls[-1][2] == "invert"
    assert shop.reranker.calls[-1][2] == "invert"


def test_the_threshold_drops_passages(filled, capsys):
    assert main(["search", "nothing of the kind", "--score-threshold", "0.99"]) == 0
    assert "No passage reaches P(yes) >= 0.99." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "reranker"),
    [
        ([], "Qwen/Qwen3-Reranker-0.6B"),
        (["--model", "tiny"], "tiny"),
        (["--model", "tiny", "--reranker", "x/y"], "x/y"),
        (["--model", "a/b"], "Qwen/Qwen3-Reranker-0.6B"),
    ],
)
def test_which_reranker_goes_with_which_model(filled, shop, argv, reranker):
    assert main(["search", "apple", *argv]) == 0
    assert shop.named[-1] == ("reranker", reranker)


def test_uri_and_token_come_from_the_environment(docs, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MILVUS_URI", str(tmp_path / "env.db"))
    assert main(["ingest", str(docs)]) == 0
    assert (tmp_path / "env.db").exists()
    capsys.readouterr()
    monkeypatch.setenv("MILVUS_TOKEN", "user:very-secret")
    # A local file takes no token, so this shows that the token arrived, and that it is not told.
    error = failure(capsys, 1, "search", "apple")
    assert "token" in error
    assert "secret" not in error


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["search", "apple"], ["no collection 'qwen3_rag'", "qwen3-rag ingest"]),
        (["search", "apple", "--uri", "missing/x.db"], ["no collection", "qwen3-rag ingest"]),
        (["search", " "], ["question is empty"]),
        (["search", "apple", "-k", "0"], ["k must be", "0"]),
        (["search", "apple", "--top-n", "-1"], ["top_n", "-1"]),
        (["search", "apple", "--score-threshold", "2"], ["score_threshold", "2"]),
        (["search", "apple", "--collection", "a b"], ["'a b'"]),
        (["ingest", "missing"], ["'missing'", "does not exist"]),
        (["ingest", ""], ["''", "'.'"]),
        (["ingest", ".", " "], ["' '", "'.'"]),
        (["ingest", ".", "--uri", "missing/x.db"], ["missing"]),
    ],
)
def test_errors_are_one_line_and_status_1(capsys, tmp_path, argv, words):
    (tmp_path / "a.md").write_text("# A\n\ntext", encoding="utf-8")
    error = failure(capsys, 1, *argv)
    assert error.startswith("error: ")
    assert all(word in error for word in words), error


def test_a_search_that_finds_no_database_makes_none(capsys, tmp_path):
    failure(capsys, 1, "search", "apple")
    assert not (tmp_path / "milvus.db").exists()


@pytest.mark.parametrize(
    "argv", [["search"], ["ingest"], ["nope"], ["--nope"], ["search", "a", "b"], ["search", "a", "-k", "x"]]
)
def test_wrong_usage_is_one_line_and_status_2(capsys, argv):
    assert failure(capsys, 2, *argv).startswith("usage error: ")


def test_a_message_of_several_lines_is_told_in_one(filled, capsys, shop, monkeypatch):
    def fail(*_args, **_kwargs):
        raise ModelError("first\n  second\nthird")

    monkeypatch.setattr(shop.embedder, "embed_queries", fail)
    assert failure(capsys, 1, "search", "apple") == "error: first second third\n"


def test_a_bug_is_not_dressed_up_as_an_error(filled, shop, monkeypatch):
    def fail(*_args, **_kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(shop.embedder, "embed_queries", fail)
    with pytest.raises(ZeroDivisionError):
        main(["search", "apple"])


def test_an_interruption_is_one_line_and_status_130(filled, capsys, shop, monkeypatch):
    def fail(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(shop.embedder, "embed_queries", fail)
    assert "interrupted" in failure(capsys, 130, "search", "apple")


def test_a_warning_is_one_line(filled, capsys, shop, monkeypatch):
    embed = shop.embedder.embed_queries

    def warn(*args, **kwargs):
        warnings.warn("the query lost 3 tokens", TruncationWarning, stacklevel=2)
        return embed(*args, **kwargs)

    monkeypatch.setattr(shop.embedder, "embed_queries", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["search", "apple", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "warning: the query lost 3 tokens\n"
    json.loads(out)


def test_unreadable_and_empty_files_are_named_and_the_rest_is_kept(docs, capsys):
    (docs / "bad.md").write_bytes(b"# \xff")
    (docs / "empty.md").write_text("", encoding="utf-8")
    assert main(["ingest", str(docs)]) == 1
    out, err = capsys.readouterr()
    assert "3 added" in out
    assert [line.split(":")[0] for line in err.splitlines()] == ["warning", "error"]
    assert "empty.md" in err
    assert "bad.md" in err
    (docs / "bad.md").unlink()
    assert main(["ingest", str(docs)]) == 0


def test_an_empty_collection_says_so(filled, capsys):
    with steps.Place("./milvus.db", "qwen3_rag").open() as collection:
        collection.delete(ids=[p.id for p in collection.find({"source": "a.md"})])
    assert main(["search", "apple"]) == 0
    assert "the collection is empty" in capsys.readouterr().out


@pytest.mark.parametrize("headings", ["Fruit", 3, {"a": "b"}, None])
def test_headings_of_others_need_not_be_a_list(filled, capsys, headings):
    with steps.Place("./milvus.db", "qwen3_rag").open() as collection:
        passage = Passage("theirs", "An apple of theirs.", {"source": "theirs.md", "headings": headings})
        collection.upsert([passage], WordEmbedder().embed_documents([passage.text]).vectors)
    assert main(["search", "apple of theirs", "--top-n", "1"]) == 0
    out = capsys.readouterr().out
    assert "An apple of theirs." in out.splitlines()[2]
    assert "\n1. theirs.md  P(yes) " in out


def test_what_a_passage_says_can_not_drive_the_terminal(filled, capsys):
    with steps.Place("./milvus.db", "qwen3_rag").open() as collection:
        about = {"source": "a\x1b[2J\nb.md", "headings": ["\x07bell"]}
        collection.upsert(
            [Passage("evil", "apple\r\n\x1b[31m evil", about)], WordEmbedder().embed_documents(["apple evil"]).vectors
        )
    assert main(["search", "apple evil"]) == 0
    assert main(["search", "apple", "--collection", "\x1b[2J"]) == 1
    out, err = capsys.readouterr()
    assert "\n1. a\ufffd[2J b.md › \ufffdbell  P(yes) " in out
    assert "apple \ufffd[31m evil" in out
    assert not {"\x1b", "\x07"} & {*out, *err}


def test_long_passages_are_shown_in_part(docs, capsys):
    (docs / "a.md").write_text("# A\n\n" + "river " * 200, encoding="utf-8")
    assert main(["ingest", str(docs)]) == 0
    assert main(["search", "river"]) == 0
    out = capsys.readouterr().out
    assert " …" in out
    assert out.count("river") < 100


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("qwen3-rag ")
    for argv in ([], ["--help"]):
        assert main(argv) == 0
        out = capsys.readouterr().out
        assert all(command in out for command in ("demo", "ingest", "search"))
    assert main(["search", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(option in out for option in ("--top-n", "--json", "--reranker", "MILVUS_URI", "MILVUS_TOKEN"))


def test_the_bar_is_for_terminals_only(capsys, monkeypatch):
    def show() -> tuple[str, str]:
        with view.progress_bar("embedding") as move:
            move(view.IngestProgress(0.5, 7, 1, 1234))
        return tuple(capsys.readouterr())

    assert show() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    out, err = show()
    assert out == ""
    assert all(part in err for part in ("embedding", "50%", "7 passages", "1234 tokens"))


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_dependency_is_one_line_that_names_the_extra(missing):
    program = f"import sys; sys.modules[{missing!r}] = None; from qwen3_rag.cli import main; sys.exit(main(['--help']))"
    environment = {**os.environ, "PYTHONPATH": str(Path(qwen3_rag.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"qwen3-rag: {missing!r} is not installed: pip install 'qwen3-rag[cli]'\n"
