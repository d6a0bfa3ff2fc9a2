"""One exception tree. Every message names the offending value and the way out."""

from __future__ import annotations


class Qwen3RagError(Exception):
    """Base class of every error that this package raises on purpose."""


class ConfigurationError(Qwen3RagError, ValueError):
    """An argument has a value that cannot work; raised before any expensive work."""


class MissingDependencyError(Qwen3RagError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class ModelError(Qwen3RagError):
    """Base class of what can be wrong with a model."""


class ModelNotFoundError(ModelError, OSError):
    """Neither a folder nor the cache nor the hub has the model, or the hub can't be reached."""


class ModelCheckError(ModelError):
    """The files loaded, but they are not the Qwen3 model that they were taken for.

    Raised instead of returning vectors or scores that would be silently wrong: a tokenizer that appends no EOS, a
    reranker whose language-model head is newly initialised, a frame that does not tokenise as documented.
    """


class InputError(Qwen3RagError, ValueError):
    """A text, vector or record can't be processed; the message says which one and why."""


class OutOfMemoryError(Qwen3RagError, MemoryError):
    """One single sequence does not fit the device, so halving the packs can't help any more."""


class StoreError(Qwen3RagError):
    """Base class of what can go wrong with a Milvus collection."""


class StoreConnectionError(StoreError, ConnectionError):
    """The database can't be opened or reached; the message names the cause."""


class CollectionError(StoreError):
    """The collection exists but does not fit: other fields, dimension, metric or model."""


class FilterError(StoreError, ValueError):
    """A metadata filter can't be expressed, so nothing was searched or deleted."""


class UnsupportedError(StoreError, NotImplementedError):
    """This Milvus (often Milvus Lite) can't do what was asked."""


class TruncationWarning(UserWarning):
    """Some texts were longer than the model's limit and lost tokens; given once per call."""


def missing_dependency(package: str, extra: str) -> MissingDependencyError:
    """Builds the error for an optional dependency that is not installed.

    Args:
        package: Name of the distribution that could not be imported.
        extra: The extra of this package that installs it.

    Returns:
        The error, ready to be raised `from` the original `ImportError`.
    """
    return MissingDependencyError(f"{package!r} is not installed: pip install 'qwen3-rag[{extra}]'")
