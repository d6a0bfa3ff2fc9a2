"""Files of questions: three ways to say what answers one, and wrong lines named by number."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.chunking import split_markdown
from qwen3_rag.demo import CORPUS, EVALUATION
from qwen3_rag.errors import ConfigurationError, InputError, MissingDependencyError
from qwen3_rag.evaluation import Evaluation, Question, RetrievalReport, Section, read_questions
from qwen3_rag.evaluation.plot import check_plot, save_plot
from qwen3_rag.evaluation.questions import parse_question


@pytest.fixture
def write(tmp_path):
    def writer(*lines):
        path = tmp_path / "questions.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
        return path

    return writer


def test_all_ways_to_say_what_answers_a_question(write):
    questions = read_questions(
        write(
            {"id": "a", "question": "One?", "passages": ["p1", "p2"]},
            "",
            {"question": "二？", "sections": [{"source": "a.md", "heading": "H"}, {"source": "b.md"}]},
            {"question": "Three?", "answer": "a sentence", "passages": []},
            {"question": "Four?", "answer": ["x", "y"], "passages": ["p"]},
        )
    )
    assert questions == [
        Question("a", "One?", passages=("p1", "p2")),
        Question("line 3", "二？", sections=(Section("a.md", "H"), Section("b.md"))),
        Question("line 4", "Three?", answer=("a sentence",)),
        Question("line 5", "Four?", passages=("p",), answer=("x", "y")),
    ]


def test_a_line_ends_where_json_says_so(write):
    text = "one\u2028two\x85three"
    assert read_questions(write(json.dumps({"question": text, "answer": "x"}, ensure_ascii=False)))[0].text == text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON"),
        pytest.param("[" * 100_000, "no JSON", id="deep"),
        (r'{"question": "q \ud83d", "answer": "x"}', "question holds half of a surrogate pair at 2"),
        ("[1]", r"expected a JSON object, got \[1\]"),
        ({"answer": "x"}, "question is None"),
        ({"question": " ", "answer": "x"}, "question is ' '"),
        ({"question": "q"}, "nothing says what answers it"),
        ({"question": "q", "answer": []}, "nothing says what answers it"),
        ({"question": "q", "answers": "x"}, "unknown key 'answers': known are answer, id"),
        ({"question": "q", "answer": ["", "x"]}, "answer is"),
        ({"question": "q", "answer": 3}, "answer is 3"),
        ({"question": "q", "passages": [1]}, "passages is"),
        ({"question": "q", "sections": {"source": "a"}}, "sections is"),
        ({"question": "q", "sections": ["a.md"]}, "sections has 'a.md'"),
        ({"question": "q", "sections": [{"heading": "H"}]}, "sections has"),
        ({"question": "q", "sections": [{"source": "a", "page": 3}]}, "sections has"),
        ({"question": "q", "id": 3, "answer": "x"}, "id is 3"),
    ],
    ids=str,
)
def test_a_wrong_line_is_named_with_its_number(write, line, reason):
    with pytest.raises(InputError, match=rf"questions\.jsonl'.*line 2: {reason}"):
        read_questions(write({"question": "q", "answer": "x"}, line))


def test_many_wrong_lines_are_counted(write):
    with pytest.raises(InputError, match=r"line 1: .*line 5: .*and 3 more"):
        read_questions(write(*["{}"] * 8))


def test_ids_are_used_once(write):
    one = {"id": "a", "question": "q", "answer": "x"}
    with pytest.raises(InputError, match="line 2: the id 'a' is that of another question"):
        read_questions(write(one, one))


def test_files_that_are_none(tmp_path, write):
    with pytest.raises(InputError, match="no-such"):
        read_questions(tmp_path / "no-such.jsonl")
    with pytest.raises(InputError, match="has no question"):
        read_questions(write("", " "))
    (tmp_path / "latin.jsonl").write_bytes(b'{"question": "\xff"}')
    with pytest.raises(InputError, match=r"latin\.jsonl"):
        read_questions(tmp_path / "latin.jsonl")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.one_of(
        st.text(),
        json_values.map(json.dumps),
        st.fixed_dictionaries(
            {"question": json_values},
            optional={"id": json_values, "answer": json_values, "passages": json_values, "sections": json_values},
        ).map(json.dumps),
    )
)
def test_any_line_is_a_question_or_an_error_of_ours(line):
    try:
        question = parse_question(line, default_id="line 1")
    except InputError:
        return
    assert question.text.strip()
    assert question.passages or question.sections or question.answer


def test_the_bundled_questions_are_about_headings_that_exist():
    places = {
        (passage.metadata["source"], passage.metadata["headings"][-1]): passage.text
        for path in CORPUS.glob("*.md")
        for passage in split_markdown(path.read_text("utf-8"), path.name)
    }
    questions = read_questions(EVALUATION)
    assert len(questions) == len({question.text for question in questions}) >= 30
    for question in questions:
        [section] = question.sections
        assert question.text not in places[section.source, section.heading]
        assert section.heading.lower() not in question.text.lower()
    assert sum(section.source.endswith("-zh.md") for q in questions for section in q.sections) >= 10
    asked = {(section.source, section.heading) for question in questions for section in question.sections}
    assert asked == places.keys(), "every passage is asked for"


REPORT = RetrievalReport(2, {1: 0.5, 10: 1.0}, {1: 0.5, 10: 0.8}, 0.7, 10)
FOUND = Evaluation((Question("a", "q", ("p",)),), 10, {"dense": REPORT, "hybrid": REPORT}, {})


def test_the_figures_have_names():
    assert REPORT.figures() == {"recall@1": 0.5, "recall@10": 1.0, "MRR@10": 0.7, "nDCG@10": 0.8}


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_plot_is_drawn(tmp_path, suffix, magic):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plot.{suffix}"
    save_plot(FOUND, path)
    assert path.read_bytes().startswith(magic)


def test_a_plot_that_can_not_be_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    for name in ("plot", "plot.txt"):
        with pytest.raises(ConfigurationError, match=r"no format of a picture: use one of .*\.png"):
            check_plot(name)
    with pytest.raises(ConfigurationError, match="folder does not exist"):
        check_plot(tmp_path / "no" / "plot.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ConfigurationError, match="can't write the plot"):
        save_plot(FOUND, tmp_path / "folder.png")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.backend_bases", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'qwen3-rag\[plot\]'"):
        check_plot("plot.png")
