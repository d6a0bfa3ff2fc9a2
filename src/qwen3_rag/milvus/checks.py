"""Checks on arguments, made before anything is sent.

Milvus does not make those on vectors: it stores NaN and zero vectors and then ranks by them.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.types import FloatArray, SparseVector

AnySparse: TypeAlias = SparseVector | Mapping[int, float]
"""A sparse vector, or the weight by the index of each of its entries."""

MAX_INDEX: Final = 2**32 - 3
"""Milvus takes one index more, which `records.py` keeps for itself."""
_LARGEST: Final = float(np.finfo(np.float32).max)


def checked_vectors(vectors: npt.ArrayLike, count: int, *, metric: str) -> FloatArray:
    """Returns vectors as float32 after checking all of them.

    Args:
        vectors: Shape `(count, dimensions)`.
        count: How many there have to be.
        metric: `COSINE` needs vectors with a direction, so zero vectors are refused.

    Returns:
        Shape `(count, dimensions)`, float32; `(0, 0)` for nothing.

    Raises:
        InputError: If the shape is another, or a value is not finite in float32, or a norm can't be used.
    """
    try:
        with np.errstate(over="ignore"):
            matrix = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"the vectors are no rectangular array of numbers: {error}") from error
    if count == 0 and matrix.size == 0:
        return matrix.reshape(0, 0)
    if matrix.ndim != 2 or matrix.shape[0] != count or matrix.shape[1] == 0:  # noqa: PLR2004 - rows and columns
        raise InputError(f"the vectors have the shape {matrix.shape}, expected ({count}, dimensions)")
    _refuse(~np.isfinite(matrix).all(axis=1), "has a value that is not finite in float32 (NaN or infinite)")
    with np.errstate(over="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    _refuse(~np.isfinite(norms), "is too long: its norm overflows float32; normalise it")
    if metric == "COSINE":
        _refuse(
            norms == 0,
            "has no direction: its norm is 0 in float32, so COSINE can't compare it; use metric='IP' or drop it",
        )
    return matrix


def checked_sparse(vectors: Sequence[AnySparse], count: int) -> list[dict[int, float]]:
    """Returns sparse vectors in the form in which Milvus takes them, after checking all of them.

    Raises:
        InputError: If they are not `count` vectors, or Milvus can't take one; the message says which.
    """
    if not isinstance(vectors, Sequence) or isinstance(vectors, str | bytes):
        raise InputError(f"sparse is {type(vectors).__name__}, expected a list of sparse vectors, one for each passage")
    if len(vectors) != count:
        raise InputError(f"sparse has {len(vectors)} vectors for {count} passages, expected one for each")
    return [checked_weights(vector, f"sparse vector {position}") for position, vector in enumerate(vectors)]


def checked_weights(vector: AnySparse, what: str = "the sparse vector") -> dict[int, float]:
    """Returns the weights of a sparse vector that are more than 0 in float32, by index; perhaps none.

    Raises:
        InputError: If it is no sparse vector, has an entry twice, or an index or weight that Milvus can't take.
    """
    try:
        pairs = vector.as_dict() if isinstance(vector, SparseVector) else vector
        weights = {operator.index(index): float(weight) for index, weight in pairs.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{what} is {vector!r:.80}, expected a SparseVector or a mapping of indices to weights: {error}"
        ) from error
    if isinstance(vector, SparseVector) and len(weights) != len(vector.indices):
        raise InputError(f"{what} has an entry twice")
    for index, weight in weights.items():
        if not 0 <= index <= MAX_INDEX:
            raise InputError(f"{what} has the index {index}, Milvus takes 0 to {MAX_INDEX}")
        if not 0 <= weight <= _LARGEST:
            raise InputError(f"{what} has the weight {weight} at {index}, Milvus takes finite ones from 0 upwards")
    return {index: weight for index, weight in weights.items() if np.float32(weight) > 0}


def _refuse(rows: Any, reason: str) -> None:
    bad = np.flatnonzero(rows)
    if bad.size:
        others = f" (and {bad.size - 1} more)" if bad.size > 1 else ""
        raise InputError(f"vector {bad[0]}{others} {reason}")


def checked_ids(ids: Sequence[str]) -> list[str]:
    """Returns the ids without repetitions.

    Raises:
        InputError: If it is no list of strings.
    """
    if isinstance(ids, str):
        raise InputError(f"ids is the string {ids!r}, expected a list of ids")
    for id_ in ids:
        if not isinstance(id_, str):
            raise InputError(f"id {id_!r} is {type(id_).__name__}, expected str")
    return list(dict.fromkeys(ids))


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuses a value that is not among the choices.

    Raises:
        ConfigurationError: If it is not.
    """
    if value not in choices:
        raise ConfigurationError(f"{name} is {value!r}, expected one of {', '.join(choices)}")


def checked_index(index: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the type and the parameters of an index.

    Raises:
        ConfigurationError: If it has another form.
    """
    kind, params = index.get("index_type"), index.get("params", {})
    if set(index) - {"index_type", "params"} or not isinstance(kind, str) or not isinstance(params, Mapping):
        raise ConfigurationError(
            f"index is {dict(index)!r}, expected {{'index_type': 'HNSW', 'params': {{…}}}}; the metric stands apart"
        )
    return {"index_type": kind.upper(), "params": dict(params)}
