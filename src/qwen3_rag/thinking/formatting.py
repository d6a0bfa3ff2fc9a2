"""The second of two calls, where a model can't think and keep to a format at once.

It is Model Studio's own recipe: think freely, then let a call that does not think put the answer into JSON. Source:
https://help.aliyun.com/zh/model-studio/qwen-structured-output
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

JSON_OBJECT: Final[Mapping[str, str]] = MappingProxyType({"type": "json_object"})
"""The `response_format` of any JSON object; the prompt must have the word "json"."""

_TASK: Final = (
    "Put the answer into one JSON object{fit}. Keep what it says, add nothing, and write only the JSON object."
)
_SCHEMA: Final = "\n\nJSON schema:\n{schema}"


def formatting_messages(question: str, answer: str, form: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the messages of a call that brings an answer into a format.

    Args:
        question: What was asked, as it may hold names that the format needs.
        answer: What was answered.
        form: The `response_format`.
    """
    schema = form.get("json_schema", {}).get("schema")
    system = _TASK.format(fit=" that is valid for the JSON schema" if schema else "")
    if schema:
        system += _SCHEMA.format(schema=json.dumps(schema, ensure_ascii=False))
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": f"Question:\n{question}\n\nAnswer:\n{answer}"},
    ]
