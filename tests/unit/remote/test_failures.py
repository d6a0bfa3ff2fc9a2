"""From what a server says to one typed error. The forms themselves are in `tests.remote_server.faults`."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_rag.errors import (
    ConfigurationError,
    RemoteBatchError,
    RemoteConnectionError,
    RemoteError,
    RemoteInputTooLongError,
    RemoteRequestError,
    RemoteTimeoutError,
)
from qwen3_rag.remote.failures import complaint_of, read_complaint, to_error

KEY = "sk-0123456789"


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"error": {"message": "m", "code": "c", "type": "t"}}, "m", "c"),
        ({"error": {"message": "m", "code": None, "type": "t"}}, "m", "t"),
        ({"error": {"message": "m", "code": 400}}, "m", "400"),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, "m", "400"),
        ({"code": "c", "message": "m", "request_id": "r"}, "m", "c"),
        ({"error": "m", "error_type": "Validation"}, "m", "Validation"),
        ({"error": "m"}, "m", ""),
        ({"detail": "m"}, "m", ""),
        ({"detail": [{"msg": "m"}]}, '[{"msg": "m"}]', ""),
        ({"code": 20015, "message": "m", "data": None}, "m", "20015"),
    ],
)
def test_every_known_form_is_read(body, message, code):
    complaint = complaint_of(body)
    assert complaint is not None
    assert (complaint.message, complaint.code) == (message, code)
    assert read_complaint(json.dumps(body).encode()) == complaint


@pytest.mark.parametrize(
    "body", [None, 3, [], {}, {"data": []}, {"code": "", "message": ""}, {"results": [], "id": "x"}]
)
def test_a_good_answer_holds_no_complaint(body):
    assert complaint_of(body) is None


@given(st.binary(max_size=300), st.integers(300, 599))
def test_no_body_breaks_it(body, status):
    error = to_error(status, {}, body, server="S", secret=KEY)
    assert isinstance(error, RemoteError)
    assert str(error).startswith("S ")
    assert error.status == status


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x) | st.dictionaries(st.sampled_from(["error", "message", "code", "detail", "type", "x"]), x)
        ),
        max_leaves=8,
    )
)
def test_no_json_breaks_it(body):
    assert isinstance(to_error(400, {}, json.dumps(body).encode(), server="S"), RemoteError)


def test_a_key_that_the_server_quotes_is_not_repeated():
    body = json.dumps({"error": {"message": f"bad key {KEY}", "code": KEY}}).encode()
    error = to_error(401, {"location": KEY}, body, server="S", secret=KEY)
    assert KEY not in repr(error.__dict__) + str(error)
    long = json.dumps({"error": "x" * 395 + KEY}).encode()
    assert KEY[:6] not in str(to_error(401, {}, long, server="S", secret=KEY))


def test_the_request_s_identifier_is_found_in_the_headers_too():
    assert to_error(400, {"x-request-id": "abc"}, b"", server="S").request_id == "abc"
    assert to_error(400, {"x-request-id": "abc"}, b'{"request_id": "r", "message": "m"}', server="S").request_id == "r"


@pytest.mark.parametrize(
    "message",
    [
        "Range of input length should be [1, 8192]",
        "This model's maximum context length is 32768 tokens. However, you requested 40000 tokens",
        "`inputs` must have less than 512 tokens. Given: 600",
        "input (700 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
        "batch size is invalid, it should not be larger than 10.: input.contents",
        "the input length exceeds the context length",
        "Input length 40000 exceeds maximum allowed token size 32768",
    ],
)
def test_too_long_is_recognised_in_every_spelling(message):
    assert type(to_error(400, {}, json.dumps({"error": message}).encode(), server="S")) is RemoteInputTooLongError


@pytest.mark.parametrize(
    "message", ["dimension 7 is invalid", "model m not found", "Invalid value for encoding_format"]
)
def test_other_refusals_are_not_taken_for_it(message):
    assert type(to_error(400, {}, json.dumps({"error": message}).encode(), server="S")) is RemoteRequestError


def test_errors_are_also_what_python_calls_them():
    assert issubclass(RemoteConnectionError, ConnectionError)
    assert issubclass(RemoteTimeoutError, TimeoutError)
    assert issubclass(RemoteRequestError, ValueError)


def test_errors_survive_a_pickle():
    error = to_error(503, {"retry-after": "3"}, b'{"message": "busy", "code": "c", "request_id": "r"}', server="S")
    error.attempts = 5
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.__dict__) == (str(error), error.__dict__)
    assert str(copy) == "S failed: busy [HTTP 503, code c, request r, 5 attempts]"


async def test_a_batch_error_survives_a_pickle_without_its_connection():
    error = RemoteBatchError("m", done={0: 1.5}, failed={1: RemoteRequestError("no")}, resume=lambda: 1)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.done, str(copy.failed[1]), str(copy)) == ({0: 1.5}, "no", "m")
    with pytest.raises(ConfigurationError, match="another process"):
        copy.resume()
    with pytest.raises(ConfigurationError, match="another process"):
        await copy.aresume()
