"""A real server that nobody here wrote: Infinity, with the bundled tiny models. Skipped unless it is told where it is.

It needs transformers 4, so it lives in an environment of its own:

    python -m venv .venv-infinity
    .venv-infinity/bin/pip install torch==2.13.0 "infinity-emb[server,torch]==0.0.78"
    QWEN3_RAG_INFINITY=.venv-infinity/bin/infinity_emb python -m pytest tests/remote_server/test_infinity.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from qwen3_rag import load_embedder, load_reranker
from qwen3_rag.errors import ModelCheckError, RemoteAuthenticationError, RemoteRequestError
from qwen3_rag.inference.loading import load
from qwen3_rag.inference.options import ModelOptions
from qwen3_rag.prompts import RERANK_PREFIX, RERANK_SUFFIX, rerank_body
from tests.remote_server.engine import tiny_embedder, tiny_reranker
from tests.remote_server.served_models import save_classifier, save_embedder

PROGRAM = os.environ.get("QWEN3_RAG_INFINITY")
KEY = "sk-of-the-test"
QUERY = "Where is data stored?"
CODE = "Given a task, retrieve code that solves it"
# It strips white space at both ends, and reads control tokens: its own doing, so no such text is in here.
TEXTS = [
    "Milvus keeps inserted data in object storage.",
    "größer als 5 µm — 数据存储在哪里？ 🐟 é",
    "def f(x):\n\treturn x",
    "",
    "Bread needs yeast.",
    *(f"Segment {number} is sealed and flushed." for number in range(95)),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="QWEN3_RAG_INFINITY does not say where infinity_emb is"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    command = [str(Path(PROGRAM or "").absolute()), "v2", "--host", "127.0.0.1", "--port", str(port), "--api-key", KEY]
    for name, save in (("embedder", save_embedder), ("reranker", save_classifier)):
        command += ["--model-id", str(save(folder / name)), "--served-model-name", name, "--dtype", "float32"]
    command += ["--engine", "torch", "--device", "cpu", "--no-bettertransformer", "--no-model-warmup"]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=quiet)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, process, folder / "log")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"infinity_emb ended: {log.read_text(errors='replace')[-2000:]}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail("infinity_emb did not start")


def embedder(url: str, **options):
    return load_embedder("infinity:embedder", **{"base_url": url, "api_key": KEY, **options})


def reranker(url: str, **options):
    return load_reranker(
        "infinity:reranker", **{"base_url": url, "api_key": KEY, "template": "client", "probe": False, **options}
    )


def test_the_probe_finds_a_server_that_appends_the_end_token_and_normalises(url):
    probe = embedder(url).probe()
    assert (probe.append_eos, probe.normalizes) == (False, True)


def test_vectors_are_the_local_model_s(url):
    model = embedder(url)
    result = model.embed_documents(TEXTS)
    np.testing.assert_allclose(result.vectors, tiny_embedder().embed_documents(TEXTS).vectors, atol=1e-5)
    assert result.tokens > len(TEXTS)
    ours = model.embed_queries([QUERY], instruction=CODE, dimensions=64).vectors
    np.testing.assert_allclose(
        ours, tiny_embedder().embed_queries([QUERY], instruction=CODE, dimensions=64).vectors, atol=1e-5
    )


async def test_asynchronously_too(url):
    result = await embedder(url).aembed_documents(TEXTS[:20])
    np.testing.assert_allclose(result.vectors, tiny_embedder().embed_documents(TEXTS[:20]).vectors, atol=1e-5)


def scores_without_the_last_newlines(query: str, documents: list[str]) -> np.ndarray:
    """What the model gives for the prompt as Infinity leaves it."""
    options = {"revision": None, "cache_folder": None, "local_files_only": True, "device": "cpu", "dtype": "float32"}
    loaded = load(ModelOptions.create("tiny", tiny="reranker", **options), reranker=True)
    out = []
    for document in documents:
        prompt = RERANK_PREFIX + rerank_body(query, document) + RERANK_SUFFIX.rstrip()
        ids = torch.tensor([loaded.tokenizer.control(prompt)])
        with torch.no_grad():
            hidden = loaded.decoder(ids).last_hidden_state[0, -1]
        yes, no = (loaded.answers @ hidden).tolist()
        out.append(1 / (1 + np.exp(no - yes)))
    return np.array(out)


def test_scores_are_those_of_the_prompt_but_for_what_it_strips(url):
    documents = TEXTS[:12]
    ours = reranker(url).rerank(QUERY, documents)
    np.testing.assert_allclose(ours.scores, scores_without_the_last_newlines(QUERY, documents), atol=1e-4)
    local = tiny_reranker().rerank(QUERY, documents)
    assert np.corrcoef(ours.logits, local.logits)[0, 1] > 0.95
    assert ours.scores.argmax() == local.scores.argmax() == 0


async def test_scores_asynchronously_and_in_pairs(url):
    pairs = [(QUERY, TEXTS[0]), ("What does bread need?", TEXTS[4]), (QUERY, TEXTS[4])]
    scores = (await reranker(url).ascore_pairs(pairs)).scores
    np.testing.assert_allclose(scores, [reranker(url).rerank(q, [d]).scores[0] for q, d in pairs], atol=1e-5)


def test_a_server_without_the_prompt_is_refused_by_the_probe(url):
    with pytest.raises(ModelCheckError, match="near-random scores"):
        reranker(url, template="server", probe=True).rerank(QUERY, TEXTS[:2])


def test_its_errors_are_typed(url):
    with pytest.raises(RemoteAuthenticationError):
        embedder(url, api_key="sk-wrong").embed_documents(["a"])
    with pytest.raises(RemoteRequestError):
        load_embedder("infinity:nobody", base_url=url, api_key=KEY, probe=False).embed_documents(["a"])
