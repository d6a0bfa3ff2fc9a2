"""The pipeline alone: overlap, bounds, failures of rows and of everything, interruption."""

from __future__ import annotations

import threading
import time
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import (
    RemoteAuthenticationError,
    RemoteBatchError,
    RemoteModerationError,
    RemoteRateLimitError,
    StoreConnectionError,
)
from qwen3_rag.ingest import ingest, split_at
from qwen3_rag.ingest.pipeline import AHEAD
from qwen3_rag.remote.api import Embedding
from qwen3_rag.types import EmbeddingResult
from tests.fakes import SparseWordEmbedder, WordEmbedder
from tests.unit.ingest.stores import MemoryCollection, NotANumber, Refusing, SlowEmbedder


def sections(n: int, start: int = 0) -> str:
    return "".join(f"# S{i}\n\nword{i}\n\n" for i in range(start, start + n))


@pytest.fixture
def docs(tmp_path):
    """Twelve sections in three files."""
    for i in range(3):
        (tmp_path / f"{i}.md").write_text(sections(4, 4 * i), encoding="utf-8")
    return tmp_path


def one_after_the_other(texts, embedder, collection, batch_size: int) -> float:
    """What there was before the pipeline: look up, embed, write, again."""
    from qwen3_rag.chunking import split_markdown

    started = time.perf_counter()
    passages = split_markdown(texts, "a.md")
    for at in range(0, len(passages), batch_size):
        batch = passages[at : at + batch_size]
        collection.get([p.id for p in batch])
        collection.upsert(batch, embedder.embed_documents([p.text for p in batch]).vectors)
    return time.perf_counter() - started


def test_embedding_and_writing_overlap(tmp_path):
    """Ten batches of 2 x 50 ms: 1.0 s one after the other, 0.55 s at best side by side."""
    text = sections(40)
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    sequential = one_after_the_other(text, SlowEmbedder(0.05), MemoryCollection(seconds=0.05), 4)
    collection = MemoryCollection(seconds=0.05)
    report = ingest(tmp_path / "a.md", SlowEmbedder(0.05), collection, batch_size=4)
    assert len(collection.rows) == report.added == 40
    assert sequential / report.seconds >= 1.3
    assert collection.threads == {"qwen3-rag-ingest-read_0", "qwen3-rag-ingest-write_0"}


def test_embedding_never_waits_for_a_write_that_is_shorter(tmp_path):
    (tmp_path / "a.md").write_text(sections(40), encoding="utf-8")
    gaps: list[float] = []

    class Watched(SlowEmbedder):
        left = None

        def embed_documents(self, texts, *, dimensions=None):
            if self.left is not None:
                gaps.append(time.perf_counter() - self.left)
            try:
                return super().embed_documents(texts, dimensions=dimensions)
            finally:
                self.left = time.perf_counter()

    ingest(tmp_path / "a.md", Watched(0.05), MemoryCollection(seconds=0.04), batch_size=4)
    assert len(gaps) == 9
    assert sorted(gaps)[len(gaps) // 2] < 0.02  # every write takes 0.04


def test_a_slow_store_holds_up_the_model_and_the_reader(tmp_path):
    (tmp_path / "a.md").write_text(sections(100), encoding="utf-8")
    embedded: list[int] = []
    most = 0

    class Counting(WordEmbedder):
        def embed_documents(self, texts, *, dimensions=None):
            embedded.append(len(texts))
            return super().embed_documents(texts, dimensions=dimensions)

    def look(passages):
        nonlocal most
        time.sleep(0.02)
        most = max(most, sum(embedded) - len(collection.rows))

    collection = MemoryCollection(before_write=look)
    ingest(tmp_path / "a.md", Counting(8), collection, batch_size=4)
    assert len(collection.rows) == 100
    assert most <= 4 * (AHEAD + 2)  # those that wait, the one that is written, the one that was just embedded


def test_the_reader_is_held_up_too(tmp_path, monkeypatch):
    for i in range(40):
        (tmp_path / f"{i:02}.md").write_text(sections(1, i), encoding="utf-8")
    read: list[str] = []
    read_bytes = type(tmp_path).read_bytes
    monkeypatch.setattr(type(tmp_path), "read_bytes", lambda p: (read.append(p.name), read_bytes(p))[1])
    ahead: list[int] = []

    class Watching(WordEmbedder):
        def embed_documents(self, texts, *, dimensions=None):
            time.sleep(0.01)
            ahead.append(len(read) - len(self.calls))
            return super().embed_documents(texts, dimensions=dimensions)

    ingest(tmp_path, Watching(8), MemoryCollection(), batch_size=1)
    assert len(read) == 40
    assert max(ahead) <= AHEAD + 1


def test_memory_does_not_grow_with_the_input(tmp_path):
    class Nowhere(MemoryCollection):
        def upsert(self, passages, vectors, *, sparse=None, embedder=None):
            self.writes += len(passages)
            return ()

    class Forgetful(WordEmbedder):
        def embed_documents(self, texts, *, dimensions=None):
            return EmbeddingResult(np.ones((len(texts), 8), np.float32))

    def peak(files: int) -> int:
        folder = tmp_path / str(files)
        folder.mkdir()
        for i in range(files):
            (folder / f"{i:03}.txt").write_text(
                "\n".join(f"{i} {j} {'words ' * 100}" for j in range(100)), encoding="utf-8"
            )
        collection = Nowhere()
        tracemalloc.start()
        ingest(folder, Forgetful(8), collection, splitter=split_at("\n"), batch_size=20)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert collection.writes == 100 * files
        return most

    peak(2)  # what is made once
    few, many = peak(5), peak(60)  # 0.3 MB and 3.6 MB of text
    assert many < 1.5 * few


def rows_of(collection: MemoryCollection) -> set[str]:
    return {text.split()[-1] for text, _, _ in collection.content.values()}


def test_a_text_that_the_model_refuses_takes_no_other_with_it(docs):
    def refuse(texts):
        return RemoteModerationError("inappropriate content") if any("word5" in t for t in texts) else None

    embedder, collection = Refusing(refuse), MemoryCollection()
    report = ingest(docs, embedder, collection, batch_size=8)
    assert rows_of(collection) == {f"word{i}" for i in range(12) if i != 5}
    (failure,) = report.failed_rows
    assert (failure.source, failure.start_line, failure.end_line) == ("1.md", 5, 7)
    assert failure.where == "1.md:5-7"
    assert "inappropriate content" in failure.reason
    assert (report.passages, report.added, report.unchanged, report.complete) == (12, 11, 0, False)
    again = ingest(docs, WordEmbedder(8), collection, batch_size=8)
    assert (again.added, again.unchanged) == (1, 11)


def test_what_a_remote_error_brings_is_used_and_not_sent_again(docs):
    def some(texts):
        bad = [i for i, text in enumerate(texts) if "word2" in text]
        if not bad:
            return None
        vectors = WordEmbedder(8)._embed(texts, None).vectors
        done = {i: v for i, v in enumerate(vectors) if i not in bad}
        return RemoteBatchError("1 failed", done=done, failed=dict.fromkeys(bad, RemoteModerationError("no")))

    embedder, collection = Refusing(some), MemoryCollection()
    report = ingest(docs, embedder, collection, batch_size=6)
    assert len(embedder.calls) == 2
    assert rows_of(collection) == {f"word{i}" for i in range(12) if i != 2}
    assert [f.source for f in report.failed_rows] == ["0.md"]


class RefusingSparse(SparseWordEmbedder):
    """Makes sparse vectors too, and refuses one text, as a remote model's hybrid call does."""

    def hybrid_documents(self, texts, *, dimensions=None, output="dense&sparse"):
        result = super().hybrid_documents(texts, dimensions=dimensions, output=output)
        bad = [i for i, text in enumerate(texts) if "word2" in text]
        if not bad:
            return result
        rows = map(Embedding, result.vectors, result.sparse)
        done = {i: row for i, row in enumerate(rows) if i not in bad}
        raise RemoteBatchError("1 failed", done=done, failed=dict.fromkeys(bad, RemoteModerationError("no")))


def test_sparse_vectors_come_along_where_the_collection_takes_them(docs):
    embedder, collection = RefusingSparse(8), MemoryCollection()
    collection.sparse_leg = "model"
    report = ingest(docs, embedder, collection, batch_size=6)
    assert [name for name, *_ in embedder.calls] == ["dense&sparse document"] * 2
    assert rows_of(collection) == {f"word{i}" for i in range(12) if i != 2}
    assert [f.source for f in report.failed_rows] == ["0.md"]
    texts = {id_: passage.text for id_, (passage, _) in collection.rows.items()}
    assert collection.sparse.keys() == texts.keys()
    for id_, vector in collection.sparse.items():
        assert vector.as_dict() == embedder._entries(texts[id_]).as_dict()


def test_a_remote_error_of_fewer_texts_than_were_asked_is_not_trusted(docs):
    """A cache in between asks only for what it lacks, and positions are those of its own call."""

    def some(texts):
        if len(texts) == 1:
            return RemoteModerationError("no") if "word2" in texts[0] else None
        return (
            RemoteBatchError("x", done={}, failed={0: RemoteModerationError("no")}) if "word2" in str(texts) else None
        )

    collection = MemoryCollection()
    report = ingest(docs, Refusing(some), collection, batch_size=6)
    assert rows_of(collection) == {f"word{i}" for i in range(12) if i != 2}
    assert len(report.failed_rows) == 1


def test_an_error_of_all_texts_stops_and_keeps_what_succeeded(docs):
    def limit(texts):
        if "word9" not in str(texts):
            return None
        vectors = WordEmbedder(8)._embed(texts, None).vectors
        return RemoteBatchError(
            "1 failed", done={0: vectors[0]}, failed=dict.fromkeys(range(1, len(texts)), RemoteRateLimitError("slower"))
        )

    collection = MemoryCollection()
    with pytest.raises(RemoteBatchError) as caught:
        ingest(docs, Refusing(limit), collection, batch_size=8)
    assert rows_of(collection) == {f"word{i}" for i in range(9)}
    assert collection.flushes == 1
    assert "9 were embedded, stored and kept" in caught.value.__notes__[0]


def test_a_wrong_key_is_asked_for_once(docs):
    embedder = Refusing(lambda texts: RemoteAuthenticationError("wrong key"))
    with pytest.raises(RemoteAuthenticationError, match="wrong key"):
        ingest(docs, embedder, MemoryCollection(), batch_size=4)
    assert len(embedder.calls) == 1


def test_rows_that_the_store_refuses_take_no_other_with_them(docs):
    (docs / "long.md").write_text("# Long\n\n" + "x" * 300 + "\n\n# Short\n\nfine\n", encoding="utf-8")
    collection = MemoryCollection(text_bytes=200)
    report = ingest(docs, NotANumber("word7"), collection, batch_size=16)
    assert rows_of(collection) == {f"word{i}" for i in range(12) if i != 7} | {"fine"}
    assert [(f.source, f.start_line) for f in report.failed_rows] == [("1.md", 13), ("long.md", 1)]
    assert "finite" in report.failed_rows[0].reason
    assert report.added == 12


def test_a_store_that_fails_stops_everything_at_once(docs):
    def fail(passages):
        if collection.writes == 1:
            raise StoreConnectionError("the server is gone")

    collection = MemoryCollection(before_write=fail)
    embedder = SlowEmbedder(0.02)
    with pytest.raises(StoreConnectionError, match="gone") as caught:
        ingest(docs, embedder, collection, batch_size=1)
    assert len(collection.rows) == 1
    assert len(embedder.calls) < 12
    assert "1 were embedded, stored and kept" in caught.value.__notes__[0]


def test_a_lookup_that_fails_stops_everything_and_keeps_what_was_embedded(docs):
    class Failing(MemoryCollection):
        looked = 0

        def get(self, ids):
            if "read" in threading.current_thread().name:
                self.looked += 1
                if self.looked == 6:
                    raise StoreConnectionError("the server is gone")
            return super().get(ids)

    collection = Failing()
    with pytest.raises(StoreConnectionError):
        ingest(docs, WordEmbedder(8), collection, batch_size=1)
    assert len(collection.rows) == 5


@pytest.mark.parametrize("where", ["embed", "progress"])
def test_an_interruption_stops_soon_and_leaves_no_thread(docs, where):
    def interrupt(*_args):
        if len(embedder.calls) == 3:
            raise KeyboardInterrupt

    embedder = Refusing(interrupt if where == "embed" else lambda texts: None)
    collection = MemoryCollection(seconds=0.05)
    before = set(threading.enumerate())
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        ingest(docs, embedder, collection, batch_size=1, progress=interrupt if where == "progress" else None)
    assert time.perf_counter() - started < 2
    assert set(threading.enumerate()) <= before
    assert 1 <= len(collection.rows) < 12
    assert len(collection.rows) == collection.writes
    assert len(embedder.calls) <= 3 + AHEAD


def test_threads_end_with_the_ingest(docs):
    before = set(threading.enumerate())
    ingest(docs, WordEmbedder(8), MemoryCollection(), batch_size=1)
    with suppress(RemoteAuthenticationError):
        ingest(docs, Refusing(lambda _: RemoteAuthenticationError("x")), MemoryCollection())
    assert set(threading.enumerate()) <= before


def test_a_passage_on_its_way_is_not_embedded_again(tmp_path):
    """The same file in many folders: its write is slow, and the lookups are ahead of it."""
    for i in range(6):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "a.md").write_text("# A\n\nsame\n", encoding="utf-8")
    embedder, collection = WordEmbedder(8), MemoryCollection(seconds=0.05)
    folders = [tmp_path / str(i) for i in range(6)]
    report = ingest(folders, embedder, collection, batch_size=1, label="all")
    assert len(embedder.calls) == 1
    assert (report.passages, report.added, report.unchanged) == (6, 1, 5)


def test_what_another_ingest_stored_meanwhile_keeps_its_label(docs):
    """Pruning one of the two folders would take the passages from both."""
    collection = MemoryCollection()

    def meanwhile(texts):
        ingest(docs, WordEmbedder(8), collection, label="other")

    ingest(docs, Refusing(meanwhile), collection, label="mine", batch_size=20)
    assert [about["roots"] for _, about, _ in collection.content.values()] == [["other", "mine"]] * 12


def test_a_model_that_returns_fewer_vectors_is_no_failure_of_rows(docs):
    class Short(WordEmbedder):
        def embed_documents(self, texts, *, dimensions=None):
            result = super().embed_documents(texts, dimensions=dimensions)
            return EmbeddingResult(result.vectors[1:], result.tokens)

    with pytest.raises(Exception, match="returned 3 vectors for 4 texts"):
        ingest(docs, Short(8), MemoryCollection(), batch_size=4)


texts = st.lists(st.text("ab# \n", max_size=40), min_size=1, max_size=4)


@given(texts, st.integers(1, 7))
def test_any_batch_size_gives_the_same_collection(tmp_path_factory, parts, batch_size):
    folder = tmp_path_factory.mktemp("docs")
    for i, text in enumerate(parts):
        (folder / f"{i}.md").write_text(text, encoding="utf-8")
    collections = [MemoryCollection(), MemoryCollection()]
    reports = [
        ingest(folder, WordEmbedder(8), collection, batch_size=size, label="x")
        for collection, size in zip(collections, (64, batch_size), strict=True)
    ]
    assert collections[0].content == collections[1].content
    assert reports[0].passages == reports[1].passages == len(collections[0].rows)
