"""The error answers that tests provoke by name, in the words of the vendors."""

from __future__ import annotations

from collections.abc import Mapping

from tests.chat_server import overflow
from tests.chat_server.refusals import Refusal, invalid

BUSY = Refusal(429, "limit_requests", "You exceeded your current requests list. Please slow down.", "limit_requests")
_QUOTA = Refusal(
    429,
    "insufficient_quota",
    "You exceeded your current quota, please check your plan and billing details. For details, see: "
    "https://help.aliyun.com/zh/model-studio/error-code#token-limit",
    "insufficient_quota",
)
_BURST = Refusal(
    429, "limit_burst_rate", "Request rate increased too quickly. Please adjust your client.", "limit_burst_rate"
)
_DOWN = Refusal(500, "internal_error", "An internal error has occured, please try again later.", "internal_error")
_AWAY = Refusal(
    503, "ModelServingError", "Too many requests. Your requests are being throttled.", "service_unavailable"
)
MODERATED = (
    "data may contain inappropriate content. For details, see: https://help.aliyun.com/zh/model-studio/error-code"
)

# name -> error class, answer; each fails for ever
REFUSALS: Mapping[str, tuple[str, Refusal]] = {
    "rate_limit": ("RateLimitError", BUSY),
    "insufficient_quota": ("RateLimitError", _QUOTA),  # of tokens per minute: not OpenAI's meaning
    "limit_burst_rate": ("RateLimitError", _BURST),
    "free_quota_exhausted": ("QuotaError", Refusal(429, "insufficient_quota", "Free allocated quota exceeded.")),
    "free_tier_only": (
        "QuotaError",
        Refusal(
            403,
            "AllocationQuota.FreeTierOnly",
            "The free tier of the model has been exhausted. If you wish to continue access the model on a paid basis, "
            'please disable the "use free tier only" mode in the management console.',
        ),
    ),
    "server_error": ("ServerError", _DOWN),
    "algo_error": ("ServerError", Refusal(500, "InternalError.Algo", "inference internal error", "internal_error")),
    "server_timeout": (
        "ServerTimeoutError",
        Refusal(500, "RequestTimeOut", "Request timed out, please try again later.", "internal_error"),
    ),
    "unavailable": ("ServerError", _AWAY),
    "wrong_key": (
        "AuthenticationError",
        Refusal(401, "invalid_api_key", "Incorrect API key provided.", "invalid_request_error"),
    ),
    "access_denied": ("AccessDeniedError", Refusal(403, "access_denied", "Access denied.", "access_denied")),
    "model_access_denied": ("AccessDeniedError", Refusal(403, "Model.AccessDenied", "Model access denied.")),
    "unpurchased": ("AccessDeniedError", Refusal(403, "AccessDenied.Unpurchased", "Access to model denied.")),
    "unknown_model": (
        "UnknownModelError",
        Refusal(404, "model_not_found", "The model `qwen-nope` does not exist or you do not have access to it."),
    ),
    "unsupported_model": (
        "UnknownModelError",
        Refusal(404, "model_not_supported", "Unsupported model `Qwen/Qwen3-8B` for OpenAI compatibility mode."),
    ),
    "arrears": (
        "ArrearsError",
        Refusal(400, "Arrearage", "Access denied, please make sure your account is in good standing.", "Arrearage"),
    ),
    "moderation_input": ("ModerationError", Refusal(400, "data_inspection_failed", f"Input {MODERATED}")),
    "moderation_output": ("ModerationError", Refusal(400, "DataInspectionFailed", f"Output {MODERATED}")),
    "invalid_request": ("InvalidRequestError", invalid("Range of top_p should be (0.0, 1.0]", algo=True)),
    "overflow_dashscope": ("ContextOverflowError", overflow.dashscope(129024, 200000)),
    "overflow_vllm": ("ContextOverflowError", overflow.vllm(40960, 50000)),
    "overflow_sglang": ("ContextOverflowError", overflow.sglang(40960, 61709)),
    "overflow_llamacpp": ("ContextOverflowError", overflow.llamacpp(4096, 5000)),
    "overflow_openrouter": ("ContextOverflowError", overflow.openrouter(131072, 150000)),
    "overflow_deepseek": ("ContextOverflowError", overflow.deepseek(131072, 150000)),
    "overflow_lmstudio": ("ContextOverflowError", overflow.lmstudio(32768, 111490)),
    "overflow_tgi": ("ContextOverflowError", overflow.tgi(4096, 5000)),
}


# Each fails once, then the server answers.
PASSING: Mapping[str, Refusal] = {
    "insufficient_quota_once": _QUOTA,
    "limit_burst_rate_once": _BURST,
    "server_error_once": _DOWN,
    "unavailable_once": _AWAY,
}

# What different servers and years say to a call that is not streamed; the streamed call is answered.
STREAM_ONLY: Mapping[str, str] = {
    "stream_only": "parameter.enable_thinking must be set to false for non-streaming calls",
    "stream_only_chinese": "parameter.enable_thinking必须设置为false才能进行非流式调用",
    "stream_only_newer": "parameter.enable_thinking only support stream call",
    "stream_only_modelscope": "enable thinking can not be support when `stream=False`.",
    "stream_only_model": "This model only support stream mode, please enable the stream parameter to access the model. ",
    "stream_only_omni": "current user api does not support http call.",
}
