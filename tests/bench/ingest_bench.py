"""What the pipeline of an ingest gains, and how many passages a second Milvus Lite takes from it.

    python tests/bench/ingest_bench.py --rows 10000

First, the same passages one step after the other and pipelined, with an embedder that waits as long per batch as Milvus Lite
takes to write one: as a model on an accelerator or at a server does. Then the rate with an embedder that takes no time, which
is what reading, splitting, looking up and writing cost. Last, the same files again, when everything is there already.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from qwen3_rag.chunking import split_markdown
from qwen3_rag.ingest import BATCH_SIZE, ingest
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.prompts import DEFAULT_INSTRUCTION
from qwen3_rag.types import EmbeddingResult

SECTIONS_PER_FILE = 100
TEXT = "milvus stores vectors and finds the nearest of them in an index that lies in memory or on disk"


class SyntheticEmbedder:
    """Unit vectors at random, after a pause."""

    model_id, instruction = "bench/synthetic", DEFAULT_INSTRUCTION

    def __init__(self, dimensions: int, seconds: float = 0.0) -> None:
        self.dimensions = dimensions
        self.seconds = seconds
        self._random = np.random.default_rng(0)

    def embed_documents(self, texts, *, dimensions=None):
        time.sleep(self.seconds)
        vectors = self._random.standard_normal((len(texts), self.dimensions), np.float32)
        return EmbeddingResult(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), sum(map(len, texts)) // 4)


def write_corpus(folder: Path, sections: int) -> Path:
    random, words = np.random.default_rng(1), TEXT.split(" ")
    folder.mkdir()
    for start in range(0, sections, SECTIONS_PER_FILE):
        texts = (
            f"# Section {i}\n\n{' '.join(random.choice(words, 60))} {i}\n"
            for i in range(start, min(sections, start + SECTIONS_PER_FILE))
        )
        (folder / f"{start:08}.md").write_text("\n".join(texts), encoding="utf-8")
    return folder


def one_after_the_other(docs: Path, embedder: SyntheticEmbedder, collection: MilvusCollection) -> float:
    """Returns the seconds of the same work without a pipeline."""
    started = time.perf_counter()
    for path in sorted(docs.iterdir()):
        passages = split_markdown(path.read_text("utf-8"), path.name)
        for at in range(0, len(passages), BATCH_SIZE):
            batch = passages[at : at + BATCH_SIZE]
            collection.existing_ids([p.id for p in batch])
            collection.upsert(batch, embedder.embed_documents([p.text for p in batch]).vectors, embedder=embedder)
    collection.flush()
    return time.perf_counter() - started


def overlap(folder: Path, dimensions: int, sections: int = 1600) -> None:
    docs = write_corpus(folder / "few", sections)
    with MilvusCollection(folder / "warm.db") as collection:
        plain = one_after_the_other(docs, SyntheticEmbedder(dimensions), collection)
    batches = sum(-(-SECTIONS_PER_FILE // BATCH_SIZE) for _ in docs.iterdir())
    pause = plain / batches
    ratios = []
    for turn in range(3):
        with MilvusCollection(folder / f"one{turn}.db") as collection:
            sequential = one_after_the_other(docs, SyntheticEmbedder(dimensions, pause), collection)
        with MilvusCollection(folder / f"all{turn}.db") as collection:
            # The same number of batches of the same mean size.
            size = -(-sections // batches)
            pipelined = ingest(docs, SyntheticEmbedder(dimensions, pause), collection, batch_size=size).seconds
        ratios.append(sequential / pipelined)
        print(f"  turn {turn}: one after the other {sequential:.2f} s, pipelined {pipelined:.2f} s: {ratios[-1]:.2f}x")
    print(f"equal times ({pause * 1000:.0f} ms per batch): {sorted(ratios)[1]:.2f}x (median of 3)")


def rate(folder: Path, dimensions: int, rows: int) -> None:
    docs = write_corpus(folder / "many", rows)
    with MilvusCollection(folder / "many.db") as collection:
        for what in ("new", "again, unchanged"):
            report = ingest(docs, SyntheticEmbedder(dimensions), collection)
            assert report.passages == rows
            print(f"{rows} rows of {dimensions} dimensions, {what}: {rows / report.seconds:,.0f} rows/s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process, with Milvus Lite in it: {peak:,.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=1024)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        overlap(Path(name), chosen.dimensions)
        rate(Path(name), chosen.dimensions, chosen.rows)
