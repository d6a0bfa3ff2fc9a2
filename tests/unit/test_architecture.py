"""The import rule, read from the source: who may know whom, and who alone may know a heavy library."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import qwen3_rag

PACKAGE = Path(qwen3_rag.__file__).parent

# A module may import from lower rooms only. Rooms on one level do not know each other.
LEVELS = [
    {"errors", "version"},
    {"types", "prompts"},
    {"models", "chunking", "texts", "tokens", "tiny", "demo"},
    {"inference", "milvus", "thinking", "remote"},
    {"cache", "backends", "ingest"},
    {"retrieval"},
    {"answering", "evaluation"},
    {"deep_search"},
    {"__init__"},
    {"langchain", "llama_index"},
    {"serving"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

# Libraries that only one room may import, at whatever depth in a function.
HOMES = {
    "torch": {"inference"},
    "transformers": {"inference"},
    "sentence_transformers": {"inference"},
    "safetensors": {"inference"},
    "tokenizers": {"inference"},
    "huggingface_hub": {"inference"},
    "pymilvus": {"milvus"},
    "milvus_lite": {"milvus"},
    "grpc": {"milvus"},
    "langchain_core": {"langchain"},
    "langchain_milvus": {"langchain"},
    "langchain_openai": {"langchain"},
    "langchain": set(),
    "llama_index": {"llama_index"},
    "openai": {"langchain", "llama_index"},
    "httpx": {"remote", "ingest", "cli"},
    "mcp": {"serving"},
    "mcp_types": {"serving"},
    "uvicorn": {"serving"},
    "typer": {"cli"},
    "rich": {"cli"},
    "markdown_it": {"chunking"},
    "matplotlib": {"evaluation"},
}

# The script that builds the bundled models is a program of its own.
EXEMPT = PACKAGE / "tiny" / "build"

SOFT_LIMIT, HARD_LIMIT = 300, 400


def source_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if EXEMPT not in path.parents)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(code: str, package: str) -> Iterator[str]:
    """Yields every module that the code imports: at the top, in functions, for type checking, or relatively."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def violations(code: str, room: str, package: str = "qwen3_rag") -> list[str]:
    found = []
    for module in imported_modules(code, package):
        top, _, rest = module.partition(".")
        if top in HOMES and room not in HOMES[top]:
            found.append(f"{room} imports {module}")
        if top == "qwen3_rag":
            other = rest.split(".")[0] or "__init__"
            # `from qwen3_rag import x` names either a room or something that the package's front door offers.
            other = other if other in LEVEL else "__init__"
            if other != room and LEVEL[other] >= LEVEL[room]:
                found.append(f"{room} imports {module}")
    return sorted(set(found))


def test_every_room_has_a_level():
    rooms = {room_of(path) for path in source_files()}
    assert rooms <= LEVEL.keys()
    assert {"cli", "milvus", "inference", "retrieval", "chunking"} <= rooms


@pytest.mark.parametrize("path", source_files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_downwards(path):
    package = ".".join(["qwen3_rag", *path.relative_to(PACKAGE).parts[:-1]])
    assert violations(path.read_text(encoding="utf-8"), room_of(path), package) == []


@pytest.mark.parametrize(
    ("code", "room"),
    [
        ("import torch", "milvus"),
        ("import torch.nn.functional as f", "retrieval"),
        ("def f():\n    from transformers import AutoModel", "cli"),
        ("if TYPE_CHECKING:\n    from qwen3_rag.cli import main", "milvus"),
        ("from qwen3_rag.langchain import Qwen3Reranker", "llama_index"),
        ("from qwen3_rag.llama_index.retrievers import Qwen3Retriever", "langchain"),
        ("from qwen3_rag import langchain", "llama_index"),
        ("import qwen3_rag", "retrieval"),
        ("from qwen3_rag import load_embedder", "milvus"),
        ("from qwen3_rag.backends import load_embedder", "inference"),
        ("from qwen3_rag.inference import LocalEmbedder", "milvus"),
        ("from qwen3_rag.retrieval import select", "backends"),
        ("from qwen3_rag.types import Passage", "errors"),
        ("from pymilvus import MilvusClient", "cli"),
        ("from mcp.server.lowlevel import Server", "cli"),
        ("from qwen3_rag.serving import serve_stdio", "langchain"),
        ("import langchain", "langchain"),
        ("from openai import OpenAI", "thinking"),
        ("import httpx", "thinking"),
        ("from langchain_openai.chat_models.base import BaseChatOpenAI", "llama_index"),
        ("from qwen3_rag.thinking import plan", "milvus"),
        ("from qwen3_rag.remote import http", "thinking"),
    ],
)
def test_the_rule_finds_what_it_forbids(code, room):
    assert violations(code, room) != []


def test_the_rule_sees_through_relative_imports():
    assert violations("from ..cli import main", "milvus", "qwen3_rag.milvus") != []
    assert violations("from .schema import x", "milvus", "qwen3_rag.milvus") == []


@pytest.mark.parametrize(
    ("code", "room"),
    [
        ("import torch", "inference"),
        ("from langchain_core.documents import Document", "langchain"),
        ("from qwen3_rag.milvus import MilvusCollection", "langchain"),
        ("from qwen3_rag.milvus.schema import x", "milvus"),
        ("import qwen3_rag", "cli"),
        ("from openai import OpenAI", "llama_index"),
        ("from qwen3_rag.thinking.plan import Turn", "langchain"),
        ("from qwen3_rag.models.chat import ChatFacts", "thinking"),
        ("import json, numpy", "errors"),
    ],
)
def test_the_rule_allows_what_it_should(code, room):
    assert violations(code, room) == []


def test_files_are_about_one_idea():
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in source_files()
    }
    assert {name: length for name, length in lengths.items() if length > HARD_LIMIT} == {}
    long = {name: length for name, length in lengths.items() if length > SOFT_LIMIT}
    if long:
        warnings.warn(f"files over {SOFT_LIMIT} lines: {long}", stacklevel=1)
