"""`qwen3-rag ingest`: what it takes, what it tells, its exit status."""

from __future__ import annotations

import sys
import zipfile

import pytest

from qwen3_rag.cli import app, main, steps, view
from qwen3_rag.errors import RemoteModerationError, StoreConnectionError
from qwen3_rag.ingest import FileFailure, IngestReport
from tests.fakes import WordEmbedder
from tests.unit.ingest.stores import Refusing


@pytest.fixture(autouse=True)
def embedder(monkeypatch, tmp_path):
    embedder = WordEmbedder()
    monkeypatch.setattr(steps, "load_embedder", lambda model, **options: embedder)
    for name in ("MILVUS_URI", "MILVUS_TOKEN", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    return embedder


@pytest.fixture
def docs(tmp_path):
    for name in ("a.md", "sub/b.md"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {path.stem}\n\ntext of {name}\n", encoding="utf-8")
    return tmp_path / "docs"


def ingest(capsys, *argv: str) -> tuple[int, str, str]:
    status = main(["ingest", *argv])
    return (status, *capsys.readouterr())


def test_patterns_archives_and_a_choice_of_paths(docs, capsys):
    with zipfile.ZipFile("docs.zip", "w") as out:
        out.write("docs/a.md", "en/a.md")
        out.write("docs/a.md", "zh/a.md")
    assert "1 files, 1 passages: 1 added" in ingest(capsys, "docs/*.md")[1]
    assert "1 files, 1 passages: 1 added" in ingest(capsys, "docs", "--include", "sub/*")[1]
    assert "1 files, 1 passages: 1 added" in ingest(capsys, "docs.zip", "--include", "en/**")[1]
    status, out, err = ingest(capsys, "docs/*.rst")
    assert (status, out) == (1, "")
    assert err == "error: no .markdown, .md, .txt file matches the pattern 'docs/*.rst'\n"


def test_pruning_tells_what_it_removed(docs, capsys):
    assert "2 added" in ingest(capsys, "docs")[1]
    (docs / "a.md").unlink()
    assert "removed" not in ingest(capsys, "docs")[1]
    status, out, err = ingest(capsys, "docs", "--prune")
    assert (status, err) == (0, "")
    assert "1 files, 1 passages: 0 added, 1 unchanged, 1 removed, 0 tokens" in out


def test_a_label_stands_for_the_place(docs, capsys, tmp_path):
    ingest(capsys, "docs", "--label", "mine")
    docs.rename(tmp_path / "moved")
    (tmp_path / "moved" / "a.md").unlink()
    assert "1 removed" in ingest(capsys, "moved", "--label", "mine", "--prune")[1]


def test_pruning_that_is_left_out_says_why(docs, capsys):
    ingest(capsys, "docs")
    (docs / "a.md").write_bytes(b"\xff")
    status, out, err = ingest(capsys, "docs", "--prune")
    assert status == 1
    assert "removed" not in out
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "warning"]
    assert "nothing was removed: 1 files could not be read" in err


def test_passages_that_fail_are_named_and_the_status_is_1(docs, capsys, monkeypatch):
    refusing = Refusing(lambda texts: RemoteModerationError("bad words") if "a.md" in str(texts) else None)
    monkeypatch.setattr(steps, "load_embedder", lambda model, **options: refusing)
    status, out, err = ingest(capsys, "docs")
    assert status == 1
    assert "1 added, 0 unchanged" in out
    assert err.startswith("error: could not store 'a.md:1-3' (passage ")
    assert "bad words" in err


def test_what_stops_everything_says_how_far_it_came(docs, capsys, monkeypatch):
    refusing = Refusing(lambda texts: StoreConnectionError("gone"))
    monkeypatch.setattr(steps, "load_embedder", lambda model, **options: refusing)
    status, out, err = ingest(capsys, "docs")
    assert (status, out) == (1, "")
    note, error = err.splitlines()
    assert note.startswith("note: The ingest stopped after 0 passages: 0 were embedded, stored and kept.")
    assert error == "error: gone"


def test_what_is_passed_over_and_what_stays_is_told(capsys):
    report = IngestReport(
        1, 2, 0, 2, 0, (), (), (), 0.1, skipped=(FileFailure("a.zip!/b.zip", "an archive"),), released=3
    )
    view.show_report(report, "here")
    err = capsys.readouterr().err
    assert "warning: passed over 'a.zip!/b.zip': an archive" in err
    assert "3 passages that are gone here stay" in err


def test_the_credentials_of_an_address_are_not_shown(docs, capsys, monkeypatch):
    monkeypatch.setattr(app, "ingest", lambda *args, **options: IngestReport(1, 1, 0, 1, 0, (), (), (), 0.1))
    status, out, err = ingest(capsys, "docs", "--uri", "http://root:very-secret@127.0.0.1:19530")
    assert (status, err) == (0, "")
    assert out.endswith("-> http://127.0.0.1:19530 [qwen3_rag]\n")


def test_the_bar_shows_rate_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    with view.progress_bar("embedding") as move:
        for tenths in (1, 5):
            move(view.IngestProgress(tenths / 10, 100 * tenths, 10, 1234))
    err = capsys.readouterr().err
    assert "500 passages, 1234 tokens" in err
    assert "passages/s" in err
    assert "left" in err
