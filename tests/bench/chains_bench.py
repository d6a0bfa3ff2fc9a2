"""What the chains cost beside the models and Milvus, and how fast a large collection is searched and filled.

    python tests/bench/chains_bench.py                 # both parts, 100,000 rows: about half an hour on two cores
    python tests/bench/chains_bench.py --rows 2000     # a few minutes less
    python tests/bench/chains_bench.py --rows 0        # the chains alone

The chains: 10 candidates reranked, with deterministic stand-ins for the models. Every call is timed as a whole, and in it the
stand-ins and the searches of Milvus; the rest is what the frameworks and this package add.

The collections: seeded vectors of unit length, and texts whose words are drawn by Zipf's law from an invented vocabulary, in
a file of Milvus Lite and on a server of Milvus Lite. Times are those of `MilvusCollection`, from the vector and the question
to the passages; no model is in them.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.types import Passage
from tests.fakes import OverlapReranker, WordEmbedder
from tests.integration.milvus_support import lite_server

BATCH, CANDIDATES = 1_000, 10
_CALM = 300.0
TIMED = {
    WordEmbedder: ("embed_queries",),
    OverlapReranker: ("rerank",),
    MilvusCollection: ("search", "search_text", "hybrid_search"),
}


# --- the chains ------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    """Adds up what the parts take while a call runs."""

    seconds: float = 0.0
    restore: list[tuple[type, str, Callable]] = field(default_factory=list)

    def __enter__(self) -> Clock:
        for owner, names in TIMED.items():
            for name in names:
                original = getattr(owner, name)
                self.restore.append((owner, name, original))
                setattr(owner, name, self._timed(original))
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, original in self.restore:
            setattr(owner, name, original)

    def _timed(self, original: Callable) -> Callable:
        @functools.wraps(original)
        def call(*args, **kwargs):
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return call

    def overhead(self, call: Callable[[], object], times: int) -> list[float]:
        """Milliseconds of each call that belong to none of the parts."""
        call()
        left = []
        for _ in range(times):
            self.seconds = 0.0
            start = time.perf_counter()
            call()
            left.append(1000 * (time.perf_counter() - start - self.seconds))
        return left


def chains(folder: Path, times: int) -> Iterator[tuple[str, list[float]]]:
    """The overhead of every chain, by name."""
    texts = [passage.text for passage in corpus(200, Words(1_000, 0))]
    question = " ".join(texts[3].split()[:8])
    options = {"k": CANDIDATES, "top_n": 3}
    with Clock() as clock:
        from langchain_core.language_models import FakeListChatModel

        from qwen3_rag import langchain as lc

        retriever = lc.Qwen3Retriever.from_texts(
            texts, WordEmbedder(), OverlapReranker(), uri=folder / "langchain.db", **options
        )
        chain = lc.create_rag_chain(retriever, FakeListChatModel(responses=["Yes [1]."]))
        for mode in ("dense", "hybrid"):
            yield (
                f"LangChain retriever, {mode}",
                clock.overhead(lambda m=mode: retriever.invoke(question, mode=m), times),
            )
        yield "LangChain create_rag_chain, dense", clock.overhead(lambda: chain.invoke(question), times)
        retriever.source.close()

        from llama_index.core.llms import MockLLM

        from qwen3_rag import llama_index as li

        with li.MilvusStore(folder / "llama_index.db") as store:
            nodes = li.Qwen3Retriever.from_texts(texts, WordEmbedder(), OverlapReranker(), store=store, **options)
            engine = li.create_query_engine(nodes, MockLLM(max_tokens=3))
            for mode in ("dense", "hybrid"):
                told = nodes.with_options(mode=mode)
                yield f"LlamaIndex retriever, {mode}", clock.overhead(lambda r=told: r.retrieve(question), times)
            yield "LlamaIndex create_query_engine, dense", clock.overhead(lambda: engine.query(question), times)


# --- large collections -----------------------------------------------------------------------------------------------


class Words:
    """A vocabulary of invented words, drawn by Zipf's law: the n-th is n times rarer than the first."""

    def __init__(self, size: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        syllables = np.array([c + v for c in "bdfgklmnprstvz" for v in "aeiou"])
        lengths = self._random.integers(2, 5, 3 * size)
        made = ("".join(self._random.choice(syllables, n)) for n in lengths)
        self._words = np.array(list(dict.fromkeys(made))[:size])
        shares = 1 / np.arange(1, len(self._words) + 1)
        self._ends = np.cumsum(shares / shares.sum())

    def text(self, length: int) -> str:
        """Some words."""
        drawn = np.searchsorted(self._ends, self._random.random(length))
        return " ".join(self._words[np.minimum(drawn, len(self._words) - 1)])


def corpus(rows: int, words: Words, length: int = 80) -> Iterator[Passage]:
    """Passages with some metadata."""
    for i in range(rows):
        yield Passage(f"p{i:08}", words.text(length), {"n": i, "tenth": i % 10}, f"doc{i // 20}")


def units(count: int, dimensions: int, seed: int) -> np.ndarray:
    """Vectors of unit length."""
    out = np.random.default_rng(seed).standard_normal((count, dimensions), np.float32)
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def fill(collection: MilvusCollection, rows: int, dimensions: int) -> float:
    """Fills a collection, and returns the seconds that writing took, the flush at the end included."""
    passages, seconds = corpus(rows, Words(50_000, 1)), 0.0
    for start in range(0, rows, BATCH):
        batch = [next(passages) for _ in range(min(BATCH, rows - start))]
        vectors = units(len(batch), dimensions, start)
        began = time.perf_counter()
        collection.upsert(batch, vectors)
        seconds += time.perf_counter() - began
    began = time.perf_counter()
    collection.flush()
    return seconds + time.perf_counter() - began


def settle(search: Callable[[], object], limit: float) -> float:
    """Searches until it has not become faster for five minutes; returns the seconds until it was fastest.

    Milvus Lite indexes in the background and does not say when it has finished.
    """
    best, since, began = float("inf"), 0.0, time.perf_counter()
    while (waited := time.perf_counter() - began) < limit and waited - since < _CALM:
        now = median(timed(search) for _ in range(10))
        if now < 0.8 * best:
            best, since = now, waited
        time.sleep(2)
    return since


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def searches(uri: str, rows: int, dimensions: int, queries: int, patience: float) -> dict[str, str]:
    """A row of the table."""
    with MilvusCollection(uri, f"bench_{rows}") as collection:
        seconds = fill(collection, rows, dimensions)
        vectors, words = units(queries, dimensions, 2**31), Words(50_000, 1)
        texts = [words.text(8) for _ in range(queries)]
        waited = settle(lambda: collection.search(vectors[0], CANDIDATES), patience)
        out = {"rows": f"{rows:,}", "rows/s": f"{rows / seconds:,.0f}", "settled": f"{waited:.0f} s"}
        ways: dict[str, Callable[[int], object]] = {
            "dense": lambda i: collection.search(vectors[i], CANDIDATES),
            "filtered": lambda i: collection.search(vectors[i], CANDIDATES, filter={"tenth": i % 10}),
            "sparse": lambda i: collection.search_text(texts[i], CANDIDATES),
            "hybrid": lambda i: collection.hybrid_search(vectors[i], texts[i], CANDIDATES),
        }
        for name, ask in ways.items():
            ask(0)
            took = [1000 * timed(functools.partial(ask, i)) for i in range(queries)]
            out[name] = f"{median(took):.1f} / {quantiles(took, n=20)[-1]:.1f}"
        collection.drop()
    return out


def show(rows: list[dict[str, str]]) -> None:
    """Prints a table."""
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for line in [{key: key for key in widths}, *rows]:
        print("  ".join(f"{line[key]:<{width}}" for key, width in widths.items()).rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000, help="passages of the large collection; 0 for none")
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--times", type=int, default=200, help="calls of each chain; 0 for none")
    parser.add_argument("--patience", type=float, default=900.0, help="seconds to wait for an index at most")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory(prefix="qwen3-rag-bench-") as name:
        folder = Path(name)
        if options.times:
            taken = chains(folder, options.times)
            show(
                [
                    {"chain": chain, "overhead p50": f"{median(ms):.2f} ms", "p95": f"{quantiles(ms, n=20)[-1]:.2f} ms"}
                    for chain, ms in taken
                ]
            )
            print()
        if options.rows:
            numbers = options.rows, options.dimensions, options.queries, options.patience
            table = [{"Milvus Lite": "file", **searches(str(folder / "file.db"), *numbers)}]
            with lite_server(folder / "server") as uri:
                table.append({"Milvus Lite": "server", **searches(uri, *numbers)})
            print(f"{options.dimensions} dimensions; searches in ms, p50 / p95, {CANDIDATES} hits")
            show(table)


if __name__ == "__main__":
    main()
