"""`import qwen3_rag` costs next to nothing: measured in fresh interpreters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qwen3_rag

LIMIT_SECONDS = 0.080
HEAVY = ["torch", "transformers", "pymilvus", "langchain_core", "llama_index", "sentence_transformers", "httpx"]

PROGRAM = """
import json, sys, time
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
print(json.dumps([seconds, [name for name in {heavy!r} if name in sys.modules]]))
"""


def measure(module: str, heavy: list[str]) -> tuple[float, list[str]]:
    source = str(Path(qwen3_rag.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module, heavy=heavy)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    seconds, loaded = json.loads(result.stdout)
    return seconds, loaded


def test_import_is_quick_and_loads_nothing_heavy():
    # The quickest of several: the others measure what else the machine was doing.
    runs = [measure("qwen3_rag", HEAVY) for _ in range(7)]
    assert [loaded for _, loaded in runs] == [[]] * 7
    assert min(seconds for seconds, _ in runs) <= LIMIT_SECONDS


@pytest.mark.parametrize(
    "module",
    [
        "backends",
        "cache",
        "chunking",
        "demo",
        "evaluation",
        "inference",
        "milvus",
        "ingest",
        "models",
        "retrieval",
        "cli",
    ],
)
def test_no_part_of_the_core_loads_a_framework_or_weights_at_import(module):
    assert measure(f"qwen3_rag.{module}", HEAVY)[1] == []


def test_the_command_line_loads_nothing_heavy_before_a_command_needs_it():
    assert measure("qwen3_rag.cli.app", HEAVY)[1] == []


def test_the_measurement_notices_a_heavy_import():
    assert measure("numpy", ["numpy"])[1] == ["numpy"]


def test_public_names_resolve_and_unknown_ones_do_not():
    assert "load_embedder" in dir(qwen3_rag)
    assert qwen3_rag.load_embedder.__module__ == "qwen3_rag.backends"
    assert isinstance(qwen3_rag.__version__, str)
    with pytest.raises(AttributeError, match="no_such_name"):
        qwen3_rag.no_such_name  # noqa: B018
