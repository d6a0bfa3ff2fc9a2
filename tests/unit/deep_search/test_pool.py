from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.answering import SourcePassage
from qwen3_rag.deep_search.pool import Pool

A, B, C, D = (SourcePassage(text, name) for name, text in zip("abcd", ("one", "two", "three", "four"), strict=True))


def pool() -> Pool[SourcePassage]:
    return Pool(lambda passage: passage)


def scored(passage: SourcePassage, score: float) -> SourcePassage:
    return replace(passage, relevance_score=score)


def test_new_ones_come_by_rank_and_once():
    one = pool()
    counts, new = one.add({"x": [A, B], "y": [B, C, D]})
    assert (counts, new) == ({"x": 2, "y": 2}, [A, B, C, D])
    assert one.best(None) == [A, B, C, D]
    counts, new = one.add({"z": [D, A]})
    assert (counts, new, len(one)) == ({"z": 0}, [], 4)


def test_the_same_text_is_the_same_and_the_same_identifier_is_not():
    again = [SourcePassage("one", "other"), SourcePassage("one"), SourcePassage("of another collection", "a")]
    one = pool()
    one.add({"x": [A]})
    assert one.add({"y": again}) == ({"y": 1}, [again[2]])


def test_scores_of_all_rounds_order_together_and_stable():
    one = pool()
    one.add({"x": [A, B]})
    one.rank([scored(B, 0.5), scored(A, 0.3)])
    one.add({"y": [C, D]})
    one.rank([scored(C, 0.5)])  # D was under the reranker's threshold
    assert [passage.id for passage in one.best(None)] == ["b", "c", "a"]
    assert [passage.id for passage in one.best(2)] == ["b", "c"]
    assert len(one) == 4


PASSAGES = st.builds(SourcePassage, st.sampled_from("pqrst"), st.none() | st.sampled_from("abcde"))


@given(st.lists(st.dictionaries(st.sampled_from("uvwxyz"), st.lists(PASSAGES, max_size=4), max_size=3), max_size=4))
def test_nothing_is_there_twice_and_nothing_is_lost(rounds):
    one, seen = pool(), []
    for number, found in enumerate(rounds):
        counts, new = one.add({f"{number} {question}": items for question, items in found.items()})
        assert sum(counts.values()) == len(new)
        seen += [passage for items in found.values() for passage in items]
    best = one.best(None)
    assert len({passage.text for passage in best}) == len(best) == len(one)
    assert {passage.text for passage in best} == {passage.text for passage in seen}
