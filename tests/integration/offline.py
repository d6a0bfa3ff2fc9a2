"""Runs programs the way a user does, in a fresh interpreter, with every door to the network shut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import qwen3_rag

_GUARD = """
import runpy, socket, sys
real = socket.getaddrinfo
def guarded(host, *args, **kwargs):
    if host not in (None, "", "localhost", "127.0.0.1", "::1", b"localhost", b"127.0.0.1"):
        raise AssertionError(f"this program looked for {host!r}, but it must work offline")
    return real(host, *args, **kwargs)
socket.getaddrinfo = guarded
kind, target, *sys.argv[1:] = sys.argv[1:]
if kind == "-m":
    runpy.run_module(target, run_name="__main__", alter_sys=True)
else:
    sys.argv[0] = target
    runpy.run_path(target, run_name="__main__")
"""


def run_offline(*argv: str, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Runs `-m module args…` or `-f file args…` in a folder of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MILVUS_", "FORCE_"))}
    environment |= {
        "PYTHONPATH": str(Path(qwen3_rag.__file__).parents[1]),
        "PYTHONIOENCODING": "utf-8",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cwd / "no-such-cache"),
    }
    command = [sys.executable, "-c", _GUARD, *argv]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=timeout, check=False
    )


def run_command(arguments: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command `qwen3-rag`."""
    return run_offline("-m", "qwen3_rag.cli", *arguments, cwd=cwd)
