"""`qwen3-rag collections`: what a database has, ours, another tool's, and one that nobody can read."""

from __future__ import annotations

import json

import pytest

from qwen3_rag.cli import main
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.types import Passage
from tests.fakes import WordEmbedder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("MILVUS_URI", "MILVUS_TOKEN", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    # The command sets these for its own process; here they are put back.
    for name in ("HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def database():
    """A collection of ours, one that says no model, and one with fields of its own."""
    embedder = WordEmbedder(8, "Qwen/Qwen3-Embedding-0.6B@abc")
    passages, vectors = [Passage("1", "河流"), Passage("2", "sun")], embedder.embed_documents(["河流", "sun"]).vectors
    with MilvusCollection(collection="notes") as notes, MilvusCollection(collection="bare", metric="IP") as bare:
        notes.upsert(passages, vectors, embedder=embedder)
        bare.upsert(passages[:1], vectors[:1])
        client = notes._session.connection().client
        client.create_collection("strange", dimension=4)


@pytest.mark.usefixtures("database")
def test_the_table_says_who_wrote_what(capsys):
    assert main(["collections"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert rows["notes"][1:7] == ["2", "Qwen/Qwen3-Embedding-0.6B@abc", "8", "COSINE", "HNSW", "bm25"]
    assert rows["notes"][7:] == ["qwen3-rag", rows["notes"][-1]]
    assert rows["bare"][1:] == ["1", "not", "said", "8", "IP", "HNSW", "bm25", "another", "tool"]
    assert "strange can't be searched by qwen3-rag: collection 'strange' does not fit" in out
    assert all(len(line) <= 110 for line in out.splitlines() if not line.startswith("strange can't"))


@pytest.mark.usefixtures("database")
def test_json_has_all_of_the_contract(capsys):
    assert main(["collections", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = {info["name"]: info for info in json.loads(out)["collections"]}
    assert list(found) == ["bare", "notes", "strange"]
    contract = found["notes"]["contract"]
    assert (contract["model"], contract["revision"]) == ("Qwen/Qwen3-Embedding-0.6B", "abc")
    assert (contract["dimensions"], contract["normalized"]) == (8, True)
    assert found["bare"]["contract"] is None
    assert "does not fit" in found["strange"]["problem"]


def test_an_empty_database_has_none(capsys):
    with MilvusCollection() as collection:
        assert not collection.exists()
    assert main(["collections"]) == 0
    assert capsys.readouterr().out == "There are no collections.\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["there is no database", "milvus.db"]),
        (["--uri", "x"], ["'x'", ".db"]),
        (["--uri", "http://127.0.0.1:1", "--token", "root:very-secret"], ["127.0.0.1:1"]),
    ],
)
def test_errors_are_one_line_and_nothing_is_created(capsys, folder, argv, words):
    assert main(["collections", *argv]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    assert all(word in err for word in words), err
    assert "secret" not in err
    assert list(folder.iterdir()) == []
