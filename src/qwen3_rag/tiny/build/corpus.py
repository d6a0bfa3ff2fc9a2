"""Turns the pinned packages into passages, (query, passage) pairs and Chinese passages."""
# ruff: noqa: PLR2004 - the numbers here are the recipe

import ast
import hashlib
import json
import random
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from qwen3_rag.tiny.build import sources

SEED = 20261121
#: Files that are kept out of training; the development questions of the build are about them.
HELD_OUT = ("docs/faq.rst", "docs/faq/", "docs/user/faq", "docs/faq.txt", "docs/userguide/faq")
_CJK = re.compile(r"[\u4e00-\u9fff]")
_PER_SOURCE = 1500
_MAX_CHARS = 1200
_UNDERLINE = re.compile(r"^([=\-~^\"'`#*+.:_])\1{2,}\s*$")
_DROPPED = re.compile(
    r"\.\. (_|\||index|contents|toctree|module|currentmodule|highlight|image|figure|raw)"
    r"|:(maxdepth|caption|class|alt|align|target|hidden|local|depth)\b"
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'(])|(?<=[。！？；])")


@dataclass(frozen=True, slots=True)
class Passage:
    """A section of documentation: its heading (may be empty), its text, and where it is from."""

    source: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """All training text.

    Attributes:
        passages: English sections and docstrings.
        sentences: English sentences of the passages.
        pairs: (query, passage text) in English; the query does not stand in the passage verbatim.
        chinese: Chinese passages.
        held_out: English sections never trained on, for development.
    """

    passages: list[Passage]
    sentences: list[str]
    pairs: list[tuple[str, str]]
    chinese: list[str]
    held_out: list[Passage]


def load(cache: Path) -> Corpus:
    """Return the corpus, reading it from `cache` when it is there and building it otherwise.

    Args:
        cache: folder for archives and extracted text.

    Returns:
        The corpus; the same pins give the same corpus.
    """
    path = cache / "corpus.json"
    if not path.exists():
        corpus = build(cache)
        path.write_text(json.dumps(asdict(corpus), ensure_ascii=False))
        return corpus
    raw = json.loads(path.read_text())
    return Corpus(
        passages=[Passage(**p) for p in raw["passages"]],
        sentences=raw["sentences"],
        pairs=[(q, d) for q, d in raw["pairs"]],
        chinese=raw["chinese"],
        held_out=[Passage(**p) for p in raw["held_out"]],
    )


def build(cache: Path) -> Corpus:
    """Extract the corpus from the pinned archives."""
    english: list[Passage] = []
    chinese: list[str] = []
    held: list[Passage] = []
    for source, archive in sources.fetch(cache).items():
        found: list[Passage] = []
        for name, text in sources.members(archive):
            if any(part in name.lower() for part in HELD_OUT) and not name.endswith(".py"):
                held.extend(_chunks(source.name, name, text))
            else:
                found.extend(_chunks(source.name, name, text))
        if source.chinese:
            chinese.extend(p.text for p in found if _share(p.text) > 0.25 and p.text.count("\n") < 0.1 * len(p.text))
        prose = [p for p in found if _share(p.text) < 0.02 and len(p.text) >= 40]
        english.extend(_sample(prose, _PER_SOURCE))
    held_texts = {_key(p.text) for p in held}
    english = [p for p in _unique(english) if _key(p.text) not in held_texts]
    chinese = sorted(set(chinese))
    rng = random.Random(SEED)
    rng.shuffle(english)
    rng.shuffle(chinese)
    pairs = list(_pairs(english, rng))
    sentences = sorted({s for p in english for s in _sentences(p.text)})
    rng.shuffle(sentences)
    return Corpus(english, sentences[:24000], pairs, chinese[:6000], _unique(held))


def question_of(title: str, rng: random.Random) -> str:
    """Turn a heading or a summary line into something a person might ask."""
    title = title.strip().rstrip(".:").replace("`", "").replace("*", "")
    first, _, rest = title.partition(" ")
    low = first.lower()
    if title.endswith("?") or not rest:
        return title if title.endswith("?") else rng.choice((f"What is {title}?", f"How does {title} work?", title))
    verb = {"return": "get", "returns": "get", "gets": "get", "sets": "set", "creates": "create"}.get(low, low)
    if low.endswith("ing") and len(low) > 5:
        return rng.choice((f"How do I go about {low} {rest}?", f"Tips for {low} {rest}", f"help with {low} {rest}"))
    if verb in _VERBS:
        starts = ("How do I", "How can I", "Is it possible to", "What is the way to", "Can I", "I want to")
        start = rng.choice(starts)
        return f"{start} {verb} {rest}" + ("" if start == "I want to" else "?")
    keep = first if first.isupper() else low
    return rng.choice((f"What should I know about {keep} {rest}?", f"Explain {keep} {rest}", f"{keep} {rest}"))


_VERB_LIST = """
get set create add remove delete update check compute convert configure connect define disable enable find
fetch generate handle insert install list load make open parse query read register replace run save search
send show sort start stop store test use write change choose build call close compare copy count drop apply
split merge encode decode print raise wait limit increase reduce avoid fix debug monitor deploy scale
"""
_VERBS = frozenset(_VERB_LIST.split())


def _chunks(source: str, name: str, text: str) -> Iterator[Passage]:
    if name.endswith(".py"):
        yield from _docstrings(source, text)
    elif name.endswith(".po"):
        joined = "\n".join(re.findall(r'^msgstr "(.+)"$', text, flags=re.MULTILINE))
        yield from _sections(source, joined)
    else:
        body = text.split("\n\n", 1)[-1] if name.endswith("METADATA") else text
        yield from _sections(source, _plain(body))


def _docstrings(source: str, text: str) -> Iterator[Passage]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        doc = ast.get_docstring(node)
        if not doc or (len(doc) < 40 and (len(doc) < 10 or _share(doc) < 0.5)):
            continue
        doc = _plain(doc)
        summary, _, rest = doc.partition("\n\n")
        summary = " ".join(summary.split())
        label = "" if isinstance(node, ast.Module) else node.name
        if _share(doc) > 0.25 or len(rest) < 60 or len(summary) > 160:
            yield Passage(source, "", _cut(doc))
        else:
            head = f"{label}\n\n" if label and len(doc) % 2 else ""
            yield Passage(source, summary, _cut(head + rest))


def _plain(text: str) -> str:
    """Make light Markdown of reStructuredText: roles, directives and underlined headings."""
    text = re.sub(r":[a-zA-Z:+-]+:`(?:([^`<]+?)\s*<[^`]*>|[~!]?([^`]+))`", lambda m: f"`{m[1] or m[2]}`", text)
    text = re.sub(r"`([^`<]+?)\s*<([^`>]+)>`__?", r"[\1](\2)", text).replace("``", "`")
    lines: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        previous = lines[-1].strip() if lines else ""
        if _UNDERLINE.match(line) and previous and len(bare) >= len(previous) - 1 and len(previous) < 90:
            lines[-1] = f"## {previous}"
        elif _DROPPED.match(bare):
            continue
        elif not _UNDERLINE.match(line):
            lines.append(re.sub(r"^(\s*)\.\. [\w-]+:: ?", r"\1", line).replace("::", ":").rstrip())
    return "\n".join(lines)


def _sections(source: str, text: str) -> Iterator[Passage]:
    for part in re.split(r"^#{1,6} +(?=\S)", text, flags=re.MULTILINE):
        title, _, body = part.partition("\n")
        body = re.sub(r"\n{3,}", "\n\n", body).strip()
        if len(title) > 120 or _share(title) > 0.1:
            title, body = "", part.strip()
        for piece in _paragraphs(body):
            if len(piece) >= 60 or _share(piece) > 0.25:
                yield Passage(source, title.strip(" #"), piece)


def _paragraphs(text: str) -> Iterator[str]:
    held = ""
    for paragraph in text.split("\n\n"):
        if held and len(held) + len(paragraph) > _MAX_CHARS:
            yield held
            held = ""
        held = f"{held}\n\n{paragraph}" if held else paragraph
        if len(held) > _MAX_CHARS:
            yield held[:_MAX_CHARS]
            held = ""
    if held.strip():
        yield held


def _cut(text: str) -> str:
    return text.strip()[:_MAX_CHARS]


def _share(text: str) -> float:
    return len(_CJK.findall(text)) / max(1, len(text))


def _key(text: str) -> str:
    return " ".join(text.lower().split())[:160]


def _unique(items: Iterable[Passage]) -> list[Passage]:
    return list({_key(p.text): p for p in items}.values())


def _sample(items: list[Passage], limit: int) -> list[Passage]:
    """Keep `limit` passages, chosen by hash so that the choice doesn't depend on their order."""
    unique = _unique(items)
    return sorted(unique, key=lambda p: hashlib.sha256(p.text.encode()).digest())[:limit]


def _sentences(text: str) -> list[str]:
    flat = " ".join(text.split())
    return [s for s in _SENTENCE.split(flat) if 30 <= len(s) <= 300 and sum(c.isalpha() for c in s) > 0.6 * len(s)]


def _pairs(passages: list[Passage], rng: random.Random) -> Iterator[tuple[str, str]]:
    for passage in passages:
        if len(passage.title) >= 8 and len(passage.text) >= 80:
            body = passage.text if rng.random() < 0.5 else f"{passage.title}\n\n{passage.text}"
            yield question_of(passage.title, rng), body[:_MAX_CHARS]
        found = _sentences(passage.text)
        if len(found) >= 3 and rng.random() < 0.5:
            chosen = rng.randrange(len(found))
            rest = " ".join(s for i, s in enumerate(found) if i != chosen)
            yield found[chosen], f"{passage.title}\n\n{rest}"[:_MAX_CHARS]
