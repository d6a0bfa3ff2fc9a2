"""What LangChain's users give as a schema, as a `response_format` on the wire."""

from __future__ import annotations

from typing import Any, TypeAlias

from langchain_core.utils.function_calling import convert_to_openai_function

Schema: TypeAlias = dict[str, Any] | type


def response_format(schema: Schema, *, strict: bool | None) -> dict[str, Any]:
    """Returns the `response_format` of a schema.

    Args:
        schema: A Pydantic or TypedDict class, a JSON schema with a title, OpenAI's `{"name", "schema"}`, or a whole
            `response_format`, which is returned as it is.
        strict: Whether the answer must match exactly; `None` leaves that to what the schema says itself.
    """
    if isinstance(schema, dict) and schema.get("type") in ("json_schema", "json_object", "text"):
        return schema
    if isinstance(schema, dict) and {"name", "schema"} <= schema.keys():
        named = schema if strict is None else {**schema, "strict": strict}
        return {"type": "json_schema", "json_schema": named}
    function = convert_to_openai_function(schema, strict=strict)
    fields = function.pop("parameters", {"type": "object"})
    return {"type": "json_schema", "json_schema": {**function, "schema": fields}}
