"""Which device, which dtype, how many tokens at a time."""

from __future__ import annotations

import os
from typing import Any

import torch

from qwen3_rag.errors import ConfigurationError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

_SMALL = 512
"""Below this hidden size float32 costs nothing, so `auto` keeps it."""

_MEMORY_SHARE = 0.25
"""Share of the free memory that one pack may take."""

_PACK_TOKENS = {"cpu": 1024, "cuda": 32_768}
"""More tokens per pack than this bring no speed, only memory. CPU measured with `make bench`; CUDA not measured."""

_MIN_PACK_TOKENS = 64


def resolve_device(device: str) -> torch.device:
    """Returns the device that a name means; `"auto"` is CUDA, then MPS, then the CPU.

    Raises:
        ConfigurationError: If PyTorch does not know the name or has no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigurationError(f"device {device!r} is not available ({error}); use 'auto' or 'cpu'") from error
    return resolved


def resolve_dtype(dtype: str, device: torch.device, hidden_size: int) -> torch.dtype:
    """Returns the dtype that a name means.

    `"auto"` is bfloat16 where the CPU or GPU computes it natively, float16 on an older GPU, else float32; and float32 for
    models so small that there is nothing to gain.
    """
    if dtype != "auto":
        return DTYPES[dtype]
    if hidden_size < _SMALL:
        return torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and _cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def _cpu_has_bfloat16() -> bool:
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("bf16"))


def free_memory(device: torch.device) -> int | None:
    """Free bytes on a device, or `None` where that can't be asked."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # not every system has it
        return None


def pack_budget(config: Any, device: torch.device, dtype: torch.dtype) -> int:
    """Tokens per pack that a quarter of the free memory holds, up to what the device makes use of.

    The estimate per token is the widest moment of a layer: the gate, up and product rows of the MLP, the residual and its
    norm in float32, and all heads of query, key, value and output.
    """
    heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads
    values = 3 * config.intermediate_size + 4 * config.hidden_size + heads * config.head_dim
    per_token: int = values * dtype.itemsize + 3 * config.hidden_size * 4
    most = _PACK_TOKENS.get(device.type, _PACK_TOKENS["cpu"])
    memory = free_memory(device)
    if memory is None:
        return most
    return max(_MIN_PACK_TOKENS, min(most, int(memory * _MEMORY_SHARE) // per_token))
