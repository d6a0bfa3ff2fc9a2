from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qwen3_rag import LocalEmbedder, LocalReranker
from tests.qwen_models import make_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Random models of the real architecture, written once per session."""
    made: dict[str, Path] = {}
    kept: list[object] = []  # the process shares weights only while somebody holds them

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = make_model(tmp_path_factory.mktemp(kind), kind)
            local = LocalEmbedder if kind == "embedder" else LocalReranker
            kept.append(local(made[kind]).warm_up())
        return made[kind]

    return folder


@pytest.fixture(scope="session")
def embedder_folder(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("embedder")


@pytest.fixture(scope="session")
def reranker_folder(model_folder: Callable[[str], Path]) -> Path:
    return model_folder("reranker")


TEXTS = {
    "empty": "",
    "one character": "a",
    "space": " ",
    "cjk": "你好，世界。Milvus 是一个向量数据库，数据存储在对象存储中。",
    "emoji": "😀🎉 party 👩‍👩‍👧‍👦",
    "arabic": "مرحبا بالعالم، كيف تُخزَّن البيانات؟",
    "code": "def f(x):\n    if x:\n\n        return x\t# tab\n\n\nprint(f(1))\n",
    "decomposed": "Cafe\u0301 Zu\u0308rich \u1112\u1161\u11ab",
    "leading newline": "\n\n# Heading\ntext",
    "digits": "2024-11-21 1234567890 3.14",
    "long": "Milvus stores inserted data in object storage as incremental log. " * 40,
}


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    return TEXTS
