"""Markdown to passages: what a heading is, where long sections are cut, that nothing is lost, that ids are stable."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwen3_rag.chunking import split_markdown, split_text
from qwen3_rag.errors import ConfigurationError


def headings(text: str, **options) -> list[list[str]]:
    return [p.metadata["headings"] for p in split_markdown(text, "a.md", **options)]


def texts(text: str, **options) -> list[str]:
    return [p.text for p in split_markdown(text, "a.md", **options)]


def test_one_section_is_one_passage_with_heading_path_and_lines():
    text = "Before.\n\n# Milvus\n\nText.\n\n## Index\n\nHNSW\nor FLAT\n\n\n## Search\n\nNear.\n\n# Qwen\n\nText.\n"
    passages = split_markdown(text, "guide/a.md")
    assert [(p.metadata["headings"], p.metadata["start_line"], p.metadata["end_line"]) for p in passages] == [
        ([], 1, 1),
        (["Milvus"], 3, 5),
        (["Milvus", "Index"], 7, 10),
        (["Milvus", "Search"], 13, 15),
        (["Qwen"], 17, 19),
    ]
    assert passages[2].text == "## Index\n\nHNSW\nor FLAT"
    assert {p.metadata["source"] for p in passages} == {"guide/a.md"}
    assert {p.doc_id for p in passages} == {"guide/a.md"}
    lines = text.split("\n")
    for p in passages:
        assert "\n".join(lines[p.metadata["start_line"] - 1 : p.metadata["end_line"]]) == p.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Title\n=====\n\ntext\n\nSub\n---\n\nmore", [["Title"], ["Title", "Sub"]]),
        ("Two line\ntitle\n=====\ntext", [["Two line title"]]),
        ("# Closed ##\ntext", [["Closed"]]),
        ("   # Indented\ntext", [["Indented"]]),
        ("    # code block\ntext", [[]]),
        ("#hashtag\ntext", [[]]),
        ("\\# escaped\ntext", [[]]),
        ("> # quoted\n> text\n\n# real\ntext", [[], ["real"]]),
        ("- item\n\n  ## in a list\n\n  text", [[], ["in a list"]]),
        ("####### seven\ntext", [[]]),
        ("# one\ntext\n### three\ntext\n## two\ntext", [["one"], ["one", "three"], ["one", "two"]]),
        ("text\n\n---\n\nmore", [[]]),
        ("<!--\n# commented out\n-->\ntext", [[]]),
        ("# 标题\n\n正文。\n\n## 小节\n\n内容。", [["标题"], ["标题", "小节"]]),
    ],
)
def test_what_a_heading_is(text, expected):
    assert headings(text) == expected


@pytest.mark.parametrize("fence", ["```", "~~~", "````", "```python", "~~~sh title='x'"])
def test_a_comment_in_a_code_fence_is_no_heading(fence):
    close = fence[: len(fence) - len(fence.lstrip(fence[0]))]
    text = f"# Real\n\n{fence}\n# comment\n## another\n{close}\n\n# Next\n\ntext"
    assert headings(text) == [["Real"], ["Next"]]
    assert "# comment" in texts(text)[0]


def test_a_shorter_fence_does_not_close_a_longer_one():
    text = "# Real\n````\n```\n# comment\n```\n# comment\n````\n# Next\ntext"
    assert headings(text) == [["Real"], ["Next"]]


def test_a_fence_that_is_never_closed_runs_to_the_end():
    assert headings("# Real\n```\n# comment\n") == [["Real"]]


def test_a_bare_heading_opens_its_first_subsection():
    assert texts("# Top\n\n<!-- TOC -->\n\n## Sub\n\ntext") == ["# Top\n\n<!-- TOC -->\n\n## Sub\n\ntext"]
    assert headings("# Top\n## Sub\ntext\n## Other\ntext") == [["Top", "Sub"], ["Top", "Other"]]
    # No subsection follows, so it stands alone rather than in a section it does not belong to.
    assert headings("# Empty\n# Full\ntext\n# Last") == [["Empty"], ["Full"], ["Last"]]


def test_front_matter_is_left_out_but_for_its_title():
    text = '---\ntitle: "The guide"\ntags:\n  - a\n---\n\n# Guide\n\ntext'
    (passage,) = split_markdown(text, "a.md")
    assert passage.text == "# Guide\n\ntext"
    assert passage.metadata["title"] == "The guide"
    assert (passage.metadata["start_line"], passage.metadata["end_line"]) == (7, 9)


@pytest.mark.parametrize(
    "text",
    ["---\nJust prose between rules.\n---\nmore", "---\ntitle: never closed\n\ntext", "text\n---\nkey: x\n---\n"],
)
def test_what_only_looks_like_front_matter_is_kept(text):
    assert visible("\n".join(texts(text))) == visible(text)


@pytest.mark.parametrize("text", ["", "\n\n \t\n", "\ufeff", "---\ntitle: x\n---\n"])
def test_a_file_without_text_has_no_passage(text):
    assert split_markdown(text, "a.md") == []


def test_line_ends_and_byte_order_mark_make_no_difference():
    text = "# A\n\ntext\n\n# B\n\nmore\n"
    assert split_markdown("\ufeff" + text.replace("\n", "\r\n"), "a.md") == split_markdown(text, "a.md")


def test_long_sections_are_cut_between_paragraphs():
    paragraphs = [f"Paragraph {i} " + "word " * 30 for i in range(20)]
    passages = split_markdown("# Long\n\n" + "\n\n".join(paragraphs), "a.md", max_chars=500)
    assert len(passages) > 5
    assert all(len(p.text) <= 500 for p in passages)
    assert all(p.text.startswith(("# Long", "Paragraph")) for p in passages)
    assert {tuple(p.metadata["headings"]) for p in passages} == {("Long",)}
    assert passages[0].text.startswith("# Long\n\nParagraph 0")


def test_a_heading_is_not_left_alone_before_a_long_paragraph():
    first, *_ = texts("# Heading\n\n" + "word " * 100, max_chars=120)
    assert first.startswith("# Heading\n\nword word")
    assert len(first) > 60


def test_a_code_block_is_cut_only_if_it_does_not_fit():
    code = "```\n" + "\n\n".join(f"line {i}" for i in range(10)) + "\n```"
    passages = texts(f"# A\n\n{'intro ' * 20}\n\n{code}\n\n{'outro ' * 20}", max_chars=200)
    assert code in passages


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("One sentence here. " * 20, "."),
        ("这是一个句子。" * 40, "。"),
        ("word " * 100, "word"),
    ],
)
def test_a_long_paragraph_is_cut_at_sentences_then_words(text, ends):
    pieces = texts(text, max_chars=100)
    assert all(piece.endswith(ends) for piece in pieces)
    assert all(len(piece) <= 100 for piece in pieces)


def test_text_without_any_border_is_cut_at_the_limit():
    assert texts("x" * 250, max_chars=100) == ["x" * 100, "x" * 100, "x" * 50]


def test_plain_text_is_packed_by_paragraphs_and_has_no_headings():
    passages = split_text("# no heading\n\nsecond\n\n" + "third " * 20, "a.txt", max_chars=130)
    assert [p.text for p in passages] == ["# no heading\n\nsecond", ("third " * 20).rstrip()]
    assert [p.metadata["start_line"] for p in passages] == [1, 5]
    assert passages[0].metadata["headings"] == []


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "100"])
def test_a_useless_limit_is_refused(value):
    for split in (split_markdown, split_text):
        with pytest.raises(ConfigurationError, match="max_chars"):
            split("text", "a.md", max_chars=value)


def test_ids_name_the_content_not_its_place():
    text = "# A\n\nsame\n\n# B\n\nother\n"
    ids = [p.id for p in split_markdown(text, "a.md")]
    assert ids == [p.id for p in split_markdown(text, "a.md")]
    assert ids == [p.id for p in split_markdown("\n\n\n" + text, "a.md")]
    assert not set(ids) & {p.id for p in split_markdown(text, "b.md")}
    changed = [p.id for p in split_markdown(text.replace("other", "changed"), "a.md")]
    assert changed[0] == ids[0]
    assert changed[1] != ids[1]
    # The same words under another heading are another passage.
    assert headings("# A\n## X\nt\n# B\n## X\nt")[1] == ["B", "X"]
    one, two = split_markdown("# A\nt\n## X\nt\n# B\nt\n## X\nt", "a.md")[1::2]
    assert one.text == two.text
    assert one.id != two.id


def test_equal_sections_have_different_ids():
    passages = split_markdown("# A\n\nsame\n\n" * 3, "a.md")
    assert len({p.id for p in passages}) == 3
    assert len({p.text for p in passages}) == 1
    assert passages[:2] == split_markdown("# A\n\nsame\n\n" * 2, "a.md")


def test_a_large_file_takes_linear_time():
    text = "word " * 400_000
    start = time.perf_counter()
    assert visible("".join(p.text for p in split_text(text, "a.txt"))) == visible(text)
    assert visible("".join(p.text for p in split_markdown(text, "a.md"))) == visible(text)
    assert time.perf_counter() - start < 5


def test_comments_that_are_never_closed_take_linear_time():
    text = "# A\n\n" + "x <!-- " * 40_000 + "\n\n## B\n\ntext\n"
    start = time.perf_counter()
    assert visible("".join(texts(text))) == visible(text)
    assert time.perf_counter() - start < 10


def test_passages_can_be_copied_and_pickled():
    passages = split_markdown("# A\n\ntext", "a.md")
    assert copy.deepcopy(passages) == pickle.loads(pickle.dumps(passages)) == passages
    assert dataclasses.asdict(passages[0])["node"] == {}


def visible(text: str) -> str:
    return "".join(text.replace("\ufeff", "").split())


CONSTRUCTS = (
    "|# A|## B|### C ###|Title|===|---|```|~~~~|    # code|> # q|- item|  # in|<!--|-->|<pre>|text|***|...|1. one"
)
LINES = st.sampled_from([*CONSTRUCTS.split("|"), " ", "a: b", "wörter und 汉字。更多。", "\ttab", "\x0c", "\u2028x"])
MARKDOWN = st.lists(LINES | st.text(max_size=30), max_size=30).map("\n".join)


@settings(max_examples=400, deadline=None)
@given(MARKDOWN, st.integers(1, 80))
@example("---\n---\n# A", 10)
@example(" " * 50 + "x", 7)
def test_nothing_is_lost_and_no_piece_is_too_long(text, max_chars):
    # A leading rule keeps the text from opening with front matter, which is left out on purpose.
    text = "***\n" + text
    for split in (split_markdown, split_text):
        passages = split(text, "a.md", max_chars=max_chars)
        assert visible("".join(p.text for p in passages)) == visible(text)
        assert all(0 < len(p.text) <= max_chars for p in passages)
        assert len({p.id for p in passages}) == len(passages)
        assert [p.metadata["start_line"] for p in passages] == sorted(p.metadata["start_line"] for p in passages)
        assert all(p.metadata["start_line"] <= p.metadata["end_line"] for p in passages)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_at_all_is_covered(text):
    kept = visible("".join(p.text for p in split_text(text, "a.txt")))
    assert kept == visible(text.removeprefix("\ufeff"))
