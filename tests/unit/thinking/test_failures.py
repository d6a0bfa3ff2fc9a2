"""What went wrong on the wire, as typed errors that say what to do."""

from __future__ import annotations

import pickle

import httpx
import openai
import pytest
from pydantic import SecretStr

from qwen3_rag import errors
from qwen3_rag.errors import ChatError, Partial
from qwen3_rag.thinking.dialects import DIALECTS
from qwen3_rag.thinking.endpoints import Endpoint
from qwen3_rag.thinking.failures import to_error
from tests.unit.thinking.sdk import KEY, URL, broken_stream, dashscope_body, event, failed, refused

ENDPOINT = Endpoint(URL, DIALECTS["dashscope"], SecretStr(KEY))


def error_of(raised, *, dialect="dashscope", **options) -> ChatError:
    endpoint = Endpoint(URL, DIALECTS[dialect], SecretStr(KEY))
    return to_error(raised, endpoint=endpoint, model="qwen-plus", **options)


DASHSCOPE = [
    (400, "invalid_parameter_error", "Temperature should be in [0.0, 2.0)", errors.InvalidRequestError),
    (400, "invalid_parameter_error", "Range of max_tokens should be [1, 8192]", errors.InvalidRequestError),
    (400, "invalid_parameter_error", "Range of input length should be [1, 129024]", errors.ContextOverflowError),
    (
        400,
        "InternalError.Algo.InvalidParameter",
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]",
        errors.ContextOverflowError,
    ),
    (400, "data_inspection_failed", "Input data may contain inappropriate content.", errors.ModerationError),
    (400, "DataInspectionFailed", "Output data may contain inappropriate content.", errors.ModerationError),
    (400, "CustomRoleBlocked", "Input or output data may contain …", errors.ModerationError),
    (400, "FaqRuleBlocked", "…", errors.ModerationError),
    (400, "IPInfringementSuspect", "…", errors.ModerationError),
    (400, "Arrearage", "Access denied, please make sure your account is in good standing.", errors.ArrearsError),
    (401, "invalid_api_key", "Incorrect API key provided. ", errors.AuthenticationError),
    (401, "InvalidApiKey", "Invalid API-key provided.", errors.AuthenticationError),
    (403, "access_denied", "Access denied.", errors.AccessDeniedError),
    (403, "Model.AccessDenied", "Model access denied.", errors.AccessDeniedError),
    (403, "AccessDenied.Unpurchased", "Access to model denied.", errors.AccessDeniedError),
    (403, "AllocationQuota.FreeTierOnly", "The free tier of the model has been exhausted.", errors.QuotaError),
    (404, "model_not_found", "The model `x` does not exist or you do not have access to it.", errors.UnknownModelError),
    (404, "model_not_supported", "Unsupported model `x` for OpenAI compatibility mode.", errors.UnknownModelError),
    (429, "limit_requests", "You exceeded your current requests list.", errors.RateLimitError),
    (429, "Throttling.RateQuota", "Requests rate limit exceeded.", errors.RateLimitError),
    (429, "insufficient_quota", "You exceeded your current quota, please check your plan.", errors.RateLimitError),
    (429, "Throttling.AllocationQuota", "Allocated quota exceeded.", errors.RateLimitError),
    (429, "limit_burst_rate", "Request rate increased too quickly.", errors.RateLimitError),
    (429, "Throttling.BurstRate", "Request rate increased too quickly.", errors.RateLimitError),
    (429, "insufficient_quota", "Free allocated quota exceeded.", errors.QuotaError),
    (500, "internal_error", "An internal error has occurred.", errors.ServerError),
    (500, "InternalError.Algo", "inference internal error", errors.ServerError),
    (500, "RequestTimeOut", "Request timed out, please try again later.", errors.ServerTimeoutError),
    (503, "ModelServingError", "Too many requests.", errors.ServerError),
    (503, "ModelUnavailable", "Model is unavailable.", errors.ServerError),
]


@pytest.mark.parametrize(("status", "code", "message", "kind"), DASHSCOPE)
def test_dashscopes_table(status, code, message, kind):
    error = error_of(refused(status, dashscope_body(message, code), {"x-request-id": "req-1"}))
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code, "req-1")
    for part in (
        message.strip(),
        "qwen-plus on dashscope.aliyuncs.com",
        f"HTTP {status}",
        "request id req-1",
        "Way out: ",
    ):
        assert part in str(error)


OVERFLOWS = [
    ("vllm", "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"),
    ("vllm", "The decoder prompt (length 5) is longer than the maximum model length of 4."),
    ("sglang", "The input (9 tokens) is longer than the model's context length (8 tokens)."),
    ("llamacpp", "the request exceeds the available context size (4096 tokens), try increasing it"),
    ("tgi", "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"),
    ("lmstudio", "The number of tokens to keep from the initial prompt is greater than the context length."),
    ("deepseek", "This model's maximum context length is 131072 tokens."),
    ("openrouter", "This endpoint's maximum context length is 40960 tokens."),
]


@pytest.mark.parametrize(("dialect", "message"), OVERFLOWS)
def test_every_server_has_its_own_words_for_an_overflow(dialect, message):
    behind = {"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": message}}}
    for body in ({"error": {"message": message, "code": 400}}, {"message": message}, {"error": message}, behind):
        error = error_of(refused(400, body), dialect=dialect)
        assert type(error) is errors.ContextOverflowError
        assert message in str(error)


def test_an_overflow_is_told_by_its_type_too():
    body = {"error": {"code": 400, "type": "exceed_context_size_error", "message": "no"}}
    assert type(error_of(refused(400, body), dialect="llamacpp")) is errors.ContextOverflowError


NOT_FOUND = 'model "qwen3:8b" not found, try pulling it first'
OTHERS = [
    ("deepseek", 400, {"error": {"message": "Model Not Exist"}}, errors.UnknownModelError),
    ("deepseek", 400, {"error": {"message": "Content Exists Risk"}}, errors.ModerationError),
    ("deepseek", 402, {"error": {"message": "Insufficient Balance"}}, errors.ArrearsError),
    ("deepseek", 401, {"error": {"message": "Authentication Fails"}}, errors.AuthenticationError),
    ("openrouter", 402, {"error": {"code": 402, "message": "Insufficient credits"}}, errors.ArrearsError),
    ("openrouter", 404, {"error": {"message": "No endpoints found for qwen/x."}}, errors.UnknownModelError),
    ("openrouter", 400, {"error": {"message": "x is not a valid model ID"}}, errors.UnknownModelError),
    ("openrouter", 502, {"error": {"code": 502, "message": "Provider returned error"}}, errors.ServerError),
    ("openrouter", 408, {"error": {"code": 408, "message": "Timed out"}}, errors.ServerTimeoutError),
    ("ollama", 404, {"error": {"message": NOT_FOUND, "type": "api_error"}}, errors.UnknownModelError),
    ("vllm", 404, {"message": "The model `x` does not exist.", "code": 404}, errors.UnknownModelError),
    ("vllm", 404, {"detail": "Not Found"}, errors.InvalidRequestError),
    ("vllm", 422, {"detail": [{"msg": "Field required"}]}, errors.InvalidRequestError),
    ("openai", 429, {"error": {"message": "no", "code": "insufficient_quota"}}, errors.QuotaError),
    ("openai", 429, {"error": {"message": "no", "code": "rate_limit_exceeded"}}, errors.RateLimitError),
    ("vllm", 504, "upstream request timeout", errors.ServerTimeoutError),
    ("vllm", 502, "<html>Bad Gateway</html>", errors.ServerError),
]


@pytest.mark.parametrize(("dialect", "status", "body", "kind"), OTHERS)
def test_the_other_servers(dialect, status, body, kind):
    assert type(error_of(refused(status, body), dialect=dialect)) is kind


def test_a_wrong_key_names_the_host_and_the_regions():
    message = str(error_of(refused(401, dashscope_body("Incorrect API key provided. ", "invalid_api_key"))))
    assert "belongs to dashscope.aliyuncs.com" in message
    assert "another region" in message


@pytest.mark.parametrize(
    ("body", "way_out"),
    [
        (dashscope_body("list index out of range", "internal_error"), "the last message must be the user's"),
        (dashscope_body("'messages' must contain the word 'json' in some form"), "ask for JSON in the prompt"),
        ("404 page not found", "check base_url"),
    ],
)
def test_single_messages_have_a_way_out_of_their_own(body, way_out):
    assert way_out in str(error_of(refused(400, body)))


RETRYABLE = {
    errors.RateLimitError,
    errors.ServerError,
    errors.ServerConnectionError,
    errors.ServerTimeoutError,
    errors.StreamError,
    errors.ResponseError,
}


def all_errors() -> list[type[ChatError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ChatError)]
    assert len(kinds) == 15
    return kinds


@pytest.mark.parametrize("kind", all_errors())
def test_errors_keep_what_they_know_and_can_be_pickled(kind):
    error = kind("no", status=400, code="x", request_id="1", retry_after=2.0, partial=Partial("so", "Yes"))
    copied = pickle.loads(pickle.dumps(error))
    assert str(copied) == str(error) == "no"
    assert vars(copied) == vars(error)
    assert kind.retryable == (kind in RETRYABLE)
    assert (kind("no").status, kind("no").code, kind("no").partial) == (None, "", None)


def test_errors_are_builtins_too():
    assert issubclass(errors.ServerTimeoutError, TimeoutError)
    assert issubclass(errors.ServerConnectionError, ConnectionError)
    assert issubclass(errors.StreamError, ConnectionError)
    assert issubclass(errors.AuthenticationError, PermissionError)
    assert issubclass(errors.UnknownModelError, LookupError)


def test_no_answer_at_all():
    refusal = error_of(failed(httpx.ConnectError("[Errno 111] Connection refused")))
    assert type(refusal) is errors.ServerConnectionError
    assert "Connection refused" in str(refusal)
    assert "check base_url" in str(refusal)
    assert type(error_of(failed(httpx.ReadTimeout("")))) is errors.ServerTimeoutError


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize(
    "end",
    [
        httpx.ReadError("connection reset by peer"),
        httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
        httpx.ReadTimeout("timed out"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_cut_stream_keeps_what_had_arrived(end, sync):
    lines = [event({"reasoning_content": "so"}), event({"content": "Ye"})]
    deltas, raised = broken_stream(lines, end, sync=sync)
    assert deltas == [{"reasoning_content": "so"}, {"content": "Ye"}]
    assert not isinstance(raised, openai.APIError), "the SDK wraps it by now: read it there"
    error = error_of(raised, partial=Partial("so", "Ye", ({"id": "1", "name": "f", "arguments": "{"},)))
    assert type(error) is errors.StreamError
    assert error.partial == Partial("so", "Ye", ({"id": "1", "name": "f", "arguments": "{"},))
    assert "had arrived: 2 characters of reasoning, 2 of the answer, 1 tool calls" in str(error)
    assert error.__cause__ is raised


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"error": {"code": "internal_error", "message": "boom"}}', errors.StreamError),
        ('{"error": {"code": 502, "message": "Provider disconnected"}}', errors.StreamError),
        ('{"error": {"code": "RequestTimeOut", "message": "Request timed out"}}', errors.StreamError),
        ('{"error": {"message": ""}}', errors.StreamError),
        ('{"error": "boom"}', errors.StreamError),
        ('{"error": {"code": "data_inspection_failed", "message": "Output data may …"}}', errors.ModerationError),
        ('{"error": {"code": "limit_requests", "message": "slow down"}}', errors.RateLimitError),
        ('{"error": {"code": 429, "message": "Rate limited upstream"}}', errors.RateLimitError),
        ('{"error": {"code": "Arrearage", "message": "…"}}', errors.ArrearsError),
    ],
)
def test_an_error_event_is_told_by_its_code(body, kind, sync):
    _, raised = broken_stream([event({"content": "Ye"}), f"data: {body}"], sync=sync)
    error = error_of(raised, partial=Partial(text="Ye"))
    assert type(error) is kind
    assert error.partial == Partial(text="Ye")
    assert "had arrived: 2 of the answer" in str(error)


def test_an_answer_that_cannot_be_read():
    _, raised = broken_stream([event({"content": "Ye"}), "data: {half"])
    assert type(error_of(raised)) is errors.ResponseError
    error = error_of(TypeError("Received response with null value for `choices`."))
    assert type(error) is errors.ResponseError
    assert "null value for `choices`" in str(error)


def test_what_is_typed_already_stays():
    error = errors.QuotaError("no")
    assert error_of(error) is error


def test_a_framework_can_have_classes_of_its_own():
    class Mine(errors.RateLimitError):
        """A framework's."""

    raised = refused(429, dashscope_body("slow", "limit_requests"), {"retry-after": "3"})
    error = error_of(raised, classes={errors.RateLimitError: Mine})
    assert type(error) is Mine
    assert error.retry_after == 3.0
    assert type(error_of(refused(500, "x"), classes={errors.RateLimitError: Mine})) is errors.ServerError


@pytest.mark.parametrize("status", [401, 500])
@pytest.mark.parametrize("echo", [KEY, f"Bearer {KEY}", "sk-sp-ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"])
def test_the_key_is_never_shown(status, echo):
    error = error_of(refused(status, dashscope_body(f"Incorrect API key provided: {echo}.")))
    assert echo not in f"{error}{error!r}{error.__cause__!r}{error.args}"
    assert "***" in str(error)
    assert error.__cause__ is None
    assert KEY not in str(error_of(failed(httpx.ConnectError(f"proxy refused {KEY}"))))


def test_no_secrets_no_redaction():
    raised = refused(500, dashscope_body("boom"))
    assert error_of(raised).__cause__ is raised
    empty = Endpoint("http://user:pass@localhost:8000/v1", DIALECTS["vllm"], SecretStr("EMPTY"))
    error = to_error(refused(500, "EMPTY"), endpoint=empty, model="m")
    assert "m on localhost:8000: EMPTY" in str(error)


def test_a_long_page_is_cut_and_says_so():
    error = error_of(refused(502, "<html>" + "x" * 5000))
    assert "(4006 more characters)" in str(error)
    assert len(str(error)) < 1500


def test_braces_in_a_servers_words_are_harmless():
    assert "{host} {0}" in str(error_of(refused(401, dashscope_body("{host} {0}"))))


@pytest.mark.parametrize("kind", [httpx.ReadTimeout, httpx.RemoteProtocolError])
def test_what_breaks_off_an_answer_is_a_stream_error_with_every_sdk(kind):
    """openai 3 raises the same for an answer that breaks off as for one that never comes."""
    raised = failed(kind("gone"))
    assert not isinstance(error_of(raised), errors.StreamError)
    assert isinstance(error_of(raised, partial=Partial(text="Ye")), errors.StreamError)
