"""Helpers of the Milvus tests: a server of Milvus Lite, passages and vectors."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from qwen3_rag.types import Passage


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def lite_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """Runs `milvus-lite server` on this machine only, until the block ends."""
    port = port or free_port()
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder), "--host", "127.0.0.1"]
    with (folder.parent / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
        try:
            for _ in range(300):
                with socket.socket() as s:
                    if s.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def passages(n: int, start: int = 0) -> list[Passage]:
    return [Passage(f"p{i:04}", f"text {i}", {"n": i}, f"doc{i % 3}") for i in range(start, start + n)]


def vectors(n: int, dimensions: int = 8, seed: int = 0) -> np.ndarray:
    """Unit vectors, all different."""
    out = np.random.default_rng(seed).standard_normal((n, dimensions)).astype(np.float32)
    return out / np.linalg.norm(out, axis=1, keepdims=True)
