"""`qwen3-rag chat` and `compare` over the loopback server: what goes where, when, and what is told at the end."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import qwen3_rag
from qwen3_rag.cli import chat_commands, main
from qwen3_rag.errors import InputError
from qwen3_rag.thinking import LEARNED
from tests.chat_server import KEY, MARK, ChatServer

PUZZLE = "A and B depart. When will B catch up?"
THOUGHT = "Let me think.\n\tA is 10 km ahead."
SAID = "**After 1 hour.**\n\tB is faster."


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def server():
    with ChatServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _environment(server, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("DASHSCOPE_", "FORCE_", "NO_COLOR"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DASHSCOPE_COMPATIBLE_BASE_URL", server.url)
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    # The command sets these for its own process; here they are put back.
    for name in ("HF_HUB_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    LEARNED.clear()


def start(*argv: str, **options) -> subprocess.Popen[str]:
    """Starts the command in a process of its own, with pipes."""
    environment = {**os.environ, "PYTHONPATH": str(Path(qwen3_rag.__file__).parents[1]), "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(
        [sys.executable, "-m", "qwen3_rag.cli", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
        **options,
    )


def failure(capsys, status: int, *argv: str) -> str:
    """Runs a command that must fail and returns its single line on standard error."""
    assert main(argv) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def answered(capsys, *argv: str) -> dict:
    """Runs a command with --json and returns what it wrote."""
    assert main([*argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_the_answer_alone_is_on_standard_output(server):
    server.reply(SAID, reasoning=THOUGHT)
    with start("chat", PUZZLE, "--thinking") as process:
        out, err = process.communicate()
    assert process.returncode == 0
    assert out == f"{SAID}\n"
    reasoning, _, summary = err.partition("\ndone: ")
    assert reasoning == THOUGHT
    assert "qwen-plus; " in summary
    assert " of reasoning, " in summary
    assert summary.endswith(" s in all\n")
    assert "\x1b" not in out + err


def test_every_piece_is_shown_as_it_comes(server):
    """With pauses between the server's events, the first words are there long before the last ones."""
    server.reply("one two three", reasoning="first second third", pause=0.5)
    with start("chat", PUZZLE, "--thinking") as process:
        assert process.stderr.read(5) == "first"
        assert process.poll() is None
        assert process.stdout.read(3) == "one"
        assert process.poll() is None  # two more words and the usage are to come
        out, err = process.communicate()
    assert out == " two three\n"
    assert err.startswith(" second third\ndone: ")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a single process")
def test_an_interruption_ends_cleanly_and_closes_the_connection(server):
    server.reply("never said " * 50, reasoning="on and on " * 50, pause=0.1)
    # A runner in the background may ignore SIGINT, and its children with it.
    default = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with start("chat", PUZZLE, "--thinking", **default) as process:
        assert process.stderr.read(6) == "on and"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in err
    assert server.settled()
    assert server.last.aborted


def test_a_reader_that_goes_away_is_no_disaster(server):
    server.reply("word " * 200, pause=0.02)
    with start("chat", PUZZLE) as process:
        assert process.stdout.read(4) == "word"
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("argv", "sent", "thinks"),
    [
        ([], {}, False),
        (["--thinking"], {"enable_thinking": True}, True),
        (["--no-thinking"], {"enable_thinking": False}, False),
        (["--budget", "20"], {"enable_thinking": True, "thinking_budget": 20}, True),
        (["--effort", "low"], {"enable_thinking": True, "thinking_budget": 4096}, True),
        (["--thinking", "--effort", "high"], {"enable_thinking": True}, True),
    ],
)
def test_the_options_reach_the_server(server, capsys, argv, sent, thinks):
    assert main(["chat", PUZZLE, *argv]) == 0
    body = server.last.body
    assert {name: body[name] for name in body if "think" in name or "effort" in name} == sent
    assert server.last.thinks is thinks
    assert (MARK in capsys.readouterr().err) is thinks


def test_model_and_system_prompt(server, capsys):
    assert main(["chat", PUZZLE, "--model", "qwen3-max", "--system", "Be brief."]) == 0
    assert "this is qwen3-max" in capsys.readouterr().out
    assert server.last.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": PUZZLE},
    ]


def test_another_server_by_its_url_its_dialect_and_its_key(server, capsys, monkeypatch):
    url = server.url_for("deepseek")
    deepseek = [
        "chat",
        PUZZLE,
        "--base-url",
        url,
        "--model",
        "deepseek-v4-flash",
        "--dialect",
        "deepseek",
        "--thinking",
    ]
    # A key from the environment is not sent to a host that is not the vendor's, unless it is named.
    assert "api_key" in failure(capsys, 1, *deepseek)
    assert server.requests == []
    monkeypatch.setenv("MY_GATEWAY", KEY)
    assert main([*deepseek, "--key-env", "MY_GATEWAY"]) == 0
    assert server.last.body["thinking"] == {"type": "enabled"}
    assert MARK in capsys.readouterr().err
    # A local server needs none, and on an unknown port it is taken for vLLM.
    assert (
        main(["chat", PUZZLE, "--base-url", server.url_for("vllm"), "--model", "Qwen/Qwen3-8B", "--no-thinking"]) == 0
    )
    assert server.last.body["chat_template_kwargs"] == {"enable_thinking": False}
    assert MARK not in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["chat"], ["chat", "-"], ["compare"], ["compare", "-"]])
def test_the_prompt_comes_from_standard_input(server, capsys, monkeypatch, argv):
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is Milvus?\nIn one line.\n"))
    assert main(argv) == 0
    assert server.last.body["messages"][-1]["content"] == "What is Milvus?\nIn one line.\n"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # which it is, Python decides by the locale
@pytest.mark.parametrize("command", ["chat", "compare", "ask"])
def test_a_prompt_that_is_no_utf8_is_an_error(server, capsys, monkeypatch, command, errors):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Un caf\xe9?"), encoding="utf-8", errors=errors))
    assert "prompt" in failure(capsys, 1, command)
    assert "system prompt" in failure(capsys, 1, command, PUZZLE, "--system", "caf\udce9")
    assert server.requests == []


def test_without_a_prompt_a_terminal_is_not_waited_for(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal("not read"))
    assert failure(capsys, 2, "chat").startswith("usage error: Invalid value for PROMPT: give one")
    assert chat_commands.read_prompt("-") == "not read"


def test_json_is_all_there_is(server, capsys):
    server.reply(SAID, reasoning=THOUGHT)
    result = answered(capsys, "chat", PUZZLE, "--budget", "100")
    assert (result["question"], result["reasoning"], result["answer"]) == (PUZZLE, THOUGHT, SAID)
    assert (result["model"], result["finish_reason"], result["notes"]) == ("qwen-plus", "stop", [])
    assert (result["thinking"]["enabled"], result["thinking"]["budget"]) == (True, 100)
    tokens = result["tokens"]
    assert tokens["output"] == tokens["reasoning"] + tokens["answer"]
    assert min(tokens["input"], tokens["reasoning"], tokens["answer"]) > 0
    seconds = result["seconds"]
    assert 0 < seconds["first_token"] < seconds["first_answer"] < seconds["total"]
    assert result["request_id"] == server.last.request_id


def test_what_a_server_does_not_say_is_not_made_up(server, capsys):
    """Ollama counts no reasoning tokens: neither they nor those of the answer are known."""
    ollama = ["--base-url", server.url_for("ollama"), "--dialect", "ollama", "--model", "qwen3:8b"]
    result = answered(capsys, "chat", PUZZLE, "--thinking", *ollama)
    assert MARK in result["reasoning"]
    assert (result["tokens"]["reasoning"], result["tokens"]["answer"]) == (None, None)
    assert result["tokens"]["output"] > 0
    assert main(["chat", PUZZLE, "--thinking", *ollama]) == 0
    assert " out, reasoning included; " in capsys.readouterr().err
    server.reply("answer", usage=None)
    assert answered(capsys, "chat", PUZZLE)["tokens"] is None
    server.reply("answer", usage=None)
    assert main(["chat", PUZZLE]) == 0
    assert "; tokens not said; " in capsys.readouterr().err
    assert main(["compare", PUZZLE, *ollama]) == 0
    assert capsys.readouterr().out.count("not said") == 2


def test_an_answer_that_was_cut_is_told(server, capsys):
    server.reply("The answer is", finish_reason="length")
    assert main(["chat", PUZZLE]) == 0
    out, err = capsys.readouterr()
    assert out == "The answer is\n"
    assert "warning: the answer is not whole: the server ended it with 'length'\n" in err


def test_an_answer_that_breaks_off_is_kept_and_the_error_is_one_line(server, capsys):
    server.fail("cut_in_answer", times=None)
    assert main(["chat", PUZZLE, "--thinking"]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("\n")
    assert out.strip()
    assert err.splitlines()[-1].startswith("error: qwen-plus")


def test_what_could_not_be_had_is_a_warning(capsys):
    assert main(["chat", PUZZLE, "--thinking", "--model", "qwen3-coder-flash"]) == 0
    assert capsys.readouterr().err.startswith("warning: qwen3-coder-flash")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["chat", " "], ["prompt is empty"]),
        (["chat", "hi", "--budget", "0"], ["positive", "0"]),
        (["chat", "hi", "--effort", "huge"], ["low, medium, high", "'huge'"]),
        (["chat", "hi", "--effort", "low", "--budget", "9"], ["'low'", "9", "exclude"]),
        (["chat", "hi", "--no-thinking", "--budget", "9"], ["--no-thinking", "--budget"]),
        (["chat", "hi", "--no-thinking", "--effort", "low"], ["--no-thinking", "--effort"]),
        (["chat", "hi", "--region", "intl", "--base-url", "http://localhost:1/v1"], ["intl", "http://localhost:1/v1"]),
        (["chat", "hi", "--dialect", "klingon"], ["'klingon'", "vllm"]),
        (["chat", "hi", "--key-env", "NO_SUCH_KEY"], ["'NO_SUCH_KEY'", "not set"]),
        (["chat", "hi", "--model", "nope"], ["nope", "404", "Way out"]),
        (["chat", "hi", "--base-url", "http://127.0.0.1:1/v1"], ["127.0.0.1:1", "base_url"]),
        (["compare", "hi", "--price-in", "1"], ["--price-out"]),
        (["compare", "hi", "--price-out", "1"], ["--price-in"]),
        (["compare", "hi", "--price-in", "-1", "--price-out", "1"], ["-1"]),
        (["compare", "hi", "--price-in", "nan", "--price-out", "1"], ["nan"]),
    ],
)
def test_errors_are_one_line_and_status_1(capsys, argv, words):
    error = failure(capsys, 1, *argv)
    assert error.startswith("error: ")
    assert all(word in error for word in words), error


@pytest.mark.parametrize("argv", [["chat", "a", "b"], ["chat", "a", "--budget", "x"], ["compare", "a", "--thinking"]])
def test_wrong_usage_is_one_line_and_status_2(capsys, argv):
    assert failure(capsys, 2, *argv).startswith("usage error: ")


def test_a_refused_or_missing_key_is_one_line_without_the_key(capsys, monkeypatch):
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-very-secret")
    error = failure(capsys, 1, "chat", "hi")
    assert "401" in error
    assert "secret" not in error
    monkeypatch.delenv("DASHSCOPE_API_KEY")
    assert "DASHSCOPE_API_KEY" in failure(capsys, 1, "chat", "hi")


@pytest.mark.parametrize("missing", ["langchain_core", "langchain_openai"])
def test_without_langchain_the_extra_is_named(missing):
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from qwen3_rag.cli import main; sys.exit(main(['chat', 'hi']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(qwen3_rag.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert (result.returncode, result.stdout) == (1, "")
    name = missing.replace("_", "-")
    assert result.stderr == f"error: {name!r} is not installed: pip install 'qwen3-rag[langchain]'\n"


def test_on_a_terminal_reasoning_is_dim_and_nobody_else_drives_the_cursor(server, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    server.reply("safe\x1b[2J\x07 text\n\tindented", reasoning="a\x9b31mb")
    assert main(["chat", PUZZLE, "--thinking"]) == 0
    assert out.getvalue() == "safe\ufffd[2J\ufffd text\n\tindented\n"
    assert "\x1b[2m" in err.getvalue()
    assert "\x9b" not in err.getvalue()
    plain = err.getvalue().replace("\x1b[2m", "").replace("\x1b[22m", "")
    assert plain.startswith("a\ufffd31mb\ndone: ")


def test_compare_asks_twice_and_shows_both_side_by_side(server, capsys):
    server.reply("At eight.", when=lambda request: not request.thinks)
    server.reply(SAID, reasoning=THOUGHT, when=lambda request: request.thinks)
    assert main(["compare", PUZZLE, "--budget", "500", "--price-in", "1000", "--price-out", "2000"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [body["enable_thinking"] for body in server.bodies] == [False, True]
    assert server.last.body["thinking_budget"] == 500
    lines = out.splitlines()
    assert lines[0].split() == ["without", "thinking", "with", "thinking"]
    rows = {line[:20].strip(): line[20:].split() for line in lines[2:]}
    assert rows["answer"] == ["At", "eight.", "**After", "1", "hour.**"]
    assert rows["reasoning"] == ["Let", "me", "think."]
    assert rows["reasoning tokens"][0] == "0"
    assert int(rows["reasoning tokens"][1]) > 0
    for name in ("first token", "first of the answer", "all of it"):
        assert rows[name][1::2] == ["s", "s"]
    assert [float(cost) > 0 for cost in rows["cost"]] == [True, True]


def test_compare_as_json_and_what_it_costs(server, capsys):
    result = answered(capsys, "compare", PUZZLE, "--price-in", "2", "--price-out", "8")
    assert result["question"] == PUZZLE
    without, thinking = result["without_thinking"], result["with_thinking"]
    assert (without["reasoning"], without["tokens"]["reasoning"]) == ("", 0)
    assert without["seconds"]["first_token"] == without["seconds"]["first_answer"]
    assert MARK in thinking["reasoning"]
    assert thinking["seconds"]["first_token"] < thinking["seconds"]["first_answer"]
    for side in (without, thinking):
        tokens = side["tokens"]
        assert side["cost"] == pytest.approx((tokens["input"] * 2 + tokens["output"] * 8) / 1e6)
    assert thinking["cost"] > without["cost"]
    assert answered(capsys, "compare", PUZZLE)["with_thinking"]["cost"] is None


def test_compare_shows_the_beginning_of_a_long_thought_and_json_all_of_it(server, capsys):
    thought = "step " * 300
    server.reply("short", reasoning=thought, times=None, when=lambda request: request.thinks)
    assert main(["compare", PUZZLE]) == 0
    out = capsys.readouterr().out
    assert " …" in out
    assert out.count("step") < 150
    assert answered(capsys, "compare", PUZZLE)["with_thinking"]["reasoning"] == thought


def test_compare_says_which_answer_was_cut(server, capsys):
    server.reply("cut", finish_reason="length", when=lambda request: request.thinks)
    assert main(["compare", PUZZLE]) == 0
    assert capsys.readouterr().err == "warning: the answer with thinking is not whole: 'length'\n"


def test_compare_tells_a_terminal_what_it_waits_for(server, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    # It is drawn every 80 ms; both calls take longer.
    server.reply("word " * 10, pause=0.1)
    server.reply("x", reasoning="thought " * 10, pause=0.1)
    assert main(["compare", PUZZLE]) == 0
    assert "without thinking: " in err.getvalue()
    assert "with thinking: thinking, " in err.getvalue()
    assert "without thinking: " not in capsys.readouterr().out


def test_help_names_the_options(capsys):
    assert main(["chat", "--help"]) == 0
    out = capsys.readouterr().out
    options = ("--thinking", "--no-thinking", "--budget", "--effort", "--model", "--base-url", "--region", "--dialect")
    assert all(option in out for option in (*options, "--system", "--json"))
    assert main(["compare", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(option in out for option in ("--price-in", "--price-out", "--json"))


def test_an_empty_question_is_refused_before_anything_is_sent(server, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(InputError, match="prompt is empty"):
        chat_commands.chat_command()
    assert server.requests == []
