"""JSON for a JSON schema, from the words of a conversation: the arguments and the structured answers of the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_QUOTED = re.compile(r"(?<!\w)'([^']+)'(?!\w)|\"([^\"]+)\"|“([^”]+)”|‘([^’]+)’|「([^」]+)」|『([^』]+)』|`([^`]+)`")
_PLACE = re.compile(r"\b(?:in|at|for|of|from|to|near)\s+([A-Z][\w'-]*(?:,?\s+[A-Z][\w'-]*)*)")
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class Words:
    """The values that a text offers; each number and quotation is handed out once, in the order of the text."""

    def __init__(self, text: str, *, phrase: bool) -> None:
        """Args: the user's text, and whether a string shall be a phrase about it rather than a piece of it."""
        self.text = text.strip()
        self.phrase = phrase
        self.all_numbers = [float(n) for n in _NUMBER.findall(text)]
        self.all_strings = [next(filter(None, match)) for match in _QUOTED.findall(text)] + _PLACE.findall(text)
        self._numbers: Iterator[float] = iter(self.all_numbers)
        self._strings: Iterator[str] = iter(self.all_strings)

    def number(self, default: float) -> float:
        return next(self._numbers, default)

    def string(self, title: str) -> str:
        if self.phrase:
            return f"{title}: {self.text}" if self.text else title
        return next(self._strings, self.text or title)

    def mentions(self, value: object) -> bool:
        return str(value).lower() in self.text.lower()


def _resolve(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        return {}
    out = dict(schema)
    while "$ref" in out:
        target: Any = root
        for part in str(out.pop("$ref")).lstrip("#/").split("/"):
            target = target[part]
        out = {**target, **out}
    for part in out.pop("allOf", ()):
        out = {**_resolve(part, root), **out}
    options = out.pop("anyOf", None) or out.pop("oneOf", None)
    if options:
        resolved = [_resolve(option, root) for option in options]
        out = {**out, **next((o for o in resolved if o.get("type") != "null"), resolved[0])}
    if isinstance(out.get("type"), list):
        out["type"] = next((t for t in out["type"] if t != "null"), "null")
    return out


def fill(schema: Mapping[str, Any], words: Words, root: Mapping[str, Any] | None = None, name: str = "") -> Any:
    """A value that is valid for `schema`. Properties that are not required are left out unless the text names them."""
    root = schema if root is None else root
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return next((value for value in schema["enum"] if words.mentions(value)), schema["enum"][0])
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    if kind == "object":
        return _object(schema, words, root)
    if kind == "array":
        return _array(schema, words, root, name)
    if kind in {"integer", "number"}:
        return _number(schema, words, whole=kind == "integer")
    return {"boolean": True, "null": None}[kind] if kind in {"boolean", "null"} else _string(schema, words, name)


def _object(schema: Mapping[str, Any], words: Words, root: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {
        k: v for k, v in schema.get("properties", {}).items() if k in schema.get("required", ()) or words.mentions(k)
    }
    return {key: fill(part, words, root, key) for key, part in wanted.items()}


def _array(schema: Mapping[str, Any], words: Words, root: Mapping[str, Any], name: str) -> list[Any]:
    items = _resolve(schema.get("items", {}), root)
    offered = {"integer": words.all_numbers, "number": words.all_numbers, "string": words.all_strings}
    count = len(offered.get(str(items.get("type")), ())) if not words.phrase else 0
    count = max(count, schema.get("minItems", 1), 1)
    return [fill(items, words, root, name) for _ in range(min(count, schema.get("maxItems", count)))]


def _number(schema: Mapping[str, Any], words: Words, *, whole: bool) -> float | int:
    value = words.number(schema.get("default") or 1)
    step = 1 if whole else 1e-3
    low = schema.get("minimum", schema["exclusiveMinimum"] + step if "exclusiveMinimum" in schema else value)
    high = schema.get("maximum", schema["exclusiveMaximum"] - step if "exclusiveMaximum" in schema else value)
    value = min(max(value, low), high)
    return int(value) if whole or value == int(value) else value


def _string(schema: Mapping[str, Any], words: Words, name: str) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    text = words.string(str(schema.get("description") or schema.get("title") or name or "text"))
    return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), ".")
