"""One string names a back end: resolved here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from qwen3_rag.errors import ConfigurationError, missing_dependency
from qwen3_rag.types import Embedder, Reranker

REMOTE = ("dashscope", "vllm", "sglang", "tei", "llamacpp", "ollama", "infinity", "jina", "siliconflow", "openai")
"""What stands before the colon of a model at a server; everything else is a model on this machine."""

SECRET_OPTIONS = frozenset({"api_key", "headers"})
"""Options that an adapter must not keep: they would be in its repr, its serialised form and its pickle."""


def load_embedder(model: Any, **options: Any) -> Embedder:
    """Returns the embedder that a value names. Nothing is loaded or sent yet.

    Args:
        model: `"tiny"` (bundled, offline), a hub name such as `"Qwen/Qwen3-Embedding-0.6B"`, a folder, a loaded
            `sentence_transformers.SentenceTransformer`, a server and its model such as
            `"dashscope:text-embedding-v4"` or `"vllm:Qwen/Qwen3-Embedding-0.6B"`, or any object that is an
            `Embedder` already.
        **options: Passed to `qwen3_rag.inference.LocalEmbedder` or `qwen3_rag.remote.RemoteEmbedder`.

    Raises:
        ConfigurationError: If the value names no back end, or options are given for an object that has its own.
        MissingDependencyError: If the back end's extra is not installed.
    """
    if _has(model, "embed_documents", "embed_queries", "aembed_documents", "aembed_queries"):
        _check_no_options(model, options)
        return cast("Embedder", model)
    if _is_remote(model, "Qwen/Qwen3-Embedding-0.6B"):
        from qwen3_rag.remote import RemoteEmbedder

        return RemoteEmbedder(model, **options)
    try:
        from qwen3_rag.inference import LocalEmbedder
    except ImportError as error:
        raise missing_dependency(error.name or "torch", "local") from error
    return LocalEmbedder(model, **options)


def load_reranker(model: Any, **options: Any) -> Reranker:
    """Returns the reranker that a value names. Nothing is loaded or sent yet.

    Args:
        model: `"tiny"` (bundled, offline), a hub name such as `"Qwen/Qwen3-Reranker-0.6B"`, a folder, a server and its
            model such as `"dashscope:qwen3-rerank"` or `"vllm:Qwen/Qwen3-Reranker-0.6B"`, or any object that is a
            `Reranker` already.
        **options: Passed to `qwen3_rag.inference.LocalReranker` or `qwen3_rag.remote.RemoteReranker`.

    Raises:
        ConfigurationError: If the value names no back end, or options are given for an object that has its own.
        MissingDependencyError: If the back end's extra is not installed.
    """
    if _has(model, "rerank", "score_pairs", "arerank", "ascore_pairs"):
        _check_no_options(model, options)
        return cast("Reranker", model)
    if _is_remote(model, "Qwen/Qwen3-Reranker-0.6B"):
        from qwen3_rag.remote import RemoteReranker

        return RemoteReranker(model, **options)
    try:
        from qwen3_rag.inference import LocalReranker
    except ImportError as error:
        raise missing_dependency(error.name or "torch", "local") from error
    return LocalReranker(model, **options)


def written_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a model that an adapter may keep, in the form in which JSON takes them: paths as text."""
    kept = {name: value for name, value in options.items() if name not in SECRET_OPTIONS}
    return {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in kept.items()}


def _has(model: object, *methods: str) -> bool:
    """Whether an object speaks a Protocol. `isinstance` would read its properties, and one of them may load the model."""
    return all(callable(getattr(model, name, None)) for name in methods)


def _check_no_options(model: object, options: dict[str, Any]) -> None:
    given = {name: value for name, value in options.items() if value is not None}
    if given:
        raise ConfigurationError(
            f"{type(model).__name__} is ready made, so {', '.join(map(repr, given))} can't be set here: "
            "set it where the object is made"
        )


def _is_remote(model: object, example: str) -> bool:
    """Whether a value names a model at a server; a folder that exists is a folder, whatever its name.

    Raises:
        ConfigurationError: If it is a string that names nothing.
    """
    if not isinstance(model, str):
        return False
    scheme, colon, _ = model.partition(":")
    if not colon or _exists(model):
        if not model.strip():
            raise ConfigurationError(f"model must name a model such as {example!r}, got {model!r}")
        return False
    if scheme not in REMOTE:
        raise ConfigurationError(
            f"no back end {scheme!r} for {model!r}: give 'tiny', a folder, a hub name such as {example!r}, or a model at a "
            f"server: {', '.join(f'{name}:' for name in REMOTE)}"
        )
    return True


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # too long for a path, or below a folder that may not be read
        return False
