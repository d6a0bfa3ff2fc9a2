"""Ingests that are killed, run out of disk, lose their server or may not write: a clear error, and nothing lost."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from qwen3_rag.errors import StoreConnectionError
from qwen3_rag.ingest import ingest
from qwen3_rag.milvus import MilvusCollection
from tests.fakes import WordEmbedder
from tests.integration.milvus_support import free_port, lite_server

HELPER = """
import os, sys, time
from qwen3_rag.errors import Qwen3RagError
from qwen3_rag.ingest import ingest
from qwen3_rag.milvus import MilvusCollection
from tests.fakes import WordEmbedder

class Slow(WordEmbedder):
    def embed_documents(self, texts, *, dimensions=None):
        time.sleep(0.01)
        return super().embed_documents(texts, dimensions=dimensions)

def run(docs, path, **options):
    try:
        with MilvusCollection(path) as collection:
            report = ingest(docs, Slow(), collection, batch_size=8, label="docs", **options)
        print("done", report.passages)
    except Qwen3RagError as error:
        print(type(error).__name__, error, *getattr(error, "__notes__", ()))
"""
RUN = "run(sys.argv[1], sys.argv[2], prune=True, progress=lambda state: os.write(1, b'.'))"


def python(code: str, *args: object, **options) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "src")])}
    command = [sys.executable, "-c", HELPER + textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def write(folder: Path, sections: range) -> Path:
    folder.mkdir(exist_ok=True)
    for start in range(sections.start, sections.stop, 40):
        text = "".join(f"# S{i}\n\nword{i} and 数据{i % 7}\n\n" for i in range(start, start + 40))
        (folder / f"{start:04}.md").write_text(text, encoding="utf-8")
    return folder


def content(path: Path) -> dict[str, tuple]:
    """All there is: ids, texts, metadata, and vectors bit by bit."""
    with MilvusCollection(path) as collection:
        found = collection.find({})
        assert len(found) == collection.count() == len({p.id for p in found})
        rows = collection._session.query_rows([p.id for p in found], ["id", "embedding"])
        vectors = {row["id"]: np.asarray(row["embedding"], np.float32).tobytes() for row in rows}
        return {p.id: (p.text, dict(p.metadata), p.doc_id, vectors[p.id]) for p in found}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_an_ingest_that_is_killed_again_and_again_ends_in_the_same_collection(tmp_path, seed):
    docs = write(tmp_path / "docs", range(640))
    undisturbed, killed = tmp_path / "undisturbed.db", tmp_path / "killed.db"
    old = write(tmp_path / "old", range(600, 760))  # a part of it is gone afterwards
    for path in (undisturbed, killed):
        with MilvusCollection(path) as collection:
            ingest(old, WordEmbedder(), collection, label="docs")
    out, err = python(RUN, docs, undisturbed).communicate(timeout=120)
    assert out.endswith("done 640\n"), err
    moment = random.Random(seed)
    cut_short = 0
    for _ in range(5):
        process = python(RUN, docs, killed)
        assert process.stdout.read(1) == "."
        time.sleep(moment.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        cut_short += "done" not in process.communicate()[0]
    assert cut_short >= 3
    out, err = python(RUN, docs, killed).communicate(timeout=120)
    assert out.endswith("done 640\n"), (out, err)
    assert content(killed) == content(undisturbed)
    assert len(content(killed)) == 640


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interruption_of_the_command_ends_it_soon_and_cleanly(tmp_path):
    docs, path = write(tmp_path / "docs", range(640)), tmp_path / "m.db"
    command = """
    from qwen3_rag.cli import main, steps
    embed, Slow.embed_documents = Slow.embed_documents, lambda *args, **how: (os.write(1, b"."), embed(*args, **how))[1]
    steps.load_embedder = lambda model: Slow()
    status = main(["ingest", sys.argv[1], "--uri", sys.argv[2], "--label", "docs"])
    import threading
    print(status, [t.name for t in threading.enumerate() if "ingest" in t.name])
    """
    # A runner in the background may ignore SIGINT, and its children with it.
    process = python(command, docs, path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert process.stdout.read(1) == "."
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 20
    assert out.endswith("130 []\n"), (out, err)
    assert err.splitlines()[-1] == "error: interrupted (it goes on where it stopped)"
    out, err = python("run(sys.argv[1], sys.argv[2])", docs, path).communicate(timeout=120)
    assert out == "done 640\n", err
    assert len(content(path)) == 640


@pytest.mark.slow
def test_a_server_that_stops_in_the_middle(tmp_path):
    docs, port = write(tmp_path / "docs", range(200)), free_port()
    with ExitStack() as stack:
        uri = stack.enter_context(lite_server(tmp_path / "data", port))
        collection = stack.enter_context(MilvusCollection(uri, timeout=3))

        def stop(state):
            if state.added == 40:
                server.close()

        server = stack.pop_all()
        started = time.monotonic()
        with pytest.raises(StoreConnectionError, match=str(port)) as caught:
            ingest(docs, WordEmbedder(), collection, batch_size=8, progress=stop)
        assert time.monotonic() - started < 60
    stored = int(re.search(r"(\d+) were embedded, stored and kept", caught.value.__notes__[0])[1])
    assert 40 <= stored < 200
    with lite_server(tmp_path / "data", port), collection:
        assert collection.count() >= stored
        report = ingest(docs, WordEmbedder(), collection, batch_size=8)
        assert report.passages == collection.count() == 200
        assert report.unchanged >= stored


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
@pytest.mark.parametrize("kilobytes", [48, 128])
def test_a_disk_that_is_full(tmp_path, kilobytes):
    """No file may become larger than so much, which is what a full disk looks like to who writes."""
    docs, path = write(tmp_path / "docs", range(640)), tmp_path / "m.db"
    full = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes * 1024},) * 2)\n"
    out, err = python(full + "run(sys.argv[1], sys.argv[2])", docs, path).communicate(timeout=120)
    assert re.match(r"StoreError (writing|flushing) .*File too large", out), (out, err)
    told = re.search(r"(\d+) were embedded, stored and kept", out)
    out, err = python("run(sys.argv[1], sys.argv[2])", docs, path).communicate(timeout=120)
    assert out == "done 640\n", err
    texts = sorted(text for text, *_ in content(path).values())
    assert len(texts) == len(set(texts)) == 640
    assert told is None or int(told[1]) < 640


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_folder_that_can_not_be_written():
    """Root may write everywhere, so the child gives that up if it has it. Nothing is embedded for nothing."""
    code = """
    import milvus_lite.adapter.grpc.server, pymilvus, markdown_it  # while we may still read them
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    Slow.embed_documents = lambda *args: sys.exit("embedded")
    try:
        ingest(sys.argv[1], Slow(), MilvusCollection(sys.argv[2]))
    except Qwen3RagError as error:
        print(type(error).__name__, error)
    """
    with tempfile.TemporaryDirectory() as folder:
        docs = write(Path(folder, "docs"), range(40))
        for path in (docs, Path(folder)):
            path.chmod(0o555)
        out, err = python(code, docs, Path(folder, "m.db")).communicate(timeout=60)
        assert re.match(r"StoreConnectionError can't open .*it can't be written", out), (out, err)
        for path in (Path(folder), docs):
            path.chmod(0o755)


def test_two_processes_on_one_file(tmp_path):
    docs, path = write(tmp_path / "docs", range(40)), tmp_path / "m.db"
    embedder = WordEmbedder()
    with MilvusCollection(path) as collection:
        ingest(docs, embedder, collection, label="docs")
        out, err = python("run(sys.argv[1], sys.argv[2])", docs, path).communicate(timeout=60)
        assert "StoreConnectionError can't open" in out, (out, err)
        assert "another process has it open" in out
    assert len(content(path)) == 40
