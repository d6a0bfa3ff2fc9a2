"""`transformers serve` as a user starts it, with models of `tiny_chat`."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

# Named like the big ones: what a client knows of a model, it knows by the name.
HYBRID = "tiny/Qwen3-0.6B"
"""The model as the server parses it: reasoning in a field of its own."""
INLINE = "tiny/inline/Qwen3-0.6B"
"""The same model, unparsed: reasoning between tags in the content."""
OPENED = "tiny/Qwen3-4B-Thinking-2507"
"""Parsed again, but the prompt opens the block."""
OPENED_INLINE = "tiny/inline/Qwen3-4B-Thinking-2507"
"""Unparsed too, so that the content has a closing tag without an opening one."""

_LISTENS = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")


@pytest.fixture(scope="session")
def served_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a server is started in: models are named by their paths in it."""
    missing = [name for name in ("fastapi", "uvicorn", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"transformers serve needs: pip install {' '.join(missing)}")
    from tests.integration.serving import tiny_chat

    folder, model = tmp_path_factory.mktemp("served"), tiny_chat.train()
    tiny_chat.save(model, folder / HYBRID)
    tiny_chat.save(model, folder / INLINE, parsed=False)
    tiny_chat.save(model, folder / OPENED, template=tiny_chat.OPENING)
    tiny_chat.save(model, folder / OPENED_INLINE, template=tiny_chat.OPENING, parsed=False)
    return folder


@pytest.fixture(scope="session")
def server_with(served_models: Path) -> Iterator[Callable[[str], str]]:
    """Gives the base URL of a server that was started with `--reasoning auto`, `on` or `off`."""
    with ExitStack() as running:
        yield cache(lambda reasoning: running.enter_context(_serve(served_models, reasoning)))


@pytest.fixture
def server(server_with: Callable[[str], str]) -> str:
    """Base URL of a server as it is without options."""
    return server_with("auto")


@contextmanager
def _serve(folder: Path, reasoning: str) -> Iterator[str]:
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--port", "0"]
    environment = os.environ | {
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "no-such-cache"),
        "OMP_NUM_THREADS": "1",
    }
    log = folder / f"{reasoning}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--device", "cpu", "--reasoning", reasoning],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            yield f"{_wait_for(process, log)}/v1"
        finally:
            process.kill()  # it holds nothing that has to be put away
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + 180  # torch and transformers are imported first, perhaps on a busy machine
    while time.monotonic() < end:
        said = log.read_text(encoding="utf-8", errors="replace")
        if found := _LISTENS.search(said):
            return found.group(1)
        if process.poll() is not None:
            pytest.fail(f"transformers serve ended with {process.returncode}:\n{said}")
        time.sleep(0.1)
    pytest.fail(f"transformers serve did not listen within three minutes:\n{log.read_text(errors='replace')}")
