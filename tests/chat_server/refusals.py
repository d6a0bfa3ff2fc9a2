"""Error answers: HTTP status, code and message as the servers send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer.

    Attributes:
        status: The HTTP status.
        code: The vendor's code.
        message: The vendor's sentence.
        kind: The `type` of the error.
        style: Whose body it is: DashScope's and OpenAI's; vLLM before 0.10 and SGLang (no `error`); OpenRouter's; TGI's.
        more: Further fields of the error.
        headers: Headers of the answer.
    """

    status: int
    code: str | int | None
    message: str
    kind: str = "invalid_request_error"
    style: Literal["openai", "flat", "openrouter", "tgi"] = "openai"
    more: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON body of the answer."""
        if self.style == "flat":
            return {
                "object": "error",
                "message": self.message,
                "type": self.kind,
                "param": None,
                "code": self.code,
                **self.more,
            }
        if self.style == "openrouter":
            return {"error": {"message": self.message, "code": self.code, **self.more}, "user_id": "user_1"}
        if self.style == "tgi":
            return {"error": self.message, "error_type": self.kind}
        error = {"code": self.code, "param": None, "message": self.message, "type": self.kind, **self.more}
        return {"error": error, "id": f"chatcmpl-{request_id}", "request_id": request_id}


def invalid(message: str, *, algo: bool = False) -> Refusal:
    """DashScope's 400; `algo` for what the layer behind the gate finds."""
    return Refusal(
        400, "invalid_parameter_error", f"<400> InternalError.Algo.InvalidParameter: {message}" if algo else message
    )
