"""What each server says when a prompt does not fit, for a limit and a size in tokens."""

from __future__ import annotations

from tests.chat_server.refusals import Refusal, invalid


def dashscope(limit: int, size: int) -> Refusal:
    return invalid(f"Range of input length should be [1, {limit}]", algo=True)


def vllm(limit: int, size: int) -> Refusal:
    message = (
        f"This model's maximum context length is {limit} tokens. However, your request has {size} input tokens. "
        "Please reduce the length of the input messages."
    )
    return Refusal(400, 400, message, "BadRequestError")


def sglang(limit: int, size: int) -> Refusal:
    message = f"The input ({size} tokens) is longer than the model's context length ({limit} tokens)."
    return Refusal(400, 400, message, "BadRequestError", "flat")


def llamacpp(limit: int, size: int) -> Refusal:
    message = f"request ({size} tokens) exceeds the available context size ({limit} tokens), try increasing it"
    more = {"n_prompt_tokens": size, "n_ctx": limit}
    return Refusal(400, 400, message, "exceed_context_size_error", more=more)


def openrouter(limit: int, size: int) -> Refusal:
    message = (
        f"This endpoint's maximum context length is {limit} tokens. However, you requested about {size} tokens "
        f'({size} of text input). Please reduce the length of either one, or use the "middle-out" transform to '
        "compress your prompt automatically."
    )
    return Refusal(400, 400, message, style="openrouter")


def deepseek(limit: int, size: int) -> Refusal:
    message = (
        f"This model's maximum context length is {limit} tokens. However, you requested {size} tokens ({size} in the "
        "messages, 0 in the completion). Please reduce the length of the messages or completion."
    )
    return Refusal(400, "invalid_request_error", message)


def lmstudio(limit: int, size: int) -> Refusal:
    message = (
        f"Trying to keep the first {size} tokens when context the overflows. However, the model is loaded with context "
        f"length of only {limit} tokens, which is not enough. Try to load the model with a larger context length, or "
        "provide a shorter input."
    )
    return Refusal(400, None, message)


def tgi(limit: int, size: int) -> Refusal:
    message = f"Input validation error: `inputs` must have less than {limit} tokens. Given: {size}"
    return Refusal(422, None, message, "validation", "tgi")
