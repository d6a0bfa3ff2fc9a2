"""Side by side on one machine, in one run: the official sample, sentence-transformers, and this package.

A random-weight Qwen3 0.6B with the real vocabulary: what is computed does not depend on the weights' values. Every contender
lives in a process of its own, so that its peak memory is its own, and the contenders take turns, so that a machine whose speed
drifts does so for all of them. Run by `make bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

QUERY = "How is data stored in milvus?"
RERANK, EMBED = "rerank", "embed"
OURS = "qwen3-rag"
PACK_TOKENS = 1024  # what the memory of a common machine gives
SHAPE = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
}


def corpus() -> list[str]:
    """The tutorial's 72 chunks where their folder is given, else the sections of the demo corpus."""
    folder = os.environ.get("QWEN3_RAG_TUTORIAL_CORPUS")
    if folder:
        files = sorted(Path(folder).glob("*.md"))
        return [c for f in files for c in f.read_text(encoding="utf-8").split("# ")]
    from qwen3_rag.chunking import split_markdown
    from qwen3_rag.demo import CORPUS

    files = sorted(CORPUS.glob("*.md"))
    return [p.text for f in files for p in split_markdown(f.read_text(encoding="utf-8"), f.name)]


def documents() -> list[str]:
    """The first 50 passages as they come, long and short."""
    return (corpus() * 2)[:50]


def models(folder: Path, layers: int) -> dict[str, Path]:
    """Writes the two models once."""
    from tests.qwen_models import make_model

    made = {RERANK: folder / f"reranker-{layers}", EMBED: folder / f"embedder-{layers}"}
    for kind, where in ((RERANK, "reranker"), (EMBED, "embedder")):
        if not (made[kind] / "config.json").exists():
            make_model(made[kind], where, dtype=torch.bfloat16, **(SHAPE | {"num_hidden_layers": layers}))
    return made


def official_rerank(folder: Path) -> tuple[Callable[[], Any], Any]:
    """The official sample as it stands: one padded batch, the language-model head at every position."""
    from tests.qwen_models import OfficialReranker

    official = OfficialReranker(folder, torch.bfloat16)
    bodies = [f"<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: {QUERY}\n"
              f"<Document>: {d}" for d in documents()]  # fmt: skip

    @torch.no_grad()
    def run() -> Any:
        ids = [official.frame(row) for row in official.tokenizer(bodies)["input_ids"]]
        batch = official.tokenizer.pad({"input_ids": ids}, padding=True, return_tensors="pt")
        last = official.model(**batch).logits[:, -1, :]
        pair = torch.stack([last[:, official.no], last[:, official.yes]], dim=1)
        return pair.float().log_softmax(1)[:, 1].exp().tolist()

    return run, official.model


def cross_encoder_rerank(folder: Path) -> tuple[Callable[[], Any], Any]:
    """sentence-transformers' CrossEncoder with its default batch of 32."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules.transformer import Transformer
    from sentence_transformers.cross_encoder.modules.logit_score import LogitScore

    chat = {"chat_template": {"add_generation_prompt": False}}
    transformer = Transformer(
        str(folder), transformer_task="text-generation", processing_kwargs=chat, model_kwargs={"dtype": torch.bfloat16}
    )
    model = CrossEncoder(modules=[transformer, LogitScore(9693, 2152)], device="cpu")
    pairs = [(QUERY, d) for d in documents()]
    sigmoid = torch.nn.Sigmoid()
    return lambda: model.predict(pairs, activation_fn=sigmoid).tolist(), transformer.model


def our_rerank(folder: Path) -> tuple[Callable[[], Any], Any]:
    reranker = _reranker(folder)
    texts = documents()

    def run() -> Any:
        return reranker.rerank(QUERY, texts).scores.tolist()

    return run, reranker._ready().loaded.decoder


def rerank_products(folder: Path) -> tuple[Callable[[], Any], Any]:
    """The matrix products of our reranking alone: the ceiling."""
    reranker = _reranker(folder)
    result = reranker.rerank(QUERY, documents())
    decoder = reranker._ready().loaded.decoder
    return products(decoder, result.tokens, result.scores.tolist()), decoder


def _reranker(folder: Path) -> Any:
    from qwen3_rag import LocalReranker

    return LocalReranker(folder, dtype="bfloat16", pack_tokens=_pack()).warm_up()


def products(decoder: Any, tokens: int, result: Any) -> Callable[[], Any]:
    """Multiplies noise with every linear layer of a decoder, for so many tokens, at our pack size."""
    linears = [m for m in decoder.layers.modules() if isinstance(m, torch.nn.Linear)]
    whole, rest = divmod(tokens, _pack() or PACK_TOKENS)
    lengths = [_pack() or PACK_TOKENS] * whole + [rest] * bool(rest)

    @torch.inference_mode()
    def run() -> Any:
        for length in lengths:
            noise = {m.in_features: torch.randn(length, m.in_features, dtype=torch.bfloat16) for m in linears[:7]}
            for linear in linears:
                linear(noise[linear.in_features])
        return result

    return run


def sentence_transformer_embed(folder: Path, batch: int = 32) -> tuple[Callable[[], Any], Any]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    texts = corpus()
    return lambda: model.encode_document(texts, batch_size=batch).tolist(), model[0].auto_model


def our_embed(folder: Path) -> tuple[Callable[[], Any], Any]:
    embedder = _embedder(folder)
    texts = corpus()

    def run() -> Any:
        return embedder.embed_documents(texts).vectors.tolist()

    return run, embedder._ready().loaded.decoder


def embed_products(folder: Path) -> tuple[Callable[[], Any], Any]:
    """The matrix products of our embedding alone: the ceiling."""
    embedder = _embedder(folder)
    result = embedder.embed_documents(corpus())
    decoder = embedder._ready().loaded.decoder
    return products(decoder, result.tokens, result.vectors.tolist()), decoder


def _embedder(folder: Path) -> Any:
    from qwen3_rag import LocalEmbedder

    return LocalEmbedder(folder, dtype="bfloat16", pack_tokens=_pack()).warm_up()


def _pack() -> int | None:
    value = os.environ.get("BENCH_PACK_TOKENS")
    return int(value) if value else None


CONTENDERS: dict[str, tuple[str, Callable[[Path], tuple[Callable[[], Any], Any]]]] = {
    "tutorial": (RERANK, official_rerank),
    "sentence-transformers": (RERANK, cross_encoder_rerank),
    "linear layers of qwen3-rag alone": (RERANK, rerank_products),
    OURS: (RERANK, our_rerank),
    "sentence-transformers, batch 32 (default)": (EMBED, sentence_transformer_embed),
    **{
        f"sentence-transformers, batch {n}": (EMBED, lambda folder, n=n: sentence_transformer_embed(folder, n))
        for n in (1, 2, 4, 8)
    },
    "linear layers of qwen3-rag alone ": (EMBED, embed_products),
    f"{OURS} ": (EMBED, our_embed),
}


def memory(name: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def worker(name: str, folder: Path) -> None:
    """Serves one contender: says peak memory and results of a first run, then a time for every line it reads."""
    run, model = CONTENDERS[name][1](folder)
    for weights in model.parameters():  # they are mapped from the file: bring them in
        weights.detach().sum()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    result = run()
    peak = memory("VmHWM") - before
    print(json.dumps({"peak": peak, "values": torch.tensor(result).flatten()[:4000].tolist()}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(json.dumps(time.perf_counter() - start), flush=True)


class Contender:
    """A worker's process; `peak` is what its first run takes beyond the weights, `seconds` are the timed runs."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.kind, self.seconds = name.strip(), CONTENDERS[name][0], list[float]()
        command = [sys.executable, __file__, "--worker", name, "--folder", str(options.folder)]
        command += ["--layers", str(options.layers)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first = self.answer()
        self.peak, self.values = first["peak"], torch.tensor(first["values"])

    def answer(self) -> Any:
        while line := self.process.stdout.readline():
            try:
                return json.loads(line)
            except ValueError:  # a library talks
                print(line, end="", file=sys.stderr)
        raise SystemExit(f"{self.name} ended with {self.process.wait()}")

    def run(self) -> None:
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        self.seconds.append(self.answer())
        print(f"{self.kind}, {self.name}: {self.seconds[-1]:.2f} s", file=sys.stderr)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def race(kind: str, options: argparse.Namespace) -> list[Contender]:
    """Lets all contenders of a kind take turns."""
    names = [name for name, (its, _make) in CONTENDERS.items() if its == kind and options.only in f"{name} {its}"]
    field = [Contender(name, options) for name in names]
    for _ in range(options.runs):
        for contender in field:
            contender.run()
    for contender in field:
        contender.close()
    # A race between different results would mean nothing.
    worst = max((float((c.values - field[-1].values).abs().max()) for c in field), default=0.0)
    print(f"{kind}: largest difference between contenders {worst:.1e}")
    return field


def token_counts() -> dict[str, int]:
    """Tokens that the question asks for: every pair whole, every text with its end."""
    from tests.qwen_models import real_tokenizer

    tokenizer = real_tokenizer(eos=True)
    instruct = "Given a web search query, retrieve relevant passages that answer the query"
    bodies = [f"<Instruct>: {instruct}\n<Query>: {QUERY}\n<Document>: {d}" for d in documents()]
    return {
        RERANK: sum(len(tokenizer.encode(b, add_special_tokens=False)) + 48 for b in bodies),
        EMBED: sum(len(i) for i in tokenizer(corpus())["input_ids"]),
    }


def table(field: list[Contender], title: str, tokens: int) -> None:
    """Medians; the ratios are medians over the rounds, each round compared with itself."""
    ours = field[-1]
    print(
        f"\n{title} ({tokens} tokens as asked), bfloat16, {torch.get_num_threads()} threads, {len(ours.seconds)} rounds"
    )
    print(f"{'':44}{'seconds':>9}{'tok/s':>8}{'x ours':>8}{'memory':>10}{'x ours':>8}")
    for it in field:
        seconds = statistics.median(it.seconds)
        ratio = statistics.median(a / b for a, b in zip(it.seconds, ours.seconds, strict=True))
        memory_ratio = it.peak / ours.peak
        print(
            f"{it.name:44}{seconds:9.2f}{tokens / seconds:8.0f}{ratio:8.2f}{it.peak / 2**20:8.0f} M{memory_ratio:8.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"), help="where the random models lie")
    parser.add_argument("--layers", type=int, default=28, help="fewer for a quick look; the table is for 28")
    parser.add_argument("--runs", type=int, default=3, help="timed rounds after one that warms up")
    parser.add_argument("--only", default="", help="run contenders whose name or kind contains this")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folders = models(options.folder, options.layers)
    if options.worker:
        worker(options.worker, folders[CONTENDERS[options.worker][0]])
        return
    counts = token_counts()
    titles = {RERANK: f"Rerank {len(documents())} passages", EMBED: f"Embed {len(corpus())} passages"}
    for kind, title in titles.items():
        field = race(kind, options)
        if field and field[-1].name == OURS:
            table(field, title, counts[kind])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
