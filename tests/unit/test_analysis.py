"""How texts are cut into words for BM25."""

from __future__ import annotations

import unicodedata
from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_rag.milvus.analysis import analyse, analyse_within, has_words

HAN, KANA, HANGUL = "中文数据库検索東京", "ひらがなカタカナー々ヽ", "한국어데이터"
mixed = st.text(st.sampled_from(HAN + KANA + HANGUL + "ab Z9_-.,;，。\n\t éß🐟\u3000ＡＢ１ｶﾞ㌔"), max_size=60)
anything = st.one_of(mixed, st.text(st.characters(codec="utf-8"), max_size=60))


def is_paired(character: str) -> bool:
    """An independent idea of what goes in pairs: by the characters' names."""
    name = unicodedata.name(character, "")
    scripts = ("CJK UNIFIED IDEOGRAPH", "HIRAGANA LETTER", "KATAKANA LETTER", "HANGUL SYLLABLE")
    return name.startswith(scripts) or character in "々ーヽヾ"  # a voiced mark after ヽ is one character with it


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("数据库", ["数据", "据库"]),
        ("库", ["库"]),
        ("Milvus 2.5的数据库！", ["Milvus", "2.5", "的数", "数据", "据库", "!"]),
        ("用Milvus", ["用", "Milvus"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("ベクトルを検索する", ["ベク", "クト", "トル", "ルを", "を検", "検索", "索す", "する"]),
        ("데이터를 저장", ["데이", "이터", "터를", "저장"]),
        ("ﾃﾞｰﾀ ＡＢＣ１２", ["デー", "ータ", "ABC12"]),
        ("max_length=3 can't naïve", ["max_length=3", "can't", "naïve"]),
        ("", []),
        (" \n", []),
    ],
)
def test_examples(text, expected):
    assert analyse(text).split() == expected


@given(anything)
def test_it_is_a_function_of_the_text(text):
    assert analyse(text) == analyse("".join(list(text)))


@given(mixed)
@example("日本語とEnglishの混在、です。")
def test_no_text_is_lost(text):
    """Every word and every run of characters comes out, in order: words as they are, runs as all their pairs."""
    expected = []
    for word in unicodedata.normalize("NFKC", text).split():
        for paired, run in groupby(word, is_paired):
            part = "".join(run)
            pairs = [part[i : i + 2] for i in range(len(part) - 1)] if paired else []
            expected += pairs or [part]
    assert analyse(text).split() == expected


@given(st.text(st.sampled_from(HAN + KANA + HANGUL), min_size=2, max_size=30), st.data())
def test_a_question_made_of_a_passages_characters_shares_all_its_pairs(passage, data):
    start = data.draw(st.integers(0, len(passage) - 2))
    stop = data.draw(st.integers(start + 2, len(passage)))
    question = unicodedata.normalize("NFKC", passage)[start:stop]
    assert set(analyse(question).split()) <= set(analyse(passage).split())


@given(st.text(st.characters(codec="ascii"), max_size=80))
def test_ascii_stays_as_it_is(text):
    assert analyse(text) == text


@given(anything, st.integers(0, 120))
def test_the_limit_is_kept_and_what_it_cost_is_said(text, limit):
    whole = analyse(text)
    cut = analyse_within(text, limit)
    assert len(cut.text.encode()) <= limit
    assert whole.startswith(cut.text)
    assert cut.words == len(whole.split())
    assert cut.text.split() == whole.split()[: cut.kept]
    if len(whole.encode()) <= limit:
        assert cut.kept == cut.words
    elif cut.kept < cut.words:  # no word is left out for which there was room
        following = whole[len(cut.text) :].split()[0]
        start = whole.index(following, len(cut.text))
        assert len(whole[: start + len(following)].encode()) > limit


def test_a_word_longer_than_the_limit_is_left_out_whole():
    assert analyse_within("x" * 11, 10).text == ""
    assert analyse_within("ab " + "x" * 11, 10).text.split() == ["ab"]
    assert analyse_within("ab " + "x" * 7, 10).kept == 2


@pytest.mark.parametrize(
    ("text", "expected"), [("", False), ("?! …", False), ("a", True), ("？数", True), ("７", True)]
)
def test_has_words(text, expected):
    assert has_words(analyse(text)) is expected
