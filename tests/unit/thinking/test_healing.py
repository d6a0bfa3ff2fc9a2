"""What refusals teach, by the vendors' own texts, and that it is remembered."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import openai
import pytest

from qwen3_rag.thinking.healing import Fix, Learned, find_fix
from qwen3_rag.thinking.wire import WireError
from tests.unit.thinking.sdk import broken_stream, dashscope_body, event, failed, refused

TEXTS = [
    ("parameter.enable_thinking must be set to false for non-streaming calls", "stream"),
    ("parameter.enable_thinking必须设置为false才能进行非流式调用", "stream"),
    ("parameter.enable_thinking only support stream call", "stream"),
    ("enable thinking can not be support when `stream=False`.", "stream"),
    ("This model only support stream mode, please enable the stream parameter to access the model. ", "stream"),
    ("current user api does not support http call.", "stream"),
    ("The value of the enable_thinking parameter is restricted to True.", "thinking_on"),
    ("Reasoning is mandatory for this endpoint and cannot be disabled.", "thinking_on"),
    ("The model qwen-max does not support enable_thinking.", "no_thinking_switch"),
    ('"qwen2.5:7b" does not support thinking', "no_thinking_switch"),
    (
        "The tool_choice parameter does not support being set to required or object in thinking mode",
        "tool_choice_while_thinking",
    ),
    ("Thinking mode does not support this tool_choice", "tool_choice_while_thinking"),
    ('tool_choice is one of the strings that should be ["none","auto"]', "tool_choice_auto"),
    ("deepseek-reasoner does not support this tool_choice", "tool_choice_auto"),
    ("No endpoints found that support the provided 'tool_choice' value.", "tool_choice_auto"),
    (
        "thinking_token_budget is set but reasoning_config is not configured. Please set --reasoning-config",
        "no_budget",
    ),
    ("The model kimi-k3 does not support the thinking_budget parameter", "no_budget"),
    ("Json mode response is not supported when enable_thinking is true", "no_json_while_thinking"),
    ("The reasoning_content in the thinking mode must be passed back to the API.", "send_reasoning_back"),
]


@pytest.mark.parametrize(("message", "name"), TEXTS)
def test_the_vendors_texts_are_understood(message, name):
    wire = WireError.of(refused(400, dashscope_body(message)))
    assert find_fix(wire) == Fix(name)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (38912, "The thinking_budget parameter must be a positive integer and not greater than 38912"),
        (
            81920,
            "<400> InvalidParameter: The thinking_budget parameter must be a positive integer and not greater than 81920.",
        ),
    ],
)
def test_a_limit_is_read(limit, text):
    assert find_fix(WireError.of(refused(400, dashscope_body(text)))) == Fix("smaller_budget", limit)


def test_a_code_is_enough():
    body = dashscope_body("Der Parameter ist unbekannt", "InvalidParameter.NotSupportEnableThinking")
    assert find_fix(WireError.of(refused(400, body))) == Fix("no_thinking_switch")


def test_an_event_of_a_stream_teaches_too():
    error = '{"error": {"code": "invalid_parameter_error", "message": "parameter.enable_thinking only support stream call"}}'
    _, raised = broken_stream([f"data: {error}"])
    assert find_fix(WireError.of(raised)) == Fix("stream")


@pytest.mark.parametrize(
    "error",
    [
        refused(400, dashscope_body("'messages' must contain the word 'json' in some form")),
        refused(400, dashscope_body("'reasoning_effort' and 'thinking_budget' cannot be set simultaneously")),
        refused(429, dashscope_body("This model only support stream mode")),
        refused(500, dashscope_body("This model only support stream mode")),
        failed(httpx.ConnectError("This model only support stream mode")),
    ],
    ids=["json", "exclusive", "429", "500", "connection"],
)
def test_other_failures_teach_nothing(error):
    assert find_fix(WireError.of(error)) is None


def test_lessons_are_kept_per_server_and_model():
    learned = Learned()
    assert learned.known("http://a/v1", "m") == {}
    assert learned.add("http://a/v1", "m", Fix("stream"))
    assert not learned.add("http://a/v1/", "m", Fix("stream"))
    before = learned.known("http://a/v1", "m")
    assert learned.add("http://a/v1", "m", Fix("thinking_on"))
    assert set(before) == {"stream"}
    assert set(learned.known("http://a/v1/", "m")) == {"stream", "thinking_on"}
    assert learned.known("http://a/v1", "other") == learned.known("http://b/v1", "m") == {}
    learned.clear()
    assert learned.known("http://a/v1", "m") == {}


def test_the_smaller_limit_counts():
    learned = Learned()
    assert learned.add("u", "m", Fix("smaller_budget", 100))
    assert not learned.add("u", "m", Fix("smaller_budget", 200))
    assert learned.add("u", "m", Fix("smaller_budget", 50))
    assert learned.known("u", "m")["smaller_budget"].limit == 50


def test_threads_lose_no_lesson():
    learned = Learned()
    barrier = threading.Barrier(8)
    new: list[bool] = []

    def learn(name):
        barrier.wait()
        for place in range(200):
            new.append(learned.add("u", f"m{place}", Fix(name)))

    names = ["stream", "thinking_on", "no_budget", "tool_choice_auto"] * 2
    threads = [threading.Thread(target=learn, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(set(learned.known("u", f"m{place}")) == set(names) for place in range(200))
    assert sum(new) == 4 * 200


# ---- reading what the SDK raises


def test_a_refusal_is_read_whole():
    headers = {"x-request-id": "req-head", "retry-after": "7"}
    wire = WireError.of(refused(429, dashscope_body("slow down", "limit_requests"), headers))
    assert (wire.kind, wire.status, wire.code, wire.message) == ("status", 429, "limit_requests", "slow down")
    assert (wire.request_id, wire.retry_after) == ("req-head", 7.0)
    assert wire.body["type"] == "invalid_request_error"


def test_the_request_id_may_stand_in_the_body_only():
    assert WireError.of(refused(400, dashscope_body("no"))).request_id == "req-body"
    assert WireError.of(refused(400, {"code": "X", "message": "no", "request_id": "native"})).request_id == "native"
    assert WireError.of(refused(502, "<html>Bad Gateway</html>")).request_id is None


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}}, "BadRequestError", "no"),
        ({"object": "error", "message": "no", "type": "BadRequestError", "code": 400}, "BadRequestError", "no"),
        (
            {"error": {"code": 400, "message": "no", "type": "exceed_context_size_error"}},
            "exceed_context_size_error",
            "no",
        ),
        ({"error": {"message": "no", "type": "api_error", "param": None, "code": None}}, "api_error", "no"),
        ({"error": "no", "error_type": "validation"}, "", "no"),
        ({"errors": {"message": "no"}, "request_id": "1"}, "", "no"),
        ({"detail": "no"}, "", "no"),
        ({"detail": [{"loc": ["body"], "msg": "no"}]}, "", '[{"loc": ["body"], "msg": "no"}]'),
        (
            {
                "error": {
                    "code": 429,
                    "message": "Provider returned error",
                    "metadata": {"raw": "no", "provider_name": "X"},
                }
            },
            "",
            "Provider returned error - no",
        ),
        ("plain words", "", "plain words"),
    ],
)
def test_every_servers_body_is_read(body, code, message):
    wire = WireError.of(refused(400, body))
    assert (wire.code, wire.message) == (code, message)


def test_an_empty_body_leaves_the_status():
    wire = WireError.of(refused(503, ""))
    assert wire.status == 503
    assert "503" in wire.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_is_read(headers, seconds):
    assert WireError.of(refused(429, dashscope_body("slow"), headers)).retry_after == seconds


def test_retry_after_may_be_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < WireError.of(refused(429, dashscope_body("slow"), {"retry-after": date})).retry_after <= 60


def test_what_the_way_did_is_told_apart():
    timeout = WireError.of(failed(httpx.ReadTimeout("timed out")))
    refusal = WireError.of(failed(httpx.ConnectError("[Errno 111] Connection refused")))
    assert (timeout.kind, refusal.kind) == ("timeout", "connection")
    assert "Connection refused" in refusal.message
    _, cut = broken_stream([event({"content": "Hi"})], httpx.ReadError("reset by peer"))
    _, malformed = broken_stream([event({"content": "Hi"}), "data: {half"])
    _, told = broken_stream(['data: {"error": {"code": 502, "message": "Provider disconnected"}}'])
    assert WireError.of(cut).kind == "cut"
    assert WireError.of(malformed).kind == "malformed"
    assert (WireError.of(told).kind, WireError.of(told).status) == ("event", 502)


def test_both_generations_of_the_http_library_are_read():
    httpx2 = pytest.importorskip("httpx2")
    assert WireError.of(httpx2.RemoteProtocolError("peer closed connection")).kind == "cut"
    assert WireError.of(httpx.RemoteProtocolError("peer closed connection")).kind == "cut"


def test_subclasses_of_the_sdks_errors_are_read_too():
    original = refused(400, dashscope_body("no"))

    class OpenAIInvalidRequestError(openai.BadRequestError):
        """As langchain-openai raises it."""

    error = OpenAIInvalidRequestError(original.message, response=original.response, body=original.body)
    assert WireError.of(error).message == "no"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), ConnectionError("x"), RuntimeError()])
def test_what_is_not_of_the_wire_is_left_alone(error):
    assert WireError.of(error) is None
