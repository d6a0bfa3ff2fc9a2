"""Side by side on one machine, in one run: the official sample, sentence-transformers, and this package.

A random-weight Qwen3 0.6B with the real vocabulary: what is computed does not depend on the weights' values. Every contender
runs in a process of its own, so that its peak memory is its own. Run by `make bench`.
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
    from qwen3_rag import LocalReranker

    reranker = LocalReranker(folder, dtype="bfloat16", pack_tokens=_pack()).warm_up()
    texts = documents()

    def run() -> Any:
        return reranker.rerank(QUERY, texts).scores.tolist()

    return run, reranker._ready().loaded.decoder


def sentence_transformer_embed(folder: Path, batch: int = 32) -> tuple[Callable[[], Any], Any]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    texts = corpus()
    return lambda: model.encode_document(texts, batch_size=batch).tolist(), model[0].auto_model


def our_embed(folder: Path) -> tuple[Callable[[], Any], Any]:
    from qwen3_rag import LocalEmbedder

    embedder = LocalEmbedder(folder, dtype="bfloat16", pack_tokens=_pack()).warm_up()
    texts = corpus()

    def run() -> Any:
        return embedder.embed_documents(texts).vectors.tolist()

    return run, embedder._ready().loaded.decoder


def _pack() -> int | None:
    value = os.environ.get("BENCH_PACK_TOKENS")
    return int(value) if value else None


CONTENDERS: dict[str, tuple[str, Callable[[Path], tuple[Callable[[], Any], Any]]]] = {
    "tutorial": (RERANK, official_rerank),
    "sentence-transformers": (RERANK, cross_encoder_rerank),
    "qwen3-rag": (RERANK, our_rerank),
    "sentence-transformers, batch 32 (default)": (EMBED, sentence_transformer_embed),
    **{
        f"sentence-transformers, batch {n}": (EMBED, lambda folder, n=n: sentence_transformer_embed(folder, n))
        for n in (1, 2, 4, 8)
    },
    "qwen3-rag ": (EMBED, our_embed),
}


def memory(name: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def worker(name: str, folder: Path, runs: int) -> dict[str, Any]:
    """Times one contender; the peak is what it takes beyond the weights, first run included."""
    kind, make = CONTENDERS[name]
    run, model = make(folder)
    for weights in model.parameters():  # they are mapped from the file: bring them in
        weights.detach().sum()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    result = run()
    peak = memory("VmHWM") - before
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    values = torch.tensor(result).flatten()[:4000].tolist()
    return {"name": name.strip(), "kind": kind, "seconds": statistics.median(times), "peak": peak, "values": values}


def linear_layers(folder: Path, tokens: int) -> float:
    """Tokens per second of the decoder's matrix products alone, at a pack size."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
    linears = [m for m in model.layers.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {m.in_features: torch.randn(tokens, m.in_features, dtype=torch.bfloat16) for m in linears}
    times = []
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            for linear in linears:
                linear(inputs[linear.in_features])
            times.append(time.perf_counter() - start)
    return tokens / statistics.median(times[1:])


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


def table(rows: list[dict[str, Any]], counts: dict[str, int], linear: float) -> None:
    for kind, title in ((RERANK, f"Rerank {len(documents())} passages"), (EMBED, f"Embed {len(corpus())} passages")):
        ours = next(r for r in rows if r["kind"] == kind and r["name"] == "qwen3-rag")
        print(f"\n{title} ({counts[kind]} tokens as asked), bfloat16, {torch.get_num_threads()} threads")
        print(f"{'':44}{'seconds':>9}{'tok/s':>8}{'x ours':>8}{'memory':>10}{'x ours':>8}")
        for row in (r for r in rows if r["kind"] == kind):
            mib = row["peak"] / 2**20
            print(
                f"{row['name']:44}{row['seconds']:9.2f}{counts[kind] / row['seconds']:8.0f}"
                f"{row['seconds'] / ours['seconds']:8.2f}{mib:8.0f} M{row['peak'] / ours['peak']:8.2f}"
            )
    processed = next(r for r in rows if r["kind"] == EMBED and r["name"] == "qwen3-rag")
    speed = counts[EMBED] / processed["seconds"]
    print(
        f"\nlinear layers alone at this pack size: {linear:.0f} tok/s; embedding reaches {speed / linear:.0%} of that"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench"), help="where the random models lie")
    parser.add_argument("--layers", type=int, default=28, help="fewer for a quick look; the table is for 28")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="run contenders whose name or kind contains this")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folders = models(options.folder, options.layers)
    if options.worker:
        kind = CONTENDERS[options.worker][0]
        print(json.dumps(worker(options.worker, folders[kind], options.runs)))
        return
    rows = []
    for name, (kind, _make) in CONTENDERS.items():
        if options.only not in f"{name} {kind}":
            continue
        command = [sys.executable, __file__, "--worker", name, "--folder", str(options.folder)]
        command += ["--layers", str(options.layers), "--runs", str(options.runs)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{rows[-1]['name']}: {rows[-1]['seconds']:.2f} s", file=sys.stderr)
    for kind in (RERANK, EMBED):  # a race between different results would mean nothing
        same = [torch.tensor(r["values"]) for r in rows if r["kind"] == kind]
        worst = max((float((v - same[-1]).abs().max()) for v in same), default=0.0)
        print(f"{kind}: largest difference between contenders {worst:.1e}")
    if not options.only:
        table(rows, token_counts(), linear_layers(folders[EMBED], _pack() or 1024))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
