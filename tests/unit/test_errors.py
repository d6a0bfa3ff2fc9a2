"""What led to an error, each once."""

from __future__ import annotations

from qwen3_rag.errors import causes


def test_a_circle_of_causes_ends():
    first, second, third = ValueError("1"), KeyError("2"), OSError("3")
    first.__cause__ = first  # `raise error from error`, as pymilvus does
    first.__context__, second.__cause__, third.__context__ = second, third, second
    assert list(causes(first)) == [first, second, third]
