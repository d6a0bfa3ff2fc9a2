"""The "model": a deterministic script that thinks, answers, calls tools and writes JSON, by rules on the request."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chat_server.schema import Words, fill

MARK = "Let me think"  # the model's reasoning begins with it, no answer has it
_EFFORT_TOKENS = ((4096, 24), (16384, 48))
_MOST = 96  # tokens of reasoning without any limit
_TOKEN = re.compile(r"\s*(?:[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+|[^\w\s])|\s+")
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a about an and are as at by can do for from get given how i in is it me my of on or please tell that the to use "
        "using was what when where which who will with you your tool function returns return s",
    )
)


def tokens(text: str) -> list[str]:
    """Words with the white space before them; CJK characters one by one. Their concatenation is the text."""
    return _TOKEN.findall(text)


Call = tuple[Mapping[str, Any], str]  # the function of a tool, and the text that its arguments come from


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: str
    id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says: one choice, before it is spelled for a server."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: str = "stop"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, as the model gets it once a server has read its spelling of the switches."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    thinks: bool = False
    budget: int | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Any = None
    parallel: bool = True
    response_format: Mapping[str, Any] | None = None
    obeys_format: bool = True
    stop: tuple[str, ...] = ()
    max_answer: int | None = None
    max_all: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def text_of(content: Any) -> str:
    """The text of a message's content, a string or a list of parts."""
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content or () if isinstance(part, Mapping)).strip()


def running(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The messages after the last one of the user: the tool loop that is running."""
    last = max((i for i, m in enumerate(messages) if m.get("role") == "user"), default=-1)
    return messages[last + 1 :]


def question_of(messages: Sequence[Mapping[str, Any]]) -> str:
    return next((text_of(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), "")


def reason(question: str, budget: int | None) -> str:
    """Reasoning about a question, as long as its budget in tokens lets it be."""
    size = next((size for limit, size in _EFFORT_TOKENS if budget is not None and budget <= limit), _MOST)
    if budget is not None:
        size = min(size, budget)
    topic = "".join(tokens(_plain(question))[:8]).strip() or "this"
    text = f"{MARK} about “{topic}” first."
    step = 0
    while len(tokens(text)) < size:
        step += 1
        text += f" Step {step}: I look at part {step} of it and keep what matters."
    return "".join(tokens(text)[:size])


def _plain(text: str) -> str:
    return re.sub(r"[<>“”]", "", text).replace("/no_think", "").replace("/think", "").strip()


def _stems(text: str) -> set[str]:
    return {w for w in re.findall(r"[^\W_]+", text.lower()) if w not in _COMMON}


def _is_format(tool: Mapping[str, Any]) -> bool:
    """Frameworks offer the class of a structured answer as one more tool; such a one is called last."""
    return str(tool["name"])[:1].isupper()


def _named_calls(ask: Ask, question: str) -> list[Call]:
    """A call for each tool that the question names, with what stands behind the name: "add(1, 2) and add(3, 4)"."""
    tools = {tool["function"]["name"]: tool["function"] for tool in ask.tools}
    names = "|".join(re.escape(name) for name in sorted(tools, key=len, reverse=True))
    found = list(re.finditer(rf"(?<!\w)(?:{names})(?!\w)", question)) if names else []
    ends = [*(match.start() for match in found), len(question)][1:]
    parts = [(tools[m.group()], question[m.start() : end]) for m, end in zip(found, ends, strict=True)]
    with_arguments = [(tool, part) for tool, part in parts if part.startswith(f"{tool['name']}(")]
    once = {tool["name"]: (tool, question) for tool, _ in parts}
    calls = with_arguments or list(once.values())
    done = sum(len(m.get("tool_calls") or ()) for m in running(ask.messages))
    return calls[done:] if ask.parallel else calls[done : done + 1]


def _choose(ask: Ask, question: str) -> list[Call]:
    """The tools to call now, each with the text that its arguments come from."""
    tools = [t["function"] for t in ask.tools]
    if not tools or ask.tool_choice == "none":
        return []
    if isinstance(ask.tool_choice, Mapping):
        wanted = ask.tool_choice.get("function", {}).get("name")
        return [(t, question) for t in tools if t["name"] == wanted]
    named = _named_calls(ask, question)
    if named:
        return named
    loop = running(ask.messages)
    called = {c["function"]["name"] for m in loop for c in m.get("tool_calls") or ()}
    rest = [t for t in tools if t["name"] not in called]
    ordinary = [t for t in rest if not _is_format(t)]
    formats = [t for t in rest if _is_format(t)]
    if not loop or loop[-1].get("role") != "tool":
        words = _stems(question)
        scores = [len(words & _stems(f"{t['name'].replace('_', ' ')} {t.get('description', '')}")) for t in ordinary]
        if scores and max(scores) > 0:
            return [(ordinary[scores.index(max(scores))], question)]
    if formats:
        return [(formats[0], question)]
    return [((ordinary or tools)[0], question)] if ask.tool_choice == "required" else []


def _call(ask: Ask, tool: Mapping[str, Any], source: str, index: int) -> ToolCall:
    results = [text_of(m.get("content")) for m in running(ask.messages) if m.get("role") == "tool"]
    text = " ".join(results) if results and _is_format(tool) else source
    words = Words(_plain(text), phrase=_is_format(tool))
    arguments = json.dumps(fill(tool.get("parameters") or {"type": "object"}, words), ensure_ascii=False)
    digest = hashlib.sha256(f"{ask.model}{source}{tool['name']}{index}{len(ask.messages)}".encode()).hexdigest()
    return ToolCall(tool["name"], arguments, f"call_{digest[:22]}")


def _schema_in(text: str) -> Mapping[str, Any] | None:
    """The last JSON schema that stands in a prompt."""
    found = None
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("properties"), dict):
            found = found if found and str(value) in str(found) else value
    return found


def _json(ask: Ask, question: str) -> str:
    form = ask.response_format or {}
    prompt = "\n".join(text_of(m.get("content")) for m in ask.messages if m.get("role") in {"system", "user"})
    schema = form.get("json_schema", {}).get("schema") if form.get("type") == "json_schema" else _schema_in(prompt)
    if schema is None:  # JSON mode with the keys in words: "with 'setup' and 'punchline' keys"
        keys = re.findall(r"['\"`](\w+)['\"`]", prompt) or ["answer"]
        schema = {"type": "object", "properties": {k: {"type": "string"} for k in keys}, "required": keys}
    topic = question.split("{", 1)[0]
    value = fill(schema, Words(_plain(topic), phrase=True))
    return json.dumps(value, ensure_ascii=False)


def _text(ask: Ask, question: str) -> str:
    results = [text_of(m.get("content")) for m in running(ask.messages) if m.get("role") == "tool"]
    if results:
        return f"The tools say: {'; '.join(results)}. That is my answer."
    said = "".join(tokens(_plain(question))[:24]).strip()
    return f"Hello, this is {ask.model}. You said: “{said}”. Here is a short answer to it, in three sentences."


def answer(ask: Ask) -> Answer:
    """What the model says to a request."""
    question = question_of(ask.messages)
    thoughts = reason(question, ask.budget) if ask.thinks else ""
    tools = _choose(ask, question)
    if tools:
        calls = tuple(_call(ask, tool, source, i) for i, (tool, source) in enumerate(tools))
        return Answer("", thoughts, calls, "tool_calls")
    wants_json = (ask.response_format or {}).get("type") in {"json_object", "json_schema"} and ask.obeys_format
    return limit(Answer(_json(ask, question) if wants_json else _text(ask, question), thoughts), ask)


def limit(answer: Answer, ask: Ask) -> Answer:
    """Applies stop sequences, and the limits of the answer and of the whole."""
    text, reasoning, finish = answer.text, answer.reasoning, answer.finish
    ends = [text.find(s) for s in ask.stop if s and s in text]
    if ends:
        text = text[: min(ends)]
    if ask.max_all is not None:
        thought = tokens(reasoning)
        if len(thought) + len(tokens(text)) > ask.max_all:
            finish = "length"
        reasoning = "".join(thought[: ask.max_all])
        text = "".join(tokens(text)[: max(ask.max_all - len(thought), 0)])
    if ask.max_answer is not None and len(tokens(text)) > ask.max_answer:
        text, finish = "".join(tokens(text)[: ask.max_answer]), "length"
    return Answer(text, reasoning, answer.calls, finish)
