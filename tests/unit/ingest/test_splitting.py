"""Splitters: ours, the tutorial's rule, LangChain's, LlamaIndex's, functions. Ids are content ids with all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.chunking import split_markdown
from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.ingest import Piece, ingest, split_at
from qwen3_rag.ingest.splitting import resolve_splitter, to_passages
from qwen3_rag.types import Passage
from tests.fakes import WordEmbedder
from tests.unit.ingest.stores import MemoryCollection

CORPUS_VARIABLE = "QWEN3_RAG_TUTORIAL_CORPUS"
TEXT = "# One\n\nfirst text\n\n## Two\n\nsecond text\n\n# One\n\nfirst text\n"


def cut(splitter, text=TEXT) -> list[Passage]:
    return resolve_splitter(splitter, 4000)(text, "a.md", True)


def lines(passages) -> list[tuple]:
    return [(p.metadata.get("start_line"), p.metadata.get("end_line")) for p in passages]


def test_the_default_is_ours():
    assert cut(None) == split_markdown(TEXT, "a.md")


@pytest.mark.skipif(CORPUS_VARIABLE not in os.environ, reason=f"{CORPUS_VARIABLE} names no folder")
def test_the_tutorials_rule_gives_the_tutorials_passages():
    folder = Path(os.environ[CORPUS_VARIABLE])
    collection = MemoryCollection()
    report = ingest(folder / "*.md", WordEmbedder(8), collection, splitter=split_at("# "))
    assert (report.files, report.passages, report.added) == (4, 72, 72)
    expected = [piece for path in sorted(folder.glob("*.md")) for piece in path.read_text("utf-8").split("# ")]
    assert sorted(text for text, _, _ in collection.content.values()) == sorted(expected)


def test_splitting_at_a_string():
    passages = cut(split_at("# "))
    assert [p.text for p in passages] == ["One\n\nfirst text\n\n#", "Two\n\nsecond text\n\n", "One\n\nfirst text\n"]
    assert lines(passages) == [(1, 5), (5, 7), (9, 11)]
    with pytest.raises(ConfigurationError, match="separator"):
        split_at("")


def test_equal_pieces_have_ids_of_their_own_and_the_same_ids_again():
    ids = [p.id for p in cut(lambda text, source: ["x", "x", "y"])]
    assert len(set(ids)) == 3
    assert ids == [p.id for p in cut(lambda text, source: ["x", "x", "y"])]


def test_langchain_splitters():
    splitters = pytest.importorskip("langchain_text_splitters")
    passages = cut(splitters.RecursiveCharacterTextSplitter(chunk_size=15, chunk_overlap=0))
    assert "second text" in [p.text for p in passages]
    assert all(p.metadata["source"] == "a.md" and p.metadata["start_line"] for p in passages)
    by_heading = cut(splitters.MarkdownHeaderTextSplitter([("#", "h1"), ("##", "h2")]))
    assert [p.metadata.get("h2") for p in by_heading] == [None, "Two", None]
    assert lines(by_heading) == [(3, 3), (7, 7), (11, 11)]


def test_llama_index_node_parsers():
    node_parser = pytest.importorskip("llama_index.core.node_parser")
    from qwen3_rag.llama_index import node_parser_splitter

    parser = node_parser.MarkdownNodeParser()
    passages = cut(node_parser_splitter(parser))
    assert [p.text for p in passages] == ["# One\n\nfirst text", "## Two\n\nsecond text", "# One\n\nfirst text"]
    assert lines(passages) == [(1, 3), (5, 7), (9, 11)]
    assert [p.id for p in passages] == [p.id for p in cut(node_parser_splitter(parser))]
    assert passages[1].metadata["header_path"] == "/One/"
    assert cut(node_parser_splitter(node_parser.SentenceSplitter()))[0].text == TEXT.strip()
    with pytest.raises(ConfigurationError, match=r"node_parser_splitter\(parser\)"):
        cut(parser)
    with pytest.raises(ConfigurationError, match="expected a node parser"):
        node_parser_splitter("markdown")


def test_a_function_may_give_pieces_and_passages():
    own = Passage("my-id", "mine", {"kind": "own"})
    first, second = cut(lambda text, source: [Piece("first text", {"kind": "piece"}), own])
    assert first.metadata == {"source": "a.md", "kind": "piece", "start_line": 3, "end_line": 3}
    assert (second.id, second.metadata) == ("my-id", {"source": "a.md", "kind": "own"})
    assert own.metadata == {"kind": "own"}


def test_a_passage_with_an_id_of_its_own_is_embedded_again_when_its_text_has_changed(tmp_path):
    (tmp_path / "a.md").write_text("old", encoding="utf-8")
    collection, embedder = MemoryCollection(), WordEmbedder(8)

    def whole(text, source):
        return [Passage(source, text)]

    ingest(tmp_path, embedder, collection, splitter=whole, label="x")
    (tmp_path / "a.md").write_text("new", encoding="utf-8")
    report = ingest(tmp_path, embedder, collection, splitter=whole, label="y")
    assert (report.added, report.unchanged) == (1, 0)
    assert [(text, about["roots"]) for text, about, _ in collection.content.values()] == [("new", ["x", "y"])]


def test_blank_pieces_are_left_out_and_rewritten_ones_have_no_lines():
    passages = cut(lambda text, source: ["", " \n", "rewritten", "second text"])
    assert [p.text for p in passages] == ["rewritten", "second text"]
    assert lines(passages) == [(None, None), (7, 7)]


def test_what_is_no_splitter_is_refused():
    with pytest.raises(ConfigurationError, match="splitter must have split_text"):
        cut("markdown")
    with pytest.raises(InputError, match="returned int"):
        cut(lambda text, source: [1])


def test_splitters_see_plain_line_ends(tmp_path):
    (tmp_path / "a.md").write_bytes("\ufeff# A\r\n\r\none\r# B\r\n".encode())
    collection = MemoryCollection()
    ingest(tmp_path / "a.md", WordEmbedder(8), collection, splitter=lambda text, source: [text])
    assert [text for text, _, _ in collection.content.values()] == ["# A\n\none\n# B\n"]


@given(st.text("ab \n#", max_size=60), st.sampled_from(["# ", "\n", "ab", "\n\n"]))
def test_lines_are_those_of_the_piece(text, separator):
    for passage in to_passages(text.split(separator), text, "a.md"):
        about = passage.metadata
        inside = "\n".join(text.split("\n")[about["start_line"] - 1 : about["end_line"]])
        assert passage.text.strip() in inside
        assert passage.text.strip().count("\n") == about["end_line"] - about["start_line"]


def test_lines_are_not_those_of_the_same_words_in_the_piece_before():
    assert lines(to_passages(["an index of data", "index"], "an index of data\n\nindex\n", "a.md")) == [(1, 1), (3, 3)]
    assert lines(to_passages(["a\nb\nc", "c\nd"], "a\nb\nc\nd\n", "a.md")) == [(1, 3), (3, 4)]  # they may overlap


def test_a_splitter_that_fails_on_a_file_takes_no_other_with_it(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name, encoding="utf-8")

    def refuse(text: str, source: str) -> list[str]:
        if text == "a":
            raise ValueError("a disallowed\nspecial token")
        return [text]

    report = ingest(tmp_path, WordEmbedder(8), MemoryCollection(), splitter=refuse)
    assert (report.files, report.added, report.complete) == (1, 1, False)
    assert [f.reason for f in report.failed] == ["the splitter raised ValueError: a disallowed special token"]
    with pytest.raises(ConfigurationError, match="max_chars"):
        ingest(tmp_path, WordEmbedder(8), MemoryCollection(), max_chars=0)


def test_passages_that_differ_may_not_have_the_same_id():
    twice = [Passage("1", "one", {}), Passage("1", "two", {})]
    with pytest.raises(InputError, match=r"two passages of 'a\.md' that differ the id '1'"):
        cut(lambda text, source: twice)
    assert len(cut(lambda text, source: twice[:1] * 2)) == 2


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_an_id_that_two_files_share_overwrites_nothing_and_is_told(tmp_path, batch_size):
    for name in ("a", "b", "c", "same"):
        (tmp_path / f"{name}.md").write_text("a" if name == "same" else name, encoding="utf-8")
    collection = MemoryCollection()

    def numbered(text, source):
        return [Passage("1" if source != "c.md" else "2", text)]

    def run():
        return ingest(tmp_path, WordEmbedder(8), collection, splitter=numbered, batch_size=batch_size, prune=True)

    for added in (2, 0):  # the second time it is told again, and still nothing is overwritten
        report = run()
        assert {id_: text for id_, (text, *_) in collection.content.items()} == {"1": "a", "2": "c"}
        assert (report.passages, report.added, report.unchanged) == (4, added, 3 - added)
        (failure,) = report.failed_rows
        assert (failure.id, failure.source) == ("1", "b.md")
        assert failure.reason == "the splitter gave this id to another passage too, of 'a.md': ids must be unique"
        assert "could not be stored" in report.not_pruned
