"""Counting without a vocabulary, against Qwen's own where it is at hand."""

from __future__ import annotations

import base64
import importlib.util
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.tokens import cut, estimate_tokens, token_counter, windows
from tests.qwen_models import PATTERN, vocabulary_file

PROSE = {
    "English": "Milvus keeps inserted data in object storage as incremental logs. Its metadata is stored in etcd, and with a "
    "memory-mapped index you can search collections that are larger than the main memory of a query node.",
    "code": 'def load(path: Path, *, limit: int | None = None) -> list[dict[str, Any]]:\n    """Reads rows."""\n    with '
    "path.open(encoding='utf-8') as file:\n        return [json.loads(line) for line in file][:limit]\n",
    "Markdown": "## Index types\n\n| index | recall | memory |\n|---|---|---|\n| HNSW | 0.98 | 1.4 GB |\n| IVF_PQ | 0.91 |\n\n"
    "- `nlist`: 128 … 4096\n- see <https://milvus.io/docs/index.md>\n",
    "German": "Die eingefügten Daten liegen im Objektspeicher, während die Verwaltungsdaten in etcd gehalten werden. Größere "
    "Sammlungen als der Arbeitsspeicher sind möglich.",
    "French": "Les données insérées sont conservées dans le stockage d'objets et les métadonnées se trouvent dans etcd.",
    "Finnish": "Lisätyt tiedot tallennetaan objektivarastoon, ja metatiedot säilytetään etcd-palvelussa.",
    "Turkish": "Eklenen veriler nesne depolama alanında tutulur; üst veriler ise etcd içinde saklanır ve sorgulanır.",
    "Vietnamese": "Dữ liệu được chèn vào sẽ được lưu trữ trong bộ lưu trữ đối tượng, còn siêu dữ liệu nằm trong etcd.",
    "Russian": "Вставленные данные хранятся в объектном хранилище, а метаданные находятся в etcd и доступны узлам запросов.",
    "Greek": "Τα δεδομένα που εισάγονται αποθηκεύονται σε χώρο αντικειμένων και τα μεταδεδομένα στο etcd.",
    "Arabic": "تُخزَّن البيانات المُدرجة في مخزن الكائنات، بينما تُحفظ البيانات الوصفية في etcd لخدمة عقد الاستعلام.",
    "Hebrew": "הנתונים המוכנסים נשמרים באחסון אובייקטים, והמטא-נתונים נמצאים ב-etcd.",
    "Hindi": "डाला गया डेटा ऑब्जेक्ट स्टोरेज में रखा जाता है, और मेटाडेटा etcd में संग्रहीत होता है।",
    "Thai": "ข้อมูลที่แทรกจะถูกเก็บไว้ในที่จัดเก็บอ็อบเจ็กต์ ส่วนข้อมูลเมตาจะอยู่ใน etcd",
    "Chinese": "插入的数据以增量日志的形式保存在对象存储中，元数据则保存在 etcd 里。查询节点会把它们加载到内存。",
    "Japanese": "挿入されたデータはオブジェクトストレージに保存され、メタデータは etcd に保管されます。",
    "Korean": "삽입된 데이터는 객체 저장소에 증분 로그로 저장되고 메타데이터는 etcd에 보관됩니다.",
    "digits": "On 2026-11-21 at 14:05:59.123456 it took 3.14159 s for 1,234,567 rows, or 98.6 % of them.",
}


@cache
def exact():
    tiktoken = pytest.importorskip("tiktoken")
    if importlib.util.find_spec("dashscope") is None:
        pytest.skip("Qwen's vocabulary is not here")
    lines = Path(vocabulary_file()).read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    encoding = tiktoken.Encoding("qwen", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode(unicodedata.normalize("NFC", text), disallowed_special=()))


@pytest.mark.parametrize("language", PROSE)
def test_prose_is_estimated_from_above_and_not_far(language: str):
    true, estimate = exact()(PROSE[language]), estimate_tokens(PROSE[language])
    assert true <= estimate <= 2.5 * true


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_has_an_estimate(text: str):
    assert 0 <= estimate_tokens(text) <= 4 * len(text.encode()) + 1
    assert estimate_tokens(text) > 0 or not text.strip()


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_longer_text_of_one_kind_has_no_fewer_tokens(first: str, second: str):
    alphabet = str.maketrans(dict.fromkeys(first + second, "数"))
    first, second = first.translate(alphabet), second.translate(alphabet)
    assert estimate_tokens(first + second) >= estimate_tokens(first)


class WithIds:
    def encode(self, text: str):
        return type("Encoding", (), {"ids": text.split()})()


class WithList:
    def encode(self, text: str):
        return text.split()


@pytest.mark.parametrize("tokenizer", [WithIds(), WithList(), lambda text: len(text.split())])
def test_a_tokenizer_of_any_kind_counts(tokenizer):
    assert token_counter(tokenizer)("a b  c") == 3


def test_without_a_tokenizer_the_estimate_counts():
    assert token_counter() is estimate_tokens


def test_what_can_not_count_is_refused():
    with pytest.raises(ConfigurationError, match="tokenizer must"):
        token_counter("Qwen/Qwen3-Embedding-0.6B")


@given(text=st.text(max_size=80), most=st.integers(0, 40))
def test_a_cut_is_the_longest_beginning_that_fits(text: str, most: int):
    short = cut(text, most, len)
    assert text.startswith(short)
    assert len(short) == min(len(text), most)


def test_windows_of_a_long_text_take_linear_work():
    read = 0

    def count(text: str) -> int:
        nonlocal read
        read += len(text)
        return len(text)

    text = "x" * 100_000
    assert len(windows(text, 100, count)) > 1000
    assert read < 100 * len(text)


@given(text=st.text(max_size=120), most=st.integers(1, 30))
def test_windows_cover_the_text_and_overlap(text: str, most: int):
    pieces = windows(text, most, len)
    assert all(len(piece) <= most for piece in pieces)
    assert text.startswith(pieces[0])
    assert text.endswith(pieces[-1])
    position = 0
    for piece, following in pairwise(pieces):
        position += max(1, len(piece) - len(piece) // 8)
        assert text[position : position + len(following)] == following


def test_a_window_too_small_for_a_character_is_refused():
    with pytest.raises(InputError, match="window"):
        windows("ab", 3, lambda text: 5 * len(text))
