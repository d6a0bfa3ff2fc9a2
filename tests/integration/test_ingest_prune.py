"""Pruning real collections, a file's and a server's: what is gone is removed, and nothing of anybody else."""

from __future__ import annotations

import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qwen3_rag.ingest import ingest, split_at
from qwen3_rag.milvus import Compare, MilvusCollection
from qwen3_rag.milvus.metadata import find_ids, replace_metadata
from qwen3_rag.types import Passage
from tests.fakes import WordEmbedder
from tests.integration.milvus_support import passages, vectors


def write(folder, **files: str):
    folder.mkdir(exist_ok=True)
    for name, words in files.items():
        text = "\n\n".join(f"# {word}\n\nabout {word}" for word in words.split())
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return folder


def stored(collection) -> set[str]:
    found = collection.find({"roots": {"$exists": True}})
    return {f"{p.metadata['source']}:{p.metadata['headings'][-1]}" for p in found}


@pytest.fixture
def docs(tmp_path):
    return write(tmp_path / "docs", a="one two", b="three")


def run(paths, collection, **options):
    embedder = WordEmbedder()
    report = ingest(paths, embedder, collection, **options)
    return report, embedder


def test_files_that_are_gone_and_passages_that_changed_are_removed(docs, collection):
    run(docs, collection)
    (docs / "b.md").unlink()
    write(docs, a="one changed", c="new")
    report, embedder = run(docs, collection)
    assert (report.added, report.unchanged, report.removed) == (2, 1, 0)
    assert stored(collection) == {"a.md:one", "a.md:two", "a.md:changed", "b.md:three", "c.md:new"}
    report, embedder = run(docs, collection, prune=True)
    assert (report.added, report.removed, report.released, report.not_pruned) == (0, 2, 0, "")
    assert embedder.calls == []
    assert stored(collection) == {"a.md:one", "a.md:changed", "c.md:new"}
    assert run(docs, collection, prune=True)[0].removed == 0


def test_another_splitter_leaves_nothing_of_the_old_one(docs, collection):
    run(docs, collection)
    report, _ = run(docs, collection, splitter=split_at("# "), prune=True)
    assert report.removed == 3
    assert collection.count() == report.added


def test_nothing_of_anybody_else_is_touched(docs, collection, tmp_path):
    """Two folders with the same file, passages of another tool, and an archive."""
    other = write(tmp_path / "other", a="one two", z="zed")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as out:
        out.write(docs / "b.md", "b.md")
    collection.upsert(passages(3), vectors(3, 64))
    assert run(docs, collection)[0].added == 3
    assert run(other, collection)[0].added == 1  # two are there already, and belong to both now
    assert run(tmp_path / "b.zip", collection)[0].added == 0
    for name in ("a", "b"):
        (docs / f"{name}.md").unlink()
    write(docs, c="new")
    report, _ = run(docs, collection, prune=True)
    assert (report.added, report.removed, report.released) == (1, 0, 3)
    assert stored(collection) == {"a.md:one", "a.md:two", "b.md:three", "c.md:new", "z.md:zed"}
    (other / "a.md").unlink()
    assert run(other, collection, prune=True)[0].removed == 2
    assert stored(collection) == {"b.md:three", "c.md:new", "z.md:zed"}
    assert len(collection.get(["p0000", "p0001", "p0002"])) == 3


def test_a_passage_that_gets_another_owner_keeps_all_else(docs, collection, tmp_path):
    run(docs, collection)
    before = {p.id: p for p in collection.find({"source": "a.md"})}
    query = WordEmbedder().embed_documents(["# one\n\nabout one"]).vectors[0]
    hits, old = collection.search_with_vectors(query, 3)
    report, embedder = run(write(tmp_path / "copy", a="one two"), collection)
    assert embedder.calls == []
    assert (report.added, report.unchanged) == (0, 2)
    for p in collection.find({"source": "a.md"}):
        (first,), both = before[p.id].metadata["roots"], p.metadata["roots"]
        assert both[0] == first
        assert [both[1].startswith("copy-"), len(both)] == [True, 2]
        assert {**p.metadata, "roots": [first]} == before[p.id].metadata
        assert (p.text, p.doc_id, p.node) == (before[p.id].text, before[p.id].doc_id, before[p.id].node)
    again, new = collection.search_with_vectors(query, 3)
    assert [h.passage.id for h in again] == [h.passage.id for h in hits]
    assert np.array_equal(new, old)
    assert collection.search_text("about one", 1)[0].passage.text == "# one\n\nabout one"


def test_ingests_at_the_same_time_all_leave_their_labels(docs, tmp_path):
    """Six copies in step; without a turn for each writer, one or two of their labels were left."""
    folders = [write(tmp_path / f"copy{i}", a=" ".join(f"w{j}" for j in range(30))) for i in range(6)]
    with MilvusCollection(tmp_path / "milvus.db") as collection, ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(lambda folder: run(folder, collection, batch_size=5)[0], folders))
        assert {report.complete for report in reports} == {True}
        assert [len(p.metadata["roots"]) for p in collection.find({})] == [6] * 30
        for folder in folders[1:]:
            (folder / "a.md").write_text("# new\n\ntext", encoding="utf-8")
        list(pool.map(lambda folder: run(folder, collection, prune=True), folders[1:]))
        left = collection.find({"source": "a.md"})
        assert sorted(len(p.metadata["roots"]) for p in left) == [1] * 30 + [5]


def test_a_label_follows_a_folder(docs, collection, tmp_path):
    run(docs, collection, label="handbook")
    moved = docs.rename(tmp_path / "elsewhere")
    (moved / "b.md").unlink()
    report, _ = run(moved, collection, label="handbook", prune=True)
    assert (report.added, report.unchanged, report.removed) == (0, 2, 1)


def test_what_is_given_is_pruned_part_by_part(docs, collection):
    run(docs, collection)
    (docs / "b.md").unlink()
    assert run(docs / "a.md", collection, prune=True)[0].removed == 0
    assert run(docs, collection, include="a*", prune=True)[0].removed == 0
    assert run(docs / "*.md", collection, prune=True)[0].removed == 0
    assert run(docs, collection, prune=True)[0].removed == 1
    assert collection.count() == 2


def test_nothing_is_removed_if_something_failed(docs, collection):
    run(docs, collection)
    (docs / "b.md").write_bytes(b"\xff")
    report, _ = run(docs, collection, prune=True)
    assert report.removed == 0
    assert "1 files could not be read" in report.not_pruned
    assert "b.md:three" in stored(collection)


def test_a_passage_without_room_for_a_label_takes_no_other_with_it(docs, collection, tmp_path):
    run(docs, collection)
    (full,) = collection.find({"headings": {"$contains": "one"}})
    labels = [f"{'x' * 80}-{i:012}" for i in range(330)]
    replace_metadata(collection, {full.id: {**full.metadata, "roots": labels}})
    report, _ = run(write(tmp_path / ("y" * 200), a="one two new"), collection, label="z" * 2000)
    assert (report.passages, report.added, report.unchanged) == (3, 1, 1)
    assert [f.where for f in report.failed_rows] == ["a.md:1-3"]
    assert "metadata takes" in report.failed_rows[0].reason
    (other,) = collection.find({"headings": {"$contains": "two"}})
    assert len(other.metadata["roots"]) == 2


def test_the_sparse_vectors_of_a_model_survive_other_metadata(open_collection):
    collection = open_collection(sparse="model")
    weights = [{1: 0.5, 7: 1.25}, {2: 1.0}]
    collection.upsert(passages(2), vectors(2), sparse=weights)
    assert replace_metadata(collection, {"p0000": {"roots": ["y"]}}) == 1
    rows = {row["id"]: row for row in collection._session.query_rows(["p0000", "p0001"], ["id", "sparse_embedding"])}
    assert [rows[id_]["sparse_embedding"] for id_ in ("p0000", "p0001")] == weights


def test_metadata_of_many_passages(collection):
    count = 1200
    collection.upsert(
        [Passage(f"p{i:04}", f"text {i}", {"n": i, "roots": ["x"]}) for i in range(count)], vectors(count)
    )
    ids = [id_ for page in find_ids(collection, Compare("roots", "contains", "x")) for id_ in page]
    assert ids == [f"p{i:04}" for i in range(count)]
    assert replace_metadata(collection, {id_: {"roots": ["y"]} for id_ in [*ids[:700], "nobody"]}) == 700
    assert sum(map(len, find_ids(collection, Compare("roots", "contains", "x")))) == 500
    assert collection.count() == count
    assert collection.get(["p0000"])[0].metadata == {"roots": ["y"]}
    assert replace_metadata(collection, {}) == 0
