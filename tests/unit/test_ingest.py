"""Files into a real Milvus Lite collection: once, again, interrupted, broken, changed."""

from __future__ import annotations

import os
import re
import sys

import pytest

from qwen3_rag.cli import view
from qwen3_rag.errors import CollectionError, ConfigurationError, InputError
from qwen3_rag.ingest import IngestProgress, ingest
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.types import EmbeddingResult, Truncation
from tests.fakes import WordEmbedder


@pytest.fixture
def collection(tmp_path):
    with MilvusCollection(tmp_path / "milvus.db", "docs") as collection:
        yield collection


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.md").write_text("# B\n\nbeta\n\n# C\n\ngamma\n", encoding="utf-8")
    (folder / "a.MARKDOWN").write_text("# 甲\n\nalpha 中文 🙂\n", encoding="utf-8")
    (folder / "sub" / "d.txt").write_text("# no heading here\n\ndelta", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.md").write_text("# hidden", encoding="utf-8")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.md").write_text("# hidden", encoding="utf-8")
    return folder


def stored(collection) -> dict[str, str]:
    found = collection.find({"start_line": {"$gte": 1}})
    return {p.id: f"{p.metadata['source']}|{p.text}" for p in found}


def test_a_folder_is_read_in_order_and_every_passage_is_stored(folder, collection):
    embedder = WordEmbedder()
    report = ingest(folder, embedder, collection)
    assert (report.files, report.passages, report.added, report.unchanged) == (3, 4, 4, 0)
    assert report.failed == report.empty == report.truncated == ()
    assert report.tokens > 0
    assert report.seconds > 0
    (call,) = embedder.calls
    texts = ["# 甲\n\nalpha 中文 🙂", "# B\n\nbeta", "# C\n\ngamma", "# no heading here\n\ndelta"]
    assert call == ("document", tuple(texts), None)
    sources = ["a.MARKDOWN", "b.md", "b.md", "sub/d.txt"]
    assert set(stored(collection).values()) == {f"{s}|{t}" for s, t in zip(sources, texts, strict=True)}
    (hit, *_) = collection.search(embedder.embed_documents([texts[2]]).vectors[0], 1)
    (root,) = hit.passage.metadata["roots"]
    assert re.fullmatch("docs-[0-9a-f]{12}", root)
    about = {"source": "b.md", "headings": ["C"], "start_line": 5, "end_line": 7, "roots": [root]}
    assert hit.passage.metadata == about
    assert hit.passage.doc_id == "b.md"


def test_the_same_folder_again_changes_nothing_and_embeds_nothing(folder, collection):
    ingest(folder, WordEmbedder(), collection)
    before = stored(collection)
    embedder = WordEmbedder()
    report = ingest(folder, embedder, collection)
    assert (report.passages, report.added, report.unchanged, report.tokens) == (4, 0, 4, 0)
    assert embedder.calls == []
    assert stored(collection) == before
    assert collection.count() == 4


def test_the_same_folder_at_another_place_or_in_another_process_changes_nothing(folder, collection, tmp_path):
    ingest(folder, WordEmbedder(), collection)
    moved = folder.rename(tmp_path / "elsewhere")
    collection.close()
    assert ingest([str(moved)], WordEmbedder(), collection).added == 0


def test_only_what_is_new_is_embedded(folder, collection):
    ingest(folder, WordEmbedder(), collection)
    (folder / "b.md").write_text("# New\n\nnew\n\n# B\n\nbeta\n\n# C\n\nchanged\n", encoding="utf-8")
    embedder = WordEmbedder()
    report = ingest(folder, embedder, collection)
    assert (report.passages, report.added, report.unchanged) == (5, 2, 3)
    assert embedder.calls == [("document", ("# New\n\nnew", "# C\n\nchanged"), None)]


def test_memory_is_bounded_by_batches_and_the_collection_is_flushed_once(tmp_path, collection, monkeypatch):
    path = tmp_path / "long.md"
    path.write_text("".join(f"# Section {i}\n\ntext {i}\n\n" for i in range(25)), encoding="utf-8")
    flushes = []
    flush = MilvusCollection.flush
    monkeypatch.setattr(MilvusCollection, "flush", lambda self: (flushes.append(1), flush(self))[1])
    embedder = WordEmbedder()
    report = ingest(path, embedder, collection, batch_size=10)
    assert report.added == 25
    assert [len(texts) for _, texts, _ in embedder.calls] == [10, 10, 5]
    assert len(flushes) == 1
    assert ingest(path, embedder, collection, batch_size=10).added == 0
    assert len(flushes) == 1


def test_progress_grows_to_one(folder, collection):
    (folder / "empty.md").write_text("\n", encoding="utf-8")
    states: list[IngestProgress] = []
    ingest(folder, WordEmbedder(), collection, batch_size=1, progress=states.append)
    assert [s.added for s in states] == [1, 2, 3, 4]
    assert [s.fraction for s in states] == sorted(s.fraction for s in states)
    assert 0 < states[0].fraction < 1
    assert states[-1].fraction == pytest.approx(1)
    assert states[-1].tokens > 0


def test_an_interrupted_ingest_keeps_its_batches_and_goes_on(folder, collection):
    class Failing(WordEmbedder):
        def embed_documents(self, texts, *, dimensions=None):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().embed_documents(texts, dimensions=dimensions)

    with pytest.raises(KeyboardInterrupt):
        ingest(folder, Failing(), collection, batch_size=1)
    assert collection.count() == 2
    report = ingest(folder, WordEmbedder(), collection, batch_size=1)
    assert (report.added, report.unchanged) == (2, 2)


def test_repeated_sections_are_stored_each(tmp_path, collection):
    (tmp_path / "a.md").write_text("# A\n\nsame\n\n# A\n\nsame\n", encoding="utf-8")
    assert ingest(tmp_path / "a.md", WordEmbedder(), collection).added == 2
    assert collection.count() == 2


def test_a_file_given_twice_is_read_once(folder, collection):
    assert ingest([folder / "b.md", folder / "sub" / ".." / "b.md"], WordEmbedder(), collection).files == 1


def test_equal_files_of_two_folders_are_one_source(tmp_path, collection):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").write_text("# A\n\ntext\n", encoding="utf-8")
    report = ingest([tmp_path / "one", tmp_path / "two"], WordEmbedder(), collection)
    assert (report.files, report.passages, report.added, report.unchanged) == (2, 2, 1, 1)


def test_bad_files_are_named_and_do_not_stop_the_others(folder, collection):
    (folder / "latin.md").write_bytes("# Café\n".encode("latin-1"))
    (folder / "empty.md").write_text(" \n", encoding="utf-8")
    (folder / "matter.md").write_text("---\ntitle: x\n---\n", encoding="utf-8")
    report = ingest(folder, WordEmbedder(), collection)
    assert (report.files, report.added) == (5, 4)
    assert report.empty == (str(folder / "empty.md"), str(folder / "matter.md"))
    (failure,) = report.failed
    assert failure.path == str(folder / "latin.md")
    assert failure.reason == "not UTF-8: byte 0xe9 at offset 5"


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
def test_what_cannot_be_opened_is_named(folder, collection, monkeypatch):
    # Root may read everything, so the system's refusal is imitated for one folder and one file.
    scandir, read_bytes = os.scandir, type(folder).read_bytes

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", lambda path: refuse(path) if str(path).endswith("sub") else scandir(path))
    monkeypatch.setattr(type(folder), "read_bytes", lambda p: refuse(p) if p.name == "b.md" else read_bytes(p))
    report = ingest(folder, WordEmbedder(), collection)
    assert report.added == 1
    assert [(f.path, f.reason) for f in report.failed] == [
        (str(folder / "sub"), "Permission denied"),
        (str(folder / "b.md"), "Permission denied"),
    ]


def test_nothing_to_read_is_an_error_before_the_database_is_opened(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    collection = MilvusCollection(tmp_path / "milvus.db")
    for path, message in [
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "empty", "no .markdown, .md, .txt file"),
        (tmp_path / "a.pdf", "only .markdown, .md, .txt"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            ingest(path, WordEmbedder(), collection)
        assert path.name in str(caught.value)
    with pytest.raises(ConfigurationError, match="no path"):
        ingest([], WordEmbedder(), collection)
    assert not (tmp_path / "milvus.db").exists()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": True}, {"max_chars": 0}])
def test_useless_options_are_refused(folder, collection, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        ingest(folder, WordEmbedder(), collection, **options)
    assert not collection.exists()


def test_another_model_is_refused_before_it_embeds(folder, collection):
    ingest(folder, WordEmbedder(64), collection)
    other = WordEmbedder(32, "fake/other")
    with pytest.raises(CollectionError, match=r"written with 'fake/words' \(64 dimensions\), not with 'fake/other'"):
        ingest(folder, other, collection)
    assert other.calls == []


def test_truncation_is_reported_by_passage(folder, collection):
    class Short(WordEmbedder):
        def embed_documents(self, texts, *, dimensions=None):
            result = super().embed_documents(texts, dimensions=dimensions)
            cuts = tuple(Truncation(i, "document", 9, 4) for i, text in enumerate(texts) if "gamma" in text)
            return EmbeddingResult(result.vectors, result.tokens, cuts)

    report = ingest(folder, Short(), collection, batch_size=2)
    ((passage_id, cut),) = report.truncated
    assert collection.get([passage_id])[0].text == "# C\n\ngamma"
    assert cut.lost == 5


def test_long_sections_obey_the_limit(tmp_path, collection):
    (tmp_path / "a.md").write_text("# A\n\n" + "word " * 500, encoding="utf-8")
    ingest(tmp_path / "a.md", WordEmbedder(), collection, max_chars=300)
    assert all(len(p.text) <= 300 for p in collection.find({"source": "a.md"}))
    assert collection.count() > 5


@pytest.mark.filterwarnings("ignore::qwen3_rag.errors.TruncationWarning")
def test_what_bm25_can_not_see_is_reported_and_shown(tmp_path, collection, capsys):
    """Pairs of characters take more room than the characters do."""
    (tmp_path / "a.md").write_text("# 长文\n\n" + "数据" * 6000, encoding="utf-8")
    report = ingest(tmp_path / "a.md", WordEmbedder(), collection, max_chars=20_000)
    ((passage_id, cut),) = report.truncated
    assert len(collection.get([passage_id])[0].text) > 12_000
    assert (cut.part, cut.lost > 0) == ("full text", True)
    view.show_report(report, "here")
    assert f"1 passages were longer than BM25 has room for and lost {cut.lost} words" in capsys.readouterr().err
