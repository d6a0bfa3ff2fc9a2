"""Every example and every program in the README runs, offline, and its commands exist.

Programs that chat find the loopback server where users have theirs: in the environment.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.main import get_command

from qwen3_rag.cli.app import app
from qwen3_rag.demo import CORPUS
from qwen3_rag.models import chat_facts
from qwen3_rag.thinking import DIALECTS, Decision
from tests.chat_server import KEY, MARK, ChatServer
from tests.integration.offline import run_command, run_offline
from tests.remote_server import vendors
from tests.remote_server.loopback import Loopback

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
README = ROOT / "README.md"

# What each example that chats asks for, in this order: the kind of server, and whether it is to think.
ASKED = {
    "thinking_toggle.py": [("dashscope", thinks) for thinks in (False, True, True, False)],
    "thinking_budget.py": [("dashscope", thinks) for thinks in (True, True, False)],
    "langchain_agent_with_tools.py": [("dashscope", True)] * 2,
    "llama_index_agent_with_tools.py": [("dashscope", True)] * 2,
    "langchain_search_tool.py": [("dashscope", True)] * 2,
    "llama_index_search_tool.py": [("dashscope", True)] * 2,
    "langchain_rag.py": [("dashscope", thinks) for thinks in (False, False, True)],
    "llama_index_rag.py": [("dashscope", thinks) for thinks in (False, True, False, True)],
    "langchain_deep_search.py": [("dashscope", thinks) for thinks in (False, False, True, False)],
    "llama_index_deep_search.py": [("dashscope", thinks) for thinks in (False, False, False, True)],
    "other_servers.py": [(name, on) for name in ("deepseek", "openrouter", "vllm") for on in (False, True)],
}
# ... and what it must have printed.
SAID = {
    "thinking_toggle.py": [
        "not thinking: Hello",
        f"[reasoning]\n{MARK}",
        "[text]\nHello",
        "a calculation",
        "a look-up",
    ],
    "thinking_budget.py": ["grants 300 tokens", "budget is spent", "reasoning tokens spent", " USD"],
    "langchain_agent_with_tools.py": [
        f"[ai thinks] {MARK}",
        "[ai calls] travel_time(",
        "[tool] 1.50 hours",
        "[ai] The",
    ],
    "llama_index_agent_with_tools.py": [MARK, "[travel_time(", "-> 1.50 hours]", "answer: The tools say: 1.50 hours"],
    "langchain_search_tool.py": [
        "[calls] search_handbook(",
        "[found] 0.",
        "answer: The tools say: 1 passage, the best",
    ],
    "llama_index_search_tool.py": [
        "[calls] search_handbook(",
        "[found] 0.",
        "answer: The tools say: 1 passage, the best",
    ],
    "langchain_rag.py": ["answer: Hello", "clearly answers", "[reasoning]", "searched for:", "found: Nothing relevant"],
    "llama_index_rag.py": ["answer: Hello", "cited: []", "clearly answers", "found: Nothing relevant"],
    "langchain_deep_search.py": [
        "round 1 searches for: How do",
        "enough: True",
        "ended by itself",
        "ended by max_calls",
    ],
    "llama_index_deep_search.py": ["answer: Hello", "enough: True", "ended by itself", "max_calls=1 ended the search"],
    "other_servers.py": ["deepseek, thinking=False: 0 characters", "  note: DeepSeek takes efforts, no numbers"],
}

# A block that can't run here, because it needs the hub or a key, says so: <!-- not run: reason -->
BLOCK = re.compile(
    r"(?P<skip><!-- *not run:[^>]*-->\s*)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int
    skipped: bool

    def __str__(self) -> str:
        return f"{self.language}-line-{self.line}"


def blocks(text: str) -> list[Block]:
    return [
        Block(m["language"], m["code"], text.count("\n", 0, m.start("language")) + 1, m["skip"] is not None)
        for m in BLOCK.finditer(text)
    ]


def commands(code: str) -> list[list[str]]:
    """The lines that call `qwen3-rag` and nothing that only a shell understands."""
    lines = (line.strip().removeprefix("$ ") for line in code.replace("\\\n", " ").splitlines())
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("qwen3-rag ")]
    return [words[1:] for words in found if not {"|", ">", "&&", ";"} & set(words)]


README_BLOCKS = blocks(README.read_text(encoding="utf-8")) if README.exists() else []
PROGRAMS = [block for block in README_BLOCKS if block.language == "python"]
README_COMMANDS = [
    command
    for block in README_BLOCKS
    if block.language in {"bash", "sh", "shell", "console"}
    for command in commands(block.code)
]


@pytest.fixture
def folder(tmp_path):
    """A working directory with some documents in it, as the README's reader has one."""
    shutil.copytree(CORPUS, tmp_path / "docs")
    return tmp_path


@pytest.fixture(autouse=True)
def server(monkeypatch):
    """A chat server that DashScope's variables, and those of the examples, name."""
    for name in [name for name in os.environ if name.startswith("DASHSCOPE_")]:
        monkeypatch.delenv(name)
    with ChatServer() as server:
        monkeypatch.setenv("DASHSCOPE_COMPATIBLE_BASE_URL", server.url)
        monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
        for name in ("deepseek", "openrouter", "vllm"):
            monkeypatch.setenv(f"{name.upper()}_BASE_URL", server.url_for(name))
            monkeypatch.setenv(f"{name.upper()}_API_KEY", KEY)
        yield server


@pytest.fixture
def model_server(monkeypatch):
    """DashScope's embeddings and scores, computed with the tiny models."""
    monkeypatch.setattr(vendors, "KEY", KEY)
    with Loopback(vendors.dashscope()) as server:
        monkeypatch.setenv("DASHSCOPE_HTTP_BASE_URL", server.url)
        yield server


def test_both_frameworks_have_a_quickstart():
    assert {"langchain_quickstart.py", "llama_index_quickstart.py"} <= {path.name for path in EXAMPLES}


def chats(code: str) -> bool:
    return re.search("ChatQwen3|Qwen3LLM", code) is not None


def test_every_example_that_chats_is_looked_at():
    assert {path.name for path in EXAMPLES if chats(path.read_text(encoding="utf-8"))} == ASKED.keys() == SAID.keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path, folder, server, model_server):
    result = run_offline("-f", str(path), cwd=folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert [(request.face, request.thinks) for request in server.requests] == ASKED.get(path.name, [])
    assert [words for words in SAID.get(path.name, []) if words not in result.stdout] == []


@pytest.mark.skipif(not README.exists(), reason="there is no README")
def test_the_readme_has_programs_that_run():
    assert any(not block.skipped for block in PROGRAMS)


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_readme_program_runs(block, folder, server):
    compile(block.code, "README.md", "exec")
    if block.skipped:
        pytest.skip("the README says that it needs the hub or a key; it compiles")
    program = folder / "program.py"
    program.write_text(block.code, encoding="utf-8")
    result = run_offline("-f", str(program), cwd=folder)
    assert result.returncode == 0, result.stderr
    assert bool(server.requests) == chats(block.code)


@pytest.mark.parametrize("command", README_COMMANDS, ids=shlex.join)
def test_readme_command_is_understood(command):
    if command[0].startswith("-"):
        get_command(app).make_context("qwen3-rag", list(command), resilient_parsing=True)
    else:
        # Parsing raises for an unknown command, option or value, and does not run anything.
        get_command(app).commands[command[0]].make_context(command[0], list(command[1:]))


@pytest.mark.skipif(not README_COMMANDS, reason="the README has no commands")
def test_readme_commands_that_need_no_hub_run_in_their_order(folder, server):
    asked = 0
    for command in README_COMMANDS:
        talks = command[0] in {"chat", "compare"} and "--base-url" not in command
        talks = talks or (command[0] == "ask" and "tiny" in command)
        if command[0] in {"demo", "collections"} or "tiny" in command or command[0].startswith("-") or talks:
            result = run_command(command, folder)
            assert result.returncode == 0, (command, result.stderr)
            asked += talks * (2 if command[0] == "compare" else 1)
    assert len(server.requests) == asked


# The others are spellings of DashScope's, and "openai" is sent nothing.
@pytest.mark.parametrize("name", sorted(DIALECTS.keys() - {"modelscope", "siliconflow", "openai"}))
def test_readme_spells_each_server_as_the_code_does(name):
    dialect, facts = DIALECTS[name], chat_facts("qwen3-8b")
    text = README.read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {dialect.label} |"))
    wishes = (Decision(True), Decision(False), Decision(True, "low"), Decision(True, budget=1024))
    requests = [dialect.request(wish, facts) for wish in wishes]
    sent = {word for request in requests for word in (*request.body, request.soft_switch) if word}
    assert sent
    assert sent <= set(re.findall(r"`([^`]+)`", row))


def test_blocks_and_commands_are_found():
    text = "a\n```python\nprint(1)\n```\n\n<!-- not run: needs a key -->\n```python\nx\n```\n"
    text += "```bash\n$ qwen3-rag demo # hi\nqwen3-rag search 'a b' \\\n  -k 3\nqwen3-rag demo | head\nmake test\n```\n"
    one, two, three = blocks(text)
    assert (one.code, one.line, one.skipped, two.skipped) == ("print(1)\n", 2, False, True)
    assert commands(three.code) == [["demo"], ["search", "a b", "-k", "3"]]


def test_the_network_guard_works(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import urllib.request; urllib.request.urlopen('http://example.com')", encoding="utf-8")
    result = run_offline("-f", str(program), cwd=tmp_path)
    assert result.returncode != 0
    assert "must work offline" in result.stderr
