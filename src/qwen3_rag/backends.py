"""One string names a back end: resolved here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from qwen3_rag.errors import ConfigurationError, missing_dependency
from qwen3_rag.types import Embedder, Reranker


def load_embedder(model: Any, **options: Any) -> Embedder:
    """Returns the embedder that a value names. Nothing is loaded yet.

    Args:
        model: `"tiny"` (bundled, offline), a hub name such as `"Qwen/Qwen3-Embedding-0.6B"`, a folder, a loaded
            `sentence_transformers.SentenceTransformer`, or any object that is an `Embedder` already.
        **options: Passed to `qwen3_rag.inference.LocalEmbedder`.

    Raises:
        ConfigurationError: If the value names no back end, or options are given for an object that has its own.
        MissingDependencyError: If the back end's extra is not installed.
    """
    if _has(model, "embed_documents", "embed_queries", "aembed_documents", "aembed_queries"):
        _check_no_options(model, options)
        return cast("Embedder", model)
    _check_name(model, "Qwen/Qwen3-Embedding-0.6B")
    try:
        from qwen3_rag.inference import LocalEmbedder
    except ImportError as error:
        raise missing_dependency(error.name or "torch", "local") from error
    return LocalEmbedder(model, **options)


def load_reranker(model: Any, **options: Any) -> Reranker:
    """Returns the reranker that a value names. Nothing is loaded yet.

    Args:
        model: `"tiny"` (bundled, offline), a hub name such as `"Qwen/Qwen3-Reranker-0.6B"`, a folder, or any object
            that is a `Reranker` already.
        **options: Passed to `qwen3_rag.inference.LocalReranker`.

    Raises:
        ConfigurationError: If the value names no back end, or options are given for an object that has its own.
        MissingDependencyError: If the back end's extra is not installed.
    """
    if _has(model, "rerank", "score_pairs", "arerank", "ascore_pairs"):
        _check_no_options(model, options)
        return cast("Reranker", model)
    _check_name(model, "Qwen/Qwen3-Reranker-0.6B")
    try:
        from qwen3_rag.inference import LocalReranker
    except ImportError as error:
        raise missing_dependency(error.name or "torch", "local") from error
    return LocalReranker(model, **options)


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


def _check_name(model: object, example: str) -> None:
    if isinstance(model, str) and ":" in model and not Path(model).exists():
        scheme = model.split(":", 1)[0]
        raise ConfigurationError(
            f"no back end {scheme!r} for {model!r} in this version: give 'tiny', a folder, or a hub name such as {example!r}"
        )
    if isinstance(model, str) and not model.strip():
        raise ConfigurationError(f"model must name a model such as {example!r}, got {model!r}")
