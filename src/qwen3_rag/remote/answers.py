"""What an answer must be before it is used: complete, in order, of the right width, finite, of a length above zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qwen3_rag.errors import RemoteAnswerError, RemoteRequestError
from qwen3_rag.remote.api import Embedding, Output, Rows
from qwen3_rag.remote.failures import complaint_of
from qwen3_rag.types import FloatArray, SparseVector

_FIELDS = {
    "dense": ("embedding",),
    "sparse": ("sparse_embedding",),
    "dense&sparse": ("embedding", "sparse_embedding"),
}
_LARGEST = float(np.finfo(np.float32).max)
_MIN_NORM = 1e-6
_ROUNDING = 1e-6
"""How far a probability may be outside 0 and 1 because it was rounded."""


def read_rows(read: Callable[[Any], Rows], data: Any, server: str) -> Rows:
    """Decodes an answer.

    Raises:
        RemoteRequestError: If a success holds an error, as some gateways send it.
        RemoteAnswerError: If it has another form.
    """
    try:
        return read(data)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        complaint = complaint_of(data)
        if complaint is not None:
            message = f"{server} refuses the request: {complaint.message}"
            raise RemoteRequestError(
                message, status=200, code=complaint.code, request_id=complaint.request_id
            ) from error
        raise RemoteAnswerError(
            f"{server} answers in another form than documented: {error!r} in {data!r:.200}"
        ) from error


def in_order(rows: Rows, count: int, server: str) -> list[Any]:
    """Returns the values in the order of the request.

    Raises:
        RemoteAnswerError: If there are more or fewer than were asked for, or the indices are not each of them once.
    """
    if len(rows.items) != count:
        raise RemoteAnswerError(f"{server} returned {len(rows.items)} rows for {count}")
    indices = [index for index, _ in rows.items]
    if all(index is None for index in indices):
        return [value for _, value in rows.items]
    whole = all(isinstance(index, int) and not isinstance(index, bool) for index in indices)
    if not whole or sorted(indices) != list(range(count)):
        raise RemoteAnswerError(f"{server} numbered {count} rows {indices!r:.120}, not 0 to {count - 1} once each")
    values: list[Any] = [None] * count
    for index, value in rows.items:
        values[index] = value
    return values


def dense_vector(value: Any, server: str, *, keep: int | None = None, normalize: bool = True) -> FloatArray:
    """Checks one vector, shortens it if asked to, and brings it to unit length.

    Args:
        value: A list of numbers, as decoded.
        server: How errors call the server.
        keep: How many of the first values to keep (MRL): cut first, then normalised.
        normalize: Whether to return unit length.

    Raises:
        RemoteAnswerError: If it is no list of finite numbers, shorter than `keep`, or of length zero.
    """
    vector = _numbers(value, server)
    if keep is not None:
        if len(vector) < keep:
            raise RemoteAnswerError(f"{server} returned vectors of width {len(vector)}, too short for {keep}")
        vector = vector[:keep]
    norm = float(np.linalg.norm(vector))
    if not norm > _MIN_NORM:
        raise RemoteAnswerError(f"{server} returned a vector of length {norm:g}, which has no direction")
    return (vector / norm if normalize else vector).astype(np.float32)


def check_widths(vectors: Sequence[FloatArray], width: int | None, server: str) -> None:
    """Checks that vectors have one width, and the one that was asked for.

    Raises:
        RemoteAnswerError: If not.
    """
    found = sorted({len(vector) for vector in vectors})
    expected = [width] if width is not None else found[:1]
    if found and found != expected:
        raise RemoteAnswerError(
            f"{server} returned vectors of width {', '.join(map(str, found))} where {width or 'one'} is asked for"
        )


def embedding(value: Any, output: Output, server: str, *, keep: int | None = None, normalize: bool = True) -> Embedding:
    """Checks one text's row: a list of numbers, or DashScope's object with a dense and a sparse vector.

    Raises:
        RemoteAnswerError: If what was asked for is missing or malformed.
    """
    fields = value if isinstance(value, Mapping) else {"embedding": value}
    if missing := [name for name in _FIELDS[output] if fields.get(name) is None]:
        raise RemoteAnswerError(f"{server} returned no {' and no '.join(missing)} in {value!r:.120}")
    dense = None if output == "sparse" else dense_vector(fields["embedding"], server, keep=keep, normalize=normalize)
    return Embedding(dense, None if output == "dense" else _sparse_vector(fields["sparse_embedding"], server))


def probability(value: Any, server: str) -> float:
    """Checks one score.

    Raises:
        RemoteAnswerError: If it is no number between 0 and 1.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_ROUNDING <= value <= 1 + _ROUNDING:
        raise RemoteAnswerError(
            f"{server} returned the score {value!r}, which is no probability: start it so that it applies its activation, "
            "or pass scores='logit' if these are logits"
        )
    return min(1.0, max(0.0, float(value)))


def logit(value: Any, server: str) -> float:
    """Checks one raw score.

    Raises:
        RemoteAnswerError: If it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise RemoteAnswerError(f"{server} returned the score {value!r}, which is no finite number")
    return float(value)


def _numbers(value: Any, server: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        array = np.asarray(value) if isinstance(value, list) else np.empty(0, object)
    except ValueError:  # lists of unequal lengths
        array = np.empty(0, object)
    if array.ndim != 1 or array.dtype.kind not in "fiu" or not (np.abs(array) <= _LARGEST).all():
        raise RemoteAnswerError(f"{server} returned a vector that is no list of finite numbers: {value!r:.80}")
    return array.astype(np.float64)


def _sparse_vector(value: Any, server: str) -> SparseVector:
    try:
        entries = sorted((int(item["index"]), float(item["value"]), str(item.get("token", ""))) for item in value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RemoteAnswerError(f"{server} returned a malformed sparse vector: {value!r:.120}") from error
    indices = np.array([index for index, _, _ in entries], np.int64)
    values = np.array([weight for _, weight, _ in entries], np.float32)
    if len(set(indices.tolist())) != len(indices) or (indices < 0).any() or not np.isfinite(values).all():
        raise RemoteAnswerError(f"{server} returned a sparse vector with entries twice, below zero or not finite")
    tokens = tuple(token for _, _, token in entries)
    return SparseVector(indices, values, tokens if any(tokens) else ())
